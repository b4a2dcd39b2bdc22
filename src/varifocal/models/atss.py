"""ATSS (Zhang et al., CVPR 2020): FCOS's head over one square anchor a point, with adaptive assignment.

From top to bottom: configuration and the detector's three verbs: forward, loss, decode. The VarifocalNet paper's
table 5 trains it with each of the three classification losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from varifocal.assign.atss import assign_atss
from varifocal.losses import ClassificationLoss, giou_loss
from varifocal.models.backbone import Backbone, BackboneConfig
from varifocal.models.dense import (
    MIN_QUALITY,
    PAPER_DIVISOR,
    DenseHead,
    DenseTargets,
    TargetAssigner,
    assign_targets,
    avg_factors,
    centerness,
    dense_classification_loss,
)
from varifocal.models.layers import FPN, at_least_float32, flatten_levels, level_shapes, level_strides
from varifocal.ops.boxes import clip_boxes_batch, decode_deltas, elementwise_iou, grid_priors, square_anchors
from varifocal.structures import Candidates, Outputs, Priors, Targets
from varifocal.utils.config import AtLeast0, AtLeast1

STD = (0.1, 0.1, 0.2, 0.2)  # of the box deltas
BOX_WEIGHT = 2.0


@dataclass(frozen=True)
class ATSSConfig:
    """Every switch of the detector; the defaults are the paper's ATSS but for ``compat``.

    ``num_convs`` is the depth of each tower, ``channels`` the channels of pyramid and head, ``num_levels`` the number
    of pyramid levels from stride 8 on. ``loss`` is the classification loss; ``alpha``, ``gamma`` and ``iou_weighted``
    are those of the varifocal loss, the others run at their papers' settings. Without ``centerness`` neither is the
    branch there nor are the boxes weighted by it.

    ``compat="paper"`` reproduces the authors' code where we think it wrong: with the varifocal loss they train the
    padding of a batch as background, they take crowd regions for background, count an image without positive points
    as one point, divide by a sum of centerness that may be small, and bound the normalizers a process at a time.
    "none" ignores padding and crowd regions and bounds the total at one.
    """

    num_classes: int = 80
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    channels: AtLeast1 = 256
    num_levels: AtLeast1 = 5
    num_convs: AtLeast0 = 4
    loss: ClassificationLoss = "focal"
    alpha: float = 0.75
    gamma: float = 2.0
    iou_weighted: bool = True
    centerness: bool = True
    compat: Literal["none", "paper"] = "none"

    RENAMED: ClassVar = {
        "width": "channels",
        "convs": "num_convs",
        "levels": "num_levels",
    }


class ATSS(nn.Module):
    """The detector: images to outputs, outputs to losses, outputs to boxes and scores.

    Outputs: ``logits`` [B, N, C] before the sigmoid; ``deltas`` [B, N, 4]: (dx, dy, dw, dh) from the anchor in units of
    0.1, 0.1, 0.2, 0.2; with ``centerness`` that, [B, N, 1] before the sigmoid.
    """

    def __init__(self, config: ATSSConfig) -> None:
        super().__init__()
        self.config = config
        self.strides = self.labeling(config).strides
        self.backbone = Backbone(config.backbone)
        self.neck = FPN(self.backbone.channels, config.channels, config.num_levels, extra_relu=False)
        self.head = DenseHead(
            config.channels,
            depth=config.num_convs,
            classes=config.num_classes,
            outputs=4,
            levels=config.num_levels,
            centerness="reg" if config.centerness else None,
        )

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Outputs:
        """Return the raw outputs for normalized images, whose sides should be multiples of 32."""
        maps = self.head(self.neck(self.backbone(images)))
        tensors = {"logits": flatten_levels(maps["logits"]), "deltas": at_least_float32(flatten_levels(maps["reg"]))}
        if "centerness" in maps:
            tensors["centerness"] = flatten_levels(maps["centerness"])
        return Outputs(tensors, level_shapes(maps["logits"]))

    def loss(self, outputs: Outputs, targets: Sequence[Targets]) -> dict[str, Float[Tensor, ""]]:
        """Return the losses ``cls``, ``box`` and ``centerness`` if there is one; their sum is minimized.

        The GIoU loss of a positive point is weighted by how central it is and divided by the sum of these weights;
        without centerness it is divided by the number of positive points.
        """
        config, paper = self.config, self.config.compat == "paper"
        logits = at_least_float32(outputs.tensors["logits"])
        priors = self._priors(outputs, logits)
        dense = self.assign(outputs, targets)
        truth = dense.boxes[dense.positive]
        points, anchors = (
            each.expand(len(targets), -1, -1)[dense.positive] for each in (priors.points, square_anchors(priors))
        )
        boxes = decode_deltas(anchors, outputs.tensors["deltas"][dense.positive], STD)
        quality = elementwise_iou(boxes.detach(), truth).clamp(min=MIN_QUALITY)
        central = centerness(points, truth)
        found = dense.positive.sum(dim=1)
        count, weight = avg_factors(
            [(found.clamp(min=1) if paper else found).sum(), central.sum()],
            logits.dtype,
            clamp_total=not paper,
            floors=[1.0, 1e-12 if paper else 1.0],
        )
        everywhere = paper and config.loss == "varifocal"
        cls = dense_classification_loss(config, logits, dense, quality, everywhere=everywhere) / count
        box = BOX_WEIGHT * giou_loss(boxes, truth)
        if not config.centerness:
            return {"cls": cls, "box": box.sum() / count}
        predicted = at_least_float32(outputs.tensors["centerness"])[..., 0][dense.positive]
        return {
            "cls": cls,
            "box": (box * central).sum() / weight,
            "centerness": F.binary_cross_entropy_with_logits(predicted, central, reduction="sum") / count,
        }

    def assign(self, outputs: Outputs, targets: Sequence[Targets]) -> DenseTargets:
        """Return what each point of the outputs should predict, the targets of :meth:`loss`."""
        return assign_targets(self.labeling(self.config), outputs, targets, mask_crowd=self.config.compat != "paper")

    def decode(self, outputs: Outputs, sizes: Sequence[tuple[int, int]] | None) -> Candidates:
        """Return boxes, xyxy pixels of the input, clipped to each (height, width) if given, scores and centerness."""
        deltas = outputs.tensors["deltas"]
        priors = self._priors(outputs, deltas)
        boxes = clip_boxes_batch(decode_deltas(square_anchors(priors), deltas, STD), sizes)
        scores = at_least_float32(outputs.tensors["logits"]).sigmoid()
        quality = at_least_float32(outputs.tensors["centerness"])[..., 0].sigmoid() if self.config.centerness else None
        return Candidates(boxes, scores, priors.counts, quality)

    @staticmethod
    def labeling(config: ATSSConfig) -> TargetAssigner:
        """Return how the points of an image are assigned to objects, which needs no weights."""
        strides = level_strides(config.num_levels)
        divisor = PAPER_DIVISOR if config.compat == "paper" else 1
        return TargetAssigner(strides, partial(grid_priors, strides=strides), assign_atss, divisor)

    def _priors(self, outputs: Outputs, like: Tensor) -> Priors:
        return self.labeling(self.config).grid(outputs.shapes, like=like)
