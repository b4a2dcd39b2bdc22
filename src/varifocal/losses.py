"""The losses of dense detection as pure functions of logits and targets.

Nothing here depends on detectors, levels or assignment, so that any detector can use a function. A classification loss
takes logits [..., C] and targets of the same shape and returns one number per entry, unreduced, so that the caller
chooses weights and normalizer. No argument is changed, and nothing is kept between calls.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from varifocal.ops.boxes import EPS, elementwise_giou, elementwise_iou

ClassificationLoss = Literal["varifocal", "focal", "quality-focal", "mal", "ia-bce"]


def varifocal_loss(
    logits: Float[Tensor, "*n"],
    targets: Float[Tensor, "*n"],
    *,
    alpha: float = 0.75,
    gamma: float = 2.0,
    iou_weighted: bool = True,
    positive: Bool[Tensor, "*n"] | None = None,
    detach_weight: bool = False,
) -> Float[Tensor, "*n"]:
    """Return the varifocal loss (Zhang et al., VarifocalNet, CVPR 2021, equation 2); for use in any detector.

    With p = sigmoid(logits) and target q: ``q * BCE(p, q)`` at positives and ``alpha * p^gamma * BCE(p, q)`` at
    negatives, where q = 0. Set q to the IoU of the predicted box with its ground truth at the true class of a positive
    point and to 0 everywhere else, and detach it. Only negatives are focused, and alpha scales only them.

    RT-DETR and D-FINE use a variant: ``detach_weight=True`` with ``positive`` set by their matching. A match with
    q = 0 is then a positive of weight 0, where the paper's rule makes it a negative.

    Args:
        logits: scores before the sigmoid.
        targets: the IoU-aware score q in 0..1.
        alpha: weight of the negatives.
        gamma: how strongly easy negatives are down-weighted.
        iou_weighted: weigh a positive by its q; otherwise by 1.
        positive: which entries are positives; by default those with q > 0, as in the paper.
        detach_weight: keep p^gamma out of the gradient; by default it takes part, as in the authors' code.

    Returns:
        The loss of each entry; sum it and divide by the number of positive points.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    weight = targets if iou_weighted else torch.ones_like(targets)
    p = logits.sigmoid()
    focus = (p.detach() if detach_weight else p).pow(gamma)
    return entropy * torch.where(targets > 0 if positive is None else positive, weight, alpha * focus)


def focal_loss(
    logits: Float[Tensor, "*n"], targets: Float[Tensor, "*n"], *, alpha: float = 0.25, gamma: float = 2.0
) -> Float[Tensor, "*n"]:
    """Return the focal loss (Lin et al., ICCV 2017, equation 5) for targets 0 or 1; for use in any detector.

    ``-alpha (1-p)^gamma ln p`` where the target is 1, ``-(1-alpha) p^gamma ln(1-p)`` where it is 0.
    """
    from torchvision.ops import sigmoid_focal_loss

    return sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=gamma)


