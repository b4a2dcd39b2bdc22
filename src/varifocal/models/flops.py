"""How much a network has to compute, counted on shapes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from varifocal.ops.deform_conv import deform_conv2d_op
from varifocal.ops.kernels.star_operator import star_conv_op


def count_flops(network: nn.Module, size: tuple[int, int]) -> dict[str, int]:
    """Floating-point operations for one image of (height, width), two a multiply-add, of each module by its name.

    Names are those of ``network.named_modules()``; "" is the whole. Convolutions, deformable ones included, and matrix
    products count, as everywhere in the field; norms, activations and look-ups between cells do not. On the device
    "meta" nothing is computed. What the field calls the FLOPs of a model are multiply-adds, half of these numbers.
    """
    from torch.utils.flop_counter import FlopCounterMode

    own = {operator._opoverload.overloadpacket: _deformable for operator in (star_conv_op, deform_conv2d_op)}
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


def _deformable(levels: Any, weight: Any, points: Any, *_: Any, **__: Any) -> int:
    """Two for each multiply-add at each point, as the counter has it; the look-ups between cells are left out.

    All are shapes: those of the maps, of the weight, and of the distances or offsets, which are as many as the points.
    """
    del levels
    cells = sum(batch * rows * columns for batch, _, rows, columns in points)
    return int(2 * cells * math.prod(weight))
