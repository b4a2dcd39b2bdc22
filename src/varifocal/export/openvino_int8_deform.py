"""Deformable convolutions of an OpenVINO graph in eight bits: rows are looked up and weighted, and then multiplied.

OpenVINO's own operator computes in float alone, and would take half of an eight-bit network's time. Here an embedding
bag reads, for every tap, four cells of a channels-last map and sums them by their weights, as
:mod:`varifocal.ops.kernels.deform_cpu` does in torch; what it read is rounded to eight bits, and the product is a plain
one of matrices, which has int8. Locations and weights stay float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from varifocal.export.quantize_insert import LEVELS, WEIGHT_STEPS, ValueRange, round_weights
from varifocal.inference.exported.info import Int8Target

PRODUCT = "product"  # ends the name of the product of a convolution in rows
GRID = 127  # steps on either side of zero that OpenVINO takes for weights in int8, whatever part of them is used


def use_rows(graph: Any, ranges: Mapping[str, ValueRange], target: Int8Target) -> list[str]:
    """Replace in ``graph`` itself the deformable convolutions that have a range by name, and return their names.

    ``ranges`` are those of their features: what is read between cells lies within. Only in a graph of a fixed input
    size, since OpenVINO's embedding bag wants to know how many rows are read, and only convolutions without groups and
    with one field of offsets. ``target`` says for which processors their weights are rounded.
    """
    done: list[str] = []
    cells: dict[Any, tuple[Any, Any]] = {}  # both stars of a level look at the same locations
    for node in graph.get_ordered_ops():
        name = node.get_friendly_name()
        if node.get_type_name() != "DeformableConvolution" or name not in ranges:
            continue
        if any(value.get_partial_shape().is_dynamic for value in node.input_values()):
            continue
        given = node.get_attributes()
        if given["group"] == given["deformable_group"] == 1:
            node.output(0).replace(_in_rows(node, given, ranges[name], WEIGHT_STEPS[target], cells).output(0))
            done.append(name)
    if done:
        graph.validate_nodes_and_infer_types()
    return done


def _in_rows(node: Any, given: Mapping[str, Any], own: ValueRange, most: int, cells: dict[Any, tuple[Any, Any]]) -> Any:
    """The node that gives what ``node`` gave, [B, O, h, w]."""
    from openvino import opset8 as op

    features, offsets, weight = (node.input_value(i) for i in range(3))
    batch, channels, height, width = features.get_shape()
    outputs, _, *kernel = weight.get_shape()
    taps = kernel[0] * kernel[1]
    masked = node.get_input_size() > 3
    source = offsets.get_node().get_friendly_name(), offsets.get_index()
    key = (*source, height, width, *kernel, masked and node.get_friendly_name(), str(given))
    if key not in cells:
        index, tap_weight = _four_cells(offsets, given, (height, width), kernel)
        if masked:
            tap_weight = op.multiply(tap_weight, op.unsqueeze(node.input_value(3), _whole(-1)))
        order = _whole(0, 2, 3, 1, 4)  # a cell's taps behind each other
        index = op.convert(op.reshape(op.transpose(index, order), _whole(-1, 4), False), "i32")
        cells[key] = index, op.reshape(op.transpose(tap_weight, order), _whole(-1, 4), False)
    table = op.reshape(op.transpose(features, _whole(0, 2, 3, 1)), _whole(-1, channels), False)
    bag = op.embedding_bag_packed_sum(table, *cells[key])
    read = _rounded(op.reshape(bag, _whole(-1, taps * channels), False), own)
    values = weight.get_node().data.transpose(0, 2, 3, 1).reshape(outputs, taps * channels)
    product = op.matmul(read, _rounded_weights(np.ascontiguousarray(values), most), False, True)
    product.set_friendly_name(f"{node.get_friendly_name()}/{PRODUCT}")
    rows, columns = offsets.get_shape()[2:]
    return op.transpose(op.reshape(product, _whole(batch, rows, columns, outputs), False), _whole(0, 3, 1, 2))


def _four_cells(offsets: Any, given: Mapping[str, Any], size: tuple[int, int], kernel: list[int]) -> tuple[Any, Any]:
    """Return the rows that each tap reads and their weights, [B, K, h, w, 4] in float32; zero outside the map."""
    from openvino import opset8 as op

    height, width = size
    batch, both, rows, columns = offsets.get_shape()
    taps = both // 2
    moves = op.split(op.reshape(offsets, _whole(batch, taps, 2, rows, columns), False), _whole_one(2), 2)
    tap = np.arange(taps).reshape(-1, 1, 1)
    cells = []
    for axis, own, own_tap in (
        (0, np.arange(rows)[:, None], tap // kernel[1]),
        (1, np.arange(columns), tap % kernel[1]),
    ):
        grid = own * given["strides"][axis] - given["pads_begin"][axis] + own_tap * given["dilations"][axis]
        move = op.squeeze(moves.output(axis), _whole(2))
        cells.append(op.add(move, op.constant(grid.astype(np.float32))))
    first = op.constant((np.arange(batch) * height * width).astype(np.float32).reshape(-1, 1, 1, 1))
    lines, columns_read = _two_cells(cells[0], height), _two_cells(cells[1], width)
    index, weight = [], []
    for y, weight_y in lines:
        line = op.add(op.multiply(y, op.constant(np.float32(width))), first)
        for x, weight_x in columns_read:
            index.append(op.unsqueeze(op.add(line, x), _whole(-1)))
            weight.append(op.unsqueeze(op.multiply(weight_y, weight_x), _whole(-1)))
    return op.concat(index, 4), op.concat(weight, 4)


def _two_cells(position: Any, size: int) -> list[tuple[Any, Any]]:
    """Return on one axis the cells before and behind a location, moved inside, and their weights, zero for those
    outside."""
    from openvino import opset8 as op

    one = op.constant(np.float32(1))
    before = op.floor(position)
    part = op.subtract(position, before)
    found = []
    for cell, weight in ((before, op.subtract(one, part)), (op.add(before, one), part)):
        inside = op.clamp(cell, 0, size - 1)
        found.append((inside, op.multiply(weight, op.convert(op.equal(inside, cell), "f32"))))
    return found


def _rounded(values: Any, own: ValueRange) -> Any:
    """Eight bits over the range, as ``QuantizeLinear`` and ``DequantizeLinear`` have them."""
    from openvino import opset8 as op

    bounds = [op.constant(np.float32((step - own.zero) * own.scale)) for step in (0, LEVELS)]
    return op.fake_quantize(values, *bounds, *bounds, LEVELS + 1)


def _rounded_weights(values: np.ndarray, most: int) -> Any:
    """[O, K]: each row in whole steps, at most ``most`` on either side of zero."""
    from openvino import opset8 as op

    largest = round_weights(values, most).scale[:, None] * np.float32(GRID)
    bounds = [op.constant(-largest), op.constant(largest)]
    return op.fake_quantize(op.constant(values), *bounds, *bounds, 2 * GRID + 1)


def _whole(*values: int) -> Any:
    from openvino import opset8 as op

    return op.constant(np.array(values, np.int64))


def _whole_one(value: int) -> Any:
    from openvino import opset8 as op

    return op.constant(np.int64(value))
