"""Triton kernels of the star convolution's backward pass, in the terms of
:mod:`varifocal.ops.kernels.star_triton`.

The locations of all points are stored once; the gradients of features, distances and weight read them.
"""

from typing import no_type_check

import triton
import triton.language as tl

from varifocal.ops.kernels.star_triton import (
    block_of_points,
    corner_locations,
    load_distances,
    offsets,
    read,
    side_locations,
)

LOCATIONS = 25


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
    exists, first, row, column = block_of_points(points, height, width, point_block)
    cell = row * width + column
    left, top, right, bottom = load_distances(distances, exists, first, cell, height * width, wide)
    cell += first
    one = tl.full((point_block,), 1.0, dtype=tl.float32)
    note = cell
    if wide:
        note, points = note.to(tl.int64), points.to(tl.int64)
    _note(index, rows, columns, note + _first_location(4) * points, exists, cell, exists, one, one)
    for side in tl.static_range(4):
        tap, location, way, fraction, e0, e1 = side_locations(
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
        tap, location, y, x, e00, e01, e10, e11 = corner_locations(
            corner, exists, first, row, column, left, top, right, bottom, height, width
        )
        at = note + _first_location(tap) * points
        _note(index, rows, columns, at, exists, location, e00, 1 - y, 1 - x)
        _note(index, rows, columns, at + points, exists, location + 1, e01, 1 - y, x)
        _note(index, rows, columns, at + 2 * points, exists, location + width, e10, y, 1 - x)
        _note(index, rows, columns, at + 3 * points, exists, location + width + 1, e11, y, x)


@triton.jit
@no_type_check
def _column_gradient(
    gradient, weight, point, exists, inside, outputs: tl.constexpr, point_block: tl.constexpr,
    output_block: tl.constexpr, channel_block: tl.constexpr, stages: tl.constexpr, precision: tl.constexpr,
    wide: tl.constexpr,
):  # fmt: skip
    """Return [points, channels]: the gradient of the column of one tap, whose weights begin at ``weight``."""
    lane = tl.arange(0, output_block)
    asked = tl.zeros((point_block, channel_block), dtype=tl.float32)
    for start in tl.range(0, outputs, output_block, num_stages=stages):
        given = ((lane < outputs - start) | (outputs % output_block == 0))[None, :]
        values = gradient + offsets(point, lane + start, outputs, wide)
        values = tl.load(values, mask=exists[:, None] & given, other=0.0)
        taps = tl.load(weight + start, mask=inside[:, None] & given, other=0.0)
        asked = tl.dot(values, tl.trans(taps), asked, input_precision=precision)
    return asked


@triton.jit
@no_type_check
def _spread(
    asked, features, index, rows, columns, feature_gradient, points, point, exists, inside, channel, tap,
    channels: tl.constexpr, point_block: tl.constexpr, by_features: tl.constexpr, by_distances: tl.constexpr,
    wide: tl.constexpr,
):  # fmt: skip
    """Add the gradient of a tap's column to the features that it reads; return its slopes by row and column."""
    beside = tl.where(tap % 3 == 1, 1, 2)
    slope_y = tl.zeros((point_block,), dtype=tl.float32)
    slope_x = tl.zeros((point_block,), dtype=tl.float32)
    note = point
    if wide:
        note, points = note.to(tl.int64), points.to(tl.int64)
    note += _first_location(tap) * points
    for position in tl.range(tl.where(tap // 3 == 1, 1, 2) * beside):
        cell = tl.load(index + note, mask=exists, other=-1)
        fraction_y = tl.load(rows + note, mask=exists, other=0.0)
        fraction_x = tl.load(columns + note, mask=exists, other=0.0)
        note += points
        at = offsets(cell, channel, channels, wide)
        mask = (cell >= 0)[:, None] & inside[None, :]
        if by_distances:
            agreed = tl.sum(asked * tl.load(features + at, mask=mask, other=0.0).to(tl.float32), axis=1)
            slope_y += tl.where(position // beside == 0, -fraction_x, fraction_x) * agreed
            slope_x += tl.where(position % beside == 0, -fraction_y, fraction_y) * agreed
        if by_features:
            tl.atomic_add(feature_gradient + at, asked * (fraction_y * fraction_x)[:, None], mask=mask, sem="relaxed")
    return slope_y, slope_x


@triton.jit
@no_type_check
def _add_slopes(distance_gradient, point, size, exists, tap, slope_y, slope_x):
    """Add the gradients by the row and column of one tap to those of the distances that move it."""
    at = distance_gradient + point // size * (3 * size) + point  # left; the next three follow, each a map further
    # left and top count downwards
    if tap % 3 != 1:
        tl.atomic_add(at + tap % 3 * size, tl.where(tap % 3 == 0, -slope_x, slope_x), mask=exists, sem="relaxed")
    if tap // 3 != 1:
        at += (tap // 3 + 1) * size
        tl.atomic_add(at, tl.where(tap // 3 == 0, -slope_y, slope_y), mask=exists, sem="relaxed")


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
    asked = _column_gradient(
        gradient, weight + ((channel * (9 * outputs))[:, None] + (tap * outputs + lane)[None, :]), point, exists,
        inside, outputs, point_block, output_block, channel_block, stages, precision, wide,
    )  # fmt: skip

    # fmt: off
    slope_y, slope_x = _spread(asked, features, index, rows, columns, feature_gradient, points, point, exists, inside,
                               channel, tap, channels, point_block, by_features, by_distances, wide)
    # fmt: on
    if by_distances:
        if wide:
            size = size.to(tl.int64)
        _add_slopes(distance_gradient, point, size, exists, tap, slope_y, slope_x)


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
        asked = gradient + offsets(point, output, outputs, wide)
        asked = tl.load(asked, mask=exists[:, None] & given, other=0.0)
        values = tl.zeros((point_block, channel_block), dtype=tl.float32)
        for position in tl.static_range(count):
            note = point + position * points
            cell = tl.load(index + note, mask=exists, other=-1)
            fraction = tl.load(rows + note, mask=exists, other=0.0) * tl.load(columns + note, mask=exists, other=0.0)
            location = read(features + offsets(cell, channel, channels, wide), cell >= 0, inside)
            values += location * fraction[:, None]
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
    at = sums + offsets((tl.program_id(2) * outputs + output) * 9 + tap, channel, channels, wide)
    tl.store(at, total, mask=(output < outputs)[:, None] & (channel < channels)[None, :])
