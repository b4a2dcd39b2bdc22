"""Formats that have int8, and how each is made from a quantized ONNX graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from varifocal.export.onnx import pack_onnx
from varifocal.export.openvino import pack_openvino, to_openvino
from varifocal.export.openvino_int8_deform import use_rows
from varifocal.export.parity import Built
from varifocal.export.quantize_insert import ValueRange
from varifocal.inference.exported.info import ExportInfo
from varifocal.utils.errors import ConfigError


class Int8Format(NamedTuple):
    """How a format represents int8.

    ``both_ends`` is that of :func:`varifocal.export.quantize_plan.make_plan`, ``deform`` the form of deformable
    convolutions whose product can be int8 in this format. ``build`` takes a quantized graph, the ranges of the features
    that deformable convolutions read, the description, the path of the final file, and a folder for temporary files.
    """

    both_ends: bool
    deform: Literal["deformconv", "gridsample"]
    build: Callable[[Any, Mapping[str, ValueRange], ExportInfo, Path, Path], Built]


def _onnx(proto: Any, sampled: Mapping[str, ValueRange], info: ExportInfo, target: Path, folder: Path) -> Built:
    del sampled, folder
    return pack_onnx(proto.SerializeToString(), info, target)


def _openvino(proto: Any, sampled: Mapping[str, ValueRange], info: ExportInfo, target: Path, folder: Path) -> Built:
    graph = to_openvino(proto.SerializeToString())
    if info.graph.size is not None:
        graph.reshape([1, 3, *info.graph.size])
        use_rows(graph, sampled, info.graph.int8_target or "portable")
    return pack_openvino(graph, info, target, folder)


INT8_FORMATS = {
    "onnx": Int8Format(True, "gridsample", _onnx),
    "openvino": Int8Format(False, "deformconv", _openvino),
}


def int8_format(name: str) -> Int8Format:
    """Return the int8 form of a format.

    Raises:
        ConfigError: the format has none.
    """
    if name not in INT8_FORMATS:
        raise ConfigError(
            f"--precision int8: needs --format {' or '.join(INT8_FORMATS)}, not {name}.", code="format-without-int8"
        )
    return INT8_FORMATS[name]
