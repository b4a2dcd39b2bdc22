"""The star-shaped deformable convolution: nine points of a box are read, weighted and summed.

From a point's distances to its box (l, t, r, b) follow the nine locations that a 3x3 kernel reads: the point itself,
the four projections onto the sides and the four corners (VarifocalNet, section 3.3 and figure 3). Everything is a
3x3 deformable convolution with stride 1 and padding 1 whose offsets are not learned but computed.
It is the operator ``varifocal::star_conv``, with a kernel for CPUs, one for CUDA and every other device, one that
computes shapes only, and a derivative. An exporter replaces it by another form (:mod:`varifocal.export.lowering`).

Five rows and five columns of cells hold all that a star reads: two on either side and the point's own. The point
needs no interpolation, its projections two cells, the corners four: 25 entries instead of 36.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from varifocal.ops.deform_conv import (
    autocast_dtype,
    check_tables,
    deform_conv2d_backward_op,
    deform_conv2d_levels,
    deform_conv2d_op,
    save_arguments,
    saved_arguments,
    sum_last_first,
)
from varifocal.ops.kernels.deform_cpu import (
    SamplingTable,
    batch_offsets,
    empty_gradients,
    empty_output,
    gather_conv,
    gather_conv_backward,
    linear_weights,
    offset_table,
)

SIDES = ((0, 1), (2,), (3, 4))  # of five cells on an axis those before, at and after the point
STAR_ENTRIES = [5 * y + x for rows in SIDES for columns in SIDES for y in rows for x in columns]
STAR_STARTS = (0, 4, 6, 10, 12, 13, 15, 19, 21)


class SamplingPoints(NamedTuple):
    """Where a 3x3 kernel looks at each level, made once for all the convolutions that look there.

    ``distances`` [B, 4, H, W] or ``offsets`` [B, 18, H, W] in cells, the other is empty; ``rows`` is what a CPU reads,
    empty until the first of these convolutions asks for it.
    """

    distances: list[Tensor]
    offsets: list[Tensor]
    rows: list[SamplingTable]

    def tables(self) -> list[SamplingTable]:
        """What a CPU reads at each level; made once and kept for the next convolution that looks there."""
        if not self.rows:
            self.rows.extend(star_table(level) for level in self.distances)
            self.rows.extend(offset_table(level, (level.shape[2], level.shape[3])) for level in self.offsets)
        return self.rows


def star_points(distances: Sequence[Float[Tensor, "B 4 _ _"]]) -> SamplingPoints:
    """The star of a box at each cell of each level; ``distances`` are (l, t, r, b) in cells, float32 or wider."""
    return SamplingPoints(list(distances), [], [])


def free_points(points: Sequence[Float[Tensor, "B 18 _ _"]]) -> SamplingPoints:
    """Nine free points (dy, dx) beside each cell of each level, in cells, float32 or wider (RepPoints)."""
    return SamplingPoints([], [points_to_offsets(level) for level in points], [])


def star_conv(
    levels: Sequence[Float[Tensor, "B C _ _"]], taps: SamplingPoints, weight: Float[Tensor, "O C 3 3"]
) -> list[Float[Tensor, "B O _ _"]]:
    """Convolve each level at the moved taps; bilinear between cells, zero outside the map.

    Coordinates stay in float32 or wider whatever the features are: bfloat16 has steps of half a cell at 128. Under
    autocast features and weight take its type. Free points are a deformable convolution, and so is a star on a GPU
    that the fused kernel does not run on: this is computed in the type of the coordinates.
    """
    kind, device = autocast_dtype(weight), weight.device
    tables = taps.tables() if device.type == "cpu" else []
    if taps.offsets:
        return deform_conv2d_levels(levels, taps.offsets, weight, tables)
    computed = kind if device.type == "cpu" or has_fused_star(device) else taps.distances[0].dtype
    levels = [level.to(computed) for level in levels]
    cells, fractions = [table.cells for table in tables], [table.weight for table in tables]
    results: list[Tensor] = star_conv_op(levels, weight, taps.distances, cells, fractions)
    return [result.to(kind) for result in results]


def has_fused_star(device: torch.device) -> bool:
    """Whether the fused kernel runs there: an NVIDIA GPU of Ampere or later for which Triton can compile."""
    return device.type == "cuda" and _runs_fused_star(device)


# It runs the kernel once, which torch.compile is not to trace. torch.compiler.assume_constant_result does this, and
# imports all of torch._dynamo for it, which takes as long as torch.
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
    except Exception as error:  # Triton compiles when it is first called, and wants a C compiler for it
        warnings.warn(f"the fused star convolution cannot run ({error}); torchvision's is slower.", stacklevel=2)
        return False
    return True


SCHEMA = "Tensor[] levels, Tensor weight, Tensor[] distances, Tensor[] cells, Tensor[] weights"


class _Arguments(NamedTuple):
    """Of the operator. Tensors have one of each level; the table of ``cells`` and ``fractions``, which a CPU reads, may
    be left empty. ``weight`` is used in the type of the levels."""

    levels: list[Tensor]
    weight: Tensor
    distances: list[Tensor]
    cells: list[Tensor]
    fractions: list[Tensor]

    def tables(self) -> list[SamplingTable]:
        """Those given, or made of the distances."""
        if self.fractions:
            return [SamplingTable(*pair) for pair in zip(self.cells, self.fractions, strict=True)]
        return [star_table(distances) for distances in self.distances]

    @property
    def fused(self) -> bool:
        """Whether the Triton kernels compute it."""
        level = self.levels[0]
        return level.dtype != torch.float64 and has_fused_star(level.device)

    def as_deformable(self) -> tuple[Any, ...]:
        """The arguments of ``varifocal::deform_conv2d`` for the same."""
        offsets = [star_offsets(distances).to(self.levels[0].dtype) for distances in self.distances]
        return self.levels, self.weight, offsets, [], [], [], 1, 1, 1


def _on_gpu(*arguments: Any) -> list[Tensor]:
    given = _Arguments(*arguments)
    if not given.fused:
        return _channels_last(deform_conv2d_op(*given.as_deformable()))
    from varifocal.ops.kernels.star_cuda import convolve

    weight = given.weight.to(given.levels[0].dtype)
    pairs = zip(given.levels, given.distances, strict=True)
    return [convolve(level, distances.float(), weight) for level, distances in pairs]


star_conv_op = torch.library.custom_op(
    "varifocal::star_conv", _on_gpu, mutates_args=(), schema=f"({SCHEMA}) -> Tensor[]"
)
star_conv_op.register_kernel("cuda", _on_gpu)


@star_conv_op.register_kernel("cpu")
def _on_cpu(*arguments: Any) -> list[Tensor]:
    given = _Arguments(*arguments)
    return gather_conv(given.levels, given.tables(), STAR_STARTS, given.weight)


@star_conv_op.register_fake
def _shapes(*arguments: Any) -> list[Tensor]:
    given = _Arguments(*arguments)
    return [empty_output(level, given.weight, level.shape[2:]) for level in given.levels]


def _slopes_on_gpu(*arguments: Any) -> tuple[list[Tensor], list[Tensor], Tensor]:
    *rest, grads, needed = arguments
    given = _Arguments(*rest)
    if not given.fused:
        wider = [needed[0], needed[1], False, needed[2]]
        by_level, by_offsets, _, by_weight = deform_conv2d_backward_op(*given.as_deformable(), grads, wider)
        pairs = zip(by_offsets, given.distances, strict=True)
        by_distances = [offsets_to_distances(*pair) if needed[1] else pair[0] for pair in pairs]
        return _channels_last(by_level) if needed[0] else by_level, by_distances, by_weight
    from varifocal.ops.kernels.star_cuda import gradients

    weight = given.weight.to(given.levels[0].dtype)
    rows = zip(grads, given.levels, given.distances, strict=True)
    found = [gradients(grad, level, distances.float(), weight, needed) for grad, level, distances in rows]
    by_level, by_distances, each = ([part[i] for part in found] for i in range(3))
    by_distances = [part.to(distances.dtype) for part, distances in zip(by_distances, given.distances, strict=True)]
    return by_level, by_distances, sum_last_first([part.to(given.weight.dtype) for part in each]).contiguous()


def _channels_last(maps: list[Tensor]) -> list[Tensor]:
    return [part.contiguous(memory_format=torch.channels_last) for part in maps]


star_conv_backward_op = torch.library.custom_op(
    "varifocal::star_conv_backward",
    _slopes_on_gpu,
    mutates_args=(),
    schema=f"({SCHEMA}, Tensor[] grads, bool[] needed) -> (Tensor[], Tensor[], Tensor)",
)
star_conv_backward_op.register_kernel("cuda", _slopes_on_gpu)


@star_conv_backward_op.register_kernel("cpu")
def _slopes_on_cpu(*arguments: Any) -> tuple[list[Tensor], list[Tensor], Tensor]:
    *rest, grads, needed = arguments
    given = _Arguments(*rest)
    check_tables(given.fractions, needed[1])
    return gather_conv_backward(grads, given.levels, given.tables(), STAR_STARTS, given.weight, needed)


@star_conv_backward_op.register_fake
def _slope_shapes(*arguments: Any) -> tuple[list[Tensor], list[Tensor], Tensor]:
    *rest, _, needed = arguments
    given = _Arguments(*rest)
    return (
        empty_gradients(given.levels, needed[0]),
        empty_gradients(given.fractions or given.distances, needed[1], torch.contiguous_format),
        empty_gradients([given.weight], needed[2], torch.contiguous_format)[0],
    )


def _remember(ctx: Any, inputs: Any, output: Any) -> None:
    del output
    save_arguments(ctx, inputs)


def _backward(ctx: Any, grads: list[Tensor]) -> Any:
    levels, weight, distances, cells, fractions = ctx.needs_input_grad
    tabled = len(fractions) > 0
    needed = [any(levels), any(fractions if tabled else distances), weight]
    by_level, by_point, by_weight = star_conv_backward_op(*saved_arguments(ctx), list(grads), needed)
    return (
        by_level if needed[0] else [None] * len(levels),
        by_weight if weight else None,
        by_point if needed[1] and not tabled else [None] * len(distances),
        [None] * len(cells),
        by_point if needed[1] and tabled else [None] * len(fractions),
    )


star_conv_op.register_autograd(_backward, setup_context=_remember)


def star_offsets(distances: Float[Tensor, "B 4 H W"]) -> Float[Tensor, "B 18 H W"]:
    """Offsets that move a 3x3 kernel's taps onto the nine points of each box.

    Args:
        distances: (l, t, r, b) from the cell to the sides, in cells of this level.

    Returns:
        (dy, dx) for each of the nine taps, row by row: the target displacement minus the tap's own location in the
        regular grid, as torchvision's ``deform_conv2d`` takes them.
    """
    left, top, right, bottom = distances.unbind(dim=1)
    zero = torch.zeros_like(left)
    star = [part for dy in (-top, zero, bottom) for dx in (-left, zero, right) for part in (dy, dx)]
    return points_to_offsets(torch.stack(star, dim=1))


def offsets_to_distances(slopes: Float[Tensor, "B 18 H W"], like: Tensor) -> Float[Tensor, "B 4 H W"]:
    """The derivative of :func:`star_offsets`: the gradient of the distances, in the type of ``like``, from that of the
    offsets; sums in the order of autograd."""
    part = slopes.unbind(dim=1)
    left = (-part[13] - part[7]) - part[1]
    top = -(part[0] + part[2] + part[4])
    right = part[5] + part[11] + part[17]
    bottom = part[12] + part[14] + part[16]
    return torch.stack([left, top, right, bottom], dim=1).to(like.dtype)


def points_to_offsets(points: Float[Tensor, "B 18 H W"]) -> Float[Tensor, "B 18 H W"]:
    """Offsets that move a 3x3 kernel's taps, row by row, to nine (dy, dx) beside each cell, in cells of this level."""
    grid = [coordinate for y in (-1, 0, 1) for x in (-1, 0, 1) for coordinate in (y, x)]
    return points - points.new_tensor(grid)[:, None, None]


