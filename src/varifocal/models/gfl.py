"""GFL (Li et al., Generalized Focal Loss, NeurIPS 2020): each side of a box is a distribution over whole strides.

From top to bottom: configuration and the detector's three verbs: forward, loss, decode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from varifocal.assign.atss import assign_atss
from varifocal.losses import ClassificationLoss, distribution_focal_loss, giou_loss
from varifocal.models.backbone import Backbone, BackboneConfig
from varifocal.models.dense import (
    MIN_QUALITY,
    PAPER_DIVISOR,
    DenseHead,
    DenseTargets,
    TargetAssigner,
    assign_targets,
    avg_factors,
    dense_classification_loss,
)
from varifocal.models.layers import FPN, at_least_float32, flatten_levels, level_shapes, level_strides
from varifocal.ops.boxes import bbox2distance, clip_boxes_batch, distance2bbox, elementwise_iou, grid_priors
from varifocal.structures import Candidates, Outputs, Priors, Targets
from varifocal.utils.config import AtLeast0, AtLeast1

BOX_WEIGHT, DISTRIBUTION_WEIGHT = 2.0, 0.25
MARGIN = 0.1  # distance of the largest target from the last bin


@dataclass(frozen=True)
class GFLConfig:
    """Every switch of the detector; the defaults are the paper's GFL but for ``compat``.

    ``num_convs`` is the depth of each tower, ``channels`` the channels of pyramid and head, ``num_levels`` the number
    of pyramid levels from stride 8 on. ``loss`` is the classification loss; ``alpha``, ``gamma`` and ``iou_weighted``
    are those of the varifocal loss, the others run at their papers' settings. ``bins`` is the number of distances that
    a side may have: 0, 1, ... strides.

    ``compat="paper"`` reproduces the authors' code where we think it wrong: they take crowd regions for background,
    count an image without positive points as one point, divide by a sum of scores that may be small, and bound the
    normalizers a process at a time. Without a positive point their box losses are 0 / 0, ours are 0. "none" ignores
    crowd regions and bounds the total at one.
    """

    num_classes: int = 80
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    channels: AtLeast1 = 256
    num_levels: AtLeast1 = 5
    num_convs: AtLeast0 = 4
    loss: ClassificationLoss = "quality-focal"
    alpha: float = 0.75
    gamma: float = 2.0
    iou_weighted: bool = True
    bins: Annotated[int, Field(ge=2)] = 17
    compat: Literal["none", "paper"] = "none"

    RENAMED: ClassVar = {
        "width": "channels",
        "convs": "num_convs",
        "levels": "num_levels",
    }


class GFL(nn.Module):
    """The detector: images to outputs, outputs to losses, outputs to boxes and scores.

    Outputs: ``logits`` [B, N, C] before the sigmoid; ``sides`` [B, N, 4 * bins]: for l, t, r and b in turn the
    logits of the distances 0, 1, ... in strides, before the softmax.
    """

    bins: Float[Tensor, "bins"]

    def __init__(self, config: GFLConfig) -> None:
        super().__init__()
        self.config = config
        self.strides = self.labeling(config).strides
        self.backbone = Backbone(config.backbone)
        self.neck = FPN(self.backbone.channels, config.channels, config.num_levels, extra_relu=False)
        self.head = DenseHead(
            config.channels,
            depth=config.num_convs,
            classes=config.num_classes,
            outputs=4 * config.bins,
            levels=config.num_levels,
        )
        self.register_buffer("bins", torch.arange(config.bins, dtype=torch.float32))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Outputs:
        """Return the raw outputs for normalized images, whose sides should be multiples of 32."""
        maps = self.head(self.neck(self.backbone(images)))
        tensors = {"logits": flatten_levels(maps["logits"]), "sides": at_least_float32(flatten_levels(maps["reg"]))}
        return Outputs(tensors, level_shapes(maps["logits"]))

    def loss(self, outputs: Outputs, targets: Sequence[Targets]) -> dict[str, Float[Tensor, ""]]:
        """Return the losses ``cls``, ``box`` and ``distribution``; their sum is minimized.

        Both losses of a positive point's box are weighted by its best class score, read without gradient, and divided
        by the sum of these weights.
        """
        config, paper = self.config, self.config.compat == "paper"
        logits = at_least_float32(outputs.tensors["logits"])
        priors = self._priors(outputs, logits)
        dense = self.assign(outputs, targets)
        truth = dense.boxes[dense.positive]
        points = priors.points.expand(len(targets), -1, -1)[dense.positive]
        strides = priors.strides.expand(len(targets), -1)[dense.positive][:, None]
        sides = self._split(outputs.tensors["sides"][dense.positive])
        boxes = distance2bbox(points, self._expectation(sides) * strides)
        quality = elementwise_iou(boxes.detach(), truth).clamp(min=MIN_QUALITY)
        scores = logits.detach()[dense.positive].sigmoid().amax(dim=-1)
        found = dense.positive.sum(dim=1)
        count, weight = avg_factors(
            [(found.clamp(min=1) if paper else found).sum(), scores.sum()],
            logits.dtype,
            clamp_total=not paper,
            floors=[1.0, 1e-12 if paper else 1.0],
        )
        bins = (bbox2distance(points, truth) / strides).clamp(0, config.bins - 1 - MARGIN)
        spread = distribution_focal_loss(sides, bins).mean(dim=-1)
        return {
            "cls": dense_classification_loss(config, logits, dense, quality) / count,
            "box": BOX_WEIGHT * (giou_loss(boxes, truth) * scores).sum() / weight,
            "distribution": DISTRIBUTION_WEIGHT * (spread * scores).sum() / weight,
        }

    def assign(self, outputs: Outputs, targets: Sequence[Targets]) -> DenseTargets:
        """Return what each point of the outputs should predict, the targets of :meth:`loss`."""
        return assign_targets(self.labeling(self.config), outputs, targets, mask_crowd=self.config.compat != "paper")

    def decode(self, outputs: Outputs, sizes: Sequence[tuple[int, int]] | None) -> Candidates:
        """Return boxes, xyxy pixels of the input, clipped to each image's (height, width) if given, and scores."""
        sides = outputs.tensors["sides"]
        priors = self._priors(outputs, sides)
        distances = self._expectation(self._split(sides)) * priors.strides[:, None]
        boxes = distance2bbox(priors.points.expand(sides.shape[0], -1, -1), distances)
        return Candidates(
            clip_boxes_batch(boxes, sizes), at_least_float32(outputs.tensors["logits"]).sigmoid(), priors.counts
        )

    @staticmethod
    def labeling(config: GFLConfig) -> TargetAssigner:
        """Return how the points of an image are assigned to objects, which needs no weights."""
        strides = level_strides(config.num_levels)
        divisor = PAPER_DIVISOR if config.compat == "paper" else 1
        return TargetAssigner(strides, partial(grid_priors, strides=strides), assign_atss, divisor)

    def _priors(self, outputs: Outputs, like: Tensor) -> Priors:
        return self.labeling(self.config).grid(outputs.shapes, like=like)

    def _split(self, sides: Float[Tensor, "*n channels"]) -> Float[Tensor, "*n 4 bins"]:
        return sides.unflatten(-1, (4, self.config.bins))

    def _expectation(self, sides: Float[Tensor, "*n 4 bins"]) -> Float[Tensor, "*n 4"]:
        """Return the mean distance in strides."""
        return (sides.softmax(dim=-1) * self.bins.to(sides.dtype)).sum(dim=-1)
