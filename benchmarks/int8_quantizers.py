"""Ways to quantize one model, for ``int8_libraries.py``: the package's own, ONNX Runtime's and NNCF's."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)

from varifocal.evaluation.evaluate import evaluate
from varifocal.export.calibrate import View, read_views
from varifocal.export.config import ExportSettings
from varifocal.export.onnx import build_onnx, described
from varifocal.export.openvino import build_openvino, save_openvino
from varifocal.export.quantize_formats import int8_format
from varifocal.export.quantize_graph import Graph
from varifocal.export.quantize_network import Int8Network
from varifocal.export.quantize_plan import FUSED, SAME_NUMBERS, affects_coordinates, convolutions, make_plan
from varifocal.inference.exported import openvino_bf16
from varifocal.inference.exported.info import ExportInfo, Int8Target
from varifocal.inference.exported.model import ExportedModel, load_exported
from varifocal.inference.model import Model
from varifocal.types import Dataset
from varifocal.utils.atomic_write import atomic_write_all

MAX_DROP = 0.3  # points of AP that NNCF's accuracy control lets go
RANKED_ON = 20  # images on which it ranks operators
CHUNK = 4  # images whose tensors ONNX Runtime's calibration holds in memory
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}


@dataclass(frozen=True, eq=False)
class Case:
    """A model, the size of its files, the images to calibrate on and, unless weights are random, to measure on."""

    name: str
    model: Model
    size: tuple[int, int]
    views: Sequence[View]
    validation: Dataset | None
    folder: Path

    def float_file(self, runtime: str, deform: str = "deformconv") -> Path:
        """Return the float32 file, which is written at the first call."""
        file = self.folder / f"fp32-{deform}{SUFFIXES[runtime]}"
        settings = ExportSettings(self.size, deform=deform)  # type: ignore[arg-type]
        if not file.exists() and runtime == "onnx":
            file.write_bytes(build_onnx(self.model, settings)[0])
        elif not file.exists():
            graph, info = build_openvino(self.model, settings)
            graph.reshape([1, 3, *self.size])
            save_openvino(graph, file, info)
        return file

    def inputs(self) -> list[np.ndarray]:
        """Read the calibration images as the graph's inputs, [1, 3, H, W] each."""
        exported = load_exported(self.float_file("onnx"))
        images = read_views(self.views, self.model.info)
        return [exported.batch([image], [exported.fitted_shape(image, exported.info.preprocess)]) for image in images]


def with_own(runtime: str, case: Case, file: Path, target: Int8Target) -> float:
    """Quantize as ``varifocal export --precision int8`` does, without the measurement of AP."""
    with tempfile.TemporaryDirectory() as folder:
        settings = ExportSettings(case.size)
        network = Int8Network(case.model, settings, int8_format(runtime), file, Path(folder), target)
        begun = time.perf_counter()
        network.calibrate(case.views)
        built = network.build()
        atomic_write_all(built.files(built.info))
        return time.perf_counter() - begun


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """The calibration images in runs, as ONNX Runtime's calibration reads them."""

    def __init__(self, inputs: list[np.ndarray]) -> None:
        self.inputs, self.left = inputs, iter(inputs)

    def __len__(self) -> int:
        return len(self.inputs)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Begin a run."""
        self.left = iter(self.inputs[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next image of the run, or None at its end."""
        batch = next(self.left, None)
        return None if batch is None else {"images": batch}


def with_onnxruntime(method: str, scope: str, deform: str, case: Case, file: Path, target: Int8Target) -> float:
    """Quantize by ``quantize_static`` after ``quant_pre_process``."""
    source, prepared, raw = case.float_file("onnx", deform), case.folder / "prepared.onnx", case.folder / "raw.onnx"
    begun = time.perf_counter()
    inputs = case.inputs()
    quant_pre_process(with_plain_names(onnx.load(source)), prepared)
    quantize_static(
        prepared,
        raw,
        Reader(inputs),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=target == "portable",
        nodes_to_quantize=planned_nodes(onnx.load(prepared)) if scope == "plan" else None,
        calibrate_method=CalibrationMethod[method],
        extra_options={"CalibStridedMinMax": math.gcd(len(inputs), CHUNK)},
    )
    file.write_bytes(described(raw.read_bytes(), int8_info(source, target)))
    return time.perf_counter() - begun


def with_plain_names(proto: Any) -> Any:
    """Rename constants so that ``val_3`` becomes ``val_3.``, and return the graph.

    ONNX Runtime names the second copy of a shared bias by appending a number, whether or not a tensor has that
    name already (``QDQQuantizer._dup_initializer`` of 1.32): the file is then one that it does not run itself.
    """
    constants = {tensor.name for tensor in proto.graph.initializer}
    for tensor in proto.graph.initializer:
        tensor.name += "."
    for node in proto.graph.node:
        for i, name in enumerate(node.input):
            if name in constants:
                node.input[i] += "."
    return proto