def star_table(distances: Float[Tensor, "B 4 H W"]) -> SamplingTable:
    """What the star reads, 25 entries a cell: the outer product of five rows and five columns, tap by tap."""
    batch, _, height, width = distances.shape
    left, top, right, bottom = distances.unbind(dim=1)
    y, weight_y = _five_cells(top, bottom, height, torch.arange(height, device=distances.device)[:, None])
    x, weight_x = _five_cells(left, right, width, torch.arange(width, device=distances.device))
    y = y * width + batch_offsets(batch, height * width, y)
    entries = torch.tensor(STAR_ENTRIES, device=distances.device)
    # entries first and last in the end: planes of numbers are what the processor computes quickly
    index = (y[:, None] + x).flatten(0, 1)[entries].permute(1, 2, 3, 0).contiguous()
    weight = (weight_y[:, None] * weight_x).flatten(0, 1)[entries].permute(1, 2, 3, 0).contiguous()
    return SamplingTable(index, weight)


def _five_cells(
    before: Float[Tensor, "B H W"], after: Float[Tensor, "B H W"], size: int, own: Tensor
) -> tuple[Int32[Tensor, "5 B H W"], Float[Tensor, "5 B H W"]]:
    """Return on one axis the two cells around each side of the box, between them the point's own, and their weights."""
    cell, weight = linear_weights(torch.stack([own - before, own + after]), size)
    middle = own.to(cell.dtype).expand(1, *before.shape)
    cells = torch.cat([cell[:, 0], middle, cell[:, 1]])
    return cells, torch.cat([weight[:, 0], torch.ones_like(weight[:1, 0]), weight[:, 1]])
