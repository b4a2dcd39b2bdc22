"""The assignment of a data set: one page an image, and everything as numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.data.images import read_image
from varifocal.data.validate import check_size
from varifocal.tools.output_paths import save_image
from varifocal.tools.show_assignment.draw import draw_assigned
from varifocal.tools.show_assignment.positive_points import Assigned, assign_sample
from varifocal.types import Category, Dataset
from varifocal.utils.atomic_write import atomic_write
from varifocal.utils.errors import ConfigError

NUMBERS = "assign.json"


@dataclass(frozen=True, eq=False)
class AssignView:
    """What the assignment of ``eye`` gives the images of a data set."""

    eye: str
    data: str
    strides: tuple[int, ...]
    categories: tuple[Category, ...]
    images: tuple[Assigned, ...]

    @property
    def objects(self) -> int:
        return sum(len(one.boxes) for one in self.images)

    @property
    def unmatched(self) -> int:
        """Objects without any point."""
        return sum(len(one.unmatched) for one in self.images)

    @property
    def orphans(self) -> list[dict[str, Any]]:
        """The objects without any point, as plain values: ``file``, ``box`` (xyxy in its pixels) and ``class``."""
        return [
            {
                "file": str(one.sample.file),
                "box": one.sample.boxes[index].tolist(),
                "class": self.categories[one.sample.labels[index]].name,
            }
            for one in self.images
            for index in one.indices[one.unmatched].tolist()
        ]

    @property
    def points(self) -> list[int]:
        """Positive points of each level."""
        return [sum(int((one.level == level).sum()) for one in self.images) for level in range(len(self.strides))]

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``points`` are by level, as ``strides`` are."""
        return {
            "kind": "assign-view",
            "eye": self.eye,
            "data": self.data,
            "strides": list(self.strides),
            "objects": self.objects,
            "unmatched": self.unmatched,
            "points": self.points,
            "orphans": self.orphans,
            "images": [one.to_json(self.categories) for one in self.images],
        }


def assign_view(data: Dataset, eye: TrainingGeometry) -> AssignView:
    """The points that training would give each object of each image; no image is opened."""
    images = tuple(assign_sample(sample, eye) for sample in data.samples)
    return AssignView(eye.name, str(data.source), eye.labeling.strides, tuple(data.categories), images)


def write_view(view: AssignView, out: Path, progress: Callable[[int], None] = lambda done: None) -> list[Path]:
    """``assign.json`` and a page of each image in the folder ``out``; where the pages are.

    Raises:
        ConfigError: a page would overwrite an image, or anything that no earlier call has put there.
        DataError: an image cannot be read or is not of the size that is recorded.
    """
    paths = _output_paths(view.images, out)
    _check_free(paths, view.images, ours=(out / NUMBERS).is_file())
    atomic_write(out / NUMBERS, json.dumps(view.to_json(), indent=1).encode())
    for done, (one, path) in enumerate(zip(view.images, paths, strict=True), start=1):
        image = read_image(one.sample.file, "image", large=True)
        check_size(one.sample, image)
        save_image(draw_assigned(image, one, view.categories, view.eye), path)
        progress(done)
    return paths


def _check_free(paths: Sequence[Path], images: Sequence[Assigned], *, ours: bool) -> None:
    sources = {file.resolve() for one in images if isinstance(file := one.sample.file, Path)}
    for path in paths:
        if path.resolve() in sources or (path.exists() and not ours):
            raise ConfigError(f"{path}: would be overwritten by its page; choose another --out.")


def _output_paths(images: Sequence[Assigned], out: Path) -> list[Path]:
    """By the names of the files; the second a.jpg becomes a-2.png."""
    taken: dict[Path, None] = {}
    for one in images:
        number, path = 1, out / f"{one.sample.file.stem}.png"
        while path in taken:
            number += 1
            path = out / f"{one.sample.file.stem}-{number}.png"
        taken[path] = None
    return list(taken)
