"""VarifocalNet (Zhang et al., CVPR 2021): one score a class that is the expected IoU of the refined box.

From top to bottom: configuration, head, and the detector's three methods: forward, loss, decode. ``star`` and
``refine`` off give the paper's "raw VFNet" (table 3, first row).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from varifocal.assign.atss import assign_atss
from varifocal.assign.fcos import assign_fcos
from varifocal.losses import ClassificationLoss, giou_loss
from varifocal.models.backbone import Backbone, BackboneConfig
from varifocal.models.dense import (
    MIN_QUALITY,
    PAPER_DIVISOR,
    DenseTargets,
    TargetAssigner,
    assign_targets,
    avg_factors,
    dense_classification_loss,
)
from varifocal.models.layers import (
    FPN,
    StarConv,
    StarNorm,
    at_least_float32,
    bias_init_with_prob,
    check_star_norm,
    conv_norm_relu,
    conv_tower,
    flatten_levels,
    init_head,
    level_shapes,
    level_strides,
    prediction_conv,
    unflatten_levels,
)
from varifocal.models.pafpn import PAFPN
from varifocal.ops.boxes import clip_boxes_batch, distance2bbox, elementwise_iou, grid_priors
from varifocal.ops.star_conv import SamplingPoints, star_points
from varifocal.structures import Candidates, Outputs, Priors, Targets
from varifocal.utils.config import AtLeast0, AtLeast1


@dataclass(frozen=True)
class VFNetConfig:
    """Every switch of the detector; the defaults are the paper's VFNet but for ``compat``.

    ``num_convs`` is the depth of each tower, ``channels`` the channels of pyramid and head, ``num_levels`` the number
    of pyramid levels from stride 8 on. ``deformable_tower`` makes the last convolution of each tower a DCNv2, "pafpn"
    is the neck of VFNet-X. ``star_norm="group"`` puts a group norm between each star convolution and its ReLU, with
    which the star learns within a few hundred steps (docs/paper.md); the authors have none. ``loss`` is the
    classification loss; ``alpha``, ``gamma`` and ``iou_weighted`` are those of the varifocal loss, the others run at
    their papers' settings. ``bbox_norm`` scales the first box of a level: its "range" (8 strides) or its "stride".
    ``gradient_mul`` is the fraction of the offsets' gradient that reaches the first box. ``box_weights`` weigh the GIoU
    losses of first and refined box; without refinement the last one weighs the only box.

    ``compat="paper"`` reproduces the authors' code where we think it wrong: they train the padding of a batch as
    background, take crowd regions for background, and bound the normalizers a process at a time. "none" ignores
    padding and crowd regions and bounds the total, so that neither the batch's shapes nor the number of processes
    changes what is learned.
    """

    num_classes: int = 80
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    channels: AtLeast1 = 256
    num_levels: AtLeast1 = 5
    num_convs: AtLeast0 = 3
    neck: Literal["fpn", "pafpn"] = "fpn"
    deformable_tower: bool = False
    star: bool = True
    refine: bool = True
    star_norm: StarNorm = "none"
    loss: ClassificationLoss = "varifocal"
    alpha: float = 0.75
    gamma: float = 2.0
    iou_weighted: bool = True
    assigner: Literal["atss", "fcos", "fcos-center"] = "atss"
    bbox_norm: Literal["range", "stride"] = "range"
    gradient_mul: float = 0.1
    box_weights: tuple[float, float] = (1.5, 2.0)
    compat: Literal["none", "paper"] = "none"

    RENAMED: ClassVar = {
        "width": "channels",
        "convs": "num_convs",
        "levels": "num_levels",
        "distance_unit": "bbox_norm",
        "gradient_factor": "gradient_mul",
    }
    RENAMED_VALUES: ClassVar = {"assigner": {"fcos-centre": "fcos-center"}}


class VFNetHead(nn.Module):
    """Two towers shared by all levels, a first box, and its refinement through the star (section 3.3 to 3.5)."""

    def __init__(self, config: VFNetConfig, strides: Sequence[int]) -> None:
        super().__init__()
        self.config, self.strides = config, tuple(strides)
        width = config.channels
        self.cls_tower = conv_tower(width, width, config.num_convs, deformable_last=config.deformable_tower)
        self.reg_tower = conv_tower(width, width, config.num_convs, deformable_last=config.deformable_tower)
        self.reg_conv = conv_norm_relu(width, width)
        self.reg = prediction_conv(width, 4)
        self.scales = nn.ParameterList(torch.tensor(1.0) for _ in strides)
        self.reg_star = StarConv(width, config.star_norm) if config.refine else None
        if config.refine:
            self.reg_refine = prediction_conv(width, 4)
            self.scales_refine = nn.ParameterList(torch.tensor(1.0) for _ in strides)
        # without star and refinement the branch has one more plain layer, so that raw VFNet is four deep like FCOS
        has_star = config.star or config.refine
        self.cls_star = StarConv(width, config.star_norm) if has_star else None
        self.cls_conv = None if has_star else conv_norm_relu(width, width)
        self.cls = prediction_conv(width, config.num_classes)
        init_head(self)
        nn.init.constant_(self.cls.bias, bias_init_with_prob())  # type: ignore[arg-type]

    def forward(
        self, levels: Sequence[Float[Tensor, "B C _ _"]], initial: Sequence[Float[Tensor, "B 4 _ _"]] | None = None
    ) -> dict[str, list[Tensor]]:
        """Return the maps of each level: ``logits`` [B, C, H, W], ``initial`` and ``refined`` distances [B, 4, H, W].

        Distances are in pixels. ``initial`` are first boxes, as distances, that replace the predicted ones where they
        are above zero.
        """
        cls_features = [self.cls_tower(level) for level in levels]
        reg_features = [self.reg_tower(level) for level in levels]
        maps = {"initial": self._first_boxes(reg_features, initial)}
        points = self._star(maps["initial"])
        if self.reg_star is not None:
            maps["refined"] = self._refined(self.reg_star(reg_features, points), maps["initial"])
        return {"logits": self._logits(cls_features, points), **maps}

    def _first_boxes(self, features: list[Tensor], initial: Sequence[Tensor] | None) -> list[Tensor]:
        """Return the distances [B, 4, H, W] of the first box at each level, in pixels."""
        boxes = []
        for level, scale, stride in zip(features, self.scales, self.strides, strict=True):
            unit = stride * (8 if self.config.bbox_norm == "range" else 1)
            boxes.append(at_least_float32(scale * self.reg(self.reg_conv(level))).exp() * unit)
        if initial is None:
            return boxes
        return [torch.where(given > 0, given, predicted) for given, predicted in zip(initial, boxes, strict=True)]

    def _star(self, initial: list[Tensor]) -> SamplingPoints | None:
        """Return the points of the first boxes' stars, or None for the regular grid."""
        if not self.config.star:
            return None
        return star_points([self._cells(boxes, stride) for boxes, stride in zip(initial, self.strides, strict=True)])

    def _cells(self, initial: Float[Tensor, "B 4 H W"], stride: int) -> Float[Tensor, "B 4 H W"]:
        """Return the first box in cells for the star; only a fraction of the gradient goes back through it."""
        factor = self.config.gradient_mul
        return ((1 - factor) * initial.detach() + factor * initial) / stride

    def _refined(self, features: list[Tensor], initial: list[Tensor]) -> list[Tensor]:
        """Return the distances [B, 4, H, W] of the refined box at each level, in pixels."""
        rows = zip(features, initial, self.scales_refine, strict=True)
        return [
            at_least_float32(scale * self.reg_refine(level.relu_())).exp() * boxes.detach()
            for level, boxes, scale in rows
        ]

    def _logits(self, features: list[Tensor], points: SamplingPoints | None) -> list[Tensor]:
        """Return the class logits [B, C, H, W] of each level."""
        if self.cls_star is not None:
            features = [level.relu_() for level in self.cls_star(features, points)]
        elif self.cls_conv is not None:
            features = [self.cls_conv(level) for level in features]
        return [self.cls(level) for level in features]


