"""Deformable convolutions of an OpenVINO graph in int8: rows are read and interpolated, then multiplied.

OpenVINO's own operator computes in float only, and would take half of the time of an int8 network. Here an embedding
bag reads, for every tap, four pixels of a channels-last map and sums them with their interpolation weights, as
:mod:`varifocal.ops.kernels.deform_cpu` does in torch. The result is quantized to int8, and the product is a plain
matrix product, which OpenVINO has in int8. Locations and interpolation weights stay float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from varifocal.export.quantize_insert import LEVELS, WEIGHT_STEPS, ValueRange, round_weights
from varifocal.inference.exported.info import Int8Target

PRODUCT = "product"  # suffix of the name of a convolution's matrix product
GRID = 127  # steps on either side of zero of OpenVINO's int8 weights, even if not all are used


def use_rows(graph: Any, ranges: Mapping[str, ValueRange], target: Int8Target) -> list[str]:
    """Replace, in ``graph`` itself, the deformable convolutions named in ``ranges``; return the names of those done.

    ``ranges`` are those of their features, which interpolation does not leave. The graph must have a fixed input size,
    since OpenVINO's embedding bag needs the number of rows; convolutions with groups or with several sets of offsets
    are left as they are. ``target`` says for which processors the weights are rounded.
    """
    done: list[str] = []
    cells: dict[Any, tuple[Any, Any]] = {}  # both stars of a level sample at the same locations
    for node in graph.get_ordered_ops():
        name = node.get_friendly_name()
        if node.get_type_name() != "DeformableConvolution" or name not in ranges:
            continue
        if any(value.get_partial_shape().is_dynamic for value in node.input_values()):
            continue
        attributes = node.get_attributes()
        if attributes["group"] == attributes["deformable_group"] == 1:
            node.output(0).replace(_in_rows(node, attributes, ranges[name], WEIGHT_STEPS[target], cells).output(0))
            done.append(name)
    if done:
        graph.validate_nodes_and_infer_types()
    return done


def _in_rows(
    node: Any, attributes: Mapping[str, Any], value_range: ValueRange, max_steps: int, cells: dict[Any, tuple[Any, Any]]
) -> Any:
    """Return the node that replaces ``node``, [B, O, h, w]."""
    from openvino import opset8 as op

    features, offsets, weight = (node.input_value(i) for i in range(3))
    batch, channels, height, width = features.get_shape()
    outputs, _, *kernel = weight.get_shape()
    taps = kernel[0] * kernel[1]
    masked = node.get_input_size() > 3
    source = offsets.get_node().get_friendly_name(), offsets.get_index()
    key = (*source, height, width, *kernel, masked and node.get_friendly_name(), str(attributes))
    if key not in cells:
        index, tap_weight = _four_cells(offsets, attributes, (height, width), kernel)
        if masked:
            tap_weight = op.multiply(tap_weight, op.unsqueeze(node.input_value(3), _integers(-1)))
        order = _integers(0, 2, 3, 1, 4)  # the taps of a location after each other
        index = op.convert(op.reshape(op.transpose(index, order), _integers(-1, 4), False), "i32")
        cells[key] = index, op.reshape(op.transpose(tap_weight, order), _integers(-1, 4), False)
    table = op.reshape(op.transpose(features, _integers(0, 2, 3, 1)), _integers(-1, channels), False)
    bag = op.embedding_bag_packed_sum(table, *cells[key])
    read = _quantized(op.reshape(bag, _integers(-1, taps * channels), False), value_range)
    values = weight.get_node().data.transpose(0, 2, 3, 1).reshape(outputs, taps * channels)
    product = op.matmul(read, _quantized_weights(np.ascontiguousarray(values), max_steps), False, True)
    product.set_friendly_name(f"{node.get_friendly_name()}/{PRODUCT}")
    rows, columns = offsets.get_shape()[2:]
    return op.transpose(op.reshape(product, _integers(batch, rows, columns, outputs), False), _integers(0, 3, 1, 2))


def _four_cells(
    offsets: Any, attributes: Mapping[str, Any], size: tuple[int, int], kernel: list[int]
) -> tuple[Any, Any]:
    """Return the rows that each tap reads and their weights, [B, K, h, w, 4] in float32; zero outside the map."""
    from openvino import opset8 as op

    height, width = size
    batch, both, rows, columns = offsets.get_shape()
    taps = both // 2
    moves = op.split(op.reshape(offsets, _integers(batch, taps, 2, rows, columns), False), _integer(2), 2)
    tap = np.arange(taps).reshape(-1, 1, 1)
    cells = []
    for axis, location, tap_offset in (
        (0, np.arange(rows)[:, None], tap // kernel[1]),
        (1, np.arange(columns), tap % kernel[1]),
    ):
        start = location * attributes["strides"][axis] - attributes["pads_begin"][axis]
        grid = start + tap_offset * attributes["dilations"][axis]
        move = op.squeeze(moves.output(axis), _integers(2))
        cells.append(op.add(move, op.constant(grid.astype(np.float32))))
    first = op.constant((np.arange(batch) * height * width).astype(np.float32).reshape(-1, 1, 1, 1))
    lines, columns_read = _two_cells(cells[0], height), _two_cells(cells[1], width)
    index, weight = [], []
    for y, weight_y in lines:
        line = op.add(op.multiply(y, op.constant(np.float32(width))), first)
        for x, weight_x in columns_read:
            index.append(op.unsqueeze(op.add(line, x), _integers(-1)))
            weight.append(op.unsqueeze(op.multiply(weight_y, weight_x), _integers(-1)))
    return op.concat(index, 4), op.concat(weight, 4)


def _two_cells(position: Any, size: int) -> list[tuple[Any, Any]]:
    """Return the pixels before and after a location on one axis, moved inside the map, and their weights.

    The weight of a pixel outside the map is zero.
    """
    from openvino import opset8 as op

    one = op.constant(np.float32(1))
    before = op.floor(position)
    part = op.subtract(position, before)
    cells = []
    for cell, weight in ((before, op.subtract(one, part)), (op.add(before, one), part)):
        inside = op.clamp(cell, 0, size - 1)
        cells.append((inside, op.multiply(weight, op.convert(op.equal(inside, cell), "f32"))))
    return cells


def _quantized(values: Any, value_range: ValueRange) -> Any:
    """Return values quantized to int8 over the range, as by ``QuantizeLinear`` and ``DequantizeLinear``."""
    from openvino import opset8 as op

    bounds = [op.constant(np.float32((step - value_range.zero) * value_range.scale)) for step in (0, LEVELS)]
    return op.fake_quantize(values, *bounds, *bounds, LEVELS + 1)


def _quantized_weights(values: np.ndarray, max_steps: int) -> Any:
    """Return the weights [O, K] with each row quantized to at most ``max_steps`` steps on either side of zero."""
    from openvino import opset8 as op

    largest = round_weights(values, max_steps).scale[:, None] * np.float32(GRID)
    bounds = [op.constant(-largest), op.constant(largest)]
    return op.fake_quantize(op.constant(values), *bounds, *bounds, 2 * GRID + 1)


def _integers(*values: int) -> Any:
    from openvino import opset8 as op

    return op.constant(np.array(values, np.int64))


def _integer(value: int) -> Any:
    from openvino import opset8 as op

    return op.constant(np.int64(value))
