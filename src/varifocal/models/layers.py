"""Layers and the neck that several detectors share, and the conversion between levels and lists."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from varifocal.ops.deform_conv import DeformConv
from varifocal.ops.star_conv import SamplingPoints, star_conv
from varifocal.utils.errors import ConfigError

StarNorm = Literal["none", "group"]


class GroupNorm(nn.GroupNorm):
    """torch's group norm, extended to maps of one cell.

    torch refuses groups of a single value in training (pytorch/pytorch#19250). Such a value minus its mean is zero, so
    that the result is the bias. A one-cell map in half precision is computed in float32, because torch fails on a CPU.
    """

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalize each group of channels of each image."""
        height, width = input.shape[2:]
        known = isinstance(height, int) and isinstance(width, int)  # in a graph for any size they are symbols
        one_cell = known and height * width == 1
        if one_cell and self.num_channels == self.num_groups:
            input = input - input  # so that rounding leaves the bias as it is
        if one_cell and input.is_cpu and input.dtype in (torch.bfloat16, torch.float16):
            weight, bias = self.weight.float(), self.bias.float()
            return torch.group_norm(input.float(), self.num_groups, weight, bias, self.eps).to(input.dtype)
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def group_norm(width: int) -> GroupNorm:
    """Return a group norm of 32 groups, or fewer where 32 does not divide the width."""
    return GroupNorm(math.gcd(32, width), width)


def conv_norm_relu(inputs: int, outputs: int, *, deformable: bool = False, bias: bool = False) -> nn.Sequential:
    """Return a 3x3 convolution, group norm and ReLU; ``deformable`` makes the convolution a DCNv2."""
    if deformable:
        conv: nn.Module = DeformConv(inputs, outputs, 3, padding=1)
    else:
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
    return nn.Sequential(conv, group_norm(outputs), nn.ReLU(inplace=True))


def conv_tower(
    inputs: int, width: int, depth: int, *, norm: bool = True, bias: bool = False, deformable_last: bool = False
) -> nn.Sequential:
    """Return ``depth`` 3x3 convolutions with ReLU in a row, shared by all levels.

    Each has a group norm and no bias (``bias`` adds one), or without ``norm`` a bias and no group norm.
    """
    layers: list[nn.Module] = []
    for i in range(depth):
        first = inputs if i == 0 else width
        if norm:
            layers.append(conv_norm_relu(first, width, deformable=deformable_last and i == depth - 1, bias=bias))
        else:
            layers.append(nn.Sequential(nn.Conv2d(first, width, 3, padding=1), nn.ReLU(inplace=True)))
    return nn.Sequential(*layers)


def prediction_conv(width: int, outputs: int, bias: float = 0.0) -> nn.Conv2d:
    """Return a 3x3 convolution with bias, the last of a branch."""
    conv = nn.Conv2d(width, outputs, 3, padding=1)
    nn.init.constant_(conv.bias, bias)  # type: ignore[arg-type]
    return conv


def check_star_norm(norm: str, compat: str) -> None:
    """Check the norm in the star.

    Raises:
        ConfigError: the norm is unknown, or there is one although ``compat`` reproduces the paper.
    """
    known = get_args(StarNorm)
    if norm not in known:
        raise ConfigError(
            f"star_norm={norm}: there is no such norm; choose from {', '.join(known)}.", code="star-norm-unknown"
        )
    if compat == "paper" and norm != "none":
        raise ConfigError(
            f"star_norm={norm}: with compat=paper there is no norm in the star; set star_norm=none.",
            code="star-norm-paper",
        )


class StarConv(nn.Module):
    """A 3x3 convolution without bias whose taps lie on nine given points, or on the grid without ``taps``.

    ``norm="group"`` adds a group norm after it, like every other convolution of these heads has; the papers that use
    the layer have "none".
    """

    def __init__(self, width: int, norm: StarNorm = "none") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, width, 3, 3))
        nn.init.normal_(self.weight, std=0.01)
        self.norm = group_norm(width) if norm == "group" else None

    def forward(
        self, levels: Sequence[Float[Tensor, "B C _ _"]], taps: SamplingPoints | None
    ) -> list[Float[Tensor, "B C _ _"]]:
        """Return the maps of all levels, computed at once with the same weight and norm."""
        if taps is None:
            convolved = [nn.functional.conv2d(level, self.weight, padding=1) for level in levels]
        else:
            convolved = self.convolve(levels, taps)
        return convolved if self.norm is None else [self.norm(level) for level in convolved]

    def convolve(
        self, levels: Sequence[Float[Tensor, "B C _ _"]], taps: SamplingPoints
    ) -> list[Float[Tensor, "B C _ _"]]:
        """Compute the convolution itself; an exporter replaces this method."""
        return star_conv(levels, taps, self.weight)


