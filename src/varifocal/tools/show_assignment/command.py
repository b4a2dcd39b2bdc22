"""The command ``show-assignment``: from options to pages, with a summary in the terminal."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.data.load import open_dataset
from varifocal.data.splits import training_split
from varifocal.data.summary import summarize
from varifocal.inference.loading import is_exported, load_checkpoint
from varifocal.inference.model import ModelInfo
from varifocal.recipes.build import resolve_preprocess
from varifocal.recipes.plan import TRAIN, untimed_recipe
from varifocal.recipes.recipe import Recipe, load_recipe
from varifocal.tools.datasets import reading
from varifocal.tools.output_paths import ensure_writable_dir
from varifocal.tools.show_assignment.pages import AssignView, assign_view, write_view
from varifocal.types import Dataset
from varifocal.utils.errors import ConfigError
from varifocal.utils.fonts import font_note
from varifocal.utils.locks import claimed_folder
from varifocal.utils.progress import progress_bar
from varifocal.utils.text import count_of

LISTED = 10  # objects without a point, and classes of such objects, that the terminal lists


def run_assign_view(options: argparse.Namespace, overrides: list[str]) -> None:
    """Assign, draw, write the pages and print the summary."""
    chosen = _recipe_of(options.recipe, options.checkpoint, overrides)
    ensure_writable_dir(options.out)
    data = _read(options, chosen)
    geometry = _geometry(chosen, options, data, overrides)
    view = assign_view(replace(data, samples=data.samples[: options.max_images]), geometry)
    with claimed_folder(options.out), progress_bar("drawing", len(view.images)) as advance:
        paths = write_view(view, options.out, advance)
    for note in (*data.notes, *font_note(category.name for category in data.categories)):
        print(note, file=sys.stderr)
    print_summary(view)
    if options.checkpoint is None:
        print(f"Assigned as by {view.geometry}; name a checkpoint with --checkpoint to see the training of a run.")
    if len(paths) < len(data.samples):
        print(f"{len(paths):,} of {len(data.samples):,} images; use --max-images {len(data.samples)} for all.")
    print(f"{options.out}: {len(paths)} of {len(data.samples)} images, and assign.json with all numbers")


def _recipe_of(recipe: str | None, checkpoint: Path | None, overrides: list[str]) -> Recipe | ModelInfo:
    """Return the checkpoint's description, the named recipe, or the beginning of the one that ``train`` makes."""
    if checkpoint is None:
        return load_recipe(recipe or "small", overrides)
    if recipe is not None or overrides:
        raise ConfigError(
            "--checkpoint has a recipe of its own; leave out --recipe and key=value overrides.",
            code="checkpoint-and-recipe",
        )
    if is_exported(checkpoint):
        raise ConfigError(
            f"{checkpoint}: an exported file cannot be trained; name the checkpoint it was made from.",
            code="checkpoint-is-exported",
        )
    return load_checkpoint(checkpoint).info


def _geometry(
    chosen: Recipe | ModelInfo, options: argparse.Namespace, data: Dataset, overrides: list[str]
) -> TrainingGeometry:
    if isinstance(chosen, ModelInfo):
        return TrainingGeometry.of_model(options.checkpoint.name, chosen)
    if options.recipe is None:
        chosen = untimed_recipe(summarize(data), overrides)
    label, crop = " ".join([options.recipe or TRAIN, *overrides]), chosen.data.augment.crop
    return TrainingGeometry.of(label, chosen.detector, chosen.model, resolve_preprocess(chosen), crop)


def _read(options: argparse.Namespace, chosen: Recipe | ModelInfo) -> Dataset:
    """Return the split to draw, with the boxes that are marked as difficult used as in training."""
    if isinstance(chosen, ModelInfo):
        difficult = chosen.recipe.get("data", {}).get("difficult", "ignore")
    else:
        difficult = chosen.data.difficult
    source = open_dataset(options.data, **reading(options, options.data))
    split = options.split or training_split(options.data, source.splits, option="--split ")
    return source.load(split, invalid_boxes="drop", difficult=difficult)


def print_summary(view: AssignView) -> None:
    """Print the points of each level, and the objects without a point, counted by class."""
    levels = ", ".join(f"{count:,} of stride {stride}" for stride, count in zip(view.strides, view.points, strict=True))
    print(f"{view.objects:,} objects, {sum(view.points):,} positive points: {levels}")
    if not view.unmatched:
        return
    verb, pronoun = ("gets", "it") if view.unmatched == 1 else ("get", "them")
    print(f"{count_of(view.unmatched, 'object')} {verb} no point, so training never learns from {pronoun}:")
    unmatched = ((image, number) for image in view.images for number in image.unmatched.tolist())
    for image, number in islice(unmatched, LISTED):
        x1, y1, x2, y2 = image.boxes[number].tolist()
        name = view.categories[image.sample.labels[image.indices[number]]].name
        box = [round(side, 1) for side in image.sample.boxes[image.indices[number]].tolist()]
        print(f"  {image.sample.file}: {name} {box}, {x2 - x1:.3g} x {y2 - y1:.3g} after the resize")
    if view.unmatched > LISTED:
        print(f"  and {view.unmatched - LISTED:,} more, in assign.json")
    print(f"without a point: {_by_class(view)}")


def _by_class(view: AssignView) -> str:
    """Return the number of objects without a point of each class, the highest first."""
    classes = Counter(orphan["class"] for orphan in view.orphans)
    counts = [f"{name} {count:,}" for name, count in classes.most_common(LISTED)]
    others = [count_of(len(classes) - LISTED, "other class")] if len(classes) > LISTED else []
    return ", ".join(counts + others)
