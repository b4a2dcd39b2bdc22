"""Layers that several heads use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from varifocal.ops.deform_conv import DeformConv
from varifocal.ops.star_conv import SamplingPoints, star_conv
from varifocal.utils.errors import ConfigError

StarNorm = Literal["none", "group"]


class GroupNorm(nn.GroupNorm):
    """torch's, also of a map of one cell in groups of one channel, which torch refuses (pytorch/pytorch#19250).

    A single value less its mean is zero, so that the bias is left, whatever the value.
    """

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """See the class."""
        height, width = input.shape[2:]
        known = isinstance(height, int) and isinstance(width, int)  # in a graph for any size they are symbols
        if known and height * width * self.num_channels == self.num_groups:
            input = input - input  # so that rounding leaves the bias as it is
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def group_norm(width: int) -> GroupNorm:
    """32 groups, fewer where they do not divide the width."""
    return GroupNorm(math.gcd(32, width), width)


def conv_norm_relu(inputs: int, outputs: int, *, deformable: bool = False, bias: bool = False) -> nn.Sequential:
    """3x3 convolution, without bias as a rule, group norm, ReLU; ``deformable`` makes the convolution a DCNv2."""
    if deformable:
        conv: nn.Module = DeformConv(inputs, outputs, 3, padding=1)
    else:
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
    return nn.Sequential(conv, group_norm(outputs), nn.ReLU(inplace=True))


def conv_tower(
    inputs: int, width: int, depth: int, *, norm: bool = True, bias: bool = False, deformable_last: bool = False
) -> nn.Sequential:
    """``depth`` 3x3 convolutions with ReLU in a row, shared by all levels.

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
    """3x3 convolution with bias, the last of a branch."""
    conv = nn.Conv2d(width, outputs, 3, padding=1)
    nn.init.constant_(conv.bias, bias)  # type: ignore[arg-type]
    return conv


def check_star_norm(norm: str, compat: str) -> None:
    """Refuse an unknown norm in the star, and any in a network that is to be the paper's.

    Raises:
        ConfigError: it is one of these.
    """
    known = get_args(StarNorm)
    if norm not in known:
        raise ConfigError(f"star_norm={norm}: there is no such norm; choose from {', '.join(known)}.")
    if compat == "paper" and norm != "none":
        raise ConfigError(f"star_norm={norm}: with compat=paper there is no norm in the star; set star_norm=none.")


class StarConv(nn.Module):
    """A 3x3 convolution without bias whose taps lie on nine given points, or on the grid without ``taps``.

    ``norm="group"`` adds a group norm after it, as every other convolution of these heads has one; the papers that use
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
        """The convolution itself; an exporter puts another form of it here."""
        return star_conv(levels, taps, self.weight)


class DenseHead(nn.Module):
    """A tower for the classes and one for the boxes, shared by all levels, with 3x3 predictors on top (RetinaNet, FCOS,
    ATSS).

    What is said of the classes has ``classes`` channels, of the box ``outputs``. With ``levels`` the latter is
    multiplied by a learned number a level. ``centerness`` is the tower that a third predictor of one channel reads, or
    None for no such predictor. ``norm`` and ``bias`` are those of :func:`tower`. The names of the parts are those of a
    head of this package.
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
        """Maps of each level: ``logits`` [B, classes, H, W], ``reg`` [B, outputs, H, W] and, where there is such a
        predictor, ``centerness`` [B, 1, H, W]."""
        maps: dict[str, list[Tensor]] = {"logits": [], "reg": [], "centerness": []}
        for i, level in enumerate(levels):
            features = {"cls": self.cls_tower(level), "reg": self.reg_tower(level)}
            maps["logits"].append(self.cls(features["cls"]))
            said = self.reg(features["reg"])
            maps["reg"].append(self.scales[i] * said if self.scales else said)
            if self.centerness is not None and self.centerness_of is not None:
                maps["centerness"].append(self.centerness(features[self.centerness_of]))
        return {name: values for name, values in maps.items() if values}


def init_head(head: nn.Module, std: float = 0.01) -> None:
    """Normal weights for every convolution of a head, as all detectors of this family start.

    Deformable convolutions keep their own start, in which every tap reads its own location.
    """
    offsets = {module.offset for module in head.modules() if isinstance(module, DeformConv)}
    for module in head.modules():
        if isinstance(module, nn.Conv2d) and module not in offsets:
            nn.init.normal_(module.weight, std=std)


def bias_init_with_prob(probability: float = 0.01) -> float:
    """The bias that makes a sigmoid start at that probability (Lin et al., Focal Loss, section 3.3)."""
    return -math.log((1 - probability) / probability)
