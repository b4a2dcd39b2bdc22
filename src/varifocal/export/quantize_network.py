"""A network in eight bits, with any of its parts left in floating point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from varifocal.export.calibrate import TensorStatistics, View, measure
from varifocal.export.config import ExportSettings
from varifocal.export.onnx import build_onnx
from varifocal.export.quantize_formats import Built, Form
from varifocal.export.quantize_graph import Graph, module_of
from varifocal.export.quantize_insert import insert
from varifocal.export.quantize_plan import convolutions, make_plan
from varifocal.export.sensitivity import blocks
from varifocal.inference.exported.info import Int8Target
from varifocal.inference.model import Model


class Int8Network:
    """The float graph with what its tensors hold, from which files of any choice of blocks are made.

    They will be ``target``; until then they lie in ``folder``. ``processors`` are those on which their products are
    exact. ``blocks`` are the parts that have convolutions.
    """

    measured: TensorStatistics

    def __init__(
        self,
        model: Model,
        settings: ExportSettings,
        form: Form,
        target: Path,
        folder: Path,
        processors: Int8Target = "portable",
    ) -> None:
        import onnx

        deform = form.deform if settings.deform == "auto" else settings.deform
        content, info = build_onnx(model, replace(settings, precision="fp32", deform=deform))
        self.content, self.form, self.target, self._folder = content, form, target, folder
        self.processors = processors
        self.info = replace(info, graph=replace(info.graph, precision="int8", int8_target=processors))
        self.graph = Graph(onnx.load_model_from_string(content))
        self.blocks = blocks(module_of(node) for node in [*convolutions(self.graph), *self.graph.nodes("DeformConv")])
        self._count = 0

    def calibrate(self, views: Sequence[View], progress: Callable[[int], None] = lambda done: None) -> None:
        """Note what the tensors hold on these; to be called before :meth:`build`.

        Raises:
            DataError, ExportError: as :func:`varifocal.export.calibrate.measure`.
        """
        self.measured = measure(self.content, self.info, views, progress)

    def build(self, keep: Sequence[str] = ()) -> Built:
        """Return the file with these blocks in floating point, not yet written to its target but ready to run."""
        plan = make_plan(self.graph, tuple(keep), both_ends=self.form.both_ends)
        proto = insert(self.graph.proto, plan, self.measured.ranges, self.measured.means, self.processors)
        sampled = {node.name: self.measured.ranges[node.input[0]] for node in self.graph.nodes("DeformConv")}
        sampled = {name: own for name, own in sampled.items() if name in plan.sampled}
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        return self.form.build(proto, sampled, self.info, self.target, folder)
