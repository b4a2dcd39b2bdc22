"""RepPoints (Yang et al., ICCV 2019): nine points spread over the object, predicted and refined.

From top to bottom: configuration, head, and the detector's three verbs: forward, loss, decode. This is the variant
whose box follows from mean and deviation of the points ("moment") with group norm in neck and head;
``loss="varifocal"`` is the row "RepPoints + VFL" of VarifocalNet's table 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from varifocal.assign.max_iou import assign_max_iou
from varifocal.assign.point import assign_nearest_point
from varifocal.losses import ClassificationLoss
from varifocal.models.backbone import Backbone, BackboneConfig
from varifocal.models.dense import (
    MIN_QUALITY,
    PAPER_DIVISOR,
    DenseTargets,
    TargetAssigner,
    assign_batch,
    assign_targets,
    dense_classification_loss,
    num_positives,
)
from varifocal.models.layers import (
    FPN,
    StarConv,
    StarNorm,
    at_least_float32,
    bias_init_with_prob,
    check_star_norm,
    conv_tower,
    flatten_levels,
    init_head,
    level_shapes,
    level_strides,
    prediction_conv,
)
from varifocal.ops.boxes import clip_boxes_batch, elementwise_iou, grid_priors
from varifocal.ops.star_conv import free_points
from varifocal.structures import Candidates, Outputs, Priors, Targets
from varifocal.utils.config import AtLeast0, AtLeast1

POINTS = 9
SMOOTH_BELOW = 0.11  # where the box losses turn from square to linear


@dataclass(frozen=True)
class RepPointsConfig:
    """Every switch of the detector; the defaults are the authors' but for ``compat``.

    ``num_convs`` is the depth of each tower, ``channels`` the channels of pyramid and head, ``num_levels`` the number
    of pyramid levels from stride 8 on. ``star_norm="group"`` puts a group norm between each convolution that reads the
    points and its ReLU; the authors have none. ``loss`` is the classification loss; ``alpha``, ``gamma`` and
    ``iou_weighted`` are those of the varifocal loss, the others run at their papers' settings. ``point_scale`` is the
    side of a level's typical object in strides, for the first assignment and as the unit of the box losses.
    ``gradient_mul`` is the fraction of the offsets' gradient that reaches the first points, ``moment_factor`` that of
    the boxes' gradient that reaches the moment. ``box_weights`` weigh the losses of first and refined box.

    ``compat="paper"`` reproduces mmdetection where we think it wrong: crowd regions are background, a box without any
    overlap takes all first boxes that do not overlap it, a positive whose box has left its object is taken for a
    negative, and the normalizers count an object in each image that has none, a process at a time.
    """

    num_classes: int = 80
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    channels: AtLeast1 = 256
    num_levels: AtLeast1 = 5
    num_convs: AtLeast0 = 3
    star_norm: StarNorm = "none"
    loss: ClassificationLoss = "focal"
    alpha: float = 0.75
    gamma: float = 2.0
    iou_weighted: bool = True
    point_scale: float = 4.0
    gradient_mul: float = 0.1
    moment_factor: float = 0.01
    box_weights: tuple[float, float] = (0.5, 1.0)
    compat: Literal["none", "paper"] = "none"

    RENAMED: ClassVar = {
        "width": "channels",
        "convs": "num_convs",
        "levels": "num_levels",
        "gradient_factor": "gradient_mul",
    }


class RepPointsHead(nn.Module):
    """Two towers shared by all levels, first points, and their refinement from the features at these points.

    ``moment`` holds the logarithms of half a box's width and height in deviations of its points.
    """

    def __init__(self, config: RepPointsConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels
        self.cls_tower = conv_tower(width, width, config.num_convs)
        self.reg_tower = conv_tower(width, width, config.num_convs)
        self.initial_conv = prediction_conv(width, width)
        self.initial = nn.Conv2d(width, 2 * POINTS, 1)
        self.cls_star = StarConv(width, config.star_norm)
        self.cls = nn.Conv2d(width, config.num_classes, 1)
        self.pts_refine_star = StarConv(width, config.star_norm)
        self.pts_refine = nn.Conv2d(width, 2 * POINTS, 1)
        self.moment = nn.Parameter(torch.zeros(2))
        init_head(self)
        for conv, bias in ((self.initial, 0.0), (self.pts_refine, 0.0), (self.cls, bias_init_with_prob())):
            nn.init.constant_(conv.bias, bias)  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Float[Tensor, "B C _ _"]]) -> dict[str, list[Tensor]]:
        """Return the maps of each level: ``logits`` [B, C, H, W], ``initial_points``, ``refined_points`` [B, 18,
        H, W]."""
        cls_features = [self.cls_tower(level) for level in levels]
        reg_features = [self.reg_tower(level) for level in levels]
        initial = [at_least_float32(self.initial(self.initial_conv(level).relu())) for level in reg_features]
        factor = self.config.gradient_mul
        taps = free_points([(1 - factor) * points.detach() + factor * points for points in initial])
        changes = [self.pts_refine(level.relu_()) for level in self.pts_refine_star(reg_features, taps)]
        return {
            "logits": [self.cls(level.relu_()) for level in self.cls_star(cls_features, taps)],
            "initial_points": initial,
            "refined_points": [
                at_least_float32(change) + points.detach() for change, points in zip(changes, initial, strict=True)
            ],
        }


class RepPoints(nn.Module):
    """The detector: images to outputs, outputs to losses, outputs to boxes and scores.

    Outputs: ``logits`` [B, N, C] before the sigmoid; ``initial_points`` and ``refined_points`` [B, N, 18]: nine
    points (y, x) beside the cell's corner, in strides.
    """

    def __init__(self, config: RepPointsConfig) -> None:
        super().__init__()
        check_star_norm(config.star_norm, config.compat)
        self.config = config
        self.strides = self.labeling(config).strides
        self.backbone = Backbone(config.backbone)
        self.neck = FPN(
            self.backbone.channels, config.channels, config.num_levels, extra_from="input", extra_relu=False, norm=True
        )
        self.head = RepPointsHead(config)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Outputs:
        """Return the raw outputs for normalized images, whose sides should be multiples of 32."""
        maps = self.head(self.neck(self.backbone(images)))
        tensors = {name: flatten_levels(levels) for name, levels in maps.items()}
        return Outputs(tensors, level_shapes(maps["logits"]))

    def loss(self, outputs: Outputs, targets: Sequence[Targets]) -> dict[str, Float[Tensor, ""]]:
        """Return the losses ``cls``, ``initial`` and ``refined``, smooth L1 distances of boxes; their sum is minimized.

        The first points learn at the one cell nearest to each object. The first boxes then are the anchors by which
        the refined boxes and the scores get their objects. With a loss other than focal the target of a positive is
        the IoU of its refined box, read without gradient.
        """
        logits = at_least_float32(outputs.tensors["logits"])
        priors = self._priors(outputs, logits)
        boxes = {name: self._boxes(priors, outputs.tensors[f"{name}_points"]) for name in ("initial", "refined")}
        dense = {
            "initial": assign_targets(self.labeling(self.config), outputs, targets, mask_crowd=not self._paper),
            "refined": self.assign(outputs, targets),
        }
        positives = {name: found.positive for name, found in dense.items()}
        divisors = num_positives(list(positives.values()), logits.dtype, each_image=self._paper)
        final = dense["refined"]
        quality = elementwise_iou(boxes["refined"].detach()[final.positive], final.boxes[final.positive])
        quality = quality if self._paper else quality.clamp(min=MIN_QUALITY)
        losses = {"cls": dense_classification_loss(self.config, logits, final, quality) / divisors[1]}
        unit = (self.config.point_scale * priors.strides)[:, None]
        for name, weight, divisor in zip(boxes, self.config.box_weights, divisors, strict=True):
            found, expected = ((x / unit)[positives[name]] for x in (boxes[name], dense[name].boxes))
            losses[name] = weight * F.smooth_l1_loss(found, expected, beta=SMOOTH_BELOW, reduction="sum") / divisor
        return losses

    def assign(self, outputs: Outputs, targets: Sequence[Targets]) -> DenseTargets:
        """Return the targets of the score and the refined box of each point, which :meth:`loss` uses.

        The first boxes, as they are predicted, are the anchors.
        """
        initial = outputs.tensors["initial_points"].detach()
        priors = self._priors(outputs, at_least_float32(initial))
        proposals = [replace(priors, anchors=anchors) for anchors in self._boxes(priors, initial).detach()]
        assign = partial(assign_max_iou, match_apart=self._paper)
        divisor = self.labeling(self.config).divisor
        return assign_batch(assign, proposals, targets, divisor=divisor, mask_crowd=not self._paper)

    def decode(self, outputs: Outputs, sizes: Sequence[tuple[int, int]] | None) -> Candidates:
        """Return boxes, xyxy pixels of the input, clipped to each image's (height, width) if given, and scores."""
        refined = outputs.tensors["refined_points"]
        priors = self._priors(outputs, refined)
        boxes = clip_boxes_batch(self._boxes(priors, refined), sizes)
        return Candidates(boxes, at_least_float32(outputs.tensors["logits"]).sigmoid(), priors.counts)

    @staticmethod
    def labeling(config: RepPointsConfig) -> TargetAssigner:
        """Return how the points of an image are assigned to objects, which needs no weights."""
        strides = level_strides(config.num_levels)
        assign = partial(assign_nearest_point, scale=config.point_scale)  # the first assignment, which needs no network
        divisor = PAPER_DIVISOR if config.compat == "paper" else 1
        return TargetAssigner(strides, partial(grid_priors, strides=strides), assign, divisor)

    @property
    def _paper(self) -> bool:
        return self.config.compat == "paper"

    def _priors(self, outputs: Outputs, like: Tensor) -> Priors:
        return self.labeling(self.config).grid(outputs.shapes, like=like)

    def _boxes(self, priors: Priors, points: Float[Tensor, "B N 18"]) -> Float[Tensor, "B N 4"]:
        """Return the boxes centered on the mean of the nine points; ``moment`` scales their deviation to a side."""
        factor = self.config.moment_factor
        moment = at_least_float32((1 - factor) * self.head.moment.detach() + factor * self.head.moment)
        x_y = points.unflatten(-1, (POINTS, 2)).flip(-1)
        half = x_y.std(dim=-2) * moment.exp()
        mean = x_y.mean(dim=-2)
        corner = priors.points.repeat(1, 2)
        return corner + torch.cat([mean - half, mean + half], dim=-1) * priors.strides[:, None]