def init_head(head: nn.Module, std: float = 0.01) -> None:
    """Initialize every convolution of a head with normal weights, like all detectors of this family.

    Deformable convolutions keep their own initialization, with which every tap reads its own location.
    """
    offsets = {module.offset for module in head.modules() if isinstance(module, DeformConv)}
    for module in head.modules():
        if isinstance(module, nn.Conv2d) and module not in offsets:
            nn.init.normal_(module.weight, std=std)


def bias_init_with_prob(probability: float = 0.01) -> float:
    """Return the bias with which a sigmoid starts at that probability (Lin et al., Focal Loss, section 3.3)."""
    return -math.log((1 - probability) / probability)


class FPN(nn.Module):
    """P3..P7 from C3..C5, ``width`` channels each; strides 8 to 128.

    P6 is a strided convolution of the last output, P5, or with ``extra_from="input"`` of C5; P7 is one of P6. With
    ``extra_relu`` P7 reads ReLU(P6). ``norm`` puts a group norm after every convolution, which then has no bias.
    Up-sampling is nearest to the exact size of the finer map. ``levels`` below 5 drops the coarsest ones, for
    images whose objects are all small.
    """

    def __init__(
        self,
        channels: Sequence[int],
        width: int,
        levels: int = 5,
        *,
        extra_from: Literal["output", "input"] = "output",
        extra_relu: bool = True,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.extra_from, self.extra_relu = extra_from, extra_relu
        kept = min(levels, len(channels))
        self.lateral = nn.ModuleList(pyramid_conv(c, width, 1, norm=norm) for c in channels[:kept])
        self.output = nn.ModuleList(pyramid_conv(width, width, 3, norm=norm) for _ in channels[:kept])
        inputs = [channels[-1] if extra_from == "input" else width] + [width] * levels
        self.extra = nn.ModuleList(pyramid_conv(inputs[i], width, 3, stride=2, norm=norm) for i in range(levels - kept))
        init_xavier(self)

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B C _ _"]]:
        """Return the levels of the pyramid, finest first."""
        merged = top_down([lateral(c) for lateral, c in zip(self.lateral, maps, strict=False)])
        levels = [output(level) for output, level in zip(self.output, merged, strict=True)]
        last = maps[-1] if self.extra_from == "input" else levels[-1]
        return levels + extra_levels(last, self.extra, relu=self.extra_relu)


def top_down(levels: Sequence[Float[Tensor, "B C _ _"]]) -> list[Float[Tensor, "B C _ _"]]:
    """Return each level plus all coarser ones, up-sampled by nearest neighbor to its exact size."""
    merged = list(levels)
    for i in range(len(merged) - 1, 0, -1):
        merged[i - 1] = merged[i - 1] + F.interpolate(merged[i], size=merged[i - 1].shape[2:])
    return merged


def extra_levels(
    last: Float[Tensor, "B _ _ _"], convs: Iterable[nn.Module], *, relu: bool
) -> list[Float[Tensor, "B C _ _"]]:
    """Return the levels beyond the backbone: each is a strided convolution of the one before, with ``relu``
    after a ReLU from the second on.
    """
    levels: list[Tensor] = []
    for conv in convs:
        last = conv(last.relu() if levels and relu else last)
        levels.append(last)
    return levels


def init_xavier(pyramid: nn.Module) -> None:
    """Initialize every plain convolution with Xavier-uniform weights and zero bias, like pyramids of this family.

    This includes the convolutions that predict the offsets of a deformable one, as in the authors' code.
    """
    for module in pyramid.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def pyramid_conv(inputs: int, outputs: int, size: int, *, stride: int = 1, norm: bool = False) -> nn.Module:
    """Return a convolution that keeps the size except for its stride, with a bias, or with a group norm instead."""
    conv = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=not norm)
    return nn.Sequential(conv, group_norm(outputs)) if norm else conv


def level_strides(levels: int) -> tuple[int, ...]:
    """Return the strides in pixels of a pyramid of ``levels`` levels: 8, 16, ..."""
    return tuple(8 * 2**i for i in range(levels))


def at_least_float32(values: Tensor) -> Tensor:
    """Return float32, or float64 unchanged: the precision of exponentials, coordinates and losses."""
    return values if values.dtype == torch.float64 else values.float()


def flatten_levels(maps: Sequence[Float[Tensor, "B C _ _"]]) -> Float[Tensor, "B N C"]:
    """Return all levels in one list, finest first, rows before columns."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)


def unflatten_levels(
    values: Float[Tensor, "B N C"], shapes: Sequence[tuple[int, int]]
) -> list[Float[Tensor, "B C _ _"]]:
    """Return the levels of these (height, width) from a list; the inverse of :func:`flatten_levels`."""
    levels = values.split([height * width for height, width in shapes], dim=1)
    return [level.transpose(1, 2).unflatten(2, shape) for level, shape in zip(levels, shapes, strict=True)]


def level_shapes(maps: Sequence[Float[Tensor, "B C _ _"]]) -> tuple[tuple[int, int], ...]:
    """Return the (height, width) of each level."""
    return tuple((level.shape[2], level.shape[3]) for level in maps)
