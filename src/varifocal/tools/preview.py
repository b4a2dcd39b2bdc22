"""The command ``preview``: the training examples of an epoch as the network sees them, in one image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from varifocal.data.loader import BatchSampler, TrainDataset
from varifocal.data.preprocess import normalize
from varifocal.data.summary import summarize
from varifocal.inference.draw import INK, PAPER, draw_labels
from varifocal.recipes.build import read_splits, resolve_preprocess
from varifocal.recipes.plan import untimed_recipe
from varifocal.recipes.recipe import Recipe, load_recipe
from varifocal.structures import Batch, Targets
from varifocal.types import Category, Dataset, Preprocess
from varifocal.utils.errors import ConfigError, VarifocalError
from varifocal.utils.fonts import font_for, font_note
from varifocal.utils.text import count_of

CELL = 440  # pixels of the longer side of a drawn image
GAP = 16
AUTO_BATCH = 4  # images of a batch whose size only training finds out
TITLE, SMALL = 20, 13  # font sizes in pixels
GRAY = (110, 110, 110)
LEGEND = "Hatched: ignored by the loss. Beyond a white line: padding of the batch."


@dataclass(frozen=True, eq=False)
class Preview:
    """The image, a sentence on its content, and notes on the data."""

    image: Image.Image
    summary: str
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Cell:
    """A training example: the padded image, its targets, and the name of its file."""

    image: Image.Image
    targets: Targets
    file: str


def preview(recipe: str | None, words: Sequence[str], data: Path | str, *, count: int = 12, epoch: int = 1) -> Preview:
    """Return the first ``count`` training examples of an epoch (counted from 1) of a run with this recipe.

    They come from the loader of training, are normalized and converted back, and are drawn with their boxes. Without
    ``recipe``, the name of one, it is that of ``varifocal train DATA``; ``words`` are overrides.

    Raises:
        DataError: the data cannot be read.
        ConfigError: the recipe has no such epoch, or there is no such recipe.
    """
    chosen = load_recipe(recipe or "small", words)
    training = read_splits(Path(data), chosen.data, chosen.model.num_classes)[0]
    if recipe is None:
        chosen = untimed_recipe(summarize(training), words)
    name = Path(recipe).stem if recipe is not None else "varifocal train"
    return _draw_examples(chosen, training, f"{name} on {Path(data).name}", count, epoch)


def _draw_examples(recipe: Recipe, training: Dataset, name: str, count: int, epoch: int) -> Preview:
    epochs = recipe.train.epochs + recipe.train.swa_epochs
    if epoch > epochs:
        raise ConfigError(f"--epoch {epoch}: the recipe has only {epochs} epochs.", code="no-such-epoch")
    preprocess, config = resolve_preprocess(recipe), recipe.data
    examples = TrainDataset(
        training.samples, preprocess, config.augment, recipe.train.seed, sampling=config.sampling, strict=False
    )
    batches = BatchSampler(examples, AUTO_BATCH if recipe.train.batch_size == "auto" else recipe.train.images_per_batch)
    start = (epoch - 1) * batches.per_epoch
    bad: dict[int, str] = {}
    found = _cells(batches.loader(start, start + batches.per_epoch, workers=0), preprocess, bad)
    cells = list(islice(found, min(count, examples.order.length)))
    title = f"{name}: the first {len(cells)} images of epoch {epoch}"
    image = _page(title, cells, training.categories)
    notes = font_note(category.name for category in training.categories)
    return Preview(image, _summary(cells), (*training.notes, *examples.order.notes, *bad.values(), *notes))


def _cells(batches: object, preprocess: Preprocess, bad: dict[int, str]) -> Iterator[_Cell]:
    """Yield the examples of the batches; enter sentences on unreadable images into ``bad``."""
    for batch in batches:  # type: ignore[attr-defined]
        if isinstance(batch, VarifocalError):
            raise batch
        bad.update(batch.bad)
        for i, image in enumerate(_denormalized(batch, preprocess)):
            yield _Cell(image, batch.targets[i], batch.files[i])


def _denormalized(batch: Batch, preprocess: Preprocess) -> Iterator[Image.Image]:
    """Yield the input of the network converted back to colors, with whatever normalization has lost."""
    values = normalize(batch.images, [target.size for target in batch.targets], preprocess)
    mean, std = (torch.tensor(each)[:, None, None] for each in (preprocess.mean, preprocess.std))
    for value in values:
        colors = (value * std + mean).round().clamp(0, 255).byte()
        yield Image.fromarray((colors.flip(0) if preprocess.bgr else colors).permute(1, 2, 0).contiguous().numpy())


def _page(title: str, cells: list[_Cell], categories: tuple[Category, ...]) -> Image.Image:
    columns = min(len(cells), 3 if len(cells) in (5, 6, 9) else 4)
    drawn = [_draw(cell, categories) for cell in cells]
    widths = [max(cell.width for cell in drawn[i::columns]) for i in range(columns)]
    rows = [drawn[i : i + columns] for i in range(0, len(drawn), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    font, small = font_for(title, TITLE), font_for(LEGEND, SMALL)
    least = max(int(font.getlength(title)), int(small.getlength(LEGEND))) + GAP
    head = TITLE + SMALL + 2 * GAP
    size = GAP + max(sum(widths) + GAP * columns, least), head + sum(heights) + GAP * len(rows)
    page = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((GAP, GAP), title, INK, font, anchor="lt")
    pen.text((GAP, GAP + TITLE + 6), LEGEND, GRAY, small, anchor="lt")
    for number, cell in enumerate(drawn):
        row, column = divmod(number, columns)
        left = GAP + sum(widths[:column]) + GAP * column
        page.paste(cell, (left, head + sum(heights[:row]) + GAP * row))
    return page


def _draw(cell: _Cell, categories: tuple[Category, ...]) -> Image.Image:
    """Return the padded image at the size of a cell with its boxes, and two lines of text above it."""
    scale = CELL / max(cell.image.size)
    size = max(round(cell.image.width * scale), 1), max(round(cell.image.height * scale), 1)
    exact = np.array([size[0] / cell.image.width, size[1] / cell.image.height] * 2)
    image = cell.image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
    targets = cell.targets
    boxes, labels, ignored = targets.boxes.double().numpy() * exact, targets.labels.numpy(), targets.crowd.numpy()
    image = draw_labels(image, boxes, labels, ignored, categories)
    height, width = targets.size
    edges = round(width * exact[0]), round(height * exact[1])
    pen = ImageDraw.Draw(image)
    if edges[0] < size[0]:
        pen.line([(edges[0], 0), (edges[0], min(edges[1], size[1] - 1))], (255, 255, 255), 2)
    if edges[1] < size[1]:
        pen.line([(0, edges[1]), (min(edges[0], size[0] - 1), edges[1])], (255, 255, 255), 2)
    texts = _texts(cell, size[0])
    strip = 2 * (SMALL + 4)
    framed = Image.new("RGB", (size[0], size[1] + strip), PAPER)
    pen = ImageDraw.Draw(framed)
    for line, (text, color) in enumerate(zip(texts, (INK, GRAY), strict=True)):
        pen.text((0, line * (SMALL + 3)), text, color, font_for(text, SMALL), anchor="lt")
    framed.paste(image, (0, strip))
    return framed


def _texts(cell: _Cell, width: int) -> tuple[str, str]:
    files = [Path(file).name for file in cell.file.split(" + ")]
    name = files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    objects, ignored = int((~cell.targets.crowd).sum()), int(cell.targets.crowd.sum())
    counts = count_of(objects, "object") if objects else "no object"
    own, padded = f"{cell.targets.size[1]} x {cell.targets.size[0]}", f"{cell.image.width} x {cell.image.height}"
    second = own + (f" padded to {padded}" if own != padded else "") + f", {counts}"
    second += f", {ignored} ignored" if ignored else ""
    return _ellipsize(name, width), _ellipsize(second, width)


def _ellipsize(text: str, width: int) -> str:
    font = font_for(text, SMALL)
    if font.getlength(text) <= width:
        return text
    while len(text) > 1 and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _summary(cells: list[_Cell]) -> str:
    objects = sum(int((~cell.targets.crowd).sum()) for cell in cells)
    ignored = sum(int(cell.targets.crowd.sum()) for cell in cells)
    empty = sum(bool(cell.targets.crowd.all()) for cell in cells)
    return (
        f"{count_of(len(cells), 'image')}, {empty} of them without objects; {count_of(objects, 'object')}, "
        f"{count_of(ignored, 'ignored region')}"
    )
