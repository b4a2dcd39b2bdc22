"""The star-shaped deformable convolution: nine points of a box are read, weighted and summed.

From a point's distances to its box (l, t, r, b) follow the nine locations that a 3x3 kernel reads: the point itself,
the four projections onto the sides and the four corners (VarifocalNet, section 3.3 and figure 3). Everything is a
3x3 deformable convolution with stride 1 and padding 1 whose offsets are not learned but computed.

Five rows and five columns of cells hold all that a star reads: two on either side and the point's own. The point
needs no interpolation, its projections two cells, the corners four: 25 entries instead of 36.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import NamedTuple

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from varifocal.ops.deform_conv import deform_conv2d
from varifocal.ops.kernels.deform_cpu import (
    SamplingTable,
    autocast_dtype,
    batch_offsets,
    deform_conv_cpu,
    linear_weights,
    offset_table,
)
from varifocal.ops.kernels.deform_export import current_export_mode

SIDES = ((0, 1), (2,), (3, 4))  # of five cells on an axis those before, at and after the point
STAR_ENTRIES = [5 * y + x for rows in SIDES for columns in SIDES for y in rows for x in columns]
STAR_STARTS = (0, 4, 6, 10, 12, 13, 15, 19, 21)


class SamplingPoints(NamedTuple):
    """Where a 3x3 kernel looks at each level, made once for all the convolutions that look there.

    ``distances`` [B, 4, H, W] or ``offsets`` [B, 18, H, W] in cells, the other is empty; ``rows`` is what a CPU reads
    and empty elsewhere and while a network is exported.
    """

    distances: list[Tensor]
    offsets: list[Tensor]
    rows: list[SamplingTable]


def star_points(distances: Sequence[Float[Tensor, "B 4 _ _"]]) -> SamplingPoints:
    """The star of a box at each cell of each level; ``distances`` are (l, t, r, b) in cells, float32 or wider."""
    places = list(distances)
    return SamplingPoints(places, [], [star_table(place) for place in places] if _reads_rows(places[0]) else [])


def free_points(points: Sequence[Float[Tensor, "B 18 _ _"]]) -> SamplingPoints:
    """Nine free points (dy, dx) beside each cell of each level, in cells, float32 or wider (RepPoints)."""
    offsets = [points_to_offsets(level) for level in points]
    if not _reads_rows(offsets[0]):
        return SamplingPoints([], offsets, [])
    return SamplingPoints([], offsets, [offset_table(level, (level.shape[2], level.shape[3])) for level in offsets])


def _reads_rows(like: Tensor) -> bool:
    return like.device.type == "cpu" and current_export_mode() is None


def star_conv(
    levels: Sequence[Float[Tensor, "B C _ _"]], taps: SamplingPoints, weight: Float[Tensor, "O C 3 3"]
) -> list[Float[Tensor, "B O _ _"]]:
    """Convolve each level at the moved taps; bilinear between cells, zero outside the map.

    This function alone decides the path. On a CPU, where torchvision's operator is a scalar loop, rows are gathered;
    on CUDA a star is one fused Triton kernel; torchvision's operator serves everything else, and while a network is
    exported what the exporter asks for. Locations stay in float32 or wider whatever the features are: bfloat16 has
    steps of half a cell at 128. Under autocast features and weight take its type.
    """
    if taps.rows:
        return deform_conv_cpu(levels, taps.rows, weight)
    kind = autocast_dtype(weight)
    fused = taps.distances and kind != torch.float64 and current_export_mode() is None
    if fused and has_fused_star(weight.device):
        from varifocal.ops.kernels.star_cuda import star_conv_triton

        pairs = zip(levels, taps.distances, strict=True)
        return [star_conv_triton(level.to(kind), place.float(), weight.to(kind)) for level, place in pairs]
    offsets = taps.offsets or [star_offsets(place) for place in taps.distances]
    return [deform_conv2d(level, place, weight) for level, place in zip(levels, offsets, strict=True)]


def has_fused_star(device: torch.device) -> bool:
    """Whether the fused kernel runs there: an NVIDIA GPU of Ampere or later for which Triton can compile."""
    return device.type == "cuda" and _runs_fused_star(device)


@lru_cache
def _runs_fused_star(device: torch.device) -> bool:
    if torch.version.hip or find_spec("triton") is None or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    from varifocal.ops.kernels.star_cuda import star_conv_triton

    shapes = ((1, 16, 1, 1), (1, 4, 1, 1), (16, 16, 3, 3))
    try:
        star_conv_triton(*(torch.zeros(shape, device=device) for shape in shapes))
        torch.cuda.synchronize(device)
    except Exception as error:  # Triton compiles when it is first called, and wants a C compiler for it
        warnings.warn(f"the fused star convolution cannot run ({error}); torchvision's is slower.", stacklevel=2)
        return False
    return True


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


def points_to_offsets(points: Float[Tensor, "B 18 H W"]) -> Float[Tensor, "B 18 H W"]:
    """Offsets that move a 3x3 kernel's taps, row by row, to nine (dy, dx) beside each cell, in cells of this level."""
    grid = [place for y in (-1, 0, 1) for x in (-1, 0, 1) for place in (y, x)]
    return points - points.new_tensor(grid)[:, None, None]


def star_table(distances: Float[Tensor, "B 4 H W"]) -> SamplingTable:
    """What the star reads, 25 entries a cell: the outer product of five rows and five columns, tap by tap."""
    batch, _, height, width = distances.shape
    left, top, right, bottom = distances.unbind(dim=1)
    y, share_y = _five_cells(top, bottom, height, torch.arange(height, device=distances.device)[:, None])
    x, share_x = _five_cells(left, right, width, torch.arange(width, device=distances.device))
    y = y * width + batch_offsets(batch, height * width, y)
    entries = torch.tensor(STAR_ENTRIES, device=distances.device)
    # entries first and last in the end: planes of numbers are what the processor computes quickly
    index = (y[:, None] + x).flatten(0, 1)[entries].permute(1, 2, 3, 0).contiguous()
    share = (share_y[:, None] * share_x).flatten(0, 1)[entries].permute(1, 2, 3, 0).contiguous()
    return SamplingTable(index, share, STAR_STARTS)


def _five_cells(
    before: Float[Tensor, "B H W"], after: Float[Tensor, "B H W"], size: int, own: Tensor
) -> tuple[Int32[Tensor, "5 B H W"], Float[Tensor, "5 B H W"]]:
    """Return on one axis the two cells around each side of the box, between them the point's own, and their weights."""
    cell, share = linear_weights(torch.stack([own - before, own + after]), size)
    middle = own.to(cell.dtype).expand(1, *before.shape)
    cells = torch.cat([cell[:, 0], middle, cell[:, 1]])
    return cells, torch.cat([share[:, 0], torch.ones_like(share[:1, 0]), share[:, 1]])
