"""Modulated deformable convolution (DCNv2, Zhu et al., CVPR 2019), as the operator ``varifocal::deform_conv2d``.

The operator has a kernel for CPUs and one for CUDA and every other device, one that computes shapes only, and a
derivative. An exporter replaces it by another form (:mod:`varifocal.export.lowering`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from varifocal.ops.kernels.deform_cpu import (
    SamplingTable,
    autocast_dtype,
    empty_output,
    gather_conv,
    offset_table,
)
from varifocal.ops.kernels.deform_cpu_backward import empty_gradients, gather_conv_backward
from varifocal.utils.errors import ConfigError

SCHEMA = (
    "Tensor[] levels, Tensor weight, Tensor[] offsets, Tensor[] masks, Tensor[] cells, Tensor[] weights, "
    "int stride, int padding, int dilation"
)


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
    """Compute torchvision's ``deform_conv2d``, by torchvision itself except on a CPU, where it is a scalar loop.

    ``offsets`` (dy, dx) in cells and ``mask`` are float32 or wider, and so are the coordinates, whatever the type of
    features and weight. Under autocast features and weight take its type.
    """
    steps = {"stride": stride, "padding": padding, "dilation": dilation}
    tables = []
    if features.device.type == "cpu":
        size = (features.shape[2], features.shape[3])
        tables = [offset_table(offsets, size, kernel=weight.shape[2], scale=mask, **steps)]
    masks = [] if mask is None else [mask]
    return deform_conv2d_levels([features], [offsets], weight, tables, masks=masks, **steps)[0]


def deform_conv2d_levels(
    levels: Sequence[Float[Tensor, "B C _ _"]],
    offsets: Sequence[Float[Tensor, "B _ _ _"]],
    weight: Float[Tensor, "O c k k"],
    tables: Sequence[SamplingTable],
    *,
    masks: Sequence[Float[Tensor, "B K _ _"]] = (),
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
) -> list[Float[Tensor, "B O _ _"]]:
    """Compute :func:`deform_conv2d` of several maps with one weight; ``tables`` are read by a CPU, empty elsewhere.

    A CPU computes in the type of the result, other devices in that of the offsets: coordinates need a wide type, and
    torchvision's operator takes a single type.
    """
    kind = autocast_dtype(weight)
    computed = kind if weight.device.type == "cpu" else offsets[0].dtype
    levels = [level.to(computed) for level in levels]
    cells, fractions = [table.cells for table in tables], [table.weight for table in tables]
    points = (list(offsets), list(masks), cells, fractions)
    results: list[Tensor] = deform_conv2d_op(levels, weight, *points, stride, padding, dilation)
    return [result.to(kind) for result in results]


class _Arguments(NamedTuple):
    """The arguments of the operator: one tensor per level, except ``weight``, which is used in the type of the levels.

    ``masks``, and the table of ``cells`` and ``fractions`` that a CPU reads, may be empty.
    """

    levels: list[Tensor]
    weight: Tensor
    offsets: list[Tensor]
    masks: list[Tensor]
    cells: list[Tensor]
    fractions: list[Tensor]
    stride: int
    padding: int
    dilation: int

    @property
    def mask_of_each(self) -> list[Tensor] | list[None]:
        """The mask of each level, or None for each."""
        return self.masks or [None] * len(self.levels)

    @property
    def starts(self) -> list[int]:
        """The entry of a table at which each tap begins."""
        return list(range(0, 4 * self.weight.shape[2] * self.weight.shape[3], 4))

    def tables(self) -> list[SamplingTable]:
        """Return the table of each level, made of offsets and masks where none was passed."""
        if self.fractions:
            return SamplingTable.of_levels(self.cells, self.fractions)
        steps = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        return [
            offset_table(offsets, (level.shape[2], level.shape[3]), kernel=self.weight.shape[2], scale=mask, **steps)
            for level, offsets, mask in zip(self.levels, self.offsets, self.mask_of_each, strict=True)
        ]


def _by_torchvision(*arguments: Any) -> list[Tensor]:
    from torchvision.ops import deform_conv2d as operator

    args = _Arguments(*arguments)
    weight, steps = args.weight.to(args.levels[0].dtype), arguments[-3:]
    rows = zip(args.levels, args.offsets, args.mask_of_each, strict=True)
    return [operator(level, offsets, weight, None, *steps, mask) for level, offsets, mask in rows]


deform_conv2d_op = torch.library.custom_op(
    "varifocal::deform_conv2d", _by_torchvision, mutates_args=(), schema=f"({SCHEMA}) -> Tensor[]"
)
deform_conv2d_op.register_kernel("cuda", _by_torchvision)


@deform_conv2d_op.register_kernel("cpu")
def _on_cpu(*arguments: Any) -> list[Tensor]:
    args = _Arguments(*arguments)
    return gather_conv(args.levels, args.tables(), args.starts, args.weight)


@deform_conv2d_op.register_fake
def _shapes(*arguments: Any) -> list[Tensor]:
    args = _Arguments(*arguments)
    pairs = zip(args.levels, args.offsets, strict=True)
    results = [empty_output(level, args.weight, offsets.shape[2:]) for level, offsets in pairs]
    return results if args.weight.device.type == "cpu" else [result.contiguous() for result in results]


def _gradients_by_torchvision(*arguments: Any) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
    *rest, grads, needed = arguments
    args = _Arguments(*rest)
    own = args.weight.to(args.levels[0].dtype)
    sides = [side for step in rest[-3:] for side in (step, step)]
    found = []
    for grad, level, offsets, mask in zip(grads, args.levels, args.offsets, args.mask_of_each, strict=True):
        masked = mask is not None
        nothing, bias = level.new_zeros(len(level), 1), level.new_zeros(len(own))
        groups = level.shape[1] // own.shape[1], offsets.shape[1] // (2 * own.shape[2] * own.shape[3])
        inputs = (grad.to(level.dtype), level, own, offsets, mask if masked else nothing, bias)
        found.append(torch.ops.torchvision._deform_conv2d_backward(*inputs, *sides, *groups, masked))
    by_level, by_weight, by_offsets, by_mask, _ = zip(*found, strict=True)
    return (
        _if_needed(needed[0], by_level),
        _if_needed(needed[1], by_offsets),
        _if_needed(needed[2], by_mask)[: len(args.masks)],
        sum_last_first([part.to(args.weight.dtype) for part in by_weight]) if needed[3] else own.new_empty(0),
    )


def _if_needed(needed: bool, parts: Sequence[Tensor]) -> list[Tensor]:
    return list(parts) if needed else [part.new_empty(0) for part in parts]


def sum_last_first(parts: Sequence[Tensor]) -> Tensor:
    """Return the sum in the order in which autograd adds the gradients from the uses of one tensor."""
    total = parts[-1]
    for part in reversed(parts[:-1]):
        total = total + part
    return total


deform_conv2d_backward_op = torch.library.custom_op(
    "varifocal::deform_conv2d_backward",
    _gradients_by_torchvision,
    mutates_args=(),
    schema=f"({SCHEMA}, Tensor[] grads, bool[] needed) -> (Tensor[], Tensor[], Tensor[], Tensor)",
)
deform_conv2d_backward_op.register_kernel("cuda", _gradients_by_torchvision)


@deform_conv2d_backward_op.register_kernel("cpu")
def _gradients_on_cpu(*arguments: Any) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
    *rest, grads, needed = arguments
    args = _Arguments(*rest)
    check_tables(args.fractions, needed[1] or needed[2])
    parts = (args.levels, args.tables(), args.starts, args.weight, [needed[0], needed[1], needed[3]])
    by_level, by_fraction, by_weight = gather_conv_backward(grads, *parts)
    return by_level, by_fraction, [mask.new_empty(0) for mask in args.masks], by_weight


def check_tables(fractions: Sequence[Tensor], needed: bool) -> None:
    """Check that a CPU has tables to which the gradient of the points can go.

    Raises:
        NotImplementedError: the gradient is needed, but no tables were passed.
    """
    if needed and not fractions:
        raise NotImplementedError("on a CPU the gradient of points goes through the table; pass cells and fractions.")


@deform_conv2d_backward_op.register_fake
def _gradient_shapes(*arguments: Any) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
    *rest, _, needed = arguments
    args = _Arguments(*rest)
    points = args.fractions or args.offsets
    layout = torch.channels_last if args.weight.device.type == "cpu" else torch.contiguous_format
    return (
        empty_gradients(args.levels, needed[0], layout),
        empty_gradients(points, needed[1], torch.contiguous_format),
        empty_gradients(args.masks, needed[2] and not args.fractions, torch.contiguous_format),
        empty_gradients([args.weight], needed[3], torch.contiguous_format)[0],
    )


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    del output
    save_arguments(ctx, inputs)


def save_arguments(ctx: Any, inputs: Sequence[Any]) -> None:
    """Save an operator's tensors, lists of tensors and numbers for its derivative."""
    leaves, ctx.spec = tree_flatten(list(inputs))
    ctx.numbers = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    ctx.save_for_backward(*(leaf for leaf in leaves if isinstance(leaf, Tensor)))


