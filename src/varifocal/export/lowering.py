"""Forms of star and deformable convolutions for exporters: one standard operator, or ``grid_sample``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from varifocal.models.layers import StarConv
from varifocal.ops.deform_conv import DeformConv
from varifocal.ops.kernels.deform_cpu import autocast_dtype
from varifocal.ops.kernels.star_operator import star_offsets
from varifocal.ops.star_conv import SamplingPoints

ExportForm = Literal["deformconv", "gridsample"]
Convolution = Callable[[Tensor, Tensor, Tensor, Tensor | None, int, int, int], Tensor]


def lower(network: nn.Module, form: ExportForm) -> None:
    """Change the star and deformable convolutions of a network to a form that other runtimes have.

    "deformconv" is one node, ``varifocal::deform_conv2d``, which the exporter translates into ONNX's ``DeformConv``;
    "gridsample" is a ``grid_sample`` and a 1x1 convolution. The numbers are the same within rounding.
    """
    convolution = {"deformconv": _operator, "gridsample": _by_grid_sample}[form]
    for module in network.modules():
        replaced: Any = module
        if isinstance(module, StarConv):
            replaced.convolve = partial(_star, module, convolution)
        elif isinstance(module, DeformConv):
            replaced.convolve = partial(_deformable, module, convolution)


def _star(layer: StarConv, convolution: Convolution, levels: Sequence[Tensor], taps: SamplingPoints) -> list[Tensor]:
    offsets = taps.offsets or [star_offsets(distances) for distances in taps.distances]
    pairs = zip(levels, offsets, strict=True)
    return [_in_one_type(convolution, level, points, layer.weight, None, 1, 1, 1) for level, points in pairs]


def _deformable(layer: DeformConv, convolution: Convolution, features: Tensor, offsets: Tensor, mask: Tensor) -> Tensor:
    steps = layer.stride, layer.padding, layer.dilation
    return _in_one_type(convolution, features, offsets, layer.weight, mask, *steps)


def _in_one_type(
    convolution: Convolution, features: Tensor, offsets: Tensor, weight: Tensor, mask: Tensor | None, *steps: int
) -> Tensor:
    """Convolve in the type of the offsets: coordinates need its range, and the operators need one type for all."""
    dtype = offsets.dtype
    return convolution(features.to(dtype), offsets, weight.to(dtype), mask, *steps).to(autocast_dtype(weight))


def _operator(
    features: Tensor, offsets: Tensor, weight: Tensor, mask: Tensor | None, stride: int, padding: int, dilation: int
) -> Tensor:
    masks = [] if mask is None else [mask]
    results = torch.ops.varifocal.deform_conv2d([features], weight, [offsets], masks, [], [], stride, padding, dilation)
    first: Tensor = results[0]
    return first


def _by_grid_sample(
    features: Tensor, offsets: Tensor, weight: Tensor, mask: Tensor | None, stride: int, padding: int, dilation: int
) -> Tensor:
    """Sample all taps at once, zero outside the map, and apply a 1x1 convolution.

    Sampling each tap on its own would take nine times the nodes, and is slower in ONNX Runtime.
    """
    height, width = features.shape[2:]
    rows, columns = offsets.shape[2:]
    size, groups = weight.shape[2], features.shape[1] // weight.shape[1]
    own_y = torch.arange(rows, device=offsets.device, dtype=offsets.dtype)[:, None] * stride - padding
    own_x = torch.arange(columns, device=offsets.device, dtype=offsets.dtype) * stride - padding
    tap = torch.arange(size * size, device=offsets.device).view(-1, 1, 1)
    y = offsets[:, 0::2] + (own_y + (tap // size).to(offsets.dtype) * dilation)
    x = offsets[:, 1::2] + (own_x + (tap % size).to(offsets.dtype) * dilation)
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1).flatten(1, 2)
    read = F.grid_sample(features, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    read = read.unflatten(2, (size * size, rows))
    if mask is not None:
        read = read * mask[:, None]
    return F.conv2d(read.flatten(1, 2), weight.flatten(1)[:, :, None, None], groups=groups)
