"""The rows of the study as data: what each gives the detector, where, and what stays its own.

A row replaces quantities at the *positives*, the points that the assignment gives an object, and nowhere else: all
other points, and all other classes of the same point, keep what was predicted. Then the usual post-processing and COCO
evaluation follow. Rows whose name begins with ``perfect`` replace nothing; they replace a later step by the
truth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from varifocal.boxes import elementwise_iou
from varifocal.models.dense import centerness
from varifocal.tools.oracle.positives import Positives

TOPKS = (1, 5, 9, 15, 25)  # candidates a level that ATSS is tried with; the paper's is 9

Value = Callable[[Positives], Tensor]


@dataclass(frozen=True)
class Requirement:
    """What a row takes for granted: whether a detector has it, and the sentence for those that do not."""

    has: Callable[[nn.Module], bool]
    why: str


def _has_centerness(detector: nn.Module) -> bool:
    return getattr(detector.head, "centerness", None) is not None


def _has_refinement(detector: nn.Module) -> bool:
    return hasattr(detector, "refine_given_boxes") and getattr(detector.config, "refine", False)


CENTERNESS = Requirement(_has_centerness, "has no centerness")
REFINEMENT = Requirement(_has_refinement, "refines no first box: only a VFNet with refine=true does")


@dataclass(frozen=True)
class Override:
    """What is written at the P positives; None leaves what was predicted.

    ``box`` [P, 4], ``score`` [P] of the object's class, ``scores`` [P, C] of all classes, ``centerness`` [P]. ``topk``
    are the candidates a level of the ATSS that finds the positives, None the assignment of the study.
    """

    box: Value | None = None
    score: Value | None = None
    scores: Value | None = None
    centerness: Value | None = None
    topk: int | None = None


@dataclass(frozen=True)
class Row:
    """One question: what is given at the positives, and what is perfect after the network.

    ``one_each`` uses :func:`varifocal.tools.oracle.ground_truth_nms.ground_truth_nms` instead of suppression, the
    best box chosen so; ``without_false`` is that of :func:`varifocal.evaluation.coco_ap.coco_ap`.
    """

    name: str
    meaning: str
    given: Override = Override()
    one_each: Literal["overlap", "score"] | None = None
    without_false: bool = False
    need: Requirement | None = None


def true_box(at: Positives) -> Float[Tensor, "P 4"]:
    """The object's."""
    return at.truth


def true_centerness(at: Positives) -> Float[Tensor, "P"]:
    """Of each point in its object's box, as it is taught."""
    return centerness(at.points, at.truth)


def overlap(at: Positives) -> Float[Tensor, "P"]:
    """IoU of the predicted box, as it is evaluated (clipped to the image), with the object's."""
    return elementwise_iou(at.boxes, at.truth)


def certain(at: Positives) -> Float[Tensor, "P"]:
    """One."""
    return torch.ones_like(at.boxes[:, 0])


def refined_box(at: Positives) -> Float[Tensor, "P 4"]:
    """What the refinement makes of the object's own box."""
    assert at.again is not None
    return at.again.boxes


def scores_at_the_object(at: Positives) -> Float[Tensor, "P C"]:
    """What the star says of the classes when it looks at the object's own box."""
    assert at.again is not None
    return at.again.scores


PAPER = (
    Row("nothing", "all as predicted"),
    Row("gt_ctr", "centerness is the true one", Override(centerness=true_centerness), need=CENTERNESS),
    Row("gt_ctr_iou", "centerness is the IoU of the predicted box", Override(centerness=overlap), need=CENTERNESS),
    Row("gt_bbox", "the box is the object's", Override(box=true_box)),
    Row("gt_cls", "the score of the object's class is 1", Override(score=certain)),
    Row("gt_cls_iou", "the score of the object's class is the IoU of the predicted box", Override(score=overlap)),
)
FURTHER = (
    Row("gt_bbox_cls", "the box is the object's and its class scores 1", Override(box=true_box, score=certain)),
    Row(
        "gt_refine",
        "the first box is the object's; what the star then sees and refines is predicted",
        Override(box=refined_box, scores=scores_at_the_object),
        need=REFINEMENT,
    ),
)
AFTER = (
    Row("perfect_nms", "suppression keeps one box of each object, that of the highest IoU", one_each="overlap"),
    Row("perfect_nms_score", "suppression keeps one box of each object, that of the highest score", one_each="score"),
    Row("perfect_threshold", "no false detection passes the threshold", without_false=True),
    Row(
        "gt_bbox_cls_nms",
        "box, class and suppression are perfect: what is left are objects without a positive",
        Override(box=true_box, score=certain),
        one_each="overlap",
    ),
)


def all_rows(base: int | None) -> tuple[Row, ...]:
    """Those of the paper's table, then ours; ``base`` is the top-k of the study's ATSS, which is not repeated."""
    given = {row.name: row.given for row in PAPER}
    assigned = [
        Row(f"{name}@{topk}", f"{name} at the positives of ATSS with top-k {topk}", replace(given[name], topk=topk))
        for name in ("gt_bbox", "gt_cls_iou")
        for topk in TOPKS
        if topk != base
    ]
    return (*PAPER, *FURTHER, *assigned, *AFTER)


def split_rows(rows: Sequence[Row], name: str, detector: nn.Module) -> tuple[list[Row], dict[str, str]]:
    """The rows that the detector of this name has, and why it has not the others."""
    absent = {row.name: f"{name} {row.need.why}" for row in rows if row.need is not None and not row.need.has(detector)}
    return [row for row in rows if row.name not in absent], absent
