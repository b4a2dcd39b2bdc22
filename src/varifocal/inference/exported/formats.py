"""The runtimes of exported files, by suffix."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from varifocal.inference.exported.info import ExportInfo, from_json
from varifocal.inference.exported.metadata import read_description
from varifocal.inference.exported.onnx_session import InferenceSession, OnnxRuntimeSession
from varifocal.inference.exported.openvino import OpenvinoSession
from varifocal.inference.exported.processor import has_vnni
from varifocal.utils.errors import CheckpointError, ConfigError

ARCHIVE = ".pt2"  # known, but not run here


class Opened(NamedTuple):
    """A graph that is ready to run, and its description."""

    session: InferenceSession
    info: ExportInfo


@dataclass(frozen=True)
class Cores:
    """How many threads a graph may use, None for the runtime's own choice, and how many calls share them."""

    threads: int | None = None
    calls: int = 1


def _onnx(path: Path, info: ExportInfo, device: str, precision: str, cores: Cores) -> InferenceSession:
    if precision != "fp32":
        raise ConfigError(
            f"{path}: the precision of an ONNX file is its own; export it with --precision.",
            code="onnx-precision-fixed",
        )
    threads = cores.threads
    if cores.calls > 1:  # each call brings a thread of its own
        threads = max((cores.threads or usable_cores()) // cores.calls, 1)
    return OnnxRuntimeSession(path, device, threads=threads)


def _openvino(path: Path, info: ExportInfo, device: str, precision: str, cores: Cores) -> InferenceSession:
    if precision != "fp32" and info.graph.precision == "int8":
        raise ConfigError(
            f"{path}: computes in int8 already, and {precision} would round its coordinates; leave out --precision.",
            code="int8-precision-fixed",
        )
    if precision == "bf16" and info.graph.deform == "gridsample":
        raise ConfigError(
            f"{path}: bf16 rounds its sampling locations, which gives other boxes; export it with --deform-op "
            "deformconv, or use --precision fp32.",
            code="bf16-gridsample",
        )
    return OpenvinoSession(path, device, precision, cores.threads, calls=cores.calls)


# suffix -> the name of the runtime, and what opens a file on a device in a precision on so many cores
FORMATS: dict[str, tuple[str, Callable[[Path, ExportInfo, str, str, Cores], InferenceSession]]] = {
    ".onnx": ("onnxruntime", _onnx),
    ".xml": ("openvino", _openvino),
}
SUFFIXES = (*FORMATS, ARCHIVE)


def runtime_of(path: Path | str) -> Any:
    """Return the name of the runtime of a file: "torch" for a checkpoint."""
    return FORMATS[suffix][0] if (suffix := Path(path).suffix.lower()) in FORMATS else "torch"


def usable_cores() -> int:
    """Return how many cores this process may use: those that the system gives it, or OMP_NUM_THREADS if it is less."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(own, int(limit)) if limit.isdecimal() and int(limit) else own


def open_exported(path: Path, device: str = "cpu", precision: str = "fp32", cores: Cores = Cores()) -> Opened:
    """Open the graph of an exported file for the calls and threads of ``cores``.

    Raises:
        ConfigError: the runtime is missing or too old, or has no such device or precision; the file is in int8 for
            processors with VNNI, and this one has none; or it is of torch.export, whose reader would run code that the
            file contains.
        CheckpointError: the file is not an exported model of this package, damaged, or of a newer version.
    """
    if path.suffix.lower() == ARCHIVE:
        raise ConfigError(
            f"{path}: is for your own programs, with torch.export.load; that reader runs code that a file contains, so "
            "this package never calls it: export with --format onnx or openvino.",
            code="torch-export-not-run",
        )
    if path.suffix.lower() not in FORMATS:
        raise CheckpointError(
            f"{path}: is not an exported model, whose name ends in {', '.join(SUFFIXES)}.", code="exported-suffix"
        )
    info = read_info(path)
    if device.partition(":")[0] == "cpu" and info.graph.wants_vnni:
        _check_vnni(path)
    return Opened(FORMATS[path.suffix.lower()][1](path, info, device, precision, cores), info)


def _check_vnni(path: Path) -> None:
    known = has_vnni()
    if known is False:
        raise ConfigError(
            f"{path}: its int8 weights are for x86 processors with VNNI; this one has none and would find other boxes. "
            "Export it again with --int8-target portable.",
            code="int8-without-vnni",
        )
    if known is None:
        warnings.warn(
            f"{path}: its int8 weights are for x86 processors with VNNI, and it is unknown whether this one has it; "
            "export it with --int8-target portable to be sure.",
            stacklevel=4,
        )


def read_info(path: Path) -> ExportInfo:
    """Read the description of an exported file of any format; no runtime is needed.

    Raises:
        CheckpointError: the file is not an exported model of this package, damaged, or of a newer version.
    """
    return from_json(read_description(path), str(path))
