"""Modulated deformable convolution (DCNv2, Zhu et al., CVPR 2019)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from varifocal.ops.kernels.deform_cpu import autocast_dtype, deform_conv_cpu, offset_table
from varifocal.ops.kernels.deform_export import current_export_mode, deform_conv2d_in
from varifocal.utils.errors import ConfigError


def deform_conv2d(
    features: Float[Tensor, "B C H W"],
    offsets: Float[Tensor, "B _ h w"],
    weight: Float[Tensor, "O c k k"],
    *,
    mask: Float[Tensor, "B K h w"] | None = None,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
) -> Float[Tensor, "B O h w"]:
    """torchvision's ``deform_conv2d``, which computes it everywhere but on a CPU, where it is a scalar loop.

    While a network is exported it is what the exporter asks for (:mod:`varifocal.ops.kernels.deform_export`).
    ``offsets`` (dy, dx) in cells and ``mask`` are float32 or wider; so are the locations that are read, whatever the
    type of features and weight. Under autocast these take its type.
    """
    places = {"stride": stride, "padding": padding, "dilation": dilation}
    kind = offsets.dtype  # coordinates want it wide, and an operator wants one type for all
    form = current_export_mode()
    if form is not None:
        result = deform_conv2d_in(form, features.to(kind), offsets, weight.to(kind), mask=mask, **places)
        return result.to(autocast_dtype(weight))
    if features.device.type == "cpu":
        size = (features.shape[2], features.shape[3])
        rows = offset_table(offsets, size, kernel=weight.shape[2], scale=mask, **places)
        return deform_conv_cpu([features], [rows], weight)[0]
    from torchvision.ops import deform_conv2d as operator

    result = operator(features.to(kind), offsets, weight.to(kind), None, mask=mask, **places)
    return result.to(autocast_dtype(weight))


class DeformConv(nn.Module):
    """A convolution that learns where each tap looks and how much it counts.

    A plain convolution of the same size, stride and dilation, ``offset``, says for each of the K taps where to look,
    (dy, dx) in cells beside its own location, and, through a sigmoid, how much it counts: 3 K channels, first the 2 K
    offsets, tap by tap, then the K weights. It starts at zero, which is the plain convolution at half strength.
    Bilinear between cells, zero outside the map. ``groups`` are those of the main weight; where to look is the same
    for all of them.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel_size, kernel_size))
        bound = 1 / math.sqrt(inputs * kernel_size**2)
        nn.init.uniform_(self.weight, -bound, bound)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.offset = nn.Conv2d(inputs, 3 * kernel_size**2, kernel_size, stride, padding, dilation)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B O h w"]:
        """Coordinates stay in float32 or wider: bfloat16 has steps of half a cell at 128."""
        taps = self.weight.shape[2] * self.weight.shape[3]
        kind = torch.float64 if features.dtype == torch.float64 else torch.float32
        moves, shares = self.offset(features).to(kind).split([2 * taps, taps], dim=1)
        result = deform_conv2d(
            features,
            moves,
            self.weight,
            mask=shares.sigmoid(),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )
        return result if self.bias is None else result + self.bias.to(result.dtype)[:, None, None]


def to_deformable(conv: nn.Conv2d) -> DeformConv:
    """The deformable convolution with the weights, stride, padding, dilation and groups of ``conv``.

    Raises:
        ConfigError: a subclass, whose padding or weights are made anew in each pass (such as TensorFlow's padding), or
            no zero padding of the same width on both axes; its deformable form would compute something else.
    """
    pairs = (conv.kernel_size, conv.stride, conv.dilation, conv.padding)
    if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros" or any(len(set(pair)) > 1 for pair in pairs):
        raise ConfigError(
            f"{type(conv).__name__}({conv.extra_repr()}) has no deformable form; only square plain convolutions with "
            "zero padding have one."
        )
    size, stride, dilation, padding = (int(pair[0]) for pair in pairs)
    result = DeformConv(
        conv.in_channels, conv.out_channels, size, stride, padding, dilation, conv.groups, bias=conv.bias is not None
    ).to(conv.weight)
    result.weight = conv.weight  # type: ignore[assignment]  # a Parameter, which torch declares a Tensor
    result.bias = conv.bias  # type: ignore[assignment]
    return result
