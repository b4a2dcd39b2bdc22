"""Export to OpenVINO's own format by way of ONNX."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from varifocal.export.config import ExportSettings, check_settings
from varifocal.export.onnx import build_onnx
from varifocal.export.parity import Built, Parity, sidecar, write_compared
from varifocal.inference.exported.info import KEY, ExportInfo, to_json
from varifocal.inference.exported.openvino import WEIGHTS, OpenvinoSession, import_openvino, weights_checksum
from varifocal.inference.model import Model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image


def export_openvino(model: Model, target: Path, settings: ExportSettings, images: Sequence[Image.Image]) -> Parity:
    """Write ``target`` (.xml), its weights (.bin) and its description (.xml.json), after a comparison with torch.

    ``settings.precision`` "fp16" stores half-precision weights; the precision of the computation is chosen when the
    file is loaded.

    Raises:
        ConfigError: a package is missing, or the model cannot be exported with these settings.
        ExportError: the graph's results differ from those of torch; nothing is written.
        CheckpointError: a file cannot be written.
    """
    check_settings(settings, model.info)
    with TemporaryDirectory() as folder:
        built = pack_openvino(*build_openvino(model, settings), target, Path(folder))
        return write_compared(model, built, target, images)


def pack_openvino(graph: Any, info: ExportInfo, target: Path, folder: Path) -> Built:
    """Return the network of an ``openvino.Model``, ready to run, and its files; ``folder`` is for temporary ones."""
    save_openvino(graph, folder / target.name, info)

    def files(info: ExportInfo) -> dict[Path, bytes]:
        again = folder / "described"  # the session still uses the files in the folder
        again.mkdir()
        save_openvino(graph, again / target.name, info)
        pair = {path: (again / path.name).read_bytes() for path in (target.with_suffix(".bin"), target)}
        return {**pair, **sidecar(target, info)}

    return Built(OpenvinoSession(folder / target.name, name=str(target)), info, files)


def build_openvino(model: Model, settings: ExportSettings) -> tuple[Any, ExportInfo]:
    """Return an ``openvino.Model`` and its description, without a comparison.

    Raises:
        ConfigError: a package is missing, or the model cannot be exported with these settings.
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
    openvino.save_model(graph, file, compress_to_fp16=half)  # the same weights, now with their checksum


def to_openvino(content: bytes) -> Any:
    """Return an ``openvino.Model`` for the content of an ONNX file.

    OpenVINO can compute ``DeformConv`` but does not read it from ONNX, so it is translated here. Group normalizations,
    which torch exports as seven operators, are fused into OpenVINO's own.

    Raises:
        ConfigError: OpenVINO is missing or too old.
    """
    openvino = _openvino()
    from openvino.frontend.onnx import ConversionExtension

    core = openvino.Core()  # extensions apply to this object alone
    core.add_extension(ConversionExtension("DeformConv", _deformable_convolution))
    core.add_extension(ConversionExtension("InstanceNormalization", _instance_normalization))
    graph = core.read_model(content)
    _fuse_group_norms(graph)
    return graph


def _deformable_convolution(node: Any) -> Any:
    """Translate ONNX's operator, opset 19, to that of OpenVINO."""
    from openvino import opset8

    inputs = [node.get_input(i) for i in range(node.get_input_size())]
    features, weight, offsets = inputs[:3]
    assert len(inputs) < 4 or not _is_given(inputs[3]), "a bias, which this package does not write"
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
        bilinear_interpolation_pad=True,  # pixels outside the map are zero, not those of the border
    ).outputs()


def _is_given(value: Any) -> bool:
    """Return whether an optional input is given; OpenVINO represents a missing one as an empty constant."""
    return value.get_node().get_type_name() not in ("NullNode", "FrameworkNode")


def _instance_normalization(node: Any) -> Any:
    """Translate as OpenVINO does, but without the factor of one and summand of zero that torch's exporter writes."""
    from openvino import opset8

    maps, scale, shift = (node.get_input(i) for i in range(3))
    rank = maps.get_partial_shape().rank.get_length()
    result = opset8.mvn(maps, list(range(2, rank)), True, float(node.get_attribute("epsilon")), "INSIDE_SQRT")
    shape = [1, -1, *[1] * (rank - 2)]
    for part, neutral, operator in ((scale, 1, opset8.multiply), (shift, 0, opset8.add)):
        values = _constant(part)
        if values is None or (values != neutral).any():
            result = operator(result, opset8.reshape(part, shape, special_zero=False))
    return result.outputs()


def _fuse_group_norms(graph: Any) -> None:
    """Replace, in ``graph`` itself, each group normalization that is spelled out by OpenVINO's own node.

    That is Reshape, MVN, Reshape, then Multiply and Add with a constant for each channel.
    """
    for node in [node for node in graph.get_ordered_ops() if node.get_type_name() == "MVN"]:
        _fuse_group_norm(node.input_value(0).get_node(), node, _readers(node, "Reshape", "Multiply", "Add"))
    graph.validate_nodes_and_infer_types()


def _fuse_group_norm(grouped: Any, node: Any, readers: list[Any]) -> None:
    """Replace one normalization; nothing happens if the operators around ``node`` are others."""
    from openvino import opset12

    if grouped.get_type_name() != "Reshape" or not readers:
        return
    features, last = grouped.input_value(0), readers[-1]
    constants = [_constant(reader.input_value(1)) for reader in readers[1:]]
    channels = features.get_partial_shape()[1]
    if any(values is None or values.size != channels.get_length() for values in constants):
        return
    groups = grouped.output(0).get_partial_shape()[1].get_length()
    weight, bias = (opset12.constant(values.reshape(-1)) for values in constants)
    norm = opset12.group_normalization(features, weight, bias, groups, float(node.get_attributes()["eps"]))
    norm.set_friendly_name(last.get_friendly_name())
    for reader in list(last.output(0).get_target_inputs()):
        reader.replace_source_output(norm.output(0))


def _readers(node: Any, *kinds: str) -> list[Any]:
    """Return the only reader of a node, the only reader of that one, and so on, if they have these types; else []."""
    found = []
    for kind in kinds:
        readers = [reader.get_node() for reader in node.output(0).get_target_inputs()]
        if len(readers) != 1 or readers[0].get_type_name() != kind:
            return []
        node = readers[0]
        found.append(node)
    return found


def _constant(value: Any) -> Any:
    """Return the values of an input that is constant, or None."""
    node = value.get_node()
    return node.data if node.get_type_name() == "Constant" else None


def _openvino() -> Any:
    return import_openvino('pip install "varifocal[openvino]"')