def quality_focal_loss(
    logits: Float[Tensor, "*n"], targets: Float[Tensor, "*n"], *, beta: float = 2.0
) -> Float[Tensor, "*n"]:
    """Return the quality focal loss (Li et al., Generalized Focal Loss, NeurIPS 2020, equation 4), for any detector.

    ``|q - p|^beta * BCE(p, q)`` with q the IoU at the true class of a positive point and 0 elsewhere.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return entropy * (targets - logits.sigmoid()).abs().pow(beta)


def matchability_aware_loss(
    logits: Float[Tensor, "*n"],
    targets: Float[Tensor, "*n"],
    *,
    gamma: float = 1.5,
    positive: Bool[Tensor, "*n"] | None = None,
) -> Float[Tensor, "*n"]:
    """Return the matchability-aware loss, MAL (Huang et al., DEIM, CVPR 2025, equation 3); for use in any detector.

    With p = sigmoid(logits) and q the IoU of the predicted box at the true class of a positive, 0 elsewhere:
    ``BCE(p, q^gamma)`` at positives and ``p^gamma * BCE(p, 0)`` at negatives, whose factor p^gamma is detached as in
    the authors' code. Unlike in the varifocal loss a positive with a bad box keeps its full weight, and no alpha scales
    the negatives. ``gamma`` 1.5 is that of the authors' recipes. ``positive`` as in :func:`varifocal_loss`.
    """
    is_positive = targets > 0 if positive is None else positive
    # 0^0 is 1: without the choice a negative would have that target with gamma 0
    score = torch.where(is_positive, targets.pow(gamma), 0.0)
    entropy = F.binary_cross_entropy_with_logits(logits, score, reduction="none")
    return entropy * torch.where(is_positive, 1.0, logits.detach().sigmoid().pow(gamma))


def iou_aware_bce_loss(
    logits: Float[Tensor, "*n"],
    targets: Float[Tensor, "*n"],
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    positive: Bool[Tensor, "*n"] | None = None,
) -> Float[Tensor, "*n"]:
    """Return the IoU-aware BCE loss, IA-BCE (Cai et al., Align-DETR, 2023; Chen et al., LW-DETR, 2024, section 3.2,
    with settings that RF-DETR also uses); for use in any detector.

    With p = sigmoid(logits) and q the IoU of the predicted box at the true class of a positive, 0 elsewhere:
    ``BCE(p, t)`` at positives, where ``t = max(p^alpha * q^(1 - alpha), 0.01)`` is detached, and
    ``p^gamma * BCE(p, 0)`` at negatives. The factor p^gamma takes part in the gradient, as in LW-DETR's code.
    ``positive`` as in :func:`varifocal_loss`.
    """
    p = logits.sigmoid()
    score = (p.pow(alpha) * targets.pow(1 - alpha)).clamp(min=0.01).detach()
    is_positive = targets > 0 if positive is None else positive
    entropy = F.binary_cross_entropy_with_logits(logits, torch.where(is_positive, score, 0.0), reduction="none")
    return entropy * torch.where(is_positive, 1.0, p.pow(gamma))


def classification_loss(
    kind: ClassificationLoss,
    logits: Float[Tensor, "*n"],
    targets: Float[Tensor, "*n"],
    *,
    alpha: float = 0.75,
    gamma: float = 2.0,
    iou_weighted: bool = True,
    focal_alpha: float = 0.25,
    focal_gamma: float = 2.0,
) -> Float[Tensor, "*n"]:
    """Return the classification loss of that name; ``targets`` are 1 for focal loss, the IoU for the others.

    ``alpha``, ``gamma`` and ``iou_weighted`` are those of the varifocal loss, ``focal_alpha`` and ``focal_gamma``
    those of focal loss; the others run at their papers' settings.

    Raises:
        ValueError: there is no such loss.
    """
    if kind == "varifocal":
        return varifocal_loss(logits, targets, alpha=alpha, gamma=gamma, iou_weighted=iou_weighted)
    if kind == "quality-focal":
        return quality_focal_loss(logits, targets)
    if kind == "mal":
        return matchability_aware_loss(logits, targets)
    if kind == "ia-bce":
        return iou_aware_bce_loss(logits, targets)
    if kind == "focal":
        return focal_loss(logits, targets, alpha=focal_alpha, gamma=focal_gamma)
    raise ValueError(f"{kind!r}: there is no such loss; choose from {', '.join(get_args(ClassificationLoss))}")


def distribution_focal_loss(logits: Float[Tensor, "*n bins"], targets: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return the distribution focal loss (Generalized Focal Loss, equation 6); for use in any detector.

    It is the cross-entropy with the two whole bins around ``targets`` (in bins, 0..bins-1), each weighted by its
    nearness.
    """
    lower = targets.floor().clamp(max=logits.shape[-1] - 2)
    upper_weight = targets - lower
    log_p = logits.log_softmax(dim=-1)
    below = log_p.gather(-1, lower.long()[..., None])[..., 0]
    above = log_p.gather(-1, lower.long()[..., None] + 1)[..., 0]
    return -(below * (1 - upper_weight) + above * upper_weight)


def giou_loss(boxes: Float[Tensor, "*n 4"], targets: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Return ``1 - GIoU`` of pairs of xyxy boxes, in 0..2; for use in any detector."""
    return 1 - elementwise_giou(boxes, targets)


def iou_loss(boxes: Float[Tensor, "*n 4"], targets: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Return ``-ln IoU`` of pairs of xyxy boxes (Yu et al., UnitBox, 2016); for use in any detector.

    Below an IoU of 1e-6 the loss stays at its largest, 13.8, and has no gradient.
    """
    return -elementwise_iou(boxes, targets).clamp(min=EPS).log()
