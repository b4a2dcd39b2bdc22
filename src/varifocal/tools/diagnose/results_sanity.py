"""Results that were written in another form than COCO's read as those of a bad detector: what looks like it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from varifocal.analysis.confusion import Confusion
from varifocal.types import Dataset, Detections

FEW = 0.2  # fraction of labeled images without any detection from which it is reported
SOME, MANY = 0.05, 0.3  # fractions of boxes
SLACK = 1.1  # how far a sound box may reach beyond its image, in its sides


def results_sanity(detections: Sequence[Detections], data: Dataset) -> Iterator[str]:
    """Yield sentences on what someone else's results may have wrong: missing images; boxes that are corners, fractions
    of the image or of a resized image; scores in percent. ``detections[i]`` belong to ``data.samples[i]``."""
    total = sum(len(one.scores) for one in detections)
    if not total:
        yield "there is no detection, so that everything counts as missed."
        return
    pairs = list(zip(detections, data.samples, strict=True))
    labeled = [found for found, sample in pairs if len(sample.boxes)]
    empty = sum(not len(found.scores) for found in labeled)
    if empty > FEW * len(labeled):
        yield (
            f"{empty:,} of {len(labeled):,} images with boxes have no detection; "
            "if the results are of a part of the data, name it with --split."
        )
    boxes = np.concatenate([found.boxes for found, _ in pairs])
    sizes = np.concatenate([np.tile((s.width, s.height), (len(found.scores), 1)) for found, s in pairs])
    yield from _boxes(boxes, sizes)
    best = max(float(found.scores.max()) for found in detections if len(found.scores))
    if best > 1:
        yield f"scores reach {best:g}; calibration and costs of images want them between 0 and 1."


def _boxes(boxes: np.ndarray, sizes: np.ndarray) -> Iterator[str]:
    if boxes.max() <= 1 + SLACK:  # of corners in 0..1 that were read as x, y, width, height
        yield "all boxes lie within two pixels; a bbox is in pixels of the image, not in fractions of it."
        return
    outside = (boxes[:, 2:] > SLACK * sizes).any(axis=1)
    text = f"{int(outside.sum()):,} of {len(boxes):,} boxes end outside their images; "
    ends = boxes[:, 2:] - boxes[:, :2]  # what stands in the file behind x, y
    corners = ((ends <= SLACK * sizes) & (ends >= boxes[:, :2])).all(axis=1)
    if outside.mean() > SOME and corners.mean() > 1 - SOME:
        yield text + "they look like [left, top, right, bottom] and should be [x, y, width, height]."
    elif outside.mean() > MANY:
        yield text + "a bbox is in pixels of the image as the data has it, not of a resized one."


def mixed_pairs(counts: Confusion, names: Sequence[str], most: int = 3) -> list[str]:
    """The classes that are taken for another most often, as "demon as imp 40"."""
    inner = counts.counts[:-1, :-1].copy()
    np.fill_diagonal(inner, 0)
    order = np.argsort(-inner, axis=None, kind="stable")[:most]
    pairs = [divmod(int(at), inner.shape[1]) for at in order]
    return [f"{names[i]} as {names[j]} {inner[i, j]:,}" for i, j in pairs if inner[i, j]]
