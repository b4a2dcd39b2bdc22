"""FCOS (Tian et al., ICCV 2019): every point in a box predicts its four sides, and how central it is.

From top to bottom: configuration and the detector's three verbs: forward, loss, decode. The improvements that the
authors published later are switches.
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
from varifocal.assign.fcos import assign_fcos
from varifocal.losses import ClassificationLoss, giou_loss, iou_loss
from varifocal.models.backbone import Backbone, BackboneConfig
from varifocal.models.dense import (
    MIN_QUALITY,
    DenseHead,
    DenseTargets,
    TargetAssigner,
    assign_targets,
    avg_factors,
    centerness,
    dense_classification_loss,
)
from varifocal.models.layers import FPN, at_least_float32, flatten_levels, level_shapes, level_strides
from varifocal.ops.boxes import clip_boxes_batch, distance2bbox, elementwise_iou, grid_priors
from varifocal.structures import Candidates, Outputs, Priors, Targets
from varifocal.utils.config import AtLeast0, AtLeast1

RADIUS = 1.5  # strides around a box's center, with center sampling


@dataclass(frozen=True)
class FCOSConfig:
    """Every switch of the detector; the defaults are the paper's FCOS but for ``compat``.

    ``num_convs`` is the depth of each tower, ``channels`` the channels of pyramid and head, ``num_levels`` the number
    of pyramid levels from stride 8 on. ``loss`` is the classification loss; ``alpha``, ``gamma`` and ``iou_weighted``
    are those of the varifocal loss, the others run at their papers' settings. The improved FCOS sets all of the
    following: ``center_sampling`` takes only points near the center of a box, ``centerness_on_reg`` reads the
    centerness from the tower of the boxes, ``norm_on_bbox`` says distances in strides after a ReLU instead of pixels
    after an exponential, ``box_loss`` is "giou", ``conv_bias`` gives the towers biases.

    ``assigner`` "atss" is the FCOS+ATSS of the VFNet paper (ATSS: Zhang et al., CVPR 2020): the positive points are
    those of ATSS, and ``center_sampling`` says nothing.

    ``compat="paper"`` reproduces the authors' code where we think it wrong: they train the padding of a batch as
    background, take crowd regions for background, divide by a sum of centerness that may be small, and bound the
    normalizers a process at a time. "none" ignores padding and crowd regions and bounds the total at one.
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
    assigner: Literal["fcos", "atss"] = "fcos"
    center_sampling: bool = False
    centerness_on_reg: bool = False
    norm_on_bbox: bool = False
    box_loss: Literal["iou", "giou"] = "iou"
    conv_bias: bool = False
    compat: Literal["none", "paper"] = "none"

    RENAMED: ClassVar = {
        "width": "channels",
        "convs": "num_convs",
        "levels": "num_levels",
        "centre_sampling": "center_sampling",
    }
    RENAMED_VALUES: ClassVar = {"assigner": {"fcos-centre": "fcos-center"}}


class FCOS(nn.Module):
    """The detector: images to outputs, outputs to losses, outputs to boxes and scores.

    Outputs: ``logits`` [B, N, C] before the sigmoid; ``distances`` [B, N, 4]: (l, t, r, b) in pixels of the input;
    ``centerness`` [B, N, 1] before the sigmoid.
    """

    def __init__(self, config: FCOSConfig) -> None:
        super().__init__()
        self.config = config
        self.strides = self.labeling(config).strides
        self.backbone = Backbone(config.backbone)
        self.neck = FPN(self.backbone.channels, config.channels, config.num_levels)
        self.head = DenseHead(
            config.channels,
            depth=config.num_convs,
            classes=config.num_classes,
            outputs=4,
            levels=config.num_levels,
            centerness="reg" if config.centerness_on_reg else "cls",
            bias=config.conv_bias,
        )

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Outputs:
        """Return the raw outputs for normalized images, whose sides should be multiples of 32."""
        maps = self.head(self.neck(self.backbone(images)))
        if self.config.norm_on_bbox:
            sides = [
                at_least_float32(level).relu() * stride for level, stride in zip(maps["reg"], self.strides, strict=True)
            ]
        else:
            sides = [at_least_float32(level).exp() for level in maps["reg"]]
        tensors = {
            "logits": flatten_levels(maps["logits"]),
            "distances": flatten_levels(sides),
            "centerness": flatten_levels(maps["centerness"]),
        }
        return Outputs(tensors, level_shapes(maps["logits"]))

    def loss(self, outputs: Outputs, targets: Sequence[Targets]) -> dict[str, Float[Tensor, ""]]:
        """Return the losses ``cls``, ``box`` and ``centerness``; their sum is minimized.

        The box loss of a positive point is weighted by how central it is and divided by the sum of these weights.
        """
        config, paper = self.config, self.config.compat == "paper"
        logits = at_least_float32(outputs.tensors["logits"])
        priors = self._priors(outputs, logits)
        dense = self.assign(outputs, targets)
        truth = dense.boxes[dense.positive]
        points = priors.points.expand(len(targets), -1, -1)[dense.positive]
        boxes = distance2bbox(points, outputs.tensors["distances"][dense.positive])
        quality = elementwise_iou(boxes.detach(), truth).clamp(min=MIN_QUALITY)
        central = centerness(points, truth)
        predicted = at_least_float32(outputs.tensors["centerness"])[..., 0][dense.positive]
        count, weight = avg_factors(
            [dense.positive.sum(), central.sum()],
            logits.dtype,
            clamp_total=not paper,
            floors=[1.0, 1e-6 if paper else 1.0],
        )
        box_loss = iou_loss if config.box_loss == "iou" else giou_loss
        return {
            "cls": dense_classification_loss(config, logits, dense, quality, everywhere=paper) / count,
            "box": (box_loss(boxes, truth) * central).sum() / weight,
            "centerness": F.binary_cross_entropy_with_logits(predicted, central, reduction="sum") / count,
        }

    def assign(self, outputs: Outputs, targets: Sequence[Targets]) -> DenseTargets:
        """Return what each point of the outputs should predict, the targets of :meth:`loss`."""
        return assign_targets(self.labeling(self.config), outputs, targets)

    def decode(self, outputs: Outputs, sizes: Sequence[tuple[int, int]] | None) -> Candidates:
        """Return boxes, xyxy pixels of the input, clipped to each (height, width) if given, scores and centerness."""
        distances = outputs.tensors["distances"]
        priors = self._priors(outputs, distances)
        boxes = distance2bbox(priors.points.expand(distances.shape[0], -1, -1), distances)
        scores, quality = (at_least_float32(outputs.tensors[name]).sigmoid() for name in ("logits", "centerness"))
        return Candidates(clip_boxes_batch(boxes, sizes), scores, priors.counts, quality[..., 0])

    @staticmethod
    def labeling(config: FCOSConfig) -> TargetAssigner:
        """Return how the points of an image are assigned to objects, which needs no weights."""
        strides = level_strides(config.num_levels)
        points = partial(grid_priors, strides=strides, offset=0.5)
        if config.assigner == "atss":
            return TargetAssigner(strides, points, assign_atss)
        return TargetAssigner(strides, points, partial(assign_fcos, radius=RADIUS if config.center_sampling else None))

    def _priors(self, outputs: Outputs, like: Tensor) -> Priors:
        return self.labeling(self.config).grid(outputs.shapes, like=like)
