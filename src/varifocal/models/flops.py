"""How much a network has to compute, counted on shapes."""

from __future__ import annotations

import math
from typing import Any

import torch
import torchvision  # noqa: F401  (its import registers torch.ops.torchvision)
from torch import nn

from varifocal.ops.kernels import deform_cpu as gather_conv  # noqa: F401  (likewise torch.ops.varifocal)


def count_flops(network: nn.Module, size: tuple[int, int]) -> dict[str, int]:
    """Floating-point operations for one image of (height, width), two a multiply-add, of each module by its name.

    Names are those of ``network.named_modules()``; "" is the whole. Convolutions, deformable ones included, and matrix
    products count, as everywhere in the field; norms, activations and look-ups between cells do not. On the device
    "meta" nothing is computed. What the field calls the FLOPs of a model are multiply-adds, half of these numbers.
    """
    from torch.utils.flop_counter import FlopCounterMode

    own = {torch.ops.torchvision.deform_conv2d: _deformable, torch.ops.varifocal.gather_conv: _gathered}
    counter = FlopCounterMode(display=False, custom_mapping=own)
    device = next(network.parameters()).device
    with torch.no_grad(), counter:
        network(torch.zeros(1, 3, *size, device=device))
    modules = {
        name.partition(".")[2]: sum(kinds.values())
        for name, kinds in counter.get_flop_counts().items()
        if name != "Global"
    }
    return {**modules, "": counter.get_total_flops()}


def _gathered(levels: Any, index: Any, share: Any, starts: Any, weight: Any, **_: Any) -> int:
    """As :func:`_deformable`, for the cells of all levels."""
    del levels, share, starts
    cells = sum(math.prod(shape[:3]) for shape in index)
    return int(2 * cells * math.prod(weight))


def _deformable(features: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    """Two for each multiply-add, as the counter has it; the look-ups between cells are left out."""
    del features
    outputs = 1
    for side in (*out_shape, *weight[1:]):
        outputs *= side
    return 2 * outputs
