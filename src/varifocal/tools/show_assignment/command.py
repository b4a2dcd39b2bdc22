"""The verb ``assign-view``: options to pages, and a summary to the terminal."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.data.load import open_dataset
from varifocal.data.splits import training_split
from varifocal.inference.loading import is_exported
from varifocal.inference.model import load
from varifocal.recipes.build import resolve_preprocess
from varifocal.recipes.recipe import load_recipe
from varifocal.tools.datasets import reading
from varifocal.tools.output_paths import ensure_writable_dir
from varifocal.tools.show_assignment.pages import AssignView, assign_view, write_view
from varifocal.types import Dataset
from varifocal.utils.errors import ConfigError
from varifocal.utils.fonts import font_note
from varifocal.utils.locks import claimed_folder
from varifocal.utils.progress import progress_bar

RECIPE = "vfnet_r50_1x"
LISTED_CLASSES = 10  # objects without a point, and classes of such, that are named in the terminal


def run_assign_view(options: argparse.Namespace, overrides: list[str]) -> None:
    """Draw, write, tell."""
    eye, difficult = _eye(options.recipe, options.checkpoint, overrides)
    ensure_writable_dir(options.out)
    data = _read(options, difficult)
    view = assign_view(replace(data, samples=data.samples[: options.max_images]), eye)
    with claimed_folder(options.out), progress_bar("drawing", len(view.images)) as advance:
        paths = write_view(view, options.out, advance)
    for note in (*data.notes, *font_note(one.name for one in data.categories)):
        print(note, file=sys.stderr)
    tell(view)
    if options.checkpoint is None:
        print(f"By the recipe {view.eye}; --checkpoint F shows what a run's own training does.")
    if len(paths) < len(data.samples):
        print(f"{len(paths):,} of {len(data.samples):,} images; --max-images {len(data.samples)} looks at all.")
    print(f"{options.out}: {len(paths)} of {len(data.samples)} images, and assign.json with everything as numbers")


def _eye(recipe: str | None, checkpoint: Path | None, overrides: list[str]) -> tuple[TrainingGeometry, Any]:
    """Whose assignment, and what it does with boxes that are marked as difficult."""
    if checkpoint is None:
        chosen = load_recipe(recipe or RECIPE, overrides)
        said = " ".join([recipe or RECIPE, *overrides])
        eye = TrainingGeometry.of(
            said, chosen.detector, chosen.model, resolve_preprocess(chosen), chosen.data.augment.crop
        )
        return eye, chosen.data.difficult
    if recipe is not None or overrides:
        raise ConfigError("--checkpoint has a recipe of its own; leave --recipe and key=value words out.")
    if is_exported(checkpoint):
        raise ConfigError(f"{checkpoint}: an exported file is not trained; give the checkpoint it was made of.")
    info = load(checkpoint).info
    return TrainingGeometry.of_model(checkpoint.name, info), info.recipe.get("data", {}).get("difficult", "ignore")


def _read(options: argparse.Namespace, difficult: Any) -> Dataset:
    source = open_dataset(options.data, **reading(options, options.data))
    split = options.split or training_split(options.data, source.splits, option="--split ")
    return source.load(split, invalid_boxes="drop", difficult=difficult)


def tell(view: AssignView) -> None:
    """Points by level, and the objects that get none, counted by class."""
    levels = ", ".join(f"{count:,} of stride {stride}" for stride, count in zip(view.strides, view.points, strict=True))
    print(f"{view.objects:,} objects, {sum(view.points):,} positive points: {levels}")
    if not view.unmatched:
        return
    who, whom = ("object gets", "it") if view.unmatched == 1 else ("objects get", "them")
    print(f"{view.unmatched:,} {who} no point, so training never learns from {whom}:")
    lost = ((one, number) for one in view.images for number in one.unmatched.tolist())
    for _, (one, number) in zip(range(LISTED_CLASSES), lost, strict=False):
        x1, y1, x2, y2 = one.boxes[number].tolist()
        name = view.categories[one.sample.labels[one.indices[number]]].name
        box = one.sample.boxes[one.indices[number]].tolist()
        print(f"  {one.sample.file}: {name} {[round(side, 1) for side in box]}, seen as {x2 - x1:.3g} x {y2 - y1:.3g}")
    if view.unmatched > LISTED_CLASSES:
        print(f"  and {view.unmatched - LISTED_CLASSES:,} more, in assign.json")
    print(f"without a point: {_by_class(view)}")


def _by_class(view: AssignView) -> str:
    """How many objects without a point each class has, the most first."""
    classes = Counter(one["class"] for one in view.orphans)
    counts_by_class = [f"{name} {count:,}" for name, count in classes.most_common(LISTED_CLASSES)]
    more = [f"{len(classes) - LISTED_CLASSES:,} other classes"] if len(classes) > LISTED_CLASSES else []
    return ", ".join(counts_by_class + more)
