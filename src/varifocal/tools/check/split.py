"""One split as the checks see it: what was read, the validity of each box, and findings on its images and boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from varifocal.data.annotations import RawDataset, each_region_once, region_numbers
from varifocal.data.readers.columns import with_image_sizes
from varifocal.data.validate import BoxValidity, validate_boxes
from varifocal.tools.check.findings import Finding, Findings
from varifocal.types import FileLike


@dataclass(frozen=True, eq=False)
class Split:
    """A split; ``raw`` has the sizes of all images that could be measured."""

    name: str
    raw: RawDataset
    verdict: BoxValidity

    @classmethod
    def of(cls, raw: RawDataset) -> Split:
        """Measure the images and judge the boxes of what was read."""
        raw = with_image_sizes(raw)
        return cls(raw.split, raw, validate_boxes(raw))

    @cached_property
    def sound(self) -> Bool[np.ndarray, "N"]:
        """Boxes that training sees as objects: valid, of a known class, neither crowd nor difficult."""
        boxes = self.raw.boxes
        return self.verdict.good & (boxes.labels >= 0) & ~boxes.crowd & ~boxes.difficult

    @cached_property
    def regions(self) -> Int64[np.ndarray, "N"]:
        """For each box the number of the region of several classes that it is a copy of; -1 for other boxes."""
        boxes = self.raw.boxes
        return region_numbers(boxes.images, boxes.labels, boxes.xyxy, boxes.crowd)

    @cached_property
    def each_region_once(self) -> Bool[np.ndarray, "N"]:
        """Boxes to be reported: all but the copies of a region after the first."""
        boxes = self.raw.boxes
        return each_region_once(boxes.images, boxes.labels, boxes.xyxy, boxes.crowd)

    @cached_property
    def used_names(self) -> frozenset[str]:
        """The names of the classes that have boxes of any kind except regions of several classes."""
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
        """The root of each sound box's area, in pixels of the image."""
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
        """Return the name of a label; "unknown" for one below 0."""
        return self.raw.categories[label].name if label >= 0 else "unknown"

    def where(self, box: int) -> str:
        """Return the location of a box in the source, with its file where that is not the one file of the split."""
        location = self.raw.boxes.where(box)
        return location.text if location.file == self.raw.source else str(location)

    def image_name(self, image: int) -> str:
        return str(self.raw.images.names[image])

    def image_file(self, image: int) -> FileLike | None:
        return self.raw.images.files[image]

    def add_images(
        self, findings: Findings, kind: str, which: Bool[np.ndarray, "M"], text: Callable[[int], str]
    ) -> None:
        """Add a finding on each of these images; ``text`` is called with those that are listed."""
        images = np.flatnonzero(which).tolist()
        findings.add_many((kind, self.name), images, lambda image: self.on_image(kind, image, text(image)))

    def add_texts(self, findings: Findings, kind: str, texts: Mapping[int, str]) -> None:
        """Add a finding on each image that has a text."""
        images = sorted(image for image, text in texts.items() if text)
        findings.add_many((kind, self.name), images, lambda image: self.on_image(kind, image, texts[image]))

    def add_boxes(
        self, findings: Findings, kind: str, boxes: Int64[np.ndarray, "K"], text: Callable[[int], str]
    ) -> None:
        """Add a finding on each of these boxes; ``text`` is called with those that are listed."""
        findings.add_many((kind, self.name), boxes.tolist(), lambda box: self.on_box(kind, box, text(box)))

    def on_image(self, kind: str, image: int, text: str, *, rank: float = 0.0, **more: object) -> Finding:
        """Return a finding on an image; ``more`` are further fields of it."""
        file = self.image_file(image)
        name = self.image_name(image)
        return Finding(kind, self.name, text, str(file) if file else name, "", image, rank=rank, **more)  # type: ignore[arg-type]

    def on_box(self, kind: str, box: int, text: str, *, rank: float = 0.0, **more: object) -> Finding:
        """Return a finding on a box, which is drawn; ``more`` are further fields of it."""
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
        """Return the box in xyxy pixels as in the source; 0 for NaN, and 1e9 for infinity."""
        x1, y1, x2, y2 = np.nan_to_num(self.raw.boxes.xyxy[box], nan=0.0, posinf=1e9, neginf=-1e9).tolist()
        return x1, y1, x2, y2
