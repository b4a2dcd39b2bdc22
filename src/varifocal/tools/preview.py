"""What the network will be trained on, as one image: the very examples of an epoch, as they come to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from varifocal.data.loader import BatchSampler, TrainDataset
from varifocal.data.preprocess import normalize
from varifocal.inference.draw import INK, PAPER, draw_labels
from varifocal.recipes.build import read_splits, resolve_preprocess
from varifocal.recipes.recipe import Recipe
from varifocal.structures import Batch, Targets
from varifocal.types import Category, Preprocess
from varifocal.utils.errors import ConfigError, VarifocalError
from varifocal.utils.fonts import font_for, font_note

CELL = 440  # pixels of the longer side of a drawn image
GAP = 16
TITLE, SMALL = 20, 13  # pixels of letters
GRAY = (110, 110, 110)
LEGEND = "Hatched: ignored by the loss. Beyond a white line: padding of the batch."


@dataclass(frozen=True, eq=False)
class Preview:
    """The image, what it shows in a sentence, and sentences on what was found while reading."""

    image: Image.Image
    summary: str
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Cell:
    """One example: its slot in a padded batch as the network takes it, and what it should give."""

    image: Image.Image
    targets: Targets
    file: str


def preview(recipe: Recipe, data: Path | str, name: str, *, count: int = 12, epoch: int = 1) -> Preview:
    """The first ``count`` images of an epoch, counted from 1, that a run with this recipe is trained on.

    They are made by the run's own loader, put through its normalization and back, and drawn with their boxes.
    ``name`` is what the recipe is called.

    Raises:
        DataError: the data cannot be read.
        ConfigError: the recipe has no such epoch.
    """
    if epoch > recipe.train.epochs + recipe.train.swa_epochs:
        raise ConfigError(f"--epoch {epoch}: the recipe has {recipe.train.epochs + recipe.train.swa_epochs} epochs.")
    training = read_splits(Path(data), recipe.data, recipe.model.num_classes)[0]
    preprocess, config = resolve_preprocess(recipe), recipe.data
    examples = TrainDataset(
        training.samples, preprocess, config.augment, recipe.train.seed, sampling=config.sampling, strict=False
    )
    batches = BatchSampler(examples, recipe.train.batch_size)
    start = (epoch - 1) * batches.per_epoch
    bad: dict[int, str] = {}
    found = _cells(batches.loader(start, start + batches.per_epoch, workers=0), preprocess, bad)
    cells = list(islice(found, min(count, examples.order.length)))
    title = f"{Path(name).stem} on {Path(data).name}: the first {len(cells)} images of epoch {epoch}"
    image = _page(title, cells, training.categories)
    notes = font_note(category.name for category in training.categories)
    return Preview(image, _summary(cells), (*training.notes, *examples.order.notes, *bad.values(), *notes))


def _cells(batches: object, preprocess: Preprocess, bad: dict[int, str]) -> Iterator[_Cell]:
    for batch in batches:  # type: ignore[attr-defined]
        if isinstance(batch, VarifocalError):
            raise batch
        bad.update(batch.bad)
        for i, image in enumerate(_seen(batch, preprocess)):
            yield _Cell(image, batch.targets[i], batch.files[i])


def _seen(batch: Batch, preprocess: Preprocess) -> Iterator[Image.Image]:
    """What the network gets, back in colors: where normalization loses something, it is lost here too."""
    values = normalize(batch.images, [target.size for target in batch.targets], preprocess)
    mean, std = (torch.tensor(each)[:, None, None] for each in (preprocess.mean, preprocess.std))
    for value in values:
        colors = (value * std + mean).round().clamp(0, 255).byte()
        yield Image.fromarray((colors.flip(0) if preprocess.bgr else colors).permute(1, 2, 0).contiguous().numpy())


def _page(title: str, cells: list[_Cell], categories: tuple[Category, ...]) -> Image.Image:
    columns = min(len(cells), 3 if len(cells) in (5, 6, 9) else 4)
    drawn = [_draw(cell, categories) for cell in cells]
    rows = [drawn[i : i + columns] for i in range(0, len(drawn), columns)]
    widths = [max(row[i].width for row in rows if i < len(row)) for i in range(columns)]
    head = TITLE + SMALL + 2 * GAP
    height = head + sum(max(cell.height for cell in row) + GAP for row in rows)
    font, small = font_for(title, TITLE), font_for(LEGEND, SMALL)
    least = max(int(font.getlength(title)), int(small.getlength(LEGEND))) + 2 * GAP
    page = Image.new("RGB", (max(sum(widths) + GAP * (columns + 1), least), height), PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((GAP, GAP), title, INK, font, anchor="lt")
    pen.text((GAP, GAP + TITLE + 6), LEGEND, GRAY, small, anchor="lt")
    top = head
    for row in rows:
        left = GAP
        for cell, width in zip(row, widths, strict=False):
            page.paste(cell, (left, top))
            left += width + GAP
        top += max(cell.height for cell in row) + GAP
    return page


def _draw(cell: _Cell, categories: tuple[Category, ...]) -> Image.Image:
    """The padded image at the size of a cell, its boxes, and two lines of text above it."""
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
    counts = f"{objects} {'object' if objects == 1 else 'objects'}" if objects else "no object"
    own, padded = f"{cell.targets.size[1]} x {cell.targets.size[0]}", f"{cell.image.width} x {cell.image.height}"
    second = own + (f" padded to {padded}" if own != padded else "") + f", {counts}"
    second += f", {ignored} ignored" if ignored else ""
    return _fitting(name, width), _fitting(second, width)


def _fitting(text: str, width: int) -> str:
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
    return f"{len(cells)} images, {empty} of them without an object; {objects} objects, {ignored} ignored regions"
