"""Layers that the heads share."""

from __future__ import annotations

import math

from torch import nn


def conv_norm_relu(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolution without bias, group norm of 32 groups (fewer where they do not divide the width), ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.GroupNorm(math.gcd(32, outputs), outputs),
        nn.ReLU(inplace=True),
    )


def tower(inputs: int, width: int, depth: int) -> nn.Sequential:
    """``depth`` of them in a row, shared by all levels."""
    return nn.Sequential(*(conv_norm_relu(inputs if i == 0 else width, width) for i in range(depth)))


def predictor(width: int, outputs: int, bias: float = 0.0) -> nn.Conv2d:
    """3x3 convolution with bias, the last of a branch."""
    conv = nn.Conv2d(width, outputs, 3, padding=1)
    nn.init.constant_(conv.bias, bias)  # type: ignore[arg-type]
    return conv


def init_head(head: nn.Module, std: float = 0.01) -> None:
    """Normal weights for every convolution of a head, as all detectors of this family start."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=std)


def prior_logit(probability: float = 0.01) -> float:
    """The bias that makes a sigmoid start at that probability (Lin et al., Focal Loss, section 3.3)."""
    return -math.log((1 - probability) / probability)
