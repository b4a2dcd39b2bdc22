"""The plan of a quantization: which convolutions, which tensors, and which of their readers become int8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from varifocal.export.quantize_graph import Graph, module_of, within

# their output has values of their input, so that both have one scale
SAME_NUMBERS = ("MaxPool", "Resize")
# runtimes fuse a convolution with one of these
FUSED = ("Relu", "Clip")
# operator -> its inputs that are locations or weights, not features
COORDINATE_INPUTS = {"GridSample": (1,), "DeformConv": (2, 4)}


@dataclass(frozen=True)
class Plan:
    """What to quantize: ``convolutions``, ``sampled`` ones (``DeformConv``) and ``sums`` are names of nodes.

    ``tensors`` maps each float tensor that is quantized to the one whose range it has. ``sums`` are additions that read
    quantized tensors. With ``everywhere``, all readers of such a tensor read it quantized.
    """

    convolutions: frozenset[str]
    sampled: frozenset[str]
    tensors: dict[str, str]
    sums: frozenset[str]
    everywhere: bool

    def reads(self, node: Any, index: int) -> bool:
        """Return whether a node takes the quantized form of a tensor that has one as its input of that index."""
        if self.everywhere or node.name in self.sums:
            return True
        return index == 0 and (node.name in self.convolutions or node.op_type in SAME_NUMBERS)


def convolutions(graph: Graph) -> list[Any]:
    """Return the nodes that can be quantized: convolutions with constant weights."""
    return [node for node in graph.nodes("Conv") if graph.constant(node.input[1]) is not None]


def make_plan(graph: Graph, keep: tuple[str, ...], *, both_ends: bool) -> Plan:
    """Return a plan that quantizes everything but the modules ``keep`` and what :func:`affects_coordinates`.

    With ``both_ends``, the runtime multiplies in int8 only if the result is int8, too (ONNX Runtime): convolutions
    whose results affect coordinates stay float, and the results of the others are quantized. Otherwise (OpenVINO)
    results are float, except for those that are added to a quantized tensor.
    """
    stop = {node.name for node in convolutions(graph)}
    quantized = [
        node
        for node in convolutions(graph)
        if not within(module_of(node), keep) and not (both_ends and affects_coordinates(graph, node.output[0], stop))
    ]
    inner = [node for node in graph.nodes("Add") if _inner_sum(graph, node, stop)]
    tensors = _quantized_tensors(graph, quantized, inner, both_ends=both_ends)
    return Plan(
        convolutions=frozenset(node.name for node in quantized),
        sampled=frozenset(node.name for node in graph.nodes("DeformConv") if not within(module_of(node), keep)),
        tensors={name: _source(graph, name, tensors) for name in tensors},
        sums=frozenset(node.name for node in inner if tensors.keys() >= set(node.input)),
        everywhere=both_ends,
    )


def _quantized_tensors(graph: Graph, quantized: list[Any], inner: list[Any], *, both_ends: bool) -> dict[str, None]:
    """Return the names of the tensors to quantize for these convolutions, in order; ``inner`` are sums of features."""
    tensors = dict.fromkeys(node.input[0] for node in quantized)
    _spread(graph, tensors, ())
    if both_ends:
        results = (node.output[0] for node in quantized)
        tensors |= dict.fromkeys([name for name in results if not _ends_in(graph, name, tensors)])
    _spread(graph, tensors, () if both_ends else inner)
    return tensors


def possible(graph: Graph) -> list[str]:
    """Return every tensor that some plan quantizes, or whose features some plan samples."""
    nodes = convolutions(graph)
    stop = {node.name for node in nodes}
    tensors = dict.fromkeys(name for node in nodes for name in (node.input[0], node.output[0]))
    tensors.update(dict.fromkeys(node.input[0] for node in graph.nodes("DeformConv")))
    _spread(graph, tensors, [node for node in graph.nodes("Add") if _inner_sum(graph, node, stop)])
    return list(tensors)


def affects_coordinates(graph: Graph, tensor: str, stop: set[str]) -> bool:
    """Return whether a tensor reaches the outputs or sampling locations before a convolution of ``stop`` reads it.

    Such tensors stay float: in int8, a distance of 100 pixels would have steps of half a pixel, a score of a hundredth.
    """
    seen, left = {tensor}, [tensor]
    while left:
        name = left.pop()
        if name in graph.outputs:
            return True
        for node, reader in graph.readers.get(name, ()):
            if reader in COORDINATE_INPUTS.get(node.op_type, ()):
                return True
            ends = node.name in stop or node.op_type in ("Shape", "DeformConv")
            if not ends:
                left += [output for output in node.output if output not in seen]
                seen.update(node.output)
    return False


def _ends_in(graph: Graph, tensor: str, tensors: dict[str, None]) -> bool:
    """Return whether a convolution's result is read by one fused operator alone, whose output is quantized."""
    readers = graph.readers.get(tensor, [])
    return len(readers) == 1 and readers[0][0].op_type in FUSED and readers[0][0].output[0] in tensors


def _inner_sum(graph: Graph, node: Any, stop: set[str]) -> bool:
    """Return whether an addition adds feature maps."""
    return all(graph.activation(name) for name in node.input) and not affects_coordinates(graph, node.output[0], stop)


def _spread(graph: Graph, tensors: dict[str, None], sums: Any) -> None:
    """Add to ``tensors`` those with the same values as a quantized one, and the other operands of the ``sums``."""
    before = -1
    while before != len(tensors):
        before = len(tensors)
        for node in graph.nodes(*SAME_NUMBERS):
            pair = (node.input[0], node.output[0])
            if any(name in tensors for name in pair):
                tensors.update(dict.fromkeys(pair))
        for node in sums:
            if any(name in tensors for name in node.input):
                tensors.update(dict.fromkeys(node.input))


def _source(graph: Graph, name: str, tensors: dict[str, None]) -> str:
    """Return the tensor from which a tensor has its values unchanged."""
    node = graph.producer.get(name)
    while node is not None and node.op_type in SAME_NUMBERS and node.input[0] in tensors:
        name = node.input[0]
        node = graph.producer.get(name)
    return name
