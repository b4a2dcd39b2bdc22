"""What data sets and results are made of: the nouns that need no torch.

Boxes are always xyxy in pixels with width = x2 - x1. Labels run from 0 to C - 1; there is no background label.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Category:
    """One class of a data set: its id there, whatever integer that is, and its name."""

    id: int
    name: str


@runtime_checkable
class StoredFile(Protocol):
    """A file: a ``Path``, or what stands for a file inside an archive.

    It can be hashed, compared and sent to another process, and holds nothing open; as a text it is what a user reads.
    """

    @property
    def name(self) -> str:
        """The last part, as of a path."""

    @property
    def stem(self) -> str:
        """The name without its suffix."""

    def open(self, mode: Literal["rb"]) -> io.BufferedReader | io.BytesIO:
        """The bytes, from their beginning; the caller closes."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture of a data set, not decoded yet, with its boxes in pixels of the upright picture.

    ``areas`` are in square pixels, of the outline where the data set has one; COCO sorts boxes into small, medium and
    large by them. None means width times height.
    """

    file: StoredFile
    image_id: int
    width: int
    height: int
    boxes: Float[np.ndarray, "N 4"]
    labels: Int64[np.ndarray, "N"]
    crowd: Bool[np.ndarray, "N"]
    areas: Float[np.ndarray, "N"] | None = None


@dataclass(frozen=True)
class SourceIds:
    """How the source writes the ids that are whole numbers here.

    ``images`` and ``classes`` give the number of an id that is another text there, such as "abc". ``counted``: the
    format has no ids of images, these count from 1.
    """

    images: Mapping[str, int] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    counted: bool = False


@dataclass(frozen=True, eq=False)
class DataSet:
    """Samples and the classes that their labels index: ``categories[label]``.

    ``notes`` are sentences for the user: what was clipped or left out while reading, with counts.
    """

    samples: Sequence[Sample]
    categories: tuple[Category, ...]
    source: StoredFile
    notes: tuple[str, ...] = ()
    ids: SourceIds = field(default_factory=SourceIds)


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
