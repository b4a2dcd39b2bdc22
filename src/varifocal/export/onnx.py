"""Export to ONNX with standard operators only, for ONNX Runtime and others."""

from __future__ import annotations

import io
import json
import logging
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from varifocal.export.config import ExportSettings, check_settings
from varifocal.export.graph import capture, export_info, graph_info, output_names
from varifocal.export.parity import Built, Parity, sidecar, write_compared
from varifocal.inference.exported.info import KEY, ExportInfo, to_json
from varifocal.inference.exported.metadata import GRAPH, graph_checksum
from varifocal.inference.exported.onnx_session import OnnxRuntimeSession
from varifocal.inference.model import Model
from varifocal.models.optimize import autocast
from varifocal.utils.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL import Image

MIN_ONNXSCRIPT = (0, 6)  # for the exporters of torch 2.9 to 2.15
SCOPES = "pkg.torch.onnx.name_scopes"  # metadata of a node: the modules it comes from, outermost first
OPSET = 20  # has DeformConv (19) and this form of GridSample (20)


def export_onnx(model: Model, target: Path, settings: ExportSettings, images: Sequence[Image.Image]) -> Parity:
    """Write ``target``, and its description as JSON beside it, after a comparison with torch on the images.

    Raises:
        ConfigError: a package is missing, or the model cannot be exported with these settings.
        ExportError: the graph's results differ from those of torch; nothing is written.
        CheckpointError: the file cannot be written.
    """
    check_settings(settings, model.info)
    return write_compared(model, pack_onnx(*build_onnx(model, settings), target), target, images)


def pack_onnx(content: bytes, info: ExportInfo, target: Path) -> Built:
    """Return the network of an ONNX graph, ready to run, and its files, which will be ``target`` and its sidecar."""

    def files(info: ExportInfo) -> dict[Path, bytes]:
        return {target: described(content, info), **sidecar(target, info)}

    return Built(OnnxRuntimeSession(described(content, info), name=str(target)), info, files)


def build_onnx(model: Model, settings: ExportSettings) -> tuple[bytes, ExportInfo]:
    """Return the content of a file and the description in it, without a comparison.

    Raises:
        ConfigError: a package is missing, or the model cannot be exported with these settings.
    """
    onnx = _onnx()
    model = model.to("cpu").eval()
    graph = graph_info(model, settings, OPSET)
    with _quiet():
        captured = capture(model, settings, graph)
    with _quiet(), autocast(settings.computed, "cpu"):
        program = torch.onnx.export(
            captured,
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=output_names(model.info, settings),
            custom_translation_table=_translations(),
            verbose=False,
        )
    assert program is not None  # dynamo=True returns one
    proto = program.model_proto
    _remove_sources(proto)
    onnx.checker.check_model(proto)
    description = export_info(model, graph, "onnx", "onnxscript")
    return described(proto.SerializeToString(), description), description


def _remove_sources(proto: Any) -> None:
    """Remove metadata with code and paths of this machine; only the module of each node stays."""
    for node in proto.graph.node:
        kept = [(entry.key, entry.value) for entry in node.metadata_props if entry.key == SCOPES]
        del node.metadata_props[:]
        for key, value in kept:
            node.metadata_props.add(key=key, value=value)
    graph = proto.graph
    for holder in (proto, graph, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del holder.metadata_props[:]


def described(content: bytes, info: ExportInfo) -> bytes:
    """Return the file with this description instead of any other, and a checksum that reveals damage."""
    onnx = _onnx()
    proto = onnx.load_model_from_string(content)
    mark = graph_checksum(io.BytesIO(proto.SerializeToString()))
    onnx.helper.set_model_props(proto, {KEY: json.dumps(to_json(info)), GRAPH: mark})
    written: bytes = proto.SerializeToString()
    return written


def _onnx() -> Any:
    try:
        import onnx
        import onnxscript  # torch's exporter needs it
    except ImportError as error:
        raise ConfigError(
            f'exporting to ONNX needs the package {error.name}: pip install "varifocal[onnx]"', code="onnx-missing"
        ) from error
    version = tuple(int(part) for part in onnxscript.__version__.split(".")[:2])
    if version < MIN_ONNXSCRIPT:
        raise ConfigError(
            f"onnxscript {onnxscript.__version__} is too old; exporting needs "
            f"{MIN_ONNXSCRIPT[0]}.{MIN_ONNXSCRIPT[1]} or newer: "
            'pip install --upgrade "varifocal[onnx]"',
            code="onnxscript-too-old",
        )
    return onnx


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's warnings about operators of packages that this network does not use."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _translations() -> dict[Any, Any]:
    """Return the translation of the package's own operators to those of ONNX."""
    from onnxscript import opset20

    op: Any = opset20  # its type stubs have no tensors

    def deform_conv2d(
        levels: Any, weight: Any, offsets: Any, masks: Any, _: Any, __: Any, stride: int, padding: int, dilation: int
    ) -> Any:
        (features,) = levels  # as varifocal.export.lowering calls it
        result = op.DeformConv(
            features,
            weight,
            *offsets,
            None,
            *(masks or [None]),
            strides=[stride] * 2,
            pads=[padding] * 4,
            dilations=[dilation] * 2,
            group=features.shape[1] // weight.shape[1],
            offset_group=1,
            kernel_shape=[weight.shape[2], weight.shape[3]],
        )
        return (result,)

    def class_nms(boxes: Any, scores: Any, iou: float, most: int) -> Any:
        chosen = op.NonMaxSuppression(
            boxes,
            scores,
            op.Constant(value_ints=[most]),
            op.Constant(value_floats=[iou]),
            op.Constant(value_floats=[0.0]),
        )
        nothing = op.Expand(op.Constant(value_float=0.0), op.Shape(scores))
        return op.ScatterND(nothing, chosen, op.GatherND(scores, chosen))

    own = torch.ops.varifocal
    return {own.deform_conv2d.default: deform_conv2d, own.class_nms.default: class_nms}
