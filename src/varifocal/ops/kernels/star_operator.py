"""The operator ``varifocal::star_conv``: kernels for CPUs and for all other devices, shapes alone, and derivatives."""

from __future__ import annotations

import warnings
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from varifocal.ops.deform_conv import (
    check_tables,
    deform_conv2d_backward_op,
    deform_conv2d_op,
    save_arguments,
    saved_arguments,
    sum_last_first,
)
from varifocal.ops.kernels.deform_cpu import (
    STAR_STARTS,
    SamplingTable,
    empty_output,
    star_conv_cpu,
    star_table,
)
from varifocal.ops.kernels.deform_cpu_backward import empty_gradients, gather_conv_backward

SCHEMA = "Tensor[] levels, Tensor weight, Tensor[] distances, Tensor[] cells, Tensor[] weights"


def star_offsets(distances: Float[Tensor, "B 4 H W"]) -> Float[Tensor, "B 18 H W"]:
    """Return the offsets that move a 3x3 kernel's taps onto the nine points of each box.

    Args:
        distances: (l, t, r, b) from the cell to the sides, in cells of this level.

    Returns:
        (dy, dx) for each of the nine taps, row by row: the target displacement minus the tap's own location in the
        regular grid, the input of torchvision's ``deform_conv2d``.
    """
    left, top, right, bottom = distances.unbind(dim=1)
    zero = torch.zeros_like(left)
    star = [part for dy in (-top, zero, bottom) for dx in (-left, zero, right) for part in (dy, dx)]
    return points_to_offsets(torch.stack(star, dim=1))


def points_to_offsets(points: Float[Tensor, "B 18 H W"]) -> Float[Tensor, "B 18 H W"]:
    """Return the offsets that move a 3x3 kernel's taps, row by row, to nine (dy, dx) around each cell, in cells."""
    grid = [coordinate for y in (-1, 0, 1) for x in (-1, 0, 1) for coordinate in (y, x)]
    return points - points.new_tensor(grid)[:, None, None]


def offsets_to_distances(gradients: Float[Tensor, "B 18 H W"], like: Tensor) -> Float[Tensor, "B 4 H W"]:
    """Return the gradient of the distances, in the type of ``like``, from that of the offsets.

    It is the derivative of :func:`star_offsets`, with sums in the order of autograd.
    """
    part = gradients.unbind(dim=1)
    left = (-part[13] - part[7]) - part[1]
    top = -(part[0] + part[2] + part[4])
    right = part[5] + part[11] + part[17]
    bottom = part[12] + part[14] + part[16]
    return torch.stack([left, top, right, bottom], dim=1).to(like.dtype)


def has_fused_star(device: torch.device) -> bool:
    """Return whether the fused kernel runs there: on an NVIDIA GPU of Ampere or later for which Triton can compile."""
    return device.type == "cuda" and _runs_fused_star(device)


# It runs the kernel once, which torch.compile must not trace. torch.compiler.assume_constant_result does the same, but
# imports all of torch._dynamo, which takes as long as importing torch.
has_fused_star.__dict__["_dynamo_marked_constant"] = True


@lru_cache
def _runs_fused_star(device: torch.device) -> bool:
    if torch.version.hip or find_spec("triton") is None or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    from varifocal.ops.kernels.star_cuda import convolve

    shapes = ((1, 16, 1, 1), (1, 4, 1, 1), (16, 16, 3, 3))
    try:
        convolve(*(torch.zeros(shape, device=device) for shape in shapes))
        torch.cuda.synchronize(device)
    except Exception as error:  # Triton compiles at the first call, for which it needs a C compiler
        warnings.warn(f"the fused star convolution cannot run ({error}); torchvision's is slower.", stacklevel=2)
        return False
    return True


class _Arguments(NamedTuple):
    """The arguments of the operator: one tensor per level, except ``weight``, which is used in the type of the levels.

    ``cells`` and ``fractions`` are the tables that a CPU reads; they may be empty.
    """

    levels: list[Tensor]
    weight: Tensor
    distances: list[Tensor]
    cells: list[Tensor]
    fractions: list[Tensor]

    @property
    def fused(self) -> bool:
        """Whether the Triton kernels compute it."""
        level = self.levels[0]
        return level.dtype != torch.float64 and has_fused_star(level.device)

    def as_deformable(self) -> tuple[Any, ...]:
        """Return the arguments with which ``varifocal::deform_conv2d`` computes the same."""
        offsets = [star_offsets(distances).to(self.levels[0].dtype) for distances in self.distances]
        return self.levels, self.weight, offsets, [], [], [], 1, 1, 1


