"""All detections and labeled boxes of a data set in columns, and how they overlap: what every section reads.

COCO's rules hold, as pycocotools 2.0.11 has them: images in the order of their ids, overlaps computed from x, y,
width and height in float64, the overlap with a crowd box being the fraction of the detection inside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.types import Dataset, Detections, Sample

FLOOR = 0.1  # pairs that overlap by less are not kept: no section looks at them but for the best one
_CHUNK = 1 << 20  # pairs compared at a time


@dataclass(frozen=True, eq=False)
class DetectionColumns:
    """Detections, image by image, best first in each; of equal scores in the order given.

    ``image`` is the rank of the image, ``index`` the index in the image's detections, ``rank`` the one among those
    of its class in the image and ``rank_in_image`` among all. ``boxes`` are x, y, width, height in pixels.
    """

    image: Int64[np.ndarray, "N"]
    index: Int64[np.ndarray, "N"]
    label: Int64[np.ndarray, "N"]
    score: Float[np.ndarray, "N"]
    boxes: Float[np.ndarray, "N 4"]
    rank: Int64[np.ndarray, "N"]
    rank_in_image: Int64[np.ndarray, "N"]

    def __len__(self) -> int:
        return len(self.score)


@dataclass(frozen=True, eq=False)
class GroundTruthColumns:
    """Labeled boxes, image by image; ``areas`` in square pixels, of the outline where there is one.

    ``crowd`` boxes, and those that a data set marks as difficult, are asked for by nobody and make nothing wrong.
    """

    image: Int64[np.ndarray, "G"]
    index: Int64[np.ndarray, "G"]
    label: Int64[np.ndarray, "G"]
    boxes: Float[np.ndarray, "G 4"]
    areas: Float[np.ndarray, "G"]
    crowd: Bool[np.ndarray, "G"]

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True, eq=False)
class OverlapPairs:
    """Detections and boxes of one image that overlap by ``FLOOR`` or more, by detection and then by box."""

    found: Int64[np.ndarray, "P"]
    truth: Int64[np.ndarray, "P"]
    iou: Float[np.ndarray, "P"]


@dataclass(frozen=True, eq=False)
class BestMatch:
    """The box that each detection overlaps most, crowds left out; index -1 and IoU 0 where it overlaps none."""

    truth: Int64[np.ndarray, "N"]
    iou: Float[np.ndarray, "N"]


@dataclass(frozen=True, eq=False)
class DetectionTable:
    """``samples[i]`` is the index in the data of the image of rank i; ``own`` and ``other`` are the best boxes of the
    detection's class and of any other."""

    samples: Int64[np.ndarray, "M"]
    classes: int
    found: DetectionColumns
    truth: GroundTruthColumns
    pairs: OverlapPairs
    own: BestMatch
    other: BestMatch

    @property
    def objects(self) -> Int64[np.ndarray, "K"]:
        """How many boxes, crowds left out, each class has."""
        return np.bincount(self.truth.label[~self.truth.crowd], minlength=self.classes)


def make_table(data: Dataset, detections: Sequence[Detections]) -> DetectionTable:
    """Columns of what was found in each sample; labels index the categories of the data.

    Raises:
        ValueError: there is not one Detections per sample, or a label is no index of the categories.
    """
    samples = list(data.samples)
    if len(samples) != len(detections):
        raise ValueError(f"{len(samples)} samples but detections of {len(detections)}")
    order = np.argsort(np.array([sample.image_id for sample in samples], np.int64), kind="stable")
    classes = len(data.categories)
    found = _found([detections[location] for location in order])
    truth = _truth([samples[position] for position in order])
    for label in (found.label, truth.label):
        if len(label) and not 0 <= label.min() <= label.max() < classes:
            raise ValueError(f"label {label.min() if label.min() < 0 else label.max()} is no index of the categories")
    return DetectionTable(order, classes, found, truth, *_compare(found, truth, len(samples)))


def _found(parts: Sequence[Detections]) -> DetectionColumns:
    counts = [len(part.scores) for part in parts]
    image, index = _numbered(counts)
    score = _join([part.scores for part in parts], np.float64)
    label = _join([part.labels for part in parts], np.int64)
    boxes = _xywh([part.boxes for part in parts])
    order = np.lexsort((-score, image))
    image, index, score, label, boxes = (column[order] for column in (image, index, score, label, boxes))
    rank = np.empty_like(label)
    by_class = np.lexsort((label, image))
    rank[by_class] = _within(np.stack([image, label], axis=1)[by_class])
    return DetectionColumns(image, index, label, score, boxes, rank, _within(image[:, None]))


