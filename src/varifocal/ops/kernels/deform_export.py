"""Deformable convolutions as an exporter wants them: one standard operator, or look-ups that everybody has.

While :func:`exporting` is on, in this thread alone, ``star_conv`` and ``deform_conv2d`` compute in one of these forms.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

ExportForm = Literal["deformconv", "gridsample"]

_FORM: ContextVar[ExportForm | None] = ContextVar("varifocal_export_form", default=None)


@contextmanager
def export_mode(form: ExportForm) -> Iterator[None]:
    """While the block runs, deformable convolutions become what ``form`` says.

    "deformconv" is one node, ``varifocal::deform_conv2d``, which an exporter turns into ONNX's ``DeformConv``;
    "gridsample" is a ``grid_sample`` and a 1x1 convolution. The numbers are the same within rounding.
    """
    token = _FORM.set(form)
    try:
        yield
    finally:
        _FORM.reset(token)


def current_export_mode() -> ExportForm | None:
    """What the block that runs asks for, or None outside of one, and where torch.compile traces."""
    return None if torch.compiler.is_dynamo_compiling() else _FORM.get()  # torch 2.9 cannot trace a ContextVar


def deform_conv2d_in(
    form: ExportForm,
    features: Float[Tensor, "B C H W"],
    offsets: Float[Tensor, "B _ h w"],
    weight: Float[Tensor, "O c k k"],
    *,
    mask: Float[Tensor, "B K h w"] | None,
    stride: int,
    padding: int,
    dilation: int,
) -> Float[Tensor, "B O h w"]:
    """A deformable convolution in that form; all of one type."""
    if form == "deformconv":
        return torch.ops.varifocal.deform_conv2d(features, weight, offsets, mask, stride, padding, dilation)
    return _by_look_ups(features, offsets, weight, mask, stride, padding, dilation)


def _by_look_ups(
    features: Tensor, offsets: Tensor, weight: Tensor, mask: Tensor | None, stride: int, padding: int, dilation: int
) -> Tensor:
    """One look-up of all taps and a 1x1 convolution of what they read; zero outside the map, as ``grid_sample`` has it.

    A look-up for each tap would be nine times the nodes, and slower in ONNX Runtime.
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


@torch.library.custom_op(
    "varifocal::deform_conv2d",
    mutates_args=(),
    schema=(
        "(Tensor features, Tensor weight, Tensor offsets, Tensor? mask, int stride, int padding, int dilation)"
        " -> Tensor"
    ),
)
def _deform_conv2d(
    features: Tensor, weight: Tensor, offsets: Tensor, mask: Tensor | None, stride: int, padding: int, dilation: int
) -> Tensor:
    return _by_look_ups(features, offsets, weight, mask, stride, padding, dilation)


@_deform_conv2d.register_fake
def _(features: Any, weight: Any, offsets: Any, mask: Any, stride: Any, padding: Any, dilation: Any) -> Tensor:
    del mask, stride, padding, dilation
    empty: Tensor = features.new_empty(offsets.shape[0], weight.shape[0], *offsets.shape[2:])
    return empty