def _on_gpu(*arguments: Any) -> list[Tensor]:
    args = _Arguments(*arguments)
    if not args.fused:
        return _channels_last(deform_conv2d_op(*args.as_deformable()))
    from varifocal.ops.kernels.star_cuda import convolve

    weight = args.weight.to(args.levels[0].dtype)
    pairs = zip(args.levels, args.distances, strict=True)
    return [convolve(level, distances.float(), weight) for level, distances in pairs]


star_conv_op = torch.library.custom_op(
    "varifocal::star_conv", _on_gpu, mutates_args=(), schema=f"({SCHEMA}) -> Tensor[]"
)
star_conv_op.register_kernel("cuda", _on_gpu)
star_conv_op.register_kernel("cpu", star_conv_cpu)


@star_conv_op.register_fake
def _shapes(*arguments: Any) -> list[Tensor]:
    args = _Arguments(*arguments)
    return [empty_output(level, args.weight, level.shape[2:]) for level in args.levels]


def _gradients_on_gpu(*arguments: Any) -> tuple[list[Tensor], list[Tensor], Tensor]:
    *rest, grads, needed = arguments
    args = _Arguments(*rest)
    if not args.fused:
        deformable_needed = [needed[0], needed[1], False, needed[2]]
        by_level, by_offsets, _, by_weight = deform_conv2d_backward_op(*args.as_deformable(), grads, deformable_needed)
        pairs = zip(by_offsets, args.distances, strict=True)
        by_distances = [offsets_to_distances(*pair) if needed[1] else pair[0] for pair in pairs]
        return _channels_last(by_level) if needed[0] else by_level, by_distances, by_weight
    from varifocal.ops.kernels.star_cuda import gradients

    weight = args.weight.to(args.levels[0].dtype)
    rows = zip(grads, args.levels, args.distances, strict=True)
    found = [gradients(grad, level, distances.float(), weight, needed) for grad, level, distances in rows]
    by_level, by_distances, by_weights = ([part[i] for part in found] for i in range(3))
    by_distances = [part.to(distances.dtype) for part, distances in zip(by_distances, args.distances, strict=True)]
    return by_level, by_distances, sum_last_first([part.to(args.weight.dtype) for part in by_weights]).contiguous()


def _channels_last(maps: list[Tensor]) -> list[Tensor]:
    return [part.contiguous(memory_format=torch.channels_last) for part in maps]


star_conv_backward_op = torch.library.custom_op(
    "varifocal::star_conv_backward",
    _gradients_on_gpu,
    mutates_args=(),
    schema=f"({SCHEMA}, Tensor[] grads, bool[] needed) -> (Tensor[], Tensor[], Tensor)",
)
star_conv_backward_op.register_kernel("cuda", _gradients_on_gpu)


@star_conv_backward_op.register_kernel("cpu")
def _gradients_on_cpu(*arguments: Any) -> tuple[list[Tensor], list[Tensor], Tensor]:
    *rest, grads, needed = arguments
    args = _Arguments(*rest)
    check_tables(args.fractions, needed[1])
    tables = SamplingTable.of_levels(args.cells, args.fractions) or [star_table(level) for level in args.distances]
    return gather_conv_backward(grads, args.levels, tables, STAR_STARTS, args.weight, needed)


@star_conv_backward_op.register_fake
def _gradient_shapes(*arguments: Any) -> tuple[list[Tensor], list[Tensor], Tensor]:
    *rest, _, needed = arguments
    args = _Arguments(*rest)
    return (
        empty_gradients(args.levels, needed[0]),
        empty_gradients(args.fractions or args.distances, needed[1], torch.contiguous_format),
        empty_gradients([args.weight], needed[2], torch.contiguous_format)[0],
    )


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    del output
    save_arguments(ctx, inputs)


def _backward(ctx: Any, grads: list[Tensor]) -> Any:
    levels, weight, distances, cells, fractions = ctx.needs_input_grad
    has_tables = len(fractions) > 0
    needed = [any(levels), any(fractions if has_tables else distances), weight]
    by_level, by_point, by_weight = star_conv_backward_op(*saved_arguments(ctx), list(grads), needed)
    return (
        by_level if needed[0] else [None] * len(levels),
        by_weight if weight else None,
        by_point if needed[1] and not has_tables else [None] * len(distances),
        [None] * len(cells),
        by_point if needed[1] and has_tables else [None] * len(fractions),
    )


star_conv_op.register_autograd(_backward, setup_context=_save)
