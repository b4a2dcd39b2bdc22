"""Triton kernels of the star convolution, which :mod:`varifocal.ops.kernels.star_cuda` explains and launches.

Maps are rows, [B * H * W, C]: the channels of a cell are adjacent. A "location" is one of the cells that a tap reads:
four for a corner, two for a side, one for the point itself, 25 in all. Tap k of the kernel is (k // 3, k % 3).
Compile-time constants come last in a signature: sizes of blocks end in ``_block``, with ``wide`` offsets have 64 bits.
Triton translates the functions from their source: nothing may wrap them, not even a check of types.
"""

from typing import no_type_check

import triton
import triton.language as tl

LOCATIONS = 25
GROUP = tl.constexpr(8)  # rows of a block of points, column by column, so that its locations overlap


@triton.jit
@no_type_check
def _block_of_points(points, height, width, point_block: tl.constexpr):
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
def _distances(distances, exists, first, cell, size, wide: tl.constexpr):
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
def _side(side, exists, first, row, column, left, top, right, bottom, height, width):
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
def _corner(corner, exists, first, row, column, left, top, right, bottom, height, width):
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
def _offsets(line, column, length: tl.constexpr, wide: tl.constexpr):
    """Return [lines, columns]: the offsets of these columns of these lines in an array of lines of that length."""
    if wide:
        line = line.to(tl.int64)
    return (line * length)[:, None] + column[None, :]


@triton.jit
@no_type_check
def _read(at, exists, inside):
    # cached near the processor: the next points read most of it again
    return tl.load(at, mask=exists[:, None] & inside, other=0.0, cache_modifier=".ca")


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
    exists, first, row, column = _block_of_points(points, height, width, point_block)
    cell = row * width + column
    left, top, right, bottom = _distances(distances, exists, first, cell, height * width, wide)
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
        values = _read(features + _offsets(cell, lane + start, channels, wide), exists, inside)
        total = tl.dot(values, tl.trans(taps), total, input_precision=precision)

    tap, location, way, fraction, e0, e1 = _side(0, exists, first, row, column, left, top, right, bottom, height, width)
    for step in tl.range(4 * steps, num_stages=stages):
        if step % steps == 0:
            tap, location, way, fraction, e0, e1 = _side(
                step // steps, exists, first, row, column, left, top, right, bottom, height, width
            )
        start = step % steps * channel_block
        inside = ((lane < channels - start) | (channels % channel_block == 0))[None, :]
        taps = tl.load(weight + tap * channels + start, mask=expected & inside, other=0.0)
        at = features + _offsets(location, lane + start, channels, wide)
        values = _read(at, e0, inside) * (1 - fraction)[:, None]
        values += _read(at + way * channels, e1, inside) * fraction[:, None]
        total = tl.dot(values.to(taps.dtype), tl.trans(taps), total, input_precision=precision)

    tap, location, y, x, e00, e01, e10, e11 = _corner(
        0, exists, first, row, column, left, top, right, bottom, height, width
    )
    for step in tl.range(4 * steps, num_stages=stages):
        if step % steps == 0:
            tap, location, y, x, e00, e01, e10, e11 = _corner(
                step // steps, exists, first, row, column, left, top, right, bottom, height, width
            )
        start = step % steps * channel_block
        inside = ((lane < channels - start) | (channels % channel_block == 0))[None, :]
        taps = tl.load(weight + tap * channels + start, mask=expected & inside, other=0.0)
        at = features + _offsets(location, lane + start, channels, wide)
        below = at + width * channels
        values = _read(at, e00, inside) * ((1 - y) * (1 - x))[:, None]
        values += _read(at + channels, e01, inside) * ((1 - y) * x)[:, None]
        values += _read(below, e10, inside) * (y * (1 - x))[:, None]
        values += _read(below + channels, e11, inside) * (y * x)[:, None]
        total = tl.dot(values.to(taps.dtype), tl.trans(taps), total, input_precision=precision)

    at = result + _offsets(cell, output, outputs, wide)
    tl.store(at, total.to(result.dtype.element_ty), mask=exists[:, None] & (output < outputs)[None, :])


@triton.jit
@no_type_check
def _first_location(tap):
    """Return where the locations of a tap begin among the 25."""
    return 3 * tap + tap % 2 - tl.where(tap > 4, 3, 0)


@triton.jit
@no_type_check
def _note(index, rows, columns, at, point, location, exists, fraction_y, fraction_x):
    tl.store(index + at, tl.where(exists, location, -1), mask=point)
    tl.store(rows + at, fraction_y, mask=point)
    tl.store(columns + at, fraction_x, mask=point)


