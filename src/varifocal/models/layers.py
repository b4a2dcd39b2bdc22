"""Layers that the heads share."""

from __future__ import annotations

import math

from torch import nn

from varifocal.ops.deform_conv import DeformConv


def group_norm(width: int) -> nn.GroupNorm:
    """32 groups, fewer where they do not divide the width."""
    return nn.GroupNorm(math.gcd(32, width), width)


def conv_norm_relu(inputs: int, outputs: int, *, deformable: bool = False, bias: bool = False) -> nn.Sequential:
    """3x3 convolution, without bias as a rule, group norm, ReLU; ``deformable`` makes the convolution a DCNv2."""
    if deformable:
        conv: nn.Module = DeformConv(inputs, outputs, 3, padding=1)
    else:
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
    return nn.Sequential(conv, group_norm(outputs), nn.ReLU(inplace=True))


def tower(
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


def predictor(width: int, outputs: int, bias: float = 0.0) -> nn.Conv2d:
    """3x3 convolution with bias, the last of a branch."""
    conv = nn.Conv2d(width, outputs, 3, padding=1)
    nn.init.constant_(conv.bias, bias)  # type: ignore[arg-type]
    return conv


def init_head(head: nn.Module, std: float = 0.01) -> None:
    """Normal weights for every convolution of a head, as all detectors of this family start.

    Deformable convolutions keep their own start, in which every tap looks at its own place.
    """
    offsets = {module.offset for module in head.modules() if isinstance(module, DeformConv)}
    for module in head.modules():
        if isinstance(module, nn.Conv2d) and module not in offsets:
            nn.init.normal_(module.weight, std=std)


def prior_logit(probability: float = 0.01) -> float:
    """The bias that makes a sigmoid start at that probability (Lin et al., Focal Loss, section 3.3)."""
    return -math.log((1 - probability) / probability)
