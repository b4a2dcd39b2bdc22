"""The star-shaped deformable convolution: nine points of a box are read, weighted and summed.

The distances (l, t, r, b) of a point to the sides of its box give the nine locations that a 3x3 kernel reads: the point
itself, its four projections onto the sides and the four corners (VarifocalNet, section 3.3 and figure 3). The result is
a 3x3 deformable convolution with stride 1 and padding 1 whose offsets are computed and not learned. The operator is
defined in :mod:`varifocal.ops.kernels.star_operator`; an exporter replaces it (:mod:`varifocal.export.lowering`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from varifocal.ops.deform_conv import deform_conv2d_levels
from varifocal.ops.kernels.deform_cpu import SamplingTable, autocast_dtype, offset_table, star_table
from varifocal.ops.kernels.star_operator import has_fused_star, points_to_offsets, star_conv_op


class SamplingPoints(NamedTuple):
    """The locations that a 3x3 kernel reads at each level, made once for all convolutions that read there.

    One of ``distances`` [B, 4, H, W] and ``offsets`` [B, 18, H, W], both in cells, is empty. ``rows`` are the tables
    that a CPU reads, empty until the first convolution needs them.
    """

    distances: list[Tensor]
    offsets: list[Tensor]
    rows: list[SamplingTable]

    def tables(self) -> list[SamplingTable]:
        """Return the table of each level that a CPU reads; it is kept for the next convolution."""
        if not self.rows:
            self.rows.extend(star_table(level) for level in self.distances)
            self.rows.extend(offset_table(level, (level.shape[2], level.shape[3])) for level in self.offsets)
        return self.rows


def star_points(distances: Sequence[Float[Tensor, "B 4 _ _"]]) -> SamplingPoints:
    """Return the star of the box at each cell; ``distances`` are (l, t, r, b) in cells, float32 or wider."""
    return SamplingPoints(list(distances), [], [])


def free_points(points: Sequence[Float[Tensor, "B 18 _ _"]]) -> SamplingPoints:
    """Return nine free points (dy, dx) around each cell of each level, in cells, float32 or wider (RepPoints)."""
    return SamplingPoints([], [points_to_offsets(level) for level in points], [])


def star_conv(
    levels: Sequence[Float[Tensor, "B C _ _"]], taps: SamplingPoints, weight: Float[Tensor, "O C 3 3"]
) -> list[Float[Tensor, "B O _ _"]]:
    """Convolve each level at the given points: bilinear between cells, zero outside the map.

    Coordinates stay in float32 or wider whatever the type of the features: bfloat16 has steps of half a cell at 128.
    Under autocast features and weight take its type. Free points are a deformable convolution. So is a star on a GPU
    that cannot run the fused kernel; it is computed in the type of the coordinates.
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
