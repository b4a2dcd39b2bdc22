"""Formats that have eight bits: what becomes of a quantized graph of ONNX in each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from varifocal.export.onnx import described
from varifocal.export.openvino import save_openvino, to_openvino
from varifocal.export.openvino_int8_deform import use_rows
from varifocal.export.quantize_insert import ValueRange
from varifocal.inference.exported.info import ExportInfo, sidecar_path, to_json
from varifocal.inference.exported.onnx_session import InferenceSession, OnnxRuntimeSession
from varifocal.inference.exported.openvino import OpenvinoSession
from varifocal.utils.errors import ConfigError


class Built(NamedTuple):
    """A network that is ready to run, and its files: what goes where, with a description inside."""

    runner: InferenceSession
    info: ExportInfo
    files: Callable[[ExportInfo], dict[Path, bytes]]


class Form(NamedTuple):
    """How a format has eight bits.

    ``both_ends`` is that of :func:`varifocal.export.quantize_plan.make_plan`, ``deform`` the form of deformable
    convolutions whose product can be int8 there. ``build`` takes a quantized graph, the ranges of the features that
    deformable convolutions read, the description, where the file will be, and a folder to work in.
    """

    both_ends: bool
    deform: Literal["deformconv", "gridsample"]
    build: Callable[[Any, Mapping[str, ValueRange], ExportInfo, Path, Path], Built]


def _onnx(proto: Any, sampled: Mapping[str, ValueRange], info: ExportInfo, target: Path, folder: Path) -> Built:
    del sampled, folder
    content = described(proto.SerializeToString(), info)

    def files(export_info: ExportInfo) -> dict[Path, bytes]:
        return {target: described(content, export_info), **_description(target, export_info)}

    return Built(OnnxRuntimeSession(content, name=str(target)), info, files)


def _openvino(proto: Any, sampled: Mapping[str, ValueRange], info: ExportInfo, target: Path, folder: Path) -> Built:
    graph = to_openvino(proto.SerializeToString())
    if info.graph.size is not None:
        graph.reshape([1, 3, *info.graph.size])
        use_rows(graph, sampled, info.graph.int8_target or "portable")
    file = folder / target.name
    save_openvino(graph, file, info)

    def files(export_info: ExportInfo) -> dict[Path, bytes]:
        again = folder / "described"
        again.mkdir()
        save_openvino(graph, again / target.name, export_info)
        pair = {path: (again / path.name).read_bytes() for path in (target.with_suffix(".bin"), target)}
        return {**pair, **_description(target, export_info)}

    return Built(OpenvinoSession(file, name=str(target)), info, files)


def _description(target: Path, info: ExportInfo) -> dict[Path, bytes]:
    return {sidecar_path(target): json.dumps(to_json(info), indent=1).encode()}


FORMS = {"onnx": Form(True, "gridsample", _onnx), "openvino": Form(False, "deformconv", _openvino)}


def form_of(format: str) -> Form:
    """Raises ConfigError: the format has no eight bits."""
    if format not in FORMS:
        raise ConfigError(f"--precision int8: for --format {' or '.join(FORMS)}, not {format}.")
    return FORMS[format]
