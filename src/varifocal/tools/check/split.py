"""One split as the checks see it: what was read, what was judged of each box, and words for what is found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from varifocal.data.annotations import RawDataset, each_region_once, region_numbers
from varifocal.data.readers.columns import with_image_sizes
from varifocal.data.validate import BoxValidity, validate_boxes
from varifocal.tools.check.findings import Finding
from varifocal.types import FileLike


@dataclass(frozen=True, eq=False)
class Split:
    """``name`` is that of the split; ``raw`` has the sizes of all images that could be measured."""

    name: str
    raw: RawDataset
    verdict: BoxValidity

    @classmethod
    def of(cls, raw: RawDataset) -> Split:
        raw = with_image_sizes(raw)
        return cls(raw.split, raw, validate_boxes(raw))

    @cached_property
    def sound(self) -> Bool[np.ndarray, "N"]:
        """Boxes that training sees as objects: possible, of a known class, neither crowd nor difficult."""
        boxes = self.raw.boxes
        return self.verdict.good & (boxes.labels >= 0) & ~boxes.crowd & ~boxes.difficult

    @cached_property
    def regions(self) -> Int64[np.ndarray, "N"]:
        """For each box the number of the region of several classes that it is a copy of, -1 for others."""
        boxes = self.raw.boxes
        return region_numbers(boxes.images, boxes.labels, boxes.xyxy, boxes.crowd)

    @cached_property
    def each_region_once(self) -> Bool[np.ndarray, "N"]:
        """Boxes to be reported: all but the copies of a region after its first."""
        boxes = self.raw.boxes
        return each_region_once(boxes.images, boxes.labels, boxes.xyxy, boxes.crowd)

    @cached_property
    def used_names(self) -> frozenset[str]:
        """The names of the classes that have boxes, of whatever kind but regions of several classes."""
        labels = self.raw.boxes.labels[self.regions < 0]
        return frozenset(self.raw.categories[label].name for label in np.unique(labels[labels >= 0]).tolist())

    @cached_property
    def sound_indices(self) -> Int64[np.ndarray, "K"]:
        """Indices of the sound boxes in the columns, in the order of the source."""
        return np.flatnonzero(self.sound)

    @cached_property
    def sound_boxes(self) -> Float32[np.ndarray, "K 4"]:
        """xyxy pixels, clipped to the image."""
        return self.verdict.boxes[self.sound_indices]

    @cached_property
    def sound_labels(self) -> Int64[np.ndarray, "K"]:
        return self.raw.boxes.labels[self.sound_indices]

    @cached_property
    def sound_images(self) -> Int64[np.ndarray, "K"]:
        return self.raw.boxes.images[self.sound_indices]

    @cached_property
    def sides(self) -> Float[np.ndarray, "K"]:
        """The root of each sound box's area, pixels of the image."""
        boxes = self.sound_boxes.astype(np.float64)
        return np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))

    @cached_property
    def _by_image(self) -> tuple[Int64[np.ndarray, "N"], Int64[np.ndarray, "_"]]:
        images = self.raw.boxes.images
        order = np.argsort(images, kind="stable")
        return order, np.searchsorted(images[order], np.arange(len(self.raw.images) + 1))

    def boxes_of(self, image: int) -> Int64[np.ndarray, "K"]:
        """Return the indices of all boxes of an image, in the order of the source."""
        order, starts = self._by_image
        return order[starts[image] : starts[image + 1]]

    def class_name(self, label: int) -> str:
        """The name of a label, or what is said of one that is not known."""
        return self.raw.categories[label].name if label >= 0 else "unknown"

    def where(self, box: int) -> str:
        """Return the location of a box in the source, with its file where that is not the one file of the split."""
        location = self.raw.boxes.where(box)
        return location.text if location.file == self.raw.source else str(location)

    def image_name(self, image: int) -> str:
        return str(self.raw.images.names[image])

    def image_file(self, image: int) -> FileLike | None:
        return self.raw.images.files[image]

    def on_image(self, kind: str, image: int, text: str, *, rank: float = 0.0, **more: object) -> Finding:
        """What was found of an image."""
        file = self.image_file(image)
        name = self.image_name(image)
        return Finding(kind, self.name, text, str(file) if file else name, "", image, rank=rank, **more)  # type: ignore[arg-type]

    def on_box(self, kind: str, box: int, text: str, *, rank: float = 0.0, **more: object) -> Finding:
        """What was found of a box, which is drawn."""
        image = int(self.raw.boxes.images[box])
        file = self.image_file(image)
        finite = bool(np.isfinite(self.raw.boxes.xyxy[box]).all())
        drawn = ((self.class_name(int(self.raw.boxes.labels[box])), self.corners(box)),) if finite else ()
        return Finding(
            kind,
            self.name,
            text,
            str(file) if file else self.image_name(image),
            self.where(box),
            image,
            box,
            **{"boxes": drawn, "rank": rank, **more},  # type: ignore[arg-type]
        )

    def corners(self, box: int) -> tuple[float, float, float, float]:
        """xyxy pixels as the source has them; of one that is not numbers, zeros."""
        x1, y1, x2, y2 = np.nan_to_num(self.raw.boxes.xyxy[box], nan=0.0, posinf=1e9, neginf=-1e9).tolist()
        return x1, y1, x2, y2
