"""Sensitivity of the parts of a network to int8, and which of them must stay in floating point."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from varifocal.inference.boxes_numpy import box_iou
from varifocal.types import Detections

# children of a backbone that hold its stages in a list
LISTS = ("blocks", "stages", "layers", "features")
MAX_KEPT = 4  # blocks that are tried in floating point together


@dataclass(frozen=True)
class Restoration:
    """The blocks to ``keep`` in floating point, the AP (0..1) with them, and whether that is ``enough``.

    ``costs`` are all blocks, worst first, with the fraction of the detections that int8 in this block alone changes.
    """

    keep: tuple[str, ...]
    ap: float
    enough: bool
    costs: tuple[tuple[str, float], ...]


def blocks(modules: Iterable[str]) -> list[str]:
    """Return the blocks of these modules, in order: stages of the backbone, the neck, parts of the head."""
    return list(dict.fromkeys(block_of(module) for module in modules))


def block_of(module: str) -> str:
    """Return the block of a module: ``backbone.layer1``, ``backbone.blocks.0``, ``neck``, ``head.cls_tower``."""
    parts = module.split(".")
    if parts[0] == "neck":
        return "neck"
    return ".".join(parts[: 3 if len(parts) > 2 and parts[1] in LISTS else 2])


def detection_similarity(truth: Detections, found: Detections) -> float:
    """Return how similar the detections of a second model are to those of a first, in 0..1.

    Each box of the first model is weighted by its score. Its similarity is that of the most similar box of its class:
    their IoU times the ratio of their scores. The result is 1 if the first model has no detections.
    """
    if not len(truth):
        return 1.0
    same = truth.labels[:, None] == found.labels
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = np.minimum(truth.scores[:, None], found.scores) / np.maximum(truth.scores[:, None], found.scores)
        similarity = np.where(same, box_iou(truth.boxes, found.boxes) * scores, 0)
    best = np.nan_to_num(similarity).max(axis=1, initial=0)
    return float((best * truth.scores).sum() / max(float(truth.scores.sum()), 1e-12))


def rank(
    names: Sequence[str],
    detect: Callable[[Sequence[str]], list[Detections]],
    progress: Callable[[int], None] = lambda done: None,
) -> list[tuple[str, float]]:
    """Return each block with the fraction of the detections that int8 in this block alone changes, worst first.

    ``detect`` returns the detections on a few images with the given blocks in floating point.
    """
    truth = detect(names)
    costs = []
    for done, name in enumerate(names, start=1):
        pairs = zip(truth, detect([other for other in names if other != name]), strict=True)
        costs.append((name, 1 - float(np.mean([detection_similarity(*pair) for pair in pairs]))))
        progress(done)
    return sorted(costs, key=lambda pair: -pair[1])


def restore(
    costs: Sequence[tuple[str, float]],
    kept: tuple[str, ...],
    attempt: Callable[[tuple[str, ...]], tuple[float, bool]],
) -> Restoration:
    """Return how many of the worst blocks must stay in floating point beside those ``kept``; at most four are tried.

    ``attempt`` returns the AP (0..1) with the given blocks in floating point, and whether that is enough.
    """
    keep, ap, enough = kept, 0.0, False
    for name, _ in costs[:MAX_KEPT]:
        keep = (*keep, name)
        ap, enough = attempt(keep)
        if enough:
            break
    return Restoration(keep, ap, enough, tuple(costs))
