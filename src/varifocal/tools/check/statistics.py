"""Distributions of a data set: number, size, shape and position of boxes, size of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from varifocal.tools.check.split import Split

CELLS = 12  # rows and columns of the map of box centers
_ASPECTS = (0.1, 0.2, 1 / 3, 0.5, 0.8, 1.25, 2.0, 3.0, 5.0, 10.0)
# fmt: off
_ASPECT_WORDS = (
    "below 1:10", "1:10-1:5", "1:5-1:3", "1:3-1:2", "1:2-4:5", "square", "5:4-2:1", "2:1-3:1", "3:1-5:1", "5:1-10:1",
    "over 10:1",
)
# fmt: on
_POINTS = (0, 1, 2, 4, 8, 16, 32, 64)
_SIDES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_MANY = (0, 1, 2, 3, 5, 9, 17, 33, 65, 129, 257, 513)


@dataclass(frozen=True)
class Histogram:
    """The counts of bars with their words; ``marked`` is the highlighted part of each bar, explained by ``mark``."""

    title: str
    words: tuple[str, ...]
    counts: tuple[int, ...]
    marked: tuple[int, ...] = ()
    mark: str = ""


@dataclass(frozen=True)
class SplitCounts:
    """The numbers of a split.

    ``regions`` to be ignored for several classes are not counted as boxes. ``without`` counts images that have neither.
    """

    name: str
    source: str
    format: str
    images: int
    without: int
    boxes: int
    crowd: int
    difficult: int
    most_boxes: int
    regions: int


def split_table(splits: Sequence[SplitCounts]) -> tuple[tuple[str, ...], list[tuple[int, ...]]]:
    """Return the headings and a row of numbers for each split; ignored regions only if a split has any."""
    names = ("images", "without boxes", "boxes", "crowd", "difficult", "most in one")
    rows: list[tuple[int, ...]] = [
        (split.images, split.without, split.boxes, split.crowd, split.difficult, split.most_boxes) for split in splits
    ]
    if not any(split.regions for split in splits):
        return names, rows
    return (*names, "ignored regions"), [(*row, split.regions) for row, split in zip(rows, splits, strict=True)]


@dataclass(frozen=True)
class Statistics:
    """The numbers of each split, and distributions over all; ``centers`` are rows of box counts from the top left."""

    splits: tuple[SplitCounts, ...]
    histograms: tuple[Histogram, ...]
    centers: tuple[tuple[int, ...], ...]
    image_sizes: tuple[tuple[int, int, int], ...]  # width, height, images; the most frequent ones

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def make_statistics(
    splits: Sequence[Split], sides: Float[np.ndarray, "N"], points: Int64[np.ndarray, "N"] | None = None
) -> Statistics:
    """Return the statistics of the splits.

    ``sides`` are the mean sides of all sound boxes in pixels of the network's input, ``points`` the number of points
    that the assignment gives each, -1 for boxes that were not assigned.
    """
    boxes = np.concatenate([split.sound_boxes for split in splits]).astype(np.float64)
    sizes = np.concatenate([split.raw.images.sizes[split.sound_images] for split in splits]).astype(np.float64)
    per_image = np.concatenate([_boxes_per_image(split) for split in splits])
    histograms = [
        _sides(sides, points),
        _aspects(boxes),
        _ranges("boxes per image", _MANY, per_image),
    ]
    if points is not None:
        histograms.insert(1, _ranges("points that the assignment gives to a box", _POINTS, points[points >= 0]))
    return Statistics(
        tuple(_counts(split) for split in splits), tuple(histograms), _centers(boxes, sizes), _image_sizes(splits)
    )


def _counts(split: Split) -> SplitCounts:
    per_image = _boxes_per_image(split)
    raw, own = split.raw, split.regions < 0
    bare = np.bincount(raw.boxes.images, minlength=len(raw.images)) == 0
    return SplitCounts(
        split.name,
        str(raw.source),
        raw.format,
        len(raw.images),
        int(bare.sum()),
        int(own.sum()),
        int(raw.boxes.crowd[own].sum()),
        int(raw.boxes.difficult[own].sum()),
        int(per_image.max(initial=0)),
        int(split.regions.max(initial=-1)) + 1,
    )


def _boxes_per_image(split: Split) -> Int64[np.ndarray, "M"]:
    return np.bincount(split.raw.boxes.images[split.regions < 0], minlength=len(split.raw.images))


def _ranges(title: str, starts: Sequence[int], values: Int64[np.ndarray, "N"]) -> Histogram:
    """Return a histogram of integers with bars from each start to before the next."""
    ends = [end - 1 for end in starts[1:]]
    words = [str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, [*ends, None], strict=True)]
    words[-1] = f"{starts[-1]} or more"
    found = np.histogram(values, [*starts, np.inf])[0]
    return _trimmed(Histogram(title, tuple(words), tuple(found.tolist())))


def _sides(sides: Float[np.ndarray, "N"], points: Int64[np.ndarray, "N"] | None) -> Histogram:
    edges = [0, *_SIDES, np.inf]
    words = (f"below {_SIDES[0]}", *(f"{a}-{b}" for a, b in pairwise(_SIDES)), f"{_SIDES[-1]}+")
    title = "mean side of the boxes, pixels of the network's input"
    counts = tuple(np.histogram(sides, edges)[0].tolist())
    if points is None:
        return _trimmed(Histogram(title, words, counts))
    lost = tuple(np.histogram(sides[points == 0], edges)[0].tolist())
    return _trimmed(Histogram(title, words, counts, lost, "without a point"))


def _aspects(boxes: Float[np.ndarray, "N 4"]) -> Histogram:
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    found = np.histogram(width / height, [0, *_ASPECTS, np.inf])[0]
    return _trimmed(Histogram("aspect ratio of the boxes, width to height", _ASPECT_WORDS, tuple(found.tolist())))


def _trimmed(bars: Histogram) -> Histogram:
    """Return the histogram without the empty bars at both ends."""
    full = np.flatnonzero(bars.counts)
    if not len(full):
        return Histogram(bars.title, (), ())
    part = slice(int(full[0]), int(full[-1]) + 1)
    return Histogram(bars.title, bars.words[part], bars.counts[part], bars.marked[part], bars.mark)


def _centers(boxes: Float[np.ndarray, "N 4"], sizes: Float[np.ndarray, "N 2"]) -> tuple[tuple[int, ...], ...]:
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 / np.maximum(sizes, 1)
    found = np.histogram2d(middle[:, 1], middle[:, 0], CELLS, ((0, 1), (0, 1)))[0]
    return tuple(tuple(row) for row in found.astype(int).tolist())


def _image_sizes(splits: Sequence[Split], most: int = 8) -> tuple[tuple[int, int, int], ...]:
    sizes = np.concatenate([split.raw.images.sizes for split in splits])
    different, counts = np.unique(sizes[(sizes > 0).all(axis=1)], axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return tuple((*different[i].tolist(), int(counts[i])) for i in order)
