"""The targets and losses that dense detectors share, and the head of the plain ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from varifocal.losses import ClassificationLoss, classification_loss
from varifocal.models.layers import at_least_float32, bias_init_with_prob, conv_tower, init_head, prediction_conv
from varifocal.ops.boxes import bbox2distance, crop_priors
from varifocal.structures import Assignment, Outputs, Priors, Targets

Assign = Callable[[Priors, Tensor], Assignment]

Grid = Callable[..., Priors]  # (shapes of the maps, like=tensor): the points of an image

MIN_QUALITY = 1e-6  # a positive keeps a target above zero, else the varifocal loss takes it for a negative
PAPER_DIVISOR = 32  # the authors pad each image to a multiple of it before its cells are counted


@runtime_checkable
class ScoreConfig(Protocol):
    """The fields of a detector's configuration that define its classification loss."""

    @property
    def loss(self) -> ClassificationLoss: ...
    @property
    def alpha(self) -> float: ...
    @property
    def gamma(self) -> float: ...
    @property
    def iou_weighted(self) -> bool: ...


@dataclass(frozen=True)
class TargetAssigner:
    """How a detector assigns the points of an image to objects: the strides of its maps, its points, its assigner.

    ``grid`` makes the points of maps of given shapes, ``assign`` assigns objects to them. ``divisor`` rounds an image's
    sides up before its cells are counted.
    """

    strides: tuple[int, ...]
    grid: Grid
    assign: Assign
    divisor: int = 1


@dataclass(frozen=True, eq=False)
class DenseTargets:
    """The targets of each point of a batch.

    ``labels`` is -1 and ``boxes`` zero at points without an object. ``counted`` is False where the
    classification loss is ignored: padding of the batch, crowd regions without an assigned box, and points that the
    assignment ignores.
    """

    positive: Bool[Tensor, "B N"]
    labels: Int64[Tensor, "B N"]
    boxes: Float[Tensor, "B N 4"]
    counted: Bool[Tensor, "B N"]


def assign_batch(
    assign: Assign,
    priors: Priors | Sequence[Priors],
    targets: Sequence[Targets],
    *,
    divisor: int = 1,
    mask_crowd: bool = True,
) -> DenseTargets:
    """Assign each image's boxes to its points, which are those of all images or a list with one entry an image.

    The points in the padding of the batch are left out: an assigner sees only the grids inside the image.
    ``divisor`` rounds the image's own size up before its cells are counted; 32 reproduces mmdetection's own
    padding. Without ``mask_crowd`` crowd regions are background.
    """
    each = [priors] * len(targets) if isinstance(priors, Priors) else priors
    rows = [_assign_one(assign, own, target, divisor, mask_crowd) for own, target in zip(each, targets, strict=True)]
    positive, labels, boxes, counted = (torch.stack(column) for column in zip(*rows, strict=True))
    return DenseTargets(positive, labels, boxes, counted)


def assign_targets(
    labeling: TargetAssigner, outputs: Outputs, targets: Sequence[Targets], *, mask_crowd: bool = True
) -> DenseTargets:
    """Return the targets of the points of a batch of outputs, image by image; see :func:`assign_batch`."""
    priors = labeling.grid(outputs.shapes, like=at_least_float32(outputs.tensors["logits"]))
    return assign_batch(labeling.assign, priors, targets, divisor=labeling.divisor, mask_crowd=mask_crowd)