class VFNet(nn.Module):
    """The detector: images to outputs, outputs to losses, outputs to boxes and scores.

    Outputs: ``logits`` [B, N, C] before the sigmoid; ``initial`` and, with ``refine``, ``refined`` [B, N, 4]:
    distances (l, t, r, b) in pixels of the input.
    """

    def __init__(self, config: VFNetConfig) -> None:
        super().__init__()
        check_star_norm(config.star_norm, config.compat)
        self.config = config
        self.strides = self.labeling(config).strides
        self.backbone = Backbone(config.backbone)
        neck = FPN if config.neck == "fpn" else PAFPN
        self.neck = neck(self.backbone.channels, config.channels, config.num_levels)
        self.head = VFNetHead(config, self.strides)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Outputs:
        """Return the raw outputs for normalized images, whose sides should be multiples of 32."""
        return self._outputs(self.head(self.neck(self.backbone(images))))

    def refine_given_boxes(
        self, levels: Sequence[Float[Tensor, "B C _ _"]], initial: Float[Tensor, "B N 4"]
    ) -> Outputs:
        """Return the outputs that follow from given first boxes: the stars read there, and the head refines them.

        Args:
            levels: the maps of the neck.
            initial: distances (l, t, r, b) in pixels of the input; the predicted ones stay where these are not above
                zero.
        """
        shapes = level_shapes(levels)
        return self._outputs(self.head(levels, unflatten_levels(initial, shapes)))

    def loss(self, outputs: Outputs, targets: Sequence[Targets]) -> dict[str, Float[Tensor, ""]]:
        """Return the losses ``cls`` and ``initial`` and/or ``refined``; their sum is minimized (section 3.6).

        The classification target of a positive point is the IoU of its last box, read without gradient; the GIoU
        loss of a positive is weighted by the IoU of the same box and divided by the sum of these weights.
        """
        logits = at_least_float32(outputs.tensors["logits"])
        priors = self._priors(outputs, logits)
        dense = self.assign(outputs, targets)
        truth = dense.boxes[dense.positive]
        points = priors.points.expand(len(targets), -1, -1)[dense.positive]
        names = [name for name in ("initial", "refined") if name in outputs.tensors]
        boxes = {name: distance2bbox(points, outputs.tensors[name][dense.positive]) for name in names}
        quality = {name: elementwise_iou(boxes[name].detach(), truth).clamp(min=MIN_QUALITY) for name in names}
        sums = [dense.positive.sum(), *(quality[name].sum() for name in names)]
        divisors = avg_factors(sums, logits.dtype, clamp_total=not self._paper)
        # the authors weigh the padding out of one combination only
        everywhere = self._paper and not (self.config.loss == "focal" and self.config.assigner == "atss")
        total = dense_classification_loss(self.config, logits, dense, quality[names[-1]], everywhere=everywhere)
        losses = {"cls": total / divisors[0]}
        for name, weight, divisor in zip(names, self.config.box_weights[-len(names) :], divisors[1:], strict=True):
            losses[name] = weight * (giou_loss(boxes[name], truth) * quality[name]).sum() / divisor
        return losses

    def assign(self, outputs: Outputs, targets: Sequence[Targets]) -> DenseTargets:
        """Return what each point of the outputs should predict, the targets of :meth:`loss`."""
        return assign_targets(self.labeling(self.config), outputs, targets, mask_crowd=not self._paper)

    def decode(self, outputs: Outputs, sizes: Sequence[tuple[int, int]] | None) -> Candidates:
        """Return boxes, xyxy pixels of the input, clipped to each image's (height, width) if given, and scores."""
        distances = outputs.tensors["refined" if "refined" in outputs.tensors else "initial"]
        priors = self._priors(outputs, distances)
        boxes = distance2bbox(priors.points.expand(distances.shape[0], -1, -1), distances)
        return Candidates(
            clip_boxes_batch(boxes, sizes), at_least_float32(outputs.tensors["logits"]).sigmoid(), priors.counts
        )

    @staticmethod
    def labeling(config: VFNetConfig) -> TargetAssigner:
        """Return how the points of an image are assigned to objects, which needs no weights."""
        strides = level_strides(config.num_levels)
        divisor = PAPER_DIVISOR if config.compat == "paper" else 1
        if config.assigner == "atss":
            return TargetAssigner(strides, partial(grid_priors, strides=strides), assign_atss, divisor)
        assign = partial(assign_fcos, radius=1.5 if config.assigner == "fcos-center" else None)
        return TargetAssigner(strides, partial(grid_priors, strides=strides, offset=0.5), assign, divisor)

    def _outputs(self, maps: dict[str, list[Tensor]]) -> Outputs:
        tensors = {name: flatten_levels(levels) for name, levels in maps.items()}
        return Outputs(tensors, level_shapes(maps["logits"]))

    @property
    def _paper(self) -> bool:
        return self.config.compat == "paper"

    def _priors(self, outputs: Outputs, like: Tensor) -> Priors:
        return self.labeling(self.config).grid(outputs.shapes, like=like)
