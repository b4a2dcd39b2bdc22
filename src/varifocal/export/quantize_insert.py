"""Insertion of int8 into an ONNX graph: ``QuantizeLinear`` and ``DequantizeLinear`` around its convolutions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int8

from varifocal.export.quantize_graph import Graph, attribute
from varifocal.export.quantize_plan import Plan
from varifocal.inference.exported.info import Int8Target

LEVELS = 255  # steps of a tensor, 0 to 255
# Steps of a weight on either side of zero. Without VNNI an x86 processor multiplies unsigned by signed bytes with an
# instruction (pmaddubsw) that adds two products in 16 bits and cuts off what does not fit: 2 * 255 * 64 fits, and
# 2 * 255 * 127 does not.
WEIGHT_STEPS: dict[Int8Target, int] = {"portable": 64, "vnni": 127}
PREFIX = "int8."


class ValueRange(NamedTuple):
    """The range of values that int8 covers; it always includes zero."""

    low: float
    high: float

    @property
    def scale(self) -> np.float32:
        """Return the width of a step."""
        return np.float32(max(self.high - self.low, 1e-6) / LEVELS)

    @property
    def zero(self) -> int:
        """Return the step that represents zero."""
        return int(np.clip(np.rint(-self.low / self.scale), 0, LEVELS))


class Weights(NamedTuple):
    """Quantized weights: integer steps, and the width of a step for each output."""

    steps: Int8[np.ndarray, "O ..."]
    scale: Float[np.ndarray, "O"]

    @property
    def values(self) -> np.ndarray:
        """Return the weights that the steps represent."""
        values: np.ndarray = self.steps.astype(np.float32) * self.scale.reshape(-1, *[1] * (self.steps.ndim - 1))
        return values


def round_weights(values: np.ndarray, max_steps: int) -> Weights:
    """Return weights [O, ...] in steps, symmetric about zero; the largest of each output becomes ``max_steps``."""
    largest = np.abs(values).reshape(len(values), -1).max(axis=1)
    scale = np.maximum(largest / max_steps, 1e-12).astype(np.float32)
    steps = np.rint(values / scale.reshape(-1, *[1] * (values.ndim - 1)))
    return Weights(np.clip(steps, -max_steps, max_steps).astype(np.int8), scale)


def bias_shift(
    values: Float[np.ndarray, "O c *k"], rounded: Float[np.ndarray, "O c *k"], mean: Float[np.ndarray, "C"]
) -> Float[np.ndarray, "O"]:
    """Return by how much rounding the weights lowers each output of a convolution on average, given the inputs' mean.

    The border, where a kernel reads zeros, is not considered (Nagel et al., Data-Free Quantization, ICCV 2019, section
    4.2). ``c`` of the ``C`` channels belong to each output.
    """
    outputs, channels = values.shape[:2]
    lost = (values - rounded).reshape(outputs, channels, -1).sum(axis=2)
    groups = len(mean) // channels
    means = np.repeat(mean.reshape(groups, channels), outputs // groups, axis=0)
    shift: np.ndarray = (lost * means).sum(axis=1)
    return shift


def insert(
    proto: Any, plan: Plan, ranges: dict[str, ValueRange], means: dict[str, np.ndarray], target: Int8Target
) -> Any:
    """Return a copy of the graph that is quantized as the plan says.

    ``ranges`` are those of the tensors that the plan names, ``means`` [C] those of the convolutions' inputs. ``target``
    says for which processors the weights are rounded; see :data:`WEIGHT_STEPS`.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    graph = Graph(copy)
    weights = _Constants(copy)
    after = {name: _pair(name, ranges[source], weights) for name, source in plan.tensors.items()}
    for name in plan.tensors:
        for node, reader in graph.readers.get(name, []):
            if plan.reads(node, reader):
                node.input[reader] = _read(name)
    first: list[Any] = []
    for node in graph.nodes("Conv"):
        if node.name in plan.convolutions:
            first += _quantize_weights(node, graph, weights, means, WEIGHT_STEPS[target])
    _order(copy, first, after)
    return copy


class _Constants:
    """Adds constants to a graph, each only once."""

    def __init__(self, proto: Any) -> None:
        self._graph, self._names = proto.graph, set[str]()

    def add(self, name: str, values: np.ndarray) -> str:
        from onnx import numpy_helper

        if name not in self._names:
            self._names.add(name)
            self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def has(self, name: str) -> bool:
        return name in self._names


def _read(name: str) -> str:
    return f"{PREFIX}{name}.read"


def _pair(name: str, value_range: ValueRange, constants: _Constants) -> list[Any]:
    """Return the nodes that quantize a tensor and dequantize it again."""
    from onnx import helper

    scale = constants.add(f"{PREFIX}{name}.scale", np.array(value_range.scale))
    zero = constants.add(f"{PREFIX}{name}.zero", np.array(value_range.zero, np.uint8))
    steps = f"{PREFIX}{name}"
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [steps], name=f"{steps}.round"),
        helper.make_node("DequantizeLinear", [steps, scale, zero], [_read(name)], name=_read(name)),
    ]


def _quantize_weights(
    node: Any, graph: Graph, constants: _Constants, means: dict[str, np.ndarray], max_steps: int
) -> list[Any]:
    """Change the convolution ``node`` itself; return the node that dequantizes its weights, if they have none yet."""
    from onnx import helper

    source, features = node.input[1], node.input[0].removeprefix(PREFIX).removesuffix(".read")
    values = graph.constant(source)
    assert values is not None, "the plan has only convolutions of constant weights"
    weights = round_weights(values, max_steps)
    steps = f"{PREFIX}{source}"
    reader = []
    if not constants.has(steps):
        names = [
            constants.add(steps, weights.steps),
            constants.add(f"{steps}.scale", weights.scale),
            constants.add(f"{steps}.zero", np.zeros(len(values), np.int8)),
        ]
        reader = [helper.make_node("DequantizeLinear", names, [_read(source)], name=_read(source), axis=0)]
    bias = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(len(values))
    assert bias is not None, "a bias is constant where the weights are"
    shift = bias_shift(values, weights.values, means[features])
    assert len(means[features]) == values.shape[1] * attribute(node, "group", 1)
    moved = constants.add(f"{PREFIX}{node.name}.bias", (bias + shift).astype(np.float32))
    del node.input[1:]
    node.input.extend([_read(source), moved])
    return reader


def _order(proto: Any, first: list[Any], after: dict[str, list[Any]]) -> None:
    """Insert the new nodes after the producers of their inputs, and remove constants without readers."""
    nodes = [*first, *(new for source in proto.graph.input for new in after.get(source.name, ()))]
    for node in list(proto.graph.node):
        nodes.append(node)
        nodes += [new for name in node.output for new in after.get(name, ())]
    nodes = _used(nodes, {output.name for output in proto.graph.output})
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in read]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)


def _used(nodes: list[Any], outputs: set[str]) -> list[Any]:
    """Return the nodes that contribute to the outputs; those that reshaped the float weights no longer do."""
    kept, needed = [], set(outputs)
    for node in reversed(nodes):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1]