def _assign_one(
    assign: Assign, priors: Priors, target: Targets, divisor: int, mask_crowd: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    height, width = (-(-side // divisor) * divisor for side in target.size)
    own, inside = crop_priors(priors, height, width)
    real = ~target.crowd
    # one more box, so that index -1 reads a box of zeros and the label of background
    boxes = torch.cat([target.boxes[real], target.boxes.new_zeros(1, 4)])
    labels = torch.cat([target.labels[real], target.labels.new_full((1,), -1)])
    assignment = assign(own, boxes[:-1])
    gt = assignment.gt.new_full((len(inside),), -1)
    gt[inside] = assignment.gt
    positive = gt >= 0
    masked = _inside_any(priors.points, target.boxes[target.crowd & mask_crowd])
    if assignment.ignored is not None:
        masked[inside] |= assignment.ignored
    counted = inside & (positive | ~masked)
    return positive, labels[gt], boxes[gt], counted


def _inside_any(points: Float[Tensor, "N 2"], boxes: Float[Tensor, "G 4"]) -> Bool[Tensor, "N"]:
    left_top = points[:, None] >= boxes[:, :2]
    right_bottom = points[:, None] <= boxes[:, 2:]
    return (left_top & right_bottom).all(dim=-1).any(dim=-1)


def score_targets(
    logits: Float[Tensor, "B N C"], dense: DenseTargets, quality: Float[Tensor, "P"] | None
) -> Float[Tensor, "B N C"]:
    """Return zero everywhere except the quality, or 1, at each positive point's class.

    ``quality`` is in the order of the positive points.
    """
    target = torch.zeros_like(logits)
    image, point = dense.positive.nonzero(as_tuple=True)
    best = 1.0 if quality is None else quality.to(logits.dtype)
    target[image, point, dense.labels[dense.positive]] = best
    return target


def dense_classification_loss(
    config: ScoreConfig,
    logits: Float[Tensor, "B N C"],
    dense: DenseTargets,
    quality: Float[Tensor, "P"],
    *,
    everywhere: bool = False,
    focal_alpha: float = 0.25,
    focal_gamma: float = 2.0,
) -> Float[Tensor, ""]:
    """Return the classification loss, summed over classes and counted points, or ``everywhere``.

    ``quality`` is in the order of the positive points.
    """
    target = score_targets(logits, dense, quality if config.loss != "focal" else None)
    entries = classification_loss(
        config.loss,
        logits,
        target,
        alpha=config.alpha,
        gamma=config.gamma,
        iou_weighted=config.iou_weighted,
        focal_alpha=focal_alpha,
        focal_gamma=focal_gamma,
    )
    return entries.sum() if everywhere else (entries * dense.counted[..., None]).sum()


def centerness(points: Float[Tensor, "P 2"], boxes: Float[Tensor, "P 4"]) -> Float[Tensor, "P"]:
    """Return how central each point lies in its box: 1 in the middle, 0 on the border (FCOS, equation 3)."""
    distances = bbox2distance(points, boxes)
    pairs = torch.stack([distances[:, 0::2], distances[:, 1::2]], dim=1)  # (l, r) and (t, b)
    return (pairs.amin(dim=-1) / pairs.amax(dim=-1)).prod(dim=-1).sqrt()


def avg_factors(
    sums: Sequence[Tensor], dtype: torch.dtype, *, clamp_total: bool = True, floors: Sequence[float] | None = None
) -> Tensor:
    """Return the sums [k], averaged over the processes, but at least one object, or the ``floors``.

    All processes take part in one exchange, whatever their batch holds, so that none waits for another. With
    ``clamp_total`` the bound applies to the total over the processes, so that several processes equal one with the
    joined batch; the authors' code bounds the average.
    """
    values = torch.stack([value.detach().to(dtype) for value in sums])
    world = 1
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
        world = dist.get_world_size()
    least = values.new_tensor(floors or [1.0] * len(sums))
    return values.maximum(least) / world if clamp_total else (values / world).maximum(least)


def num_positives(
    positives: Sequence[Bool[Tensor, "B N"]], dtype: torch.dtype, *, each_image: bool = False
) -> Float[Tensor, "k"]:
    """Return the number of positive points, bounded and averaged over the processes by :func:`avg_factors`.

    ``each_image`` counts at least one in every image, of this process alone, as mmdetection's anchor heads do.
    """
    if each_image:
        return torch.stack([positive.sum(dim=1).clamp(min=1).sum() for positive in positives]).to(dtype)
    return avg_factors([positive.sum() for positive in positives], dtype)


class DenseHead(nn.Module):
    """A tower for the classes and one for the boxes, shared by all levels, with 3x3 predictors on top (RetinaNet, FCOS,
    ATSS).

    The class predictor has ``classes`` channels, the box predictor ``outputs``. With ``levels`` the box prediction is
    multiplied by a learned factor per level. ``centerness`` is the tower that a third predictor of one channel reads,
    or None for no such predictor. ``norm`` and ``bias`` are those of :func:`conv_tower`.
    """

    def __init__(
        self,
        width: int,
        *,
        depth: int,
        classes: int,
        outputs: int,
        levels: int = 0,
        centerness: Literal["cls", "reg"] | None = None,
        norm: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.centerness_of = centerness
        self.cls_tower = conv_tower(width, width, depth, norm=norm, bias=bias)
        self.reg_tower = conv_tower(width, width, depth, norm=norm, bias=bias)
        self.cls = prediction_conv(width, classes, bias_init_with_prob())
        self.reg = prediction_conv(width, outputs)
        self.centerness = prediction_conv(width, 1) if centerness else None
        self.scales = nn.ParameterList(torch.tensor(1.0) for _ in range(levels))
        init_head(self)

    def forward(self, levels: Sequence[Float[Tensor, "B C _ _"]]) -> dict[str, list[Tensor]]:
        """Return the maps of each level: ``logits`` [B, classes, H, W], ``reg`` [B, outputs, H, W] and, with such a
        predictor, ``centerness`` [B, 1, H, W]."""
        maps: dict[str, list[Tensor]] = {"logits": [], "reg": [], "centerness": []}
        for i, level in enumerate(levels):
            features = {"cls": self.cls_tower(level), "reg": self.reg_tower(level)}
            maps["logits"].append(self.cls(features["cls"]))
            boxes = self.reg(features["reg"])
            maps["reg"].append(self.scales[i] * boxes if self.scales else boxes)
            if self.centerness is not None and self.centerness_of is not None:
                maps["centerness"].append(self.centerness(features[self.centerness_of]))
        return {name: values for name, values in maps.items() if values}
