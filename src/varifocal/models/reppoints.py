"""RepPoints (Yang et al., ICCV 2019): nine points spread over the object, found once and found again.

From top to bottom: configuration, head, and the detector's three verbs: forward, loss, decode. This is the variant
whose box follows from mean and deviation of the points ("moment") with group norm in neck and head;
``loss="varifocal"`` is the row "RepPoints + VFL" of VarifocalNet's table 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from varifocal.assign.max_iou import assign_max_iou
from varifocal.assign.nearest_point import assign_nearest_point
from varifocal.boxes import pair_iou
from varifocal.config import AtLeast0, AtLeast1
from varifocal.losses import ScoreLoss
from varifocal.models.backbone import Backbone, BackboneConfig
from varifocal.models.dense import (
    MIN_QUALITY,
    PAPER_DIVISOR,
    DenseTargets,
    Labelling,
    assign_batch,
    classification_loss,
    clip_each,
    flatten_levels,
    label_points,
    level_strides,
    map_shapes,
    positive_counts,
    wide,
)
from varifocal.models.fpn import FPN
from varifocal.models.layers import StarConv, StarNorm, check_star_norm, init_head, predictor, prior_logit, tower
from varifocal.ops.star_conv import point_taps
from varifocal.priors import grid_points
from varifocal.types import Decoded, Outputs, Priors, Targets

POINTS = 9
SMOOTH_BELOW = 0.11  # where the box losses turn from square to linear


@dataclass(frozen=True)
class RepPointsConfig:
    """Every switch of the detector; the defaults are the authors' but for ``compat``.

    ``convs`` is the depth of each tower, ``width`` the channels of pyramid and head, ``levels`` the number of pyramid
    levels from stride 8 on. ``star_norm="group"`` puts a group norm between each convolution that reads the points and
    its ReLU; the authors have none. ``loss`` is the classification loss; ``alpha``, ``gamma`` and ``iou_weighted`` are
    those of the varifocal loss, the others run at their papers' settings. ``point_scale`` is the side of a level's
    typical object in strides, for the first assignment and as the unit of the box losses. ``gradient_factor`` is the
    share of the offsets' gradient that reaches the first points, ``moment_factor`` that of the boxes' gradient that
    reaches the moment. ``box_weights`` weigh the losses of first and refined box.

    ``compat="paper"`` reproduces mmdetection where we think it wrong: crowd regions are background, a box without any
    overlap takes all first boxes that do not overlap it, a positive whose box has left its object is taken for a
    negative, and the normalisers count an object in each picture that has none, a process at a time.
    """

    num_classes: int = 80
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    width: AtLeast1 = 256
    levels: AtLeast1 = 5
    convs: AtLeast0 = 3
    star_norm: StarNorm = "none"
    loss: ScoreLoss = "focal"
    alpha: float = 0.75
    gamma: float = 2.0
    iou_weighted: bool = True
    point_scale: float = 4.0
    gradient_factor: float = 0.1
    moment_factor: float = 0.01
    box_weights: tuple[float, float] = (0.5, 1.0)
    compat: Literal["none", "paper"] = "none"


class RepPointsHead(nn.Module):
    """Two towers shared by all levels, first points, and a second look at the features where these lie.

    ``moment`` holds the logarithms of half a box's width and height in deviations of its points.
    """

    def __init__(self, config: RepPointsConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.cls_tower = tower(width, width, config.convs)
        self.reg_tower = tower(width, width, config.convs)
        self.initial_conv = predictor(width, width)
        self.initial = nn.Conv2d(width, 2 * POINTS, 1)
        self.cls_star = StarConv(width, config.star_norm)
        self.cls = nn.Conv2d(width, config.num_classes, 1)
        self.pts_refine_star = StarConv(width, config.star_norm)
        self.pts_refine = nn.Conv2d(width, 2 * POINTS, 1)
        self.moment = nn.Parameter(torch.zeros(2))
        init_head(self)
        for conv, bias in ((self.initial, 0.0), (self.pts_refine, 0.0), (self.cls, prior_logit())):
            nn.init.constant_(conv.bias, bias)  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Float[Tensor, "B C _ _"]]) -> dict[str, list[Tensor]]:
        """Maps of each level: ``logits`` [B, C, H, W], ``initial_points`` and ``refined_points`` [B, 18, H, W]."""
        cls_features = [self.cls_tower(level) for level in levels]
        reg_features = [self.reg_tower(level) for level in levels]
        initial = [wide(self.initial(self.initial_conv(level).relu())) for level in reg_features]
        factor = self.config.gradient_factor
        taps = point_taps([(1 - factor) * points.detach() + factor * points for points in initial])
        changes = [self.pts_refine(level.relu_()) for level in self.pts_refine_star(reg_features, taps)]
        return {
            "logits": [self.cls(level.relu_()) for level in self.cls_star(cls_features, taps)],
            "initial_points": initial,
            "refined_points": [wide(change) + points.detach() for change, points in zip(changes, initial, strict=True)],
        }


class RepPoints(nn.Module):
    """The detector: pictures to outputs, outputs to losses, outputs to boxes and scores.

    Outputs: ``logits`` [B, N, C] before the sigmoid; ``initial_points`` and ``refined_points`` [B, N, 18]: nine
    points (y, x) beside the cell's corner, in strides.
    """

    def __init__(self, config: RepPointsConfig) -> None:
        super().__init__()
        check_star_norm(config.star_norm, config.compat)
        self.config = config
        self.strides = self.labelling(config).strides
        self.backbone = Backbone(config.backbone)
        self.neck = FPN(
            self.backbone.channels, config.width, config.levels, extra_from="input", extra_relu=False, norm=True
        )
        self.head = RepPointsHead(config)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Outputs:
        """``images`` are normalised; their sides are best a multiple of 32."""
        maps = self.head(self.neck(self.backbone(images)))
        tensors = {name: flatten_levels(levels) for name, levels in maps.items()}
        return Outputs(tensors, map_shapes(maps["logits"]))

    def loss(self, outputs: Outputs, targets: Sequence[Targets]) -> dict[str, Float[Tensor, ""]]:
        """``cls``, ``initial`` and ``refined``, smooth L1 distances of boxes; their sum is what is minimised.

        The first points learn at the one cell nearest to each object. The first boxes then are the anchors by which
        the refined boxes and the scores get their objects. With a loss other than focal the target of a positive is
        the IoU of its refined box, read without gradient.
        """
        logits = wide(outputs.tensors["logits"])
        priors = self._priors(outputs, logits)
        boxes = {name: self._boxes(priors, outputs.tensors[f"{name}_points"]) for name in ("initial", "refined")}
        dense = {
            "initial": label_points(self.labelling(self.config), outputs, targets, mask_crowd=not self._paper),
            "refined": self.assign(outputs, targets),
        }
        positives = {name: found.positive for name, found in dense.items()}
        divisors = positive_counts(list(positives.values()), logits.dtype, each_image=self._paper)
        final = dense["refined"]
        quality = pair_iou(boxes["refined"].detach()[final.positive], final.boxes[final.positive])
        quality = quality if self._paper else quality.clamp(min=MIN_QUALITY)
        losses = {"cls": classification_loss(self.config, logits, final, quality) / divisors[1]}
        unit = (self.config.point_scale * priors.strides)[:, None]
        for name, weight, divisor in zip(boxes, self.config.box_weights, divisors, strict=True):
            found, wanted = ((x / unit)[positives[name]] for x in (boxes[name], dense[name].boxes))
            losses[name] = weight * F.smooth_l1_loss(found, wanted, beta=SMOOTH_BELOW, reduction="sum") / divisor
        return losses

    def assign(self, outputs: Outputs, targets: Sequence[Targets]) -> DenseTargets:
        """What the score and the refined box of each point should be; :meth:`loss` teaches just that.

        The first boxes, as they are predicted, are the anchors.
        """
        initial = outputs.tensors["initial_points"].detach()
        priors = self._priors(outputs, wide(initial))
        proposals = [replace(priors, anchors=anchors) for anchors in self._boxes(priors, initial).detach()]
        assign = partial(assign_max_iou, match_apart=self._paper)
        divisor = self.labelling(self.config).divisor
        return assign_batch(assign, proposals, targets, divisor=divisor, mask_crowd=not self._paper)

    def decode(self, outputs: Outputs, sizes: Sequence[tuple[int, int]] | None) -> Decoded:
        """Boxes, xyxy pixels of the input, clipped to each picture's (height, width) if given, and their scores."""
        refined = outputs.tensors["refined_points"]
        priors = self._priors(outputs, refined)
        boxes = clip_each(self._boxes(priors, refined), sizes)
        return Decoded(boxes, wide(outputs.tensors["logits"]).sigmoid(), priors.counts)

    @staticmethod
    def labelling(config: RepPointsConfig) -> Labelling:
        """How a picture is labelled; no weights take part."""
        strides = level_strides(config.levels)
        assign = partial(assign_nearest_point, scale=config.point_scale)  # the first one, which needs no network
        divisor = PAPER_DIVISOR if config.compat == "paper" else 1
        return Labelling(strides, partial(grid_points, strides=strides), assign, divisor)

    @property
    def _paper(self) -> bool:
        return self.config.compat == "paper"

    def _priors(self, outputs: Outputs, like: Tensor) -> Priors:
        return self.labelling(self.config).grid(outputs.shapes, like=like)

    def _boxes(self, priors: Priors, points: Float[Tensor, "B N 18"]) -> Float[Tensor, "B N 4"]:
        """Centred on the mean of the nine points, with sides of so many of their deviations as the moment says."""
        factor = self.config.moment_factor
        moment = wide((1 - factor) * self.head.moment.detach() + factor * self.head.moment)
        x_y = points.unflatten(-1, (POINTS, 2)).flip(-1)
        half = x_y.std(dim=-2) * moment.exp()
        mean = x_y.mean(dim=-2)
        corner = priors.points.repeat(1, 2)
        return corner + torch.cat([mean - half, mean + half], dim=-1) * priors.strides[:, None]
