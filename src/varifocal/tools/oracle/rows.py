"""The rows of the study as data: the quantities that each replaces by the truth.

A row replaces quantities at the *positives*, the points that are assigned to an object; all other points, and all other
classes of the same point, keep their predictions. Then the usual post-processing and COCO evaluation follow. Rows whose
name begins with ``perfect`` replace no prediction, but a later step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from varifocal.models.dense import centerness
from varifocal.ops.boxes import elementwise_iou
from varifocal.structures import Candidates
from varifocal.tools.oracle.positives import Positives

TOPKS = (1, 5, 9, 15, 25)  # candidates per level that ATSS is tried with; the paper's is 9

Value = Callable[[Positives], Tensor]


@dataclass(frozen=True)
class Requirement:
    """A part of the detector that a row requires, with the end of a sentence about detectors that lack it."""

    is_met: Callable[[nn.Module], bool]
    reason: str


def _has_centerness(detector: nn.Module) -> bool:
    return getattr(detector.head, "centerness", None) is not None


def _has_refinement(detector: nn.Module) -> bool:
    return hasattr(detector, "refine_given_boxes") and getattr(detector.config, "refine", False)


CENTERNESS = Requirement(_has_centerness, "has no centerness")
REFINEMENT = Requirement(_has_refinement, "does not refine a first box; only a VFNet with refine=true does")


@dataclass(frozen=True)
class Override:
    """The values at the P positives that replace the predictions; None keeps the predictions.

    They are ``box`` [P, 4], ``score`` [P] of the object's class, ``scores`` [P, C] of all classes and ``centerness``
    [P]. ``topk`` is the number of candidates per level of the ATSS that assigns the positives; None is the assignment
    of the study.
    """

    box: Value | None = None
    score: Value | None = None
    scores: Value | None = None
    centerness: Value | None = None
    topk: int | None = None


def apply_override(decoded: Candidates, positives: Positives, override: Override) -> Candidates:
    """Return a copy of the predictions in which the override replaces those at the positives."""
    boxes, scores = decoded.boxes.clone(), decoded.scores.clone()
    quality = None if decoded.quality is None else decoded.quality.clone()
    for values, value, index in (
        (boxes, override.box, (positives.image, positives.point)),
        (scores, override.scores, (positives.image, positives.point)),
        (scores, override.score, (positives.image, positives.point, positives.labels)),
        (quality, override.centerness, (positives.image, positives.point)),
    ):
        if values is not None and value is not None:
            values[index] = value(positives).to(values.dtype)
    return Candidates(boxes, scores, decoded.counts, quality)


@dataclass(frozen=True)
class Row:
    """A row of the study: the values at the positives, and the steps after the network that are perfect.

    ``ground_truth_nms`` is the choice of the box in
    :func:`varifocal.tools.oracle.ground_truth_nms.ground_truth_nms`, None for ordinary NMS. ``without_false`` is that
    of :func:`varifocal.evaluation.coco_ap.coco_ap`.
    """

    name: str
    meaning: str
    override: Override = Override()
    ground_truth_nms: Literal["overlap", "score"] | None = None
    without_false: bool = False
    requires: Requirement | None = None


def true_box(positives: Positives) -> Float[Tensor, "P 4"]:
    """Return the objects' boxes."""
    return positives.truth


def true_centerness(positives: Positives) -> Float[Tensor, "P"]:
    """Return the centerness of each point in its object's box, as in training."""
    return centerness(positives.points, positives.truth)


def overlap(positives: Positives) -> Float[Tensor, "P"]:
    """Return the IoU of the predicted box, clipped to the image as in evaluation, with the object's."""
    return elementwise_iou(positives.boxes, positives.truth)


def certain(positives: Positives) -> Float[Tensor, "P"]:
    """Return ones."""
    return torch.ones_like(positives.boxes[:, 0])


def refined_box(positives: Positives) -> Float[Tensor, "P 4"]:
    """Return the refinement of the object's own box."""
    assert positives.refined is not None
    return positives.refined.boxes


def scores_at_the_object(positives: Positives) -> Float[Tensor, "P C"]:
    """Return the scores of all classes if the star samples the object's own box."""
    assert positives.refined is not None
    return positives.refined.scores


PAPER = (
    Row("nothing", "all predictions"),
    Row("gt_ctr", "centerness is the true one", Override(centerness=true_centerness), requires=CENTERNESS),
    Row("gt_ctr_iou", "centerness is the IoU of the predicted box", Override(centerness=overlap), requires=CENTERNESS),
    Row("gt_bbox", "the box is the object's", Override(box=true_box)),
    Row("gt_cls", "the score of the object's class is 1", Override(score=certain)),
    Row("gt_cls_iou", "the score of the object's class is the IoU of the predicted box", Override(score=overlap)),
)
FURTHER = (
    Row("gt_bbox_cls", "the box is the object's and its class scores 1", Override(box=true_box, score=certain)),
    Row(
        "gt_refine",
        "the first box is the object's; the scores and the refinement from it are predicted",
        Override(box=refined_box, scores=scores_at_the_object),
        requires=REFINEMENT,
    ),
)
AFTER = (
    Row("perfect_nms", "NMS keeps one box of each object, that of the highest IoU", ground_truth_nms="overlap"),
    Row("perfect_nms_score", "NMS keeps one box of each object, that of the highest score", ground_truth_nms="score"),
    Row("perfect_threshold", "no false detection passes the threshold", without_false=True),
    Row(
        "gt_bbox_cls_nms",
        "box, class and NMS are perfect; only objects without a positive are missed",
        Override(box=true_box, score=certain),
        ground_truth_nms="overlap",
    ),
)


def all_rows(base: int | None) -> tuple[Row, ...]:
    """Return the paper's rows, then further ones; ``base`` is the top-k of the study's ATSS, which is not repeated."""
    overrides = {row.name: row.override for row in PAPER}
    assigned = [
        Row(f"{name}@{topk}", f"{name} at the positives of ATSS with top-k {topk}", replace(overrides[name], topk=topk))
        for name in ("gt_bbox", "gt_cls_iou")
        for topk in TOPKS
        if topk != base
    ]
    return (*PAPER, *FURTHER, *assigned, *AFTER)


def split_rows(rows: Sequence[Row], name: str, detector: nn.Module) -> tuple[list[Row], dict[str, str]]:
    """Return the rows whose requirements the detector of this name meets, and the reasons against the others."""
    absent = {
        row.name: f"{name} {row.requires.reason}"
        for row in rows
        if row.requires is not None and not row.requires.is_met(detector)
    }
    return [row for row in rows if row.name not in absent], absent
