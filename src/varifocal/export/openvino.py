"""OpenVINO's own format, which its runtime loads as it is: converted from ONNX, deformable convolutions included."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from varifocal.export.onnx import build_onnx
from varifocal.export.parity import Parity, compare
from varifocal.export.settings import ExportSettings, check_settings
from varifocal.files import write_together
from varifocal.predict import Model
from varifocal.runtime.description import KEY, ExportInfo, beside, to_json
from varifocal.runtime.exported import ExportedModel
from varifocal.runtime.openvino import WEIGHTS, OpenvinoSession, import_openvino, weights_mark

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image


def export_openvino(model: Model, target: Path, settings: ExportSettings, pictures: Sequence[Image.Image]) -> Parity:
    """Write ``target`` (.xml), its weights (.bin) and its description (.xml.json), after a comparison with torch.

    ``settings.precision`` "fp16" halves the weights; what computes is chosen when the file is loaded.

    Raises:
        ConfigError: a package is missing, or the model cannot be exported so.
        ExportError: the graph gives other numbers than torch; nothing is written.
        CheckpointError: a file cannot be written.
    """
    check_settings(settings, model.info)
    graph, info = build_openvino(model, settings)
    with TemporaryDirectory() as folder:
        file = Path(folder) / target.name
        save_openvino(graph, file, info)
        parity = compare(model, ExportedModel(OpenvinoSession(file, name=str(target)), info), pictures)
        parity.check(target)
        info = replace(info, parity=parity.to_json())
        save_openvino(graph, file, info)
        weights = target.with_suffix(".bin")
        contents = {weights: file.with_suffix(".bin").read_bytes(), target: file.read_bytes()}
    write_together({**contents, beside(target): json.dumps(to_json(info), indent=1).encode()})
    return parity


def build_openvino(model: Model, settings: ExportSettings) -> tuple[Any, ExportInfo]:
    """An ``openvino.Model`` and its description, not compared with anything yet.

    Raises:
        ConfigError: a package is missing, or the model cannot be exported so.
    """
    _openvino()
    content, info = build_onnx(model, replace(settings, precision="fp32"))
    versions = {**info.versions, "openvino": version("openvino")}
    graph = replace(info.graph, precision=settings.precision)
    return to_openvino(content), replace(info, graph=graph, versions=versions)


def save_openvino(graph: Any, file: Path, info: ExportInfo) -> None:
    """Write an ``openvino.Model`` as ``file`` (.xml) and its weights beside it, with the description inside."""
    openvino = _openvino()
    half = info.graph.precision == "fp16"
    graph.set_rt_info(json.dumps(to_json(info)), KEY)
    openvino.save_model(graph, file, compress_to_fp16=half)
    graph.set_rt_info(weights_mark(file.with_suffix(".bin").read_bytes()), WEIGHTS)
    openvino.save_model(graph, file, compress_to_fp16=half)  # the weights are the same, what is said of them is new


def to_openvino(content: bytes) -> Any:
    """An ``openvino.Model`` of a file of ONNX, whose ``DeformConv`` OpenVINO computes but does not read by itself.

    Raises:
        ConfigError: OpenVINO is missing or too old.
    """
    openvino = _openvino()
    from openvino.frontend.onnx import ConversionExtension

    core = openvino.Core()  # extensions are its own
    core.add_extension(ConversionExtension("DeformConv", _deformable_convolution))
    return core.read_model(content)


def _deformable_convolution(node: Any) -> Any:
    """ONNX's operator, opset 19, in OpenVINO's."""
    from openvino import opset8

    inputs = [node.get_input(i) for i in range(node.get_input_size())]
    features, weight, offsets = inputs[:3]
    assert len(inputs) < 4 or not _there(inputs[3]), "a bias, which this package does not write"
    pads = list(node.get_attribute("pads"))
    return opset8.deformable_convolution(
        features,
        offsets,
        weight,
        list(node.get_attribute("strides")),
        pads[:2],
        pads[2:],
        list(node.get_attribute("dilations")),
        mask=inputs[4] if len(inputs) > 4 else None,
        auto_pad="EXPLICIT",
        group=int(node.get_attribute("group")),
        deformable_group=int(node.get_attribute("offset_group")),
        bilinear_interpolation_pad=True,  # cells outside the map are zero; without it they are those of the border
    ).outputs()


def _there(value: Any) -> bool:
    """Whether an optional input is given; one that is left out comes as an empty constant of OpenVINO's own."""
    return value.get_node().get_type_name() not in ("NullNode", "FrameworkNode")


def _openvino() -> Any:
    return import_openvino('pip install "varifocal[openvino]"')
