"""Triton kernel of the star convolution, which :mod:`varifocal.ops.kernels.star_cuda` explains and launches.

Maps are rows, [B * H * W, C]: the channels of a cell are adjacent. A "location" is one of the cells that a tap reads:
four for a corner, two for a side, one for the point itself, 25 in all. Tap k of the kernel is (k // 3, k % 3).
Compile-time constants come last in a signature: sizes of blocks end in ``_block``, with ``wide`` offsets have 64 bits.
Triton translates the functions from their source: nothing may wrap them, not even a check of types.
"""

from typing import no_type_check

import triton
import triton.language as tl

GROUP = tl.constexpr(8)  # rows of a block of points, column by column, so that its locations overlap


@triton.jit
@no_type_check
def block_of_points(points, height, width, point_block: tl.constexpr):
    """Return which points exist, the first cell of their image, and their row and column."""
    point = tl.program_id(0) * point_block + tl.arange(0, point_block)
    exists = point < points
    image = point // (height * width)
    point -= image * (height * width)
    group = point // (GROUP * width)
    rows = tl.maximum(tl.minimum(height - group * GROUP, GROUP), 1)
    point -= group * (GROUP * width)
    column = point // rows
    return exists, image * (height * width), group * GROUP + point - column * rows, column


@triton.jit
@no_type_check
def load_distances(distances, exists, first, cell, size, wide: tl.constexpr):
    """Return left, top, right, bottom of cells of images of ``size`` cells whose first cell is ``first``."""
    if wide:
        first = first.to(tl.int64)
    at = distances + first * 4 + cell
    left = tl.load(at, mask=exists, other=0.0)
    top = tl.load(at + size, mask=exists, other=0.0)
    right = tl.load(at + 2 * size, mask=exists, other=0.0)
    bottom = tl.load(at + 3 * size, mask=exists, other=0.0)
    return left, top, right, bottom


@triton.jit
@no_type_check
def _floor(coordinate, size):
    """Return the cell before a coordinate, the weight of the next cell, and whether the two are on the map."""
    # far outside and NaN read zero; they are clamped so that an integer holds them
    coordinate = tl.where(coordinate == coordinate, coordinate, -2.0)
    coordinate = tl.minimum(tl.maximum(coordinate, -2.0), size + 1.0)
    floor = tl.floor(coordinate)
    cell = floor.to(tl.int32)
    return cell, coordinate - floor, (cell >= 0) & (cell < size), (cell >= -1) & (cell < size - 1)


@triton.jit
@no_type_check
def side_locations(side, exists, first, row, column, left, top, right, bottom, height, width):
    """Return for the projection on side 0: left, 1: right, 2: top, 3: bottom its tap, the first of its two locations,
    the offset and the weight of the second, and whether they exist."""
    across = side < 2
    tap = tl.where(across, 3 + 2 * side, 6 * side - 11)
    x = tl.where(side == 0, column - left, column + right)
    y = tl.where(side == 2, row - top, row + bottom)
    cell, fraction, e0, e1 = _floor(tl.where(across, x, y), tl.where(across, width, height))
    location = first + tl.where(across, row * width + cell, cell * width + column)
    return tap, location, tl.where(across, 1, width), fraction, e0 & exists, e1 & exists


@triton.jit
@no_type_check
def corner_locations(corner, exists, first, row, column, left, top, right, bottom, height, width):
    """Return for corner 0: left top, 1: right top, 2: left bottom, 3: right bottom its tap, the first of its four
    locations, the weights of the second row and column, and whether the four exist."""
    tap = corner // 2 * 6 + corner % 2 * 2
    y, fraction_y, e0, e1 = _floor(tl.where(corner < 2, row - top, row + bottom), height)
    x, fraction_x, e_0, e_1 = _floor(tl.where(corner % 2 == 0, column - left, column + right), width)
    e0 &= exists
    e1 &= exists
    return tap, first + y * width + x, fraction_y, fraction_x, e0 & e_0, e0 & e_1, e1 & e_0, e1 & e_1


@triton.jit
@no_type_check
def offsets(line, column, length: tl.constexpr, wide: tl.constexpr):
    """Return [lines, columns]: the offsets of these columns of these lines in an array of lines of that length."""
    if wide:
        line = line.to(tl.int64)
    return (line * length)[:, None] + column[None, :]


@triton.jit
@no_type_check
def read(at, exists, inside):
    # cached near the processor: the next points read most of it again
    return tl.load(at, mask=exists[:, None] & inside, other=0.0, cache_modifier=".ca")