def with_nncf(scope: str, deform: str, case: Case, file: Path, target: Int8Target) -> float:
    """Quantize the file of the runtime by NNCF with the mixed preset; "control" holds AP to its bound."""
    import nncf

    onnx_runs = file.suffix == ".onnx"
    float_onnx = case.float_file("onnx", "gridsample" if deform == "gridsample" else "deformconv")
    source = float_onnx if onnx_runs else case.float_file("openvino")
    begun = time.perf_counter()
    inputs = case.inputs()
    graph, rows = open_onnx(source) if onnx_runs else open_openvino(source, rows=deform == "rows")
    names = [*rows, *float_nodes(float_onnx)] if scope == "plan" else rows
    overflow = nncf.OverflowFix.ENABLE if target == "portable" else nncf.OverflowFix.FIRST_LAYER
    advanced = nncf.AdvancedQuantizationParameters(overflow_fix=overflow)
    data = nncf.Dataset([{"images": batch} for batch in inputs] if onnx_runs else inputs)
    settings: dict[str, Any] = {
        "preset": nncf.QuantizationPreset.MIXED,
        "subset_size": len(inputs),
        "ignored_scope": nncf.IgnoredScope(names=sorted(names), validate=False),
    }
    info = int8_info(source, target)
    if scope == "control":
        quantized = controlled(case, info, graph, data, advanced, settings)
    else:
        quantized = nncf.quantize(graph, data, advanced_parameters=advanced, **settings)
    if onnx_runs:
        file.write_bytes(described(quantized.SerializeToString(), info))
    else:
        save_openvino(quantized, file, info)
    return time.perf_counter() - begun


def controlled(case: Case, info: ExportInfo, graph: Any, data: Any, advanced: Any, settings: dict[str, Any]) -> Any:
    """Quantize with operators set back to float32 until AP on the validation images is at most 0.3 points lower."""
    import nncf

    if case.validation is None:
        raise ValueError("random weights have no AP to control")
    return nncf.quantize_with_accuracy_control(
        graph,
        data,
        nncf.Dataset(list(case.validation.samples)),
        partial(average_precision, info, case.validation),
        max_drop=MAX_DROP / 100,
        drop_type=nncf.DropType.ABSOLUTE,
        advanced_quantization_parameters=advanced,
        advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(ranking_subset_size=RANKED_ON),
        **settings,
    )


def open_onnx(source: Path) -> tuple[Any, set[str]]:
    """Return a graph with weights where NNCF looks for them, which stops at those that a node lays out anew."""
    prepared = source.with_name("prepared.onnx")
    quant_pre_process(source, prepared)
    return onnx.load(prepared), set()


def open_openvino(source: Path, *, rows: bool) -> tuple[Any, set[str]]:
    """Return a graph, with ``rows`` without deformable convolutions, and the nodes that look up their rows."""
    graph = openvino.Core().read_model(source)
    before = {node.get_friendly_name() for node in graph.get_ordered_ops()}
    deformable = [node for node in graph.get_ordered_ops() if node.get_type_name() == "DeformableConvolution"]
    for node in deformable if rows else ():
        readers = list(node.output(0).get_target_inputs())
        result = openvino_bf16._deformable_convolution(node)
        for reader in readers:
            reader.replace_source_output(result.output(0))
    graph.validate_nodes_and_infer_types()
    added = [node for node in graph.get_ordered_ops() if node.get_type_name() not in ("MatMul", "Constant")]
    return graph, {node.get_friendly_name() for node in added} - before


def planned_nodes(proto: Any) -> list[str]:
    """Return the names of the nodes that the package quantizes for ONNX Runtime."""
    graph = Graph(proto)
    plan = make_plan(graph, (), both_ends=True)
    results = {node.output[0] for node in convolutions(graph) if node.name in plan.convolutions}
    fused = [node.name for node in graph.nodes(*FUSED) if node.input[0] in results]
    same = [node.name for node in graph.nodes(*SAME_NUMBERS) if node.output[0] in plan.tensors]
    return [*plan.convolutions, *plan.sums, *fused, *same]


def float_nodes(file: Path) -> list[str]:
    """Return the names of the nodes between the last convolutions and the boxes, scores and sampling locations."""
    graph = Graph(onnx.load(file))
    stop = {node.name for node in convolutions(graph)}
    rest = [node for node in graph.proto.graph.node if node.op_type not in ("Conv", "DeformConv")]
    return [node.name for node in rest if any(affects_coordinates(graph, name, stop) for name in node.output)]


def int8_info(source: Path, target: Int8Target) -> ExportInfo:
    """Return the description of a float32 file as that of an int8 file made of it."""
    info = load_exported(source).info
    return replace(info, graph=replace(info.graph, precision="int8", int8_target=target))


class Compiled:
    """A compiled OpenVINO graph for one image, as a session of the exported-model path."""

    name = "a graph of NNCF"

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs by name, [B, ...]."""
        names = [output.get_any_name() for output in self.compiled.outputs]
        found = [[value.copy() for value in self.compiled([image[None]]).values()] for image in images]
        return {name: np.concatenate(parts) for name, *parts in zip(names, *found, strict=True)}


def average_precision(info: ExportInfo, data: Dataset, compiled: Any, samples: Iterable[Any]) -> tuple[float, None]:
    """Return the AP (0..1) of a compiled graph on some of the samples, as NNCF's accuracy control requests it."""
    metrics, _ = evaluate(ExportedModel(Compiled(compiled), info), replace(data, samples=list(samples)))
    return max(metrics.AP, 0.0), None
