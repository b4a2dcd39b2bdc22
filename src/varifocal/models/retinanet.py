"""RetinaNet (Lin et al., Focal Loss, ICCV 2017): nine anchors a cell, each scored and moved onto its object.

From top to bottom: configuration and the detector's three verbs: forward, loss, decode. ``loss="varifocal"`` is
the row "RetinaNet + VFL" of VarifocalNet's table 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from varifocal.assign.max_iou import assign_max_iou
from varifocal.losses import ClassificationLoss
from varifocal.models.backbone import Backbone, BackboneConfig
from varifocal.models.dense import (
    MIN_QUALITY,
    PAPER_DIVISOR,
    DenseHead,
    DenseTargets,
    TargetAssigner,
    assign_targets,
    dense_classification_loss,
    num_positives,
)
from varifocal.models.layers import FPN, at_least_float32, flatten_levels, level_shapes, level_strides
from varifocal.ops.boxes import (
    clip_boxes_batch,
    decode_deltas,
    elementwise_iou,
    encode_deltas,
    grid_anchors,
    grid_priors,
)
from varifocal.structures import Candidates, Outputs, Priors, Targets
from varifocal.utils.config import AtLeast0, AtLeast1


@dataclass(frozen=True)
class RetinaNetConfig:
    """Every switch of the detector; the defaults are the paper's but for ``compat``.

    ``num_convs`` is the depth of each tower, ``channels`` the channels of pyramid and head, ``num_levels`` the number
    of pyramid levels from stride 8 on. ``loss`` is the classification loss; ``alpha``, ``gamma`` and ``iou_weighted``
    are those of the varifocal loss, the others run at their papers' settings. A cell has anchors of every one of
    ``ratios`` (height over width) in ``octave_steps`` sizes, from ``anchor_scale`` strides on and below twice that.

    ``compat="paper"`` reproduces mmdetection where we think it wrong: crowd regions are background, a box without any
    overlap takes all anchors that do not overlap it, a positive whose box has left its object is taken for a negative,
    and the normalizer counts an object in each image that has none, a process at a time.
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
    anchor_scale: float = 4.0
    octave_steps: AtLeast1 = 3
    ratios: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
    compat: Literal["none", "paper"] = "none"

    RENAMED: ClassVar = {
        "width": "channels",
        "convs": "num_convs",
        "levels": "num_levels",
    }


class RetinaNet(nn.Module):
    """The detector: images to outputs, outputs to losses, outputs to boxes and scores.

    N counts anchors: all of a cell in a row. Outputs: ``logits`` [B, N, C] before the sigmoid; ``deltas`` [B, N, 4],
    the anchor's change (dx, dy in its sides, dw, dh logarithms).
    """

    def __init__(self, config: RetinaNetConfig) -> None:
        super().__init__()
        self.config = config
        self.strides = self.labeling(config).strides
        self.backbone = Backbone(config.backbone)
        self.neck = FPN(
            self.backbone.channels, config.channels, config.num_levels, extra_from="input", extra_relu=False
        )
        many = len(config.ratios) * config.octave_steps
        self.head = DenseHead(
            config.channels, depth=config.num_convs, classes=many * config.num_classes, outputs=many * 4, norm=False
        )

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Outputs:
        """Return the raw outputs for normalized images, whose sides should be multiples of 32."""
        maps = self.head(self.neck(self.backbone(images)))
        tensors = {
            "logits": flatten_levels(maps["logits"]).reshape(images.shape[0], -1, self.config.num_classes),
            "deltas": flatten_levels(maps["reg"]).reshape(images.shape[0], -1, 4),
        }
        return Outputs(tensors, level_shapes(maps["logits"]))

    def loss(self, outputs: Outputs, targets: Sequence[Targets]) -> dict[str, Float[Tensor, ""]]:
        """Return the losses ``cls`` and ``box``, the L1 distance of the deltas; their sum is minimized.

        Both are divided by the number of positive anchors. With a loss other than focal the target of a positive is
        the IoU of its box, read without gradient.
        """
        logits, deltas = at_least_float32(outputs.tensors["logits"]), at_least_float32(outputs.tensors["deltas"])
        priors = self._priors(outputs, logits)
        dense = self.assign(outputs, targets)
        truth = dense.boxes[dense.positive]
        anchors = self._anchors(priors, len(targets))[dense.positive]
        moved = deltas[dense.positive]
        quality = elementwise_iou(decode_deltas(anchors, moved.detach()), truth)
        quality = quality if self._paper else quality.clamp(min=MIN_QUALITY)
        divisor = num_positives([dense.positive], logits.dtype, each_image=self._paper)[0]
        return {
            "cls": dense_classification_loss(self.config, logits, dense, quality) / divisor,
            "box": (moved - encode_deltas(anchors, truth)).abs().sum() / divisor,
        }

    def assign(self, outputs: Outputs, targets: Sequence[Targets]) -> DenseTargets:
        """Return what each point of the outputs should predict, the targets of :meth:`loss`."""
        return assign_targets(self.labeling(self.config), outputs, targets, mask_crowd=not self._paper)

    def decode(self, outputs: Outputs, sizes: Sequence[tuple[int, int]] | None) -> Candidates:
        """Return boxes, xyxy pixels of the input, clipped to each image's (height, width) if given, and scores."""
        deltas = at_least_float32(outputs.tensors["deltas"])
        priors = self._priors(outputs, deltas)
        boxes = decode_deltas(self._anchors(priors, deltas.shape[0]), deltas)
        return Candidates(
            clip_boxes_batch(boxes, sizes), at_least_float32(outputs.tensors["logits"]).sigmoid(), priors.counts
        )

    @staticmethod
    def labeling(config: RetinaNetConfig) -> TargetAssigner:
        """Return how the points of an image are assigned to objects, which needs no weights."""
        strides, paper = level_strides(config.num_levels), config.compat == "paper"
        scales = tuple(config.anchor_scale * 2 ** (i / config.octave_steps) for i in range(config.octave_steps))
        grid = partial(_anchors_of, strides=strides, scales=scales, ratios=config.ratios)
        assign = partial(assign_max_iou, match_apart=paper)
        return TargetAssigner(strides, grid, assign, PAPER_DIVISOR if paper else 1)

    @property
    def _paper(self) -> bool:
        return self.config.compat == "paper"

    def _priors(self, outputs: Outputs, like: Tensor) -> Priors:
        return self.labeling(self.config).grid(outputs.shapes, like=like)

    def _anchors(self, priors: Priors, count: int) -> Float[Tensor, "B N 4"]:
        assert priors.anchors is not None
        return priors.anchors.expand(count, -1, -1)


def _anchors_of(
    shapes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    scales: Sequence[float],
    ratios: Sequence[float],
    like: Tensor | None = None,
) -> Priors:
    return grid_anchors(grid_priors(shapes, strides, like=like), scales=scales, ratios=ratios)