@triton.jit
@no_type_check
def _add_sides(
    total, features, weight, expected, exists, first, row, column, left, top, right, bottom, height, width,
    channels: tl.constexpr, channel_block: tl.constexpr, stages: tl.constexpr, precision: tl.constexpr,
    wide: tl.constexpr,
):  # fmt: skip
    """Return ``total`` plus the products of the four taps with two locations each."""
    lane = tl.arange(0, channel_block)
    steps: tl.constexpr = (channels + channel_block - 1) // channel_block
    tap, location, way, fraction, e0, e1 = side_locations(
        0, exists, first, row, column, left, top, right, bottom, height, width
    )
    for step in tl.range(4 * steps, num_stages=stages):
        if step % steps == 0:
            tap, location, way, fraction, e0, e1 = side_locations(
                step // steps, exists, first, row, column, left, top, right, bottom, height, width
            )
        start = step % steps * channel_block
        inside = ((lane < channels - start) | (channels % channel_block == 0))[None, :]
        taps = tl.load(weight + tap * channels + start, mask=expected & inside, other=0.0)
        at = features + offsets(location, lane + start, channels, wide)
        values = read(at, e0, inside) * (1 - fraction)[:, None]
        values += read(at + way * channels, e1, inside) * fraction[:, None]
        total = tl.dot(values.to(taps.dtype), tl.trans(taps), total, input_precision=precision)
    return total


@triton.jit
@no_type_check
def _add_corners(
    total, features, weight, expected, exists, first, row, column, left, top, right, bottom, height, width,
    channels: tl.constexpr, channel_block: tl.constexpr, stages: tl.constexpr, precision: tl.constexpr,
    wide: tl.constexpr,
):  # fmt: skip
    """Return ``total`` plus the products of the four taps with four locations each."""
    lane = tl.arange(0, channel_block)
    steps: tl.constexpr = (channels + channel_block - 1) // channel_block
    tap, location, y, x, e00, e01, e10, e11 = corner_locations(
        0, exists, first, row, column, left, top, right, bottom, height, width
    )
    for step in tl.range(4 * steps, num_stages=stages):
        if step % steps == 0:
            tap, location, y, x, e00, e01, e10, e11 = corner_locations(
                step // steps, exists, first, row, column, left, top, right, bottom, height, width
            )
        start = step % steps * channel_block
        inside = ((lane < channels - start) | (channels % channel_block == 0))[None, :]
        taps = tl.load(weight + tap * channels + start, mask=expected & inside, other=0.0)
        at = features + offsets(location, lane + start, channels, wide)
        below = at + width * channels
        values = read(at, e00, inside) * ((1 - y) * (1 - x))[:, None]
        values += read(at + channels, e01, inside) * ((1 - y) * x)[:, None]
        values += read(below, e10, inside) * (y * (1 - x))[:, None]
        values += read(below + channels, e11, inside) * (y * x)[:, None]
        total = tl.dot(values.to(taps.dtype), tl.trans(taps), total, input_precision=precision)
    return total


@triton.jit(do_not_specialize=["points", "height", "width"])
@no_type_check
def forward(
    features,
    distances,
    weight,  # [O, 9, C]
    result,  # [B * H * W, O]
    points,
    height,
    width,
    channels: tl.constexpr,
    outputs: tl.constexpr,
    point_block: tl.constexpr,
    output_block: tl.constexpr,
    channel_block: tl.constexpr,
    stages: tl.constexpr,
    precision: tl.constexpr,
    wide: tl.constexpr,
):
    """Compute a block of points by a block of outputs.

    Three loops, for the taps of one, two and four locations, run over taps and blocks of channels together, so that the
    loads of the next steps overlap with the product of this one, also from tap to tap."""
    exists, first, row, column = block_of_points(points, height, width, point_block)
    cell = row * width + column
    left, top, right, bottom = load_distances(distances, exists, first, cell, height * width, wide)
    cell += first
    lane = tl.arange(0, channel_block)
    output = tl.program_id(1) * output_block + tl.arange(0, output_block)
    expected = ((output < outputs) | (outputs % output_block == 0))[:, None]
    weight += output[:, None] * (9 * channels) + lane[None, :]
    total = tl.zeros((point_block, output_block), dtype=tl.float32)
    steps: tl.constexpr = (channels + channel_block - 1) // channel_block

    for step in tl.range(steps, num_stages=stages):
        start = step * channel_block
        inside = ((lane < channels - start) | (channels % channel_block == 0))[None, :]
        taps = tl.load(weight + 4 * channels + start, mask=expected & inside, other=0.0)
        values = read(features + offsets(cell, lane + start, channels, wide), exists, inside)
        total = tl.dot(values, tl.trans(taps), total, input_precision=precision)

    total = _add_sides(
        total, features, weight, expected, exists, first, row, column, left, top, right, bottom, height, width,
        channels, channel_block, stages, precision, wide,
    )  # fmt: skip
    total = _add_corners(
        total, features, weight, expected, exists, first, row, column, left, top, right, bottom, height, width,
        channels, channel_block, stages, precision, wide,
    )  # fmt: skip
    at = result + offsets(cell, output, outputs, wide)
    tl.store(at, total.to(result.dtype.element_ty), mask=exists[:, None] & (output < outputs)[None, :])
