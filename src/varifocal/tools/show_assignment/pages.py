"""The assignment of a data set: one page per image, and all numbers as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.data.images import read_image
from varifocal.data.validate import check_size
from varifocal.tools.output_paths import refuse_overwriting, save_image, unique_paths
from varifocal.tools.show_assignment.draw import draw_assigned
from varifocal.tools.show_assignment.positive_points import Assigned, assign_sample
from varifocal.types import Category, Dataset
from varifocal.utils.atomic_write import atomic_write

NUMBERS = "assign.json"


@dataclass(frozen=True, eq=False)
class AssignView:
    """The assignment of the images of a data set by a recipe or checkpoint, which ``geometry`` names."""

    geometry: str
    data: str
    strides: tuple[int, ...]
    categories: tuple[Category, ...]
    images: tuple[Assigned, ...]

    @property
    def objects(self) -> int:
        """The number of objects."""
        return sum(len(image.boxes) for image in self.images)

    @property
    def unmatched(self) -> int:
        """The number of objects without a point."""
        return sum(len(image.unmatched) for image in self.images)

    @property
    def orphans(self) -> list[dict[str, Any]]:
        """The objects without a point as plain values: ``file``, ``box`` (xyxy in its pixels) and ``class``."""
        return [
            {
                "file": str(image.sample.file),
                "box": image.sample.boxes[index].tolist(),
                "class": self.categories[image.sample.labels[index]].name,
            }
            for image in self.images
            for index in image.indices[image.unmatched].tolist()
        ]

    @property
    def points(self) -> list[int]:
        """The number of positive points of each level."""
        levels = np.concatenate([np.empty(0, np.int64), *(image.level for image in self.images)])
        return np.bincount(levels, minlength=len(self.strides)).tolist()

    def to_json(self) -> dict[str, Any]:
        """Return plain values; ``points`` are by level, like ``strides``."""
        return {
            "kind": "assign-view",
            "eye": self.geometry,
            "data": self.data,
            "strides": list(self.strides),
            "objects": self.objects,
            "unmatched": self.unmatched,
            "points": self.points,
            "orphans": self.orphans,
            "images": [image.to_json(self.categories) for image in self.images],
        }


def assign_view(data: Dataset, geometry: TrainingGeometry) -> AssignView:
    """Return the points that training would assign to each object of each image; no image is opened."""
    images = tuple(assign_sample(sample, geometry) for sample in data.samples)
    return AssignView(geometry.name, str(data.source), geometry.labeling.strides, tuple(data.categories), images)


def write_view(view: AssignView, out: Path, progress: Callable[[int], None] = lambda done: None) -> list[Path]:
    """Write ``assign.json`` and a page for each image to the folder ``out``; return the paths of the pages.

    Raises:
        ConfigError: a page would overwrite an image, or a file that no earlier call has written.
        DataError: an image cannot be read or is not of the recorded size.
    """
    paths = unique_paths(out / f"{image.sample.file.stem}.png" for image in view.images)
    inputs = [file.resolve() for image in view.images if isinstance(file := image.sample.file, Path)]
    refuse_overwriting(paths, inputs, marker=out / NUMBERS)
    atomic_write(out / NUMBERS, json.dumps(view.to_json(), indent=1).encode())
    for done, (assigned, path) in enumerate(zip(view.images, paths, strict=True), start=1):
        image = read_image(assigned.sample.file, "image", large=True)
        check_size(assigned.sample, image)
        save_image(draw_assigned(image, assigned, view.categories, view.geometry), path)
        progress(done)
    return paths
