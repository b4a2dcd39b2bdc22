"""An ONNX graph for quantization: the producer and the readers of a tensor, and the module of a node."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import numpy as np

from varifocal.export.onnx import SCOPES

NETWORK = "network."  # the module of the graph that holds the detector
# operators that only change the shape of a constant; the exporter does not evaluate them for large ones
LAYOUT = ("Reshape", "Unsqueeze", "Flatten", "Identity")


class Graph:
    """A ``ModelProto`` with indexes for lookups; nodes are identified by name."""

    def __init__(self, proto: Any) -> None:
        self.proto = proto
        self.constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.producer = {name: node for node in proto.graph.node for name in node.output if name}
        self.outputs = {output.name for output in proto.graph.output}
        self.readers: dict[str, list[tuple[Any, int]]] = {}
        for node in proto.graph.node:
            for index, name in enumerate(node.input):
                if name:
                    self.readers.setdefault(name, []).append((node, index))

    def nodes(self, *kinds: str) -> Iterator[Any]:
        """Return the nodes of these operators, in order."""
        return (node for node in self.proto.graph.node if node.op_type in kinds)

    def constant(self, name: str) -> np.ndarray | None:
        """Return the values of a constant, even if its shape is changed by nodes; None if the tensor is computed."""
        from onnx import numpy_helper

        if name in self.constants:
            values: np.ndarray = numpy_helper.to_array(self.constants[name])
            return values
        node = self.producer.get(name)
        if node is None or node.op_type not in LAYOUT:
            return None
        source = self.constant(node.input[0])
        return None if source is None else self._reshaped(source, node)

    def _reshaped(self, values: np.ndarray, node: Any) -> np.ndarray | None:
        if node.op_type == "Identity":
            return values
        if node.op_type == "Flatten":
            axis = attribute(node, "axis", 1)
            return values.reshape(int(np.prod(values.shape[:axis])), -1)
        argument = self.constant(node.input[1])
        if argument is None:
            return None
        if node.op_type == "Unsqueeze":
            return np.expand_dims(values, tuple(int(axis) for axis in argument))
        if attribute(node, "allowzero", 0) == 0:  # a size of 0 keeps the one of the input
            argument = np.where(argument == 0, [*values.shape, *[1] * len(argument)][: len(argument)], argument)
        return values.reshape([int(side) for side in argument])

    def activation(self, name: str) -> bool:
        """Return whether the tensor depends on the images, judging by its producer alone."""
        return name in self.producer and self.producer[name].op_type != "Constant" and name not in self.constants


def module_of(node: Any) -> str:
    """Return the module of the detector that a node comes from, such as ``backbone.layer1.0.conv1``, or ""."""
    value = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]")
    scopes = [scope for scope in ast.literal_eval(value)[:-1] if scope.startswith(NETWORK)]
    return plain_name(scopes[-1].removeprefix(NETWORK)) if scopes else ""


def plain_name(module: str) -> str:
    """Return a module's name as users see it: without the ``net`` that wraps a backbone of timm."""
    return module.replace("backbone.net.", "backbone.", 1) if module.startswith("backbone.net.") else module


def within(module: str, names: tuple[str, ...]) -> bool:
    """Return whether a module is one of these or inside one."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


def attribute(node: Any, name: str, default: int) -> int:
    """Return an integer attribute of a node."""
    return next((entry.i for entry in node.attribute if entry.name == name), default)
