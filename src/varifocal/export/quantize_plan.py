"""What becomes eight bits: which convolutions, which tensors, and which of their readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from varifocal.export.quantize_graph import Graph, module_of, within

# these return numbers of their input, so that input and output have one scale
SAME_NUMBERS = ("MaxPool", "Resize")
# a runtime makes one step of a convolution and one of these
FUSED = ("Relu", "Clip")
# operator -> which of its inputs are locations and weights and not features
COORDINATE_INPUTS = {"GridSample": (1,), "DeformConv": (2, 4)}


@dataclass(frozen=True)
class Plan:
    """``convolutions`` and ``sampled`` ones (``DeformConv``) are names of nodes.

    ``tensors`` maps each float tensor that is quantized to the one whose range it has. ``sums`` are additions that read
    quantized tensors. With ``everywhere`` whoever reads such a tensor reads it quantized.
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
    """The nodes that can be quantized: convolutions with constant weights."""
    return [node for node in graph.nodes("Conv") if graph.constant(node.input[1]) is not None]


def make_plan(graph: Graph, keep: tuple[str, ...], *, both_ends: bool) -> Plan:
    """Everything but the modules ``keep``, and what says or steers something: see :func:`steers`.

    With ``both_ends`` a runtime multiplies in eight bits only where the result has eight too (ONNX Runtime): there
    what steers stays float as a whole, and the results of convolutions are quantized. Otherwise (OpenVINO) results are
    float, but for those that are added to a quantized tensor.
    """
    stop = {node.name for node in convolutions(graph)}
    chosen = [node for node in convolutions(graph) if not within(module_of(node), keep)]
    if both_ends:
        chosen = [node for node in chosen if not affects_coordinates(graph, node.output[0], stop)]
    tensors = dict.fromkeys(node.input[0] for node in chosen)
    _spread(graph, tensors, ())
    if both_ends:
        for node in chosen:
            if not _ends_in(graph, node.output[0], tensors):
                tensors[node.output[0]] = None
    inner = [node for node in graph.nodes("Add") if _inner_sum(graph, node, stop)]
    _spread(graph, tensors, () if both_ends else inner)
    sums = frozenset(node.name for node in inner if all(name in tensors for name in node.input))
    sampled = frozenset(node.name for node in graph.nodes("DeformConv") if not within(module_of(node), keep))
    ranges = {name: _source(graph, name, tensors) for name in tensors}
    return Plan(frozenset(node.name for node in chosen), sampled, ranges, sums, both_ends)


def possible(graph: Graph) -> list[str]:
    """Every tensor that some plan quantizes or samples."""
    nodes = convolutions(graph)
    stop = {node.name for node in nodes}
    tensors = dict.fromkeys(name for node in nodes for name in (node.input[0], node.output[0]))
    tensors.update(dict.fromkeys(node.input[0] for node in graph.nodes("DeformConv")))
    _spread(graph, tensors, [node for node in graph.nodes("Add") if _inner_sum(graph, node, stop)])
    return list(tensors)


def affects_coordinates(graph: Graph, tensor: str, stop: set[str]) -> bool:
    """Return whether a tensor reaches the outputs or sampling locations before a convolution of ``stop`` reads it.

    Of eight bits a distance of 100 pixels would have steps of half a pixel, and a score steps of a hundredth.
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
    """Whether all that becomes of a convolution's result is a quantized tensor, one fused step later."""
    readers = graph.readers.get(tensor, [])
    return len(readers) == 1 and readers[0][0].op_type in FUSED and readers[0][0].output[0] in tensors


def _inner_sum(graph: Graph, node: Any, stop: set[str]) -> bool:
    """Whether it adds maps of features."""
    return all(graph.activation(name) for name in node.input) and not affects_coordinates(graph, node.output[0], stop)


def _spread(graph: Graph, tensors: dict[str, None], sums: Any) -> None:
    """Add to ``tensors`` those with the same numbers as a quantized one, and the other operand of an addition."""
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
    """The tensor whose numbers these are."""
    node = graph.maker.get(name)
    while node is not None and node.op_type in SAME_NUMBERS and node.input[0] in tensors:
        name = node.input[0]
        node = graph.maker.get(name)
    return name
