"""Columns of all detections and labeled boxes of a data set, and of their overlaps: the input of every analysis.

The rules are COCO's, as in pycocotools 2.0.11: images are ordered by id, overlaps are computed from x, y, width and
height in float64, and the overlap with a crowd box is the fraction of the detection inside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.inference.boxes_numpy import overlaps
from varifocal.types import Dataset, Detections, Sample

FLOOR = 0.1  # IoU from which pairs are kept: below it analyses use only the best box of a detection
_CHUNK = 1 << 20  # pairs compared at a time


@dataclass(frozen=True, eq=False)
class DetectionColumns:
    """Columns of N detections, image by image and best first in each; equal scores keep their order.

    ``image`` is the rank of the image and ``index`` the index in the image's detections. ``rank`` counts the better
    detections of the same class and image, ``rank_in_image`` those of any class. ``boxes`` are x, y, width, height in
    pixels.
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
    """Columns of G labeled boxes, image by image: x, y, width, height in pixels.

    ``areas`` are in square pixels, those of the outlines if there are any. Boxes in ``crowd``, which are crowds and
    boxes that a data set marks as difficult, are neither required nor make a detection wrong.
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
    """The P pairs of a detection and a box of one image with an IoU of ``FLOOR`` or more, by detection, then by box."""

    found: Int64[np.ndarray, "P"]
    truth: Int64[np.ndarray, "P"]
    iou: Float[np.ndarray, "P"]


@dataclass(frozen=True, eq=False)
class BestMatch:
    """The box without crowds that each detection overlaps most, and their IoU; -1 and 0 if it overlaps none."""

    truth: Int64[np.ndarray, "N"]
    iou: Float[np.ndarray, "N"]


@dataclass(frozen=True, eq=False)
class DetectionTable:
    """All detections and boxes of a data set.

    ``samples[i]`` is the index in the data set of the image of rank i. ``own`` and ``other`` are the best boxes of each
    detection's own class and of all other classes.
    """

    samples: Int64[np.ndarray, "M"]
    classes: int
    found: DetectionColumns
    truth: GroundTruthColumns
    pairs: OverlapPairs
    own: BestMatch
    other: BestMatch

    @property
    def objects(self) -> Int64[np.ndarray, "K"]:
        """The number of boxes of each class without crowds."""
        return np.bincount(self.truth.label[~self.truth.crowd], minlength=self.classes)


def make_table(data: Dataset, detections: Sequence[Detections]) -> DetectionTable:
    """Return the table of ``detections[i]`` in ``data.samples[i]``; labels of both index the data's categories.

    Raises:
        ValueError: there is not one Detections per sample, or a label is no index of the categories.
    """
    samples = list(data.samples)
    if len(samples) != len(detections):
        raise ValueError(f"there are {len(samples)} samples, but detections of {len(detections)}")
    order = np.argsort(np.array([sample.image_id for sample in samples], np.int64), kind="stable")
    classes = len(data.categories)
    found = _detection_columns([detections[index] for index in order])
    truth = _truth_columns([samples[index] for index in order])
    for label in (found.label, truth.label):
        if len(label) and not 0 <= label.min() <= label.max() < classes:
            raise ValueError(f"label {label.min() if label.min() < 0 else label.max()} is no index of the categories")
    return DetectionTable(order, classes, found, truth, *_compare(found, truth, len(samples)))


def _detection_columns(parts: Sequence[Detections]) -> DetectionColumns:
    counts = [len(part.scores) for part in parts]
    image, index = _numbered(counts)
    score = _join([part.scores for part in parts], np.float64)
    label = _join([part.labels for part in parts], np.int64)
    boxes = _xywh([part.boxes for part in parts])
    order = np.lexsort((-score, image))
    image, index, score, label, boxes = (column[order] for column in (image, index, score, label, boxes))
    group = image * (label.max(initial=0) + 1) + label
    by_group = np.argsort(group, kind="stable")
    rank = np.empty_like(label)
    rank[by_group] = index_in_run(group[by_group])
    return DetectionColumns(image, index, label, score, boxes, rank, index_in_run(image))


def _truth_columns(parts: Sequence[Sample]) -> GroundTruthColumns:
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


def run_starts(values: Int64[np.ndarray, "N"]) -> Int64[np.ndarray, "R"]:
    """Return the index at which each run of equal values starts."""
    return np.flatnonzero(np.append(True, values[1:] != values[:-1])[: len(values)])


def index_in_run(values: Int64[np.ndarray, "N"]) -> Int64[np.ndarray, "N"]:
    """Return the index of each value within its run of equal values."""
    starts = run_starts(values)
    return np.arange(len(values)) - np.repeat(starts, np.diff(np.append(starts, len(values))))


def _join(arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *arrays]).astype(dtype)


def _xywh(arrays: Sequence[np.ndarray]) -> Float[np.ndarray, "N 4"]:
    """Return xyxy boxes as x, y, width, height, converted to float64 before the subtraction, as in a results file."""
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
    """Yield every detection with every box of its image in chunks; the pairs of one detection are in one chunk."""
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
    """Enter the first box of the greatest overlap for each detection, whose pairs are all among these."""
    order = np.lexsort((-j, iou, i))
    i, j, iou = i[order], j[order], iou[order]
    last = np.append(i[1:] != i[:-1], True)[: len(i)] & (iou > 0)
    best.truth[i[last]], best.iou[i[last]] = j[last], iou[last]


def overlap(
    a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "n 4"], crowd: Bool[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """Return the IoU of pairs of x, y, width, height boxes; with a crowd the fraction of ``a`` inside ``b``.

    It is 0 where both boxes are empty. Areas are width x height as in the source, for the last bit of pycocotools.
    """
    shared = overlaps(xywh_to_xyxy(a), xywh_to_xyxy(b))
    area = a[:, 2:].prod(axis=1)
    union = np.where(crowd, area, area + b[:, 2:].prod(axis=1) - shared)
    return np.divide(shared, union, out=np.zeros(len(a)), where=union > 0)


def xywh_to_xyxy(boxes: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 4"]:
    """Return x, y, width, height boxes as xyxy."""
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)