def saved_arguments(ctx: Any) -> Any:
    """Return the arguments that :func:`save_arguments` saved, in their original structure."""
    tensors = iter(ctx.saved_tensors)
    return tree_unflatten([next(tensors) if number is None else number for number in ctx.numbers], ctx.spec)


def _backward(ctx: Any, grads: list[Tensor]) -> Any:
    levels, weight, offsets, masks, _, fractions, *_ = ctx.needs_input_grad
    has_tables = len(fractions) > 0
    needed = [any(levels), any(fractions) if has_tables else any(offsets), not has_tables and any(masks), weight]
    arguments = saved_arguments(ctx)
    by_level, by_point, by_mask, by_weight = deform_conv2d_backward_op(*arguments, list(grads), needed)
    return (
        by_level if needed[0] else [None] * len(levels),
        by_weight if weight else None,
        by_point if needed[1] and not has_tables else [None] * len(offsets),
        by_mask if needed[2] else [None] * len(masks),
        [None] * len(fractions),  # one of cells for each of fractions
        by_point if needed[1] and has_tables else [None] * len(fractions),
        None,
        None,
        None,
    )


deform_conv2d_op.register_autograd(_backward, setup_context=_save)


class DeformConv(nn.Module):
    """A convolution that learns which location each tap reads and how much it counts (DCNv2).

    ``offset`` is a plain convolution of the same size, stride and dilation with 3 K channels for K taps: first the 2 K
    offsets, (dy, dx) in cells from the tap's own location, tap by tap, then K masks before a sigmoid. It starts at
    zero, which is the plain convolution at half strength. Sampling is bilinear, zero outside the map. ``groups``
    applies to the main weight; all groups read the same locations.
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
        """Convolve; coordinates stay in float32 or wider, because bfloat16 has steps of half a cell at 128."""
        taps = self.weight.shape[2] * self.weight.shape[3]
        kind = torch.float64 if features.dtype == torch.float64 else torch.float32
        moves, masks = self.offset(features).to(kind).split([2 * taps, taps], dim=1)
        result = self.convolve(features, moves, masks.sigmoid())
        return result if self.bias is None else result + self.bias.to(result.dtype)[:, None, None]

    def convolve(
        self, features: Float[Tensor, "B C H W"], offsets: Float[Tensor, "B _ h w"], mask: Float[Tensor, "B K h w"]
    ) -> Float[Tensor, "B O h w"]:
        """Compute the convolution itself, without bias; an exporter replaces this method."""
        steps = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        return deform_conv2d(features, offsets, self.weight, mask=mask, **steps)


def to_deformable(conv: nn.Conv2d) -> DeformConv:
    """Return a deformable convolution with the weights, stride, padding, dilation and groups of ``conv``.

    Raises:
        ConfigError: ``conv`` is a subclass, which makes its padding or weights anew in each pass (such as TensorFlow's
            padding), or is not zero-padded equally on both axes; its deformable form would compute something else.
    """
    pairs = (conv.kernel_size, conv.stride, conv.dilation, conv.padding)
    if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros" or any(len(set(pair)) > 1 for pair in pairs):
        raise ConfigError(
            f"{type(conv).__name__}({conv.extra_repr()}) has no deformable form; only square plain convolutions with "
            "zero padding have one.",
            code="conv-not-deformable",
        )
    size, stride, dilation, padding = (int(pair[0]) for pair in pairs)
    result = DeformConv(
        conv.in_channels, conv.out_channels, size, stride, padding, dilation, conv.groups, bias=conv.bias is not None
    ).to(conv.weight)
    result.weight = conv.weight  # type: ignore[assignment]  # a Parameter, which torch declares a Tensor
    result.bias = conv.bias  # type: ignore[assignment]
    return result
