"""Checks for results files that break COCO's conventions and would otherwise look like those of a poor detector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from varifocal.analysis.confusion import Confusion
from varifocal.analysis.detection_table import DetectionTable
from varifocal.types import Dataset

FEW = 0.2  # fraction of labeled images without any detection from which it is reported
SOME, MANY = 0.05, 0.3  # fractions of boxes
SLACK = 1.1  # how far a sound box may reach beyond its image, in its sides
SAME_OBJECT = 0.5  # IoU from which a detection and a labeled box are of one object
RARELY, MOSTLY = 0.2, 0.5  # fractions of such detections that have the class of their object
ENOUGH = 10  # such detections, below which chance decides


def results_sanity(table: DetectionTable, data: Dataset) -> Iterator[str]:
    """Yield a sentence on each convention that the detections of ``table`` seem to break.

    Checked are missing images, boxes that are corners, fractions of the image or pixels of a resized image, scores in
    percent, and class ids that are shifted by one. ``data`` is the data set that the table was made of.
    """
    if not len(table.found):
        yield "there is no detection, so that everything counts as missed."
        return
    labeled = np.unique(table.truth.image)
    empty = len(np.setdiff1d(labeled, table.found.image))
    if empty > FEW * len(labeled):
        yield (
            f"{empty:,} of {len(labeled):,} images with boxes have no detection; "
            "if the results are of a part of the data, name it with --split."
        )
    yield from _check_boxes(table, data)
    best = float(table.found.score.max())
    if best > 1:
        yield f"scores reach {best:g}; calibration and costs of images need scores between 0 and 1."
    yield from _check_classes(table, data)


def _check_boxes(table: DetectionTable, data: Dataset) -> Iterator[str]:
    sizes = np.array([(sample.width, sample.height) for sample in data.samples])[table.samples[table.found.image]]
    first, last = table.found.boxes[:, :2], table.found.boxes[:, 2:]  # x, y and the two numbers behind them in the file
    ends = first + last
    if max(first.max(), ends.max()) <= 1 + SLACK:  # of corners in 0..1 that were read as x, y, width, height
        yield "all boxes lie within two pixels; a bbox is in pixels of the image, not in fractions of it."
        return
    outside = (ends > SLACK * sizes).any(axis=1)
    text = f"{int(outside.sum()):,} of {len(outside):,} boxes end outside their images; "
    corners = ((last <= SLACK * sizes) & (last >= first)).all(axis=1)
    if outside.mean() > SOME and corners.mean() > 1 - SOME:
        yield text + "they look like [left, top, right, bottom] and should be [x, y, width, height]."
    elif outside.mean() > MANY:
        yield text + "a bbox is in pixels of the image as the data has it, not of a resized one."


def _check_classes(table: DetectionTable, data: Dataset) -> Iterator[str]:
    """Yield a sentence if the class of most detections is right only after a step to the next or previous id.

    Two classes at least must agree after the step: a detector that takes one class for another is just a poor one.
    """
    pairs = table.pairs
    same = (pairs.iou >= SAME_OBJECT) & ~table.truth.crowd[pairs.truth]
    number = np.argsort(np.argsort([category.id for category in data.categories]))  # of each label, in order of the ids
    detection, label = pairs.found[same], table.found.label[pairs.found[same]]
    step = number[table.truth.label[pairs.truth[same]]] - number[label]
    total = len(np.unique(detection))
    if total < ENOUGH:
        return
    agreeing = {by: len(np.unique(detection[step == by])) / total for by in (-1, 0, 1)}
    for by, low, neighbor in ((1, "low", "next higher"), (-1, "high", "next lower")):
        several = len(np.unique(label[step == by])) > 1
        if agreeing[0] <= RARELY and agreeing[by] >= MOSTLY and several:
            yield (
                f"class ids seem to be one too {low}: of {total:,} detections on a labeled box (IoU {SAME_OBJECT:g} or "
                f"more) {agreeing[0]:.0%} have its class, and {agreeing[by]:.0%} would if each category_id were the "
                f"{neighbor} one of the data set; replace the ids accordingly."
            )


def mixed_pairs(counts: Confusion, names: Sequence[str], most: int = 3) -> list[str]:
    """Return the pairs of classes that are confused most often, such as "demon as imp 40"."""
    inner = counts.counts[:-1, :-1].copy()
    np.fill_diagonal(inner, 0)
    order = np.argsort(-inner, axis=None, kind="stable")[:most]
    pairs = [divmod(int(index), inner.shape[1]) for index in order]
    return [f"{names[i]} as {names[j]} {inner[i, j]:,}" for i, j in pairs if inner[i, j]]
