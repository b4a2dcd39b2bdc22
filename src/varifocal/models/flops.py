"""The number of operations of a network, counted from shapes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from varifocal.ops.deform_conv import deform_conv2d_op
from varifocal.ops.kernels.star_operator import star_conv_op


def count_flops(network: nn.Module, size: tuple[int, int]) -> dict[str, int]:
    """Return the floating-point operations of each module for one image of (height, width), two per multiply-add.

    Names are those of ``network.named_modules()``; "" is the whole. Convolutions, deformable ones included, and matrix
    products count, as usual; norms, activations and bilinear sampling do not. On the device
    "meta" nothing is computed. Papers call multiply-adds the FLOPs of a model, which are half of these numbers.
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
    """Return two operations for each multiply-add at each point, like torch's counter, without bilinear sampling.

    All arguments are shapes: of the maps, of the weight, and of the distances or offsets, one for each point.
    """
    del levels
    cells = sum(batch * rows * columns for batch, _, rows, columns in points)
    return int(2 * cells * math.prod(weight))
