"""The nouns of the package. Shapes, units and orders are stated here, once.

Boxes are always xyxy in pixels with width = x2 - x1; distances are always left, top, right, bottom.
Labels run from 0 to C - 1; there is no background label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from varifocal.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Category:
    """One class of a data set: its id there, whatever integer that is, and its name."""

    id: int
    name: str


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture of a data set, not decoded yet, with its boxes in pixels of the upright picture.

    ``areas`` are in square pixels, of the outline where the data set has one; COCO sorts boxes into small, medium and
    large by them. None means width times height.
    """

    file: Path
    image_id: int
    width: int
    height: int
    boxes: Float[np.ndarray, "N 4"]
    labels: Int64[np.ndarray, "N"]
    crowd: Bool[np.ndarray, "N"]
    areas: Float[np.ndarray, "N"] | None = None


@dataclass(frozen=True, eq=False)
class DataSet:
    """Samples and the classes that their labels index: ``categories[label]``.

    ``notes`` are sentences for the user: what was clipped or left out while reading, with counts.
    """

    samples: Sequence[Sample]
    categories: tuple[Category, ...]
    source: Path
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Targets:
    """What one picture of a batch should give, in pixels of the network's input.

    ``size`` is (height, width) of the picture inside its padded place in the batch. ``crowd`` marks regions that
    are neither object nor background.
    """

    boxes: Float[Tensor, "N 4"]
    labels: Int64[Tensor, "N"]
    crowd: Bool[Tensor, "N"]
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Batch:
    """Pictures padded at the right and the bottom to a common size, their targets, and the files they came from.

    Pictures are RGB bytes, as they travel between processes and to the device; ``data.preprocess.normalise`` makes of
    them what a network takes.
    """

    images: UInt8[Tensor, "B 3 H W"]
    targets: tuple[Targets, ...]
    files: tuple[str, ...]

    def pin_memory(self) -> Batch:
        """The same with pictures in page-locked memory; torch's loader calls it where there is a CUDA device."""
        return replace(self, images=self.images.pin_memory())


@dataclass(frozen=True, eq=False)
class Priors:
    """The points of all levels in one list, finest level first, rows before columns.

    ``points`` are (x, y) in pixels, one stride apart in rows and columns, ``strides`` in pixels, ``shapes`` the
    (height, width) of each level in cells. ``anchors`` are the boxes, xyxy pixels, that the points stand for where a
    detector has such; a cell with several anchors, ``per_cell``, is in the list as often.
    """

    points: Float[Tensor, "N 2"]
    strides: Float[Tensor, "N"]
    shapes: tuple[tuple[int, int], ...]
    anchors: Float[Tensor, "N 4"] | None = None
    per_cell: int = 1

    @property
    def counts(self) -> tuple[int, ...]:
        """How many points each level has in the list."""
        return tuple(height * width * self.per_cell for height, width in self.shapes)


@dataclass(frozen=True, eq=False)
class Assignment:
    """For each prior the index of its ground-truth box, or -1 for background.

    ``ignored`` marks those of the background that the classification loss should not look at; None is none.
    """

    gt: Int64[Tensor, "N"]
    ignored: Bool[Tensor, "N"] | None = None


class Outputs(NamedTuple):
    """What a network says about every point: named tensors [B, N, ...], all levels in one list.

    ``shapes`` holds (height, width) of each level, finest first. The names are the detector's own and are stated
    where it makes them. A named tuple, because gradient hooks and exporters look inside tuples.
    """

    tensors: dict[str, Tensor]
    shapes: tuple[tuple[int, int], ...]


class Decoded(NamedTuple):
    """Scored boxes of a batch before suppression, all levels in one list.

    ``boxes`` are xyxy in pixels of the input, ``scores`` class probabilities; ``counts`` is the number of boxes of
    each level. ``quality`` is what a detector with a separate score for the box, such as centerness, multiplies the
    scores by after the threshold.
    """

    boxes: Float[Tensor, "B N 4"]
    scores: Float[Tensor, "B N C"]
    counts: tuple[int, ...]
    quality: Float[Tensor, "B N"] | None = None


@dataclass(frozen=True, eq=False)
class Detections:
    """The boxes found in one picture, best first, in pixels of the original picture.

    ``labels`` index ``categories``, which carry the names and the ids of the data set the model was trained on.
    """

    boxes: Float[np.ndarray, "N 4"]
    scores: Float[np.ndarray, "N"]
    labels: Int64[np.ndarray, "N"]
    categories: tuple[Category, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def names(self) -> list[str]:
        """The class name of each box."""
        return [self.categories[label].name for label in self.labels]

    def filter(self, score: float) -> Detections:
        """Only the boxes with at least this score, in the same order."""
        keep = self.scores >= score
        return Detections(self.boxes[keep], self.scores[keep], self.labels[keep], self.categories)

    def to_coco(self, image_id: int, file_name: str) -> list[dict[str, Any]]:
        """Entries of a COCO results file, in plain Python numbers; ``bbox`` is x, y, width, height in pixels.

        Nothing is rounded, so that an evaluation of the file gives the numbers of an evaluation in memory.
        """
        entries = []
        for box, score, label in zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True):
            x1, y1, x2, y2 = box
            entries.append(
                {
                    "file_name": file_name,
                    "image_id": image_id,
                    "category_id": self.categories[label].id,
                    "category_name": self.categories[label].name,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
            )
        return entries

    def to_supervision(self) -> Any:
        """The same boxes as ``supervision.Detections``, with class names in ``data["class_name"]``.

        Raises:
            ConfigError: the package supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise ConfigError(
                'to_supervision needs the package supervision: pip install "varifocal[supervision]"'
            ) from error
        return supervision.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.labels,
            data={"class_name": np.array(self.names, str)},
        )

    def draw(self, image: Image) -> Image:
        """A copy of the picture with these boxes on it, with names and scores where there is room."""
        from varifocal.draw import draw_detections

        return draw_detections(image, self)
