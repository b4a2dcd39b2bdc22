"""OpenVINO's own format, which its runtime loads as it is: converted from ONNX, deformable convolutions included."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from varifocal.export.config import ExportSettings, check_settings
from varifocal.export.onnx import build_onnx
from varifocal.export.parity import Parity, compare
from varifocal.inference.exported.info import KEY, ExportInfo, sidecar_path, to_json
from varifocal.inference.exported.model import ExportedModel
from varifocal.inference.exported.openvino import WEIGHTS, OpenvinoSession, import_openvino, weights_checksum
from varifocal.inference.model import Model
from varifocal.utils.atomic_write import atomic_write_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image


def export_openvino(model: Model, target: Path, settings: ExportSettings, images: Sequence[Image.Image]) -> Parity:
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
        parity = compare(model, ExportedModel(OpenvinoSession(file, name=str(target)), info), images)
        parity.check(target)
        info = replace(info, parity=parity.to_json())
        save_openvino(graph, file, info)
        weights = target.with_suffix(".bin")
        contents = {weights: file.with_suffix(".bin").read_bytes(), target: file.read_bytes()}
    atomic_write_all({**contents, sidecar_path(target): json.dumps(to_json(info), indent=1).encode()})
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
    graph.set_rt_info(weights_checksum(file.with_suffix(".bin")), WEIGHTS)
    openvino.save_model(graph, file, compress_to_fp16=half)  # the weights are the same, what is said of them is new


def to_openvino(content: bytes) -> Any:
    """An ``openvino.Model`` of a file of ONNX.

    ``DeformConv`` is computed by OpenVINO but not read by it, and normalisations of groups, which torch's exporter
    spells in seven operators, get the one that OpenVINO has for them.

    Raises:
        ConfigError: OpenVINO is missing or too old.
    """
    openvino = _openvino()
    from openvino.frontend.onnx import ConversionExtension

    core = openvino.Core()  # extensions are its own
    core.add_extension(ConversionExtension("DeformConv", _deformable_convolution))
    core.add_extension(ConversionExtension("InstanceNormalization", _instance_normalization))
    graph = core.read_model(content)
    _name_group_norms(graph)
    return graph


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


def _instance_normalization(node: Any) -> Any:
    """As OpenVINO reads it, but without a factor of one and a summand of zero, such as torch's exporter writes."""
    from openvino import opset8

    maps, scale, shift = (node.get_input(i) for i in range(3))
    rank = maps.get_partial_shape().rank.get_length()
    result = opset8.mvn(maps, list(range(2, rank)), True, float(node.get_attribute("epsilon")), "INSIDE_SQRT")
    wide = [1, -1, *[1] * (rank - 2)]
    for part, nothing, form in ((scale, 1, opset8.multiply), (shift, 0, opset8.add)):
        held = _constant(part)
        if held is None or (held != nothing).any():
            result = form(result, opset8.reshape(part, wide, special_zero=False))
    return result.outputs()


def _name_group_norms(graph: Any) -> None:
    """Fuse, in ``graph`` itself, a normalization between two reshapes, times and plus a constant of each channel, into
    one node."""
    from openvino import opset12

    for node in [node for node in graph.get_ordered_ops() if node.get_type_name() == "MVN"]:
        grouped = node.input_value(0).get_node()
        chain = _readers(node, "Reshape", "Multiply", "Add")
        if grouped.get_type_name() != "Reshape" or not chain:
            continue
        maps, (_, times, plus) = grouped.input_value(0), chain
        weight, bias = (_constant(one.input_value(1)) for one in (times, plus))
        channels = maps.get_partial_shape()[1]
        if weight is None or bias is None or not weight.size == bias.size == channels.get_length():
            continue
        groups = grouped.output(0).get_partial_shape()[1].get_length()
        constants = (opset12.constant(part.reshape(-1)) for part in (weight, bias))
        norm = opset12.group_normalization(maps, *constants, groups, float(node.get_attributes()["eps"]))
        norm.set_friendly_name(plus.get_friendly_name())
        for reader in list(plus.output(0).get_target_inputs()):
            reader.replace_source_output(norm.output(0))
    graph.validate_nodes_and_infer_types()


def _readers(node: Any, *kinds: str) -> list[Any]:
    """The only reader of a node, its only reader, and so on, if they are of these kinds; else nothing."""
    found = []
    for kind in kinds:
        readers = [reader.get_node() for reader in node.output(0).get_target_inputs()]
        if len(readers) != 1 or readers[0].get_type_name() != kind:
            return []
        node = readers[0]
        found.append(node)
    return found


def _constant(value: Any) -> Any:
    """The numbers of an input that is constant, or None."""
    node = value.get_node()
    return node.data if node.get_type_name() == "Constant" else None


def _openvino() -> Any:
    return import_openvino('pip install "varifocal[openvino]"')
