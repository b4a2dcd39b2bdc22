"""A network in int8, with any of its blocks in floating point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from varifocal.export.calibrate import TensorStatistics, View, measure
from varifocal.export.config import ExportSettings
from varifocal.export.onnx import build_onnx
from varifocal.export.parity import Built
from varifocal.export.quantize_formats import Int8Format
from varifocal.export.quantize_graph import Graph, module_of
from varifocal.export.quantize_insert import insert
from varifocal.export.quantize_plan import convolutions, make_plan
from varifocal.export.sensitivity import blocks
from varifocal.inference.exported.info import Int8Target
from varifocal.inference.model import Model


class Int8Network:
    """The float graph and its statistics, from which files with any choice of blocks in int8 are built.

    ``target`` is the path of the final file, ``folder`` is for temporary files. ``processors`` are those on which the
    int8 products are exact. ``blocks`` are the blocks that have convolutions.
    """

    measured: TensorStatistics

    def __init__(
        self,
        model: Model,
        settings: ExportSettings,
        format: Int8Format,
        target: Path,
        folder: Path,
        processors: Int8Target = "portable",
    ) -> None:
        import onnx

        deform = format.deform if settings.deform == "auto" else settings.deform
        content, info = build_onnx(model, replace(settings, precision="fp32", deform=deform))
        self.content, self.format, self.target, self._folder = content, format, target, folder
        self.processors = processors
        self.info = replace(info, graph=replace(info.graph, precision="int8", int8_target=processors))
        self.graph = Graph(onnx.load_model_from_string(content))
        self.blocks = blocks(module_of(node) for node in [*convolutions(self.graph), *self.graph.nodes("DeformConv")])
        self._count = 0

    def calibrate(self, views: Sequence[View], progress: Callable[[int], None] = lambda done: None) -> None:
        """Measure the statistics of the tensors on these views; call this before :meth:`build`.

        Raises:
            DataError: as :func:`varifocal.export.calibrate.measure`.
            ExportError: as :func:`varifocal.export.calibrate.measure`.
        """
        self.measured = measure(self.content, self.info, views, progress)

    def build(self, keep: Sequence[str] = ()) -> Built:
        """Return the network with these blocks in floating point, ready to run but not yet written to its target."""
        plan = make_plan(self.graph, tuple(keep), both_ends=self.format.both_ends)
        proto = insert(self.graph.proto, plan, self.measured.ranges, self.measured.means, self.processors)
        sampled = {node.name: self.measured.ranges[node.input[0]] for node in self.graph.nodes("DeformConv")}
        sampled = {name: value_range for name, value_range in sampled.items() if name in plan.sampled}
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        return self.format.build(proto, sampled, self.info, self.target, folder)
