"""Which parts of a network int8 harms most, and which of them in floating point restore its accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from varifocal.inference.boxes_numpy import box_iou
from varifocal.types import Detections

# children of a backbone that hold its stages by number
LISTS = ("blocks", "stages", "layers", "features")
TRIED = 4  # blocks that are kept together at most


@dataclass(frozen=True)
class Restoration:
    """With the blocks ``keep`` in floating point AP is ``ap`` (0..1); ``enough`` says whether the file is then kept.

    ``costs`` are all blocks, worst first, with the fraction of the detections that each alone changes.
    """

    keep: tuple[str, ...]
    ap: float
    enough: bool
    costs: tuple[tuple[str, float], ...]


def blocks(modules: Iterable[str]) -> list[str]:
    """The parts that are looked at, in order: stages of the backbone, the neck, parts of the head."""
    return list(dict.fromkeys(block_of(module) for module in modules))


def block_of(module: str) -> str:
    """The part that a module belongs to: ``backbone.layer1``, ``backbone.blocks.0``, ``neck``, ``head.cls_tower``."""
    parts = module.split(".")
    if parts[0] == "neck":
        return "neck"
    return ".".join(parts[: 3 if len(parts) > 2 and parts[1] in LISTS else 2])


def detection_similarity(truth: Detections, found: Detections) -> float:
    """How much of what one model finds another finds, too, in 0..1.

    Each box counts by its score, and as much as the best of the other's boxes of its class is like it: their IoU times
    the ratio of their scores. 1 where there is nothing to find.
    """
    if not len(truth):
        return 1.0
    same = truth.labels[:, None] == found.labels
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = np.minimum(truth.scores[:, None], found.scores) / np.maximum(truth.scores[:, None], found.scores)
        each = np.where(same, box_iou(truth.boxes, found.boxes) * scores, 0)
    best = np.nan_to_num(each).max(axis=1, initial=0)
    return float((best * truth.scores).sum() / max(float(truth.scores.sum()), 1e-12))


def rank(
    names: Sequence[str],
    detect: Callable[[Sequence[str]], list[Detections]],
    progress: Callable[[int], None] = lambda done: None,
) -> list[tuple[str, float]]:
    """Return each block with the fraction of the detections that it alone changes in int8, worst first.

    ``detect`` gives what is found on a few images with these blocks in floating point.
    """
    truth = detect(names)
    found = []
    for done, name in enumerate(names, start=1):
        pairs = zip(truth, detect([other for other in names if other != name]), strict=True)
        found.append((name, 1 - float(np.mean([detection_similarity(*pair) for pair in pairs]))))
        progress(done)
    return sorted(found, key=lambda pair: -pair[1])


def restore(
    costs: Sequence[tuple[str, float]],
    kept: tuple[str, ...],
    attempt: Callable[[tuple[str, ...]], tuple[float, bool]],
) -> Restoration:
    """The fewest of the worst blocks, beside those ``kept``, with which the file is good; four at most.

    ``attempt`` gives AP (0..1) with these blocks in floating point, and whether that is enough.
    """
    keep, average, enough = kept, 0.0, False
    for name, _ in costs[:TRIED]:
        keep = (*keep, name)
        average, enough = attempt(keep)
        if enough:
            break
    return Restoration(keep, average, enough, tuple(costs))