@triton.jit(do_not_specialize=["points", "height", "width"])
@no_type_check
def locations(
    distances,
    index,  # [25, points]: the cell of a location, -1 outside the map
    rows,  # [25, points]: the location's weight by its row
    columns,  # [25, points]: its weight by its column; its weight is the product of the two
    points,
    height,
    width,
    point_block: tl.constexpr,
    wide: tl.constexpr,
):
    """Store the locations of all points, which the backward kernels need many times."""
    exists, first, row, column = _block_of_points(points, height, width, point_block)
    cell = row * width + column
    left, top, right, bottom = _distances(distances, exists, first, cell, height * width, wide)
    cell += first
    one = tl.full((point_block,), 1.0, dtype=tl.float32)
    note = cell
    if wide:
        note, points = note.to(tl.int64), points.to(tl.int64)
    _note(index, rows, columns, note + _first_location(4) * points, exists, cell, exists, one, one)
    for side in tl.static_range(4):
        tap, location, way, fraction, e0, e1 = _side(
            side, exists, first, row, column, left, top, right, bottom, height, width
        )
        at = note + _first_location(tap) * points
        if side < 2:
            _note(index, rows, columns, at, exists, location, e0, one, 1 - fraction)
            _note(index, rows, columns, at + points, exists, location + way, e1, one, fraction)
        else:
            _note(index, rows, columns, at, exists, location, e0, 1 - fraction, one)
            _note(index, rows, columns, at + points, exists, location + way, e1, fraction, one)
    for corner in tl.static_range(4):
        tap, location, y, x, e00, e01, e10, e11 = _corner(
            corner, exists, first, row, column, left, top, right, bottom, height, width
        )
        at = note + _first_location(tap) * points
        _note(index, rows, columns, at, exists, location, e00, 1 - y, 1 - x)
        _note(index, rows, columns, at + points, exists, location + 1, e01, 1 - y, x)
        _note(index, rows, columns, at + 2 * points, exists, location + width, e10, y, 1 - x)
        _note(index, rows, columns, at + 3 * points, exists, location + width + 1, e11, y, x)