def _truth(parts: Sequence[Sample]) -> GroundTruthColumns:
    image, index = _numbered([len(part.labels) for part in parts])
    boxes = _xywh([part.boxes for part in parts])
    areas = [_xywh([part.boxes])[:, 2:].prod(axis=1) if part.areas is None else part.areas for part in parts]
    label, crowd = _join([part.labels for part in parts], np.int64), _join([part.crowd for part in parts], np.bool_)
    return GroundTruthColumns(image, index, label, boxes, _join(areas, np.float64), crowd)


def _numbered(counts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return, for parts of these lengths, each element's part and its index within that part."""
    total = np.array(counts, np.int64)
    part = np.repeat(np.arange(len(total)), total)
    return part, np.arange(len(part)) - np.repeat(np.cumsum(total) - total, total)


def _within(keys: Int64[np.ndarray, "N C"]) -> Int64[np.ndarray, "N"]:
    """Return the index of each row within its run of equal rows."""
    starts = np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]).any(axis=1))[: len(keys)])
    return np.arange(len(keys)) - np.repeat(starts, np.diff(np.append(starts, len(keys))))


def _join(arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *arrays]).astype(dtype)


def _xywh(arrays: Sequence[np.ndarray]) -> Float[np.ndarray, "N 4"]:
    """xyxy boxes as x, y, width, height, in float64 before the subtraction, as in a results file."""
    boxes = np.concatenate([np.zeros((0, 4)), *(array.astype(np.float64) for array in arrays)])
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def _compare(
    found: DetectionColumns, truth: GroundTruthColumns, images: int
) -> tuple[OverlapPairs, BestMatch, BestMatch]:
    own, other = (BestMatch(np.full(len(found), -1), np.zeros(len(found))) for _ in range(2))
    parts: list[tuple[np.ndarray, ...]] = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for i, j in _all_pairs(found, truth, images):
        crowd, same = truth.crowd[j], found.label[i] == truth.label[j]
        iou = overlap(found.boxes[i], truth.boxes[j], crowd)
        for best, which in ((own, same & ~crowd), (other, ~same & ~crowd)):
            _keep_best(best, i[which], j[which], iou[which])
        kept = (iou >= FLOOR) & (same | ~crowd)
        parts.append((i[kept], j[kept], iou[kept]))
    return OverlapPairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True))), own, other


def _all_pairs(
    found: DetectionColumns, truth: GroundTruthColumns, images: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every detection with every box of its image, some at a time, those of one detection together."""
    starts = np.searchsorted(truth.image, np.arange(images + 1))
    counts = np.diff(starts)[found.image]
    total = np.cumsum(counts)
    begin = 0
    while begin < len(found):
        done = total[begin - 1] if begin else 0
        end = max(int(np.searchsorted(total, done + _CHUNK, side="right")), begin + 1)
        i = np.repeat(np.arange(begin, end), counts[begin:end])
        first = total[begin:end] - counts[begin:end] - done
        j = np.arange(len(i)) + np.repeat(starts[found.image[begin:end]] - first, counts[begin:end])
        yield i, j
        begin = end


def _keep_best(best: BestMatch, i: np.ndarray, j: np.ndarray, iou: np.ndarray) -> None:
    """Enter the first box of the greatest overlap of each detection; those of one detection stand together."""
    order = np.lexsort((-j, iou, i))
    i, j, iou = i[order], j[order], iou[order]
    last = np.append(i[1:] != i[:-1], True)[: len(i)] & (iou > 0)
    best.truth[i[last]], best.iou[i[last]] = j[last], iou[last]


def overlap(
    a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "n 4"], crowd: Bool[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """Return the IoU of pairs of x, y, width, height boxes: for a crowd the fraction of ``a`` inside ``b``, and 0 where
    both are empty."""
    size = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = np.where((size > 0).all(axis=1), size.prod(axis=1), 0)
    area = a[:, 2:].prod(axis=1)
    union = np.where(crowd, area, area + b[:, 2:].prod(axis=1) - shared)
    return np.divide(shared, union, out=np.zeros(len(a)), where=union > 0)
