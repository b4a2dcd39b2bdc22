"""A graph of ONNX as quantization sees it: who makes a tensor, who reads it, and which module a node comes from."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import numpy as np

from varifocal.export.onnx import SCOPES

NETWORK = "network."  # the module of the graph that holds the detector
# what only lays out a constant anew; the exporter leaves large ones as they are
LAYOUT = ("Reshape", "Unsqueeze", "Flatten", "Identity")


class Graph:
    """A ``ModelProto`` with what is looked up in it; nodes are known by their names."""

    def __init__(self, proto: Any) -> None:
        self.proto = proto
        self.constants = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.maker = {name: node for node in proto.graph.node for name in node.output if name}
        self.outputs = {output.name for output in proto.graph.output}
        self.readers: dict[str, list[tuple[Any, int]]] = {}
        for node in proto.graph.node:
            for index, name in enumerate(node.input):
                if name:
                    self.readers.setdefault(name, []).append((node, index))

    def nodes(self, *kinds: str) -> Iterator[Any]:
        """Those of these operators, in order."""
        return (node for node in self.proto.graph.node if node.op_type in kinds)

    def constant(self, name: str) -> np.ndarray | None:
        """The values of a constant, also of one that is laid out anew; None where the tensor is computed."""
        from onnx import numpy_helper

        if name in self.constants:
            values: np.ndarray = numpy_helper.to_array(self.constants[name])
            return values
        node = self.maker.get(name)
        if node is None or node.op_type not in LAYOUT:
            return None
        values_before = self.constant(node.input[0])
        return None if values_before is None else self._laid_out(values_before, node)

    def _laid_out(self, values: np.ndarray, node: Any) -> np.ndarray | None:
        if node.op_type == "Identity":
            return values
        if node.op_type == "Flatten":
            axis = attribute(node, "axis", 1)
            return values.reshape(int(np.prod(values.shape[:axis])), -1)
        how = self.constant(node.input[1])
        if how is None:
            return None
        if node.op_type == "Unsqueeze":
            return np.expand_dims(values, tuple(int(axis) for axis in how))
        if attribute(node, "allowzero", 0) == 0:
            how = np.where(how == 0, [*values.shape, *[1] * len(how)][: len(how)], how)
        return values.reshape([int(side) for side in how])

    def activation(self, name: str) -> bool:
        """Whether the tensor depends on the images, as far as its own maker says."""
        return name in self.maker and self.maker[name].op_type != "Constant" and name not in self.constants


def module_of(node: Any) -> str:
    """The module of the detector that a node belongs to, as ``backbone.layer1.0.conv1``; empty outside of it."""
    held = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]")
    scopes = [scope for scope in ast.literal_eval(held)[:-1] if scope.startswith(NETWORK)]
    return plain_name(scopes[-1].removeprefix(NETWORK)) if scopes else ""


def plain_name(module: str) -> str:
    """A module's name as people say it: a backbone of timm lies in ``backbone.net``."""
    return module.replace("backbone.net.", "backbone.", 1) if module.startswith("backbone.net.") else module


def within(module: str, names: tuple[str, ...]) -> bool:
    """Whether a module is one of these or part of one."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


def attribute(node: Any, name: str, default: int) -> int:
    """A whole number that a node carries."""
    return next((entry.i for entry in node.attribute if entry.name == name), default)