@triton.jit(do_not_specialize=["points", "size"])
@no_type_check
def input_gradients(
    gradient,  # [B * H * W, O]
    features,
    index,
    rows,
    columns,
    weight,  # [C, 9, O]
    feature_gradient,  # [B * H * W, C], zeros
    distance_gradient,  # [B, 4, H * W], zeros
    points,
    size,  # H * W
    channels: tl.constexpr,
    outputs: tl.constexpr,
    point_block: tl.constexpr,
    output_block: tl.constexpr,
    channel_block: tl.constexpr,
    stages: tl.constexpr,
    precision: tl.constexpr,
    by_features: tl.constexpr,
    by_distances: tl.constexpr,
    wide: tl.constexpr,
):
    """Compute a block of points by a block of channels for one tap: the gradient of the column, and from it that of
    the locations' cells, by their weights, and of the distances, by the derivatives of the weights."""
    point = tl.program_id(0) * point_block + tl.arange(0, point_block)
    exists = point < points
    channel = tl.program_id(1) * channel_block + tl.arange(0, channel_block)
    inside = (channel < channels) | (channels % channel_block == 0)
    tap = tl.program_id(2)
    lane = tl.arange(0, output_block)
    weight += (channel * (9 * outputs))[:, None] + (tap * outputs + lane)[None, :]
    asked = tl.zeros((point_block, channel_block), dtype=tl.float32)
    for start in tl.range(0, outputs, output_block, num_stages=stages):
        given = ((lane < outputs - start) | (outputs % output_block == 0))[None, :]
        values = gradient + _offsets(point, lane + start, outputs, wide)
        values = tl.load(values, mask=exists[:, None] & given, other=0.0)
        taps = tl.load(weight + start, mask=inside[:, None] & given, other=0.0)
        asked = tl.dot(values, tl.trans(taps), asked, input_precision=precision)

    beside = tl.where(tap % 3 == 1, 1, 2)
    slope_y = tl.zeros((point_block,), dtype=tl.float32)
    slope_x = tl.zeros((point_block,), dtype=tl.float32)
    note = point
    if wide:
        note, points, size = note.to(tl.int64), points.to(tl.int64), size.to(tl.int64)
    note += _first_location(tap) * points
    for position in tl.range(tl.where(tap // 3 == 1, 1, 2) * beside):
        cell = tl.load(index + note, mask=exists, other=-1)
        fraction_y = tl.load(rows + note, mask=exists, other=0.0)
        fraction_x = tl.load(columns + note, mask=exists, other=0.0)
        note += points
        at = _offsets(cell, channel, channels, wide)
        mask = (cell >= 0)[:, None] & inside[None, :]
        if by_distances:
            agreed = tl.sum(asked * tl.load(features + at, mask=mask, other=0.0).to(tl.float32), axis=1)
            slope_y += tl.where(position // beside == 0, -fraction_x, fraction_x) * agreed
            slope_x += tl.where(position % beside == 0, -fraction_y, fraction_y) * agreed
        if by_features:
            tl.atomic_add(feature_gradient + at, asked * (fraction_y * fraction_x)[:, None], mask=mask, sem="relaxed")
    if by_distances:
        at = distance_gradient + point // size * (3 * size) + point  # left; the next three follow, each a map further
        # left and top count downwards
        if tap % 3 != 1:
            tl.atomic_add(at + tap % 3 * size, tl.where(tap % 3 == 0, -slope_x, slope_x), mask=exists, sem="relaxed")
        if tap // 3 != 1:
            at += (tap // 3 + 1) * size
            tl.atomic_add(at, tl.where(tap // 3 == 0, -slope_y, slope_y), mask=exists, sem="relaxed")


@triton.jit
@no_type_check
def _products(
    gradient,
    features,
    index,
    rows,
    columns,
    points,
    start,
    stop,
    output,
    channel,
    count: tl.constexpr,
    channels: tl.constexpr,
    outputs: tl.constexpr,
    point_block: tl.constexpr,
    output_block: tl.constexpr,
    channel_block: tl.constexpr,
    stages: tl.constexpr,
    precision: tl.constexpr,
    wide: tl.constexpr,
):
    """Return the sum over points of output gradient times column, for a tap of the first ``count`` locations."""
    given = ((output < outputs) | (outputs % output_block == 0))[None, :]
    inside = ((channel < channels) | (channels % channel_block == 0))[None, :]
    total = tl.zeros((output_block, channel_block), dtype=tl.float32)
    for at in tl.range(start, stop, point_block, num_stages=stages):
        point = at + tl.arange(0, point_block)
        exists = point < stop
        asked = gradient + _offsets(point, output, outputs, wide)
        asked = tl.load(asked, mask=exists[:, None] & given, other=0.0)
        values = tl.zeros((point_block, channel_block), dtype=tl.float32)
        for position in tl.static_range(count):
            note = point + position * points
            cell = tl.load(index + note, mask=exists, other=-1)
            fraction = tl.load(rows + note, mask=exists, other=0.0) * tl.load(columns + note, mask=exists, other=0.0)
            read = _read(features + _offsets(cell, channel, channels, wide), cell >= 0, inside)
            values += read * fraction[:, None]
        total = tl.dot(tl.trans(asked), values.to(asked.dtype), total, input_precision=precision)
    return total


@triton.jit(do_not_specialize=["points", "part"])
@no_type_check
def weight_gradient(
    gradient,  # [B * H * W, O]
    features,
    index,
    rows,
    columns,
    sums,  # [parts, O, 9, C]
    points,
    part,  # points in a part
    channels: tl.constexpr,
    outputs: tl.constexpr,
    point_block: tl.constexpr,
    output_block: tl.constexpr,
    channel_block: tl.constexpr,
    stages: tl.constexpr,
    precision: tl.constexpr,
    wide: tl.constexpr,
):
    """Compute a block of outputs by a block of channels for one tap, summed over one part of the points."""
    blocks: tl.constexpr = (channels + channel_block - 1) // channel_block
    tap = tl.program_id(0) // blocks
    channel = tl.program_id(0) % blocks * channel_block + tl.arange(0, channel_block)
    output = tl.program_id(1) * output_block + tl.arange(0, output_block)
    start = tl.program_id(2) * part
    stop = tl.minimum(start + part, points)
    if wide:
        points = points.to(tl.int64)
    first = _first_location(tap) * points
    index += first
    rows += first
    columns += first
    # fmt: off
    if tap == 4:
        total = _products(gradient, features, index, rows, columns, points, start, stop, output, channel, 1, channels,
                          outputs, point_block, output_block, channel_block, stages, precision, wide)
    elif tap % 2 == 1:
        total = _products(gradient, features, index, rows, columns, points, start, stop, output, channel, 2, channels,
                          outputs, point_block, output_block, channel_block, stages, precision, wide)
    else:
        total = _products(gradient, features, index, rows, columns, points, start, stop, output, channel, 4, channels,
                          outputs, point_block, output_block, channel_block, stages, precision, wide)
    # fmt: on
    at = sums + _offsets((tl.program_id(2) * outputs + output) * 9 + tap, channel, channels, wide)
    tl.store(at, total, mask=(output < outputs)[:, None] & (channel < channels)[None, :])
