"""Parts of timm's backbones that depend on the input size, replaced by constants for an export."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fix_positions(network: nn.Module, size: tuple[int, int]) -> None:
    """Fix the position embeddings of timm's plain transformers in ``network`` to images of this (height, width).

    They are resized here, once and by torch; the bicubic resizing of other runtimes gives other numbers.
    """
    for module in network.modules():
        transformer: Any = module
        if getattr(module, "dynamic_img_size", False) and hasattr(module, "set_input_size"):
            with torch.no_grad():
                transformer.set_input_size(img_size=size)


def fix_padding(network: nn.Module, example: Tensor) -> None:
    """Fix the padding of timm's layers with TensorFlow's padding in ``network`` to that of the ``example`` image.

    It is the same for all images whose sides differ from the example's by multiples of the network's coarsest stride,
    since it depends on the remainder that a stride leaves. Otherwise a graph of any size would hold, for each map, a
    formula that nests those of all maps before it, which takes torch's exporter hours.
    """
    from timm.layers.conv2d_same import Conv2dSame
    from timm.layers.padding import get_same_padding
    from timm.layers.pool2d_same import MaxPool2dSame

    sides: dict[str, list[int]] = {}
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, (Conv2dSame, MaxPool2dSame)):

            def record(_: nn.Module, inputs: tuple[Any, ...], name: str = name) -> None:
                sides[name] = list(inputs[0].shape[2:])

            handles.append(module.register_forward_pre_hook(record))
    if not handles:
        return
    try:
        with torch.no_grad():
            network(example)
    finally:
        for handle in handles:
            handle.remove()
    for name, shape in sides.items():
        layer: Any = network.get_submodule(name)
        sizes, strides, steps = (_pair(value) for value in (layer.kernel_size, layer.stride, layer.dilation))
        high, wide = (get_same_padding(*part) for part in zip(shape, sizes, strides, steps, strict=True))
        pads = (wide // 2, wide - wide // 2, high // 2, high - high // 2)
        fixed = _PaddedConv(layer, pads) if isinstance(layer, nn.Conv2d) else _PaddedPool(layer, pads)
        network.set_submodule(name, fixed)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


class _PaddedConv(nn.Module):
    def __init__(self, layer: nn.Conv2d, pads: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.stride, self.dilation, self.groups, self.pads = layer.stride, layer.dilation, layer.groups, pads

    def forward(self, x: Tensor) -> Tensor:
        left, right, top, bottom = self.pads
        if left == right and top == bottom:
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        return F.conv2d(F.pad(x, self.pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class _PaddedPool(nn.Module):
    def __init__(self, layer: nn.MaxPool2d, pads: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.layer, self.pads = layer, pads

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, dilation = self.layer.kernel_size, self.layer.stride, self.layer.dilation
        return F.max_pool2d(F.pad(x, self.pads, value=-torch.inf), kernel, stride, 0, dilation)
