"""Operators rewritten so that OpenVINO computes them faster in bf16 on a CPU, with the same results.

OpenVINO normalizes groups of channels on planar maps, for which it converts every map from and to channels last; its
deformable convolution always multiplies in float32. The rewritten operators keep the layout, and use a matrix
multiplication for the product. The sampling locations of a deformable convolution are computed in whole numbers, except
for the fraction of a cell, so that bf16 does not round them: 304.5 would become 304.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def faster_in_bf16(model: Any) -> None:
    """Rewrite an ``openvino.Model``; deformable convolutions only if the size of its input is fixed.

    OpenVINO's embedding bags do not support maps of variable size.
    """
    forms: dict[str, Callable[[Any], Any]] = {"GroupNormalization": _group_norm}
    if model.inputs[0].get_partial_shape().is_static:
        forms["DeformableConvolution"] = _deformable_convolution
    for node in model.get_ordered_ops():
        form = forms.get(node.get_type_name())
        if form is None or not _known(node):
            continue
        readers = list(node.output(0).get_target_inputs())
        result = form(node)
        result.set_friendly_name(node.get_friendly_name())
        for reader in readers:
            reader.replace_source_output(result.output(0))
    model.validate_nodes_and_infer_types()


def _known(node: Any) -> bool:
    attributes = node.get_attributes()
    constants = (1, 2) if node.get_type_name() == "GroupNormalization" else (2,)
    plain = attributes.get("group", 1) == attributes.get("deformable_group", 1) == 1
    return plain and all(_numbers(node, i) is not None for i in constants)


def _numbers(node: Any, i: int) -> np.ndarray | None:
    """Return an input that is constant, also one that the file has in half precision; else None."""
    source = node.input_value(i).get_node()
    if source.get_type_name() == "Convert":
        source = source.input_value(0).get_node()
    return np.asarray(source.data, np.float32) if source.get_type_name() == "Constant" else None


def _group_norm(node: Any) -> Any:
    """Return a group norm that averages each channel and then its group; the variance follows the mean, so that nothing
    cancels."""
    from openvino import opset13 as ops

    maps, (weight, bias) = node.input_value(0), (_numbers(node, i) for i in (1, 2))
    assert weight is not None
    assert bias is not None  # see _known
    groups, channels = int(node.get_attributes()["num_groups"]), len(weight)
    size = channels // groups
    members = np.kron(np.eye(groups), np.ones((size, size))).reshape(channels, channels, 1, 1).astype(np.float32)

    def mean(values: Any) -> Any:
        each = ops.reduce_mean(values, _whole(2, 3), keep_dims=True)
        total = ops.convolution(each, ops.constant(members), [1, 1], [0, 0], [0, 0], [1, 1])
        return ops.multiply(total, ops.constant(np.float32(1 / size)))

    centered = ops.subtract(maps, mean(maps))
    variance = ops.add(
        mean(ops.multiply(centered, centered)), ops.constant(np.float32(node.get_attributes()["epsilon"]))
    )
    factor = ops.multiply(
        ops.power(variance, ops.constant(np.float32(-0.5))), ops.constant(weight.reshape(1, channels, 1, 1))
    )
    return ops.add(ops.multiply(centered, factor), ops.constant(bias.reshape(1, channels, 1, 1)))


def _deformable_convolution(node: Any) -> Any:
    """Return a deformable convolution: an embedding bag adds four weighted cells per tap, and one product follows."""
    from openvino import opset13 as ops

    maps, offsets, kernel = node.input_value(0), node.input_value(1), _numbers(node, 2)
    assert kernel is not None  # see _known
    batch, channels, height, width = maps.get_shape()
    outputs, _, tall, wide = kernel.shape
    taps, (rows, columns) = tall * wide, offsets.get_shape()[2:]
    attributes = node.get_attributes()
    steps, pads, dilations = (attributes[name] for name in ("strides", "pads_begin", "dilations"))
    own = [np.arange(count) * int(steps[i]) - int(pads[i]) for i, count in enumerate((rows, columns))]
    tap = [index * int(dilations[i]) for i, index in enumerate(np.divmod(np.arange(taps), wide))]
    last = _reshaped(ops.transpose(offsets, _whole(0, 2, 3, 1)), batch, rows, columns, taps, 2)
    dy, dx = (ops.squeeze(part, _whole(4)) for part in ops.split(last, _whole(4), 2).outputs())
    y = _two_cells(dy, own[0][:, None, None] + tap[0], height)
    x = _two_cells(dx, own[1][:, None] + tap[1], width)
    start = _whole32(np.arange(batch).reshape(-1, 1, 1, 1) * height * width)
    stride = _whole32(np.array(width))
    cells, weights = [], []
    for row, weight_y in y:
        first = ops.add(ops.multiply(row, stride), start)
        for column, weight_x in x:
            cells.append(ops.unsqueeze(ops.add(first, column), _whole(4)))
            weights.append(ops.unsqueeze(ops.multiply(weight_y, weight_x), _whole(4)))
    weight = ops.concat(weights, 4)
    if node.get_input_size() > 3:
        weight = ops.multiply(weight, ops.unsqueeze(ops.transpose(node.input_value(3), _whole(0, 2, 3, 1)), _whole(4)))
    number = batch * rows * columns
    table = _reshaped(ops.transpose(maps, _whole(0, 2, 3, 1)), batch * height * width, channels)
    entries = (_reshaped(part, number * taps, 4) for part in (ops.concat(cells, 4), weight))
    read = _reshaped(ops.embedding_bag_packed_sum(table, *entries), number, taps * channels)
    matrix = np.ascontiguousarray(kernel.transpose(2, 3, 1, 0).reshape(taps * channels, outputs))
    product = ops.matmul(read, ops.constant(matrix), transpose_a=False, transpose_b=False)
    return ops.transpose(_reshaped(product, batch, rows, columns, outputs), _whole(0, 3, 1, 2))


def _reshaped(values: Any, *shape: int) -> Any:
    from openvino import opset13 as ops

    return ops.reshape(values, _whole(*shape), special_zero=False)


def _two_cells(offset: Any, own: np.ndarray, size: int) -> list[tuple[Any, Any]]:
    """Return the cells before and after a location on one axis, inside the map, and their weights; zero outside."""
    from openvino import opset13 as ops

    before = ops.floor(offset)
    part = ops.subtract(offset, before)
    first = ops.add(ops.convert(before, "i32"), _whole32(own))
    found = []
    for step, weight in ((0, ops.subtract(ops.constant(np.float32(1)), part)), (1, part)):
        cell = ops.add(first, _whole32(np.array(step)))
        inside = ops.minimum(ops.maximum(cell, _whole32(np.array(0))), _whole32(np.array(size - 1)))
        on_map = ops.convert(ops.equal(cell, inside), "f32")
        found.append((inside, ops.multiply(weight, on_map)))
    return found


def _whole(*numbers: int) -> Any:
    """Return a constant list, or a single constant number."""
    from openvino import opset13 as ops

    return ops.constant(np.array(numbers if len(numbers) > 1 else numbers[0], np.int64))


def _whole32(numbers: np.ndarray) -> Any:
    from openvino import opset13 as ops

    return ops.constant(numbers.astype(np.int32))
