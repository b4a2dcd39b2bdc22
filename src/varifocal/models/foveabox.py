"""FoveaBox (Kong et al., TIP 2020): the cells in the middle of an object predict it, on all levels near its size.

From top to bottom: configuration and the detector's three verbs: forward, loss, decode. ``loss="varifocal"`` is
the row "FoveaBox + VFL" of VarifocalNet's table 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from varifocal.assign.fovea import assign_fovea
from varifocal.losses import ClassificationLoss
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

MAX_LOG = math.log(16)  # targets are kept within 1/16 and 16 units
SMOOTH_BELOW = 0.11  # where the box loss turns from square to linear


@dataclass(frozen=True)
class FoveaBoxConfig:
    """Every switch of the detector; the defaults are the paper's but for ``compat``.

    ``num_convs`` is the depth of each tower, ``channels`` the channels of pyramid and head, ``num_levels`` the number
    of pyramid levels from stride 8 on. ``loss`` is the classification loss; ``focal_alpha`` and ``focal_gamma`` are
    those of focal loss, ``alpha``, ``gamma`` and ``iou_weighted`` those of the varifocal loss. ``sigma`` is the
    fraction of an object's sides that is positive, ``bbox_norm`` the distance in strides whose logarithm is zero.

    ``compat="paper"`` reproduces the authors' code where we think it wrong: they train the padding of a batch and
    crowd regions as background, clip boxes a pixel inside the image, in training all of a batch at the size of its
    first, and count normalizers a process at a time.
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
    focal_alpha: float = 0.4
    focal_gamma: float = 1.5
    sigma: float = 0.4
    bbox_norm: float = 2.0
    compat: Literal["none", "paper"] = "none"

    RENAMED: ClassVar = {
        "width": "channels",
        "convs": "num_convs",
        "levels": "num_levels",
        "distance_unit": "bbox_norm",
    }


class FoveaBox(nn.Module):
    """The detector: images to outputs, outputs to losses, outputs to boxes and scores.

    Outputs: ``logits`` [B, N, C] before the sigmoid; ``logs`` [B, N, 4], logarithms of the distances (l, t, r, b) from
    the cell's center, in units of two strides as a rule.
    """

    def __init__(self, config: FoveaBoxConfig) -> None:
        super().__init__()
        self.config = config
        self.strides = self.labeling(config).strides
        self.backbone = Backbone(config.backbone)
        self.neck = FPN(
            self.backbone.channels, config.channels, config.num_levels, extra_from="input", extra_relu=False
        )
        self.head = DenseHead(
            config.channels, depth=config.num_convs, classes=config.num_classes, outputs=4, norm=False
        )

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Outputs:
        """Return the raw outputs for normalized images, whose sides should be multiples of 32."""
        maps = self.head(self.neck(self.backbone(images)))
        tensors = {"logits": flatten_levels(maps["logits"]), "logs": flatten_levels(maps["reg"])}
        return Outputs(tensors, level_shapes(maps["logits"]))

    def loss(self, outputs: Outputs, targets: Sequence[Targets]) -> dict[str, Float[Tensor, ""]]:
        """Return the losses ``cls`` and ``box``, the smooth L1 distance of the logarithms; their sum is minimized.

        The box loss is divided by the number of positive cells, the classification loss by that and the number of
        images. With a loss other than focal the target of a positive is the IoU of its clipped box, read without
        gradient.
        """
        config = self.config
        logits, logs = at_least_float32(outputs.tensors["logits"]), at_least_float32(outputs.tensors["logs"])
        priors = self._priors(outputs, logits)
        dense = self.assign(outputs, targets)
        truth = dense.boxes[dense.positive]
        sizes = [targets[0].size if self._paper else target.size for target in targets]
        boxes = self._boxes(priors, logs.detach(), sizes)[dense.positive]
        cls = dense_classification_loss(
            config,
            logits,
            dense,
            elementwise_iou(boxes, truth).clamp(min=MIN_QUALITY),
            everywhere=self._paper,
            focal_alpha=config.focal_alpha,
            focal_gamma=config.focal_gamma,
        )
        distances = bbox2distance(priors.points.expand(len(targets), -1, -1)[dense.positive], truth)
        unit = self._unit(priors).expand(len(targets), -1, -1)[dense.positive]
        distances = (distances / unit).clamp(math.exp(-MAX_LOG), math.exp(MAX_LOG)).log()
        box = F.smooth_l1_loss(logs[dense.positive], distances, beta=SMOOTH_BELOW, reduction="sum")
        divisors = self._divisors(dense, logits.dtype)
        return {"cls": cls / divisors[0], "box": box / divisors[1]}

    def assign(self, outputs: Outputs, targets: Sequence[Targets]) -> DenseTargets:
        """Return what each point of the outputs should predict, the targets of :meth:`loss`."""
        if self._paper:  # the authors' assignment ignores where an image ends
            height, width = (side * self.strides[0] for side in outputs.shapes[0])
            targets = [replace(target, size=(height, width)) for target in targets]
        return assign_targets(self.labeling(self.config), outputs, targets, mask_crowd=not self._paper)

    def decode(self, outputs: Outputs, sizes: Sequence[tuple[int, int]] | None) -> Candidates:
        """Return boxes, xyxy pixels of the input, clipped to each image's (height, width) if given, and scores."""
        logs = at_least_float32(outputs.tensors["logs"])
        priors = self._priors(outputs, logs)
        boxes = self._boxes(priors, logs, sizes)
        return Candidates(boxes, at_least_float32(outputs.tensors["logits"]).sigmoid(), priors.counts)

    @staticmethod
    def labeling(config: FoveaBoxConfig) -> TargetAssigner:
        """Return how the points of an image are assigned to objects, which needs no weights."""
        strides = level_strides(config.num_levels)
        divisor = PAPER_DIVISOR if config.compat == "paper" else 1
        assign = partial(assign_fovea, sigma=config.sigma)
        return TargetAssigner(strides, partial(grid_priors, strides=strides, offset=0.5), assign, divisor)

    @property
    def border(self) -> int:
        """The number of pixels before the end of the image at which boxes are clipped: one in the authors' code."""
        return 1 if self._paper else 0

    @property
    def _paper(self) -> bool:
        return self.config.compat == "paper"

    def _priors(self, outputs: Outputs, like: Tensor) -> Priors:
        return self.labeling(self.config).grid(outputs.shapes, like=like)

    def _unit(self, priors: Priors) -> Float[Tensor, "N 1"]:
        return (self.config.bbox_norm * priors.strides)[:, None]

    def _boxes(
        self, priors: Priors, logs: Float[Tensor, "B N 4"], sizes: Sequence[tuple[int, int]] | None
    ) -> Float[Tensor, "B N 4"]:
        """Return the decoded boxes, clipped to each image's (height, width) if given."""
        boxes = distance2bbox(priors.points.expand(logs.shape[0], -1, -1), logs.exp() * self._unit(priors))
        return clip_boxes_batch(
            boxes, sizes and [(height - self.border, width - self.border) for height, width in sizes]
        )

    def _divisors(self, dense: DenseTargets, dtype: torch.dtype) -> Float[Tensor, "2"]:
        """Return the divisors of the classification loss and of the box loss."""
        count = dense.positive.sum()
        sums = [count + len(dense.positive), count]
        if self._paper:
            return torch.stack(sums).to(dtype).clamp(min=1)
        return avg_factors(sums, dtype)
