"""Sessions of ONNX Runtime, which only this module imports to run models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from varifocal.inference.exported.info import KEY
from varifocal.inference.exported.metadata import check_graph, not_ours
from varifocal.utils.errors import CheckpointError, ConfigError

NEEDED = (1, 25)  # the first whose CPU has DeformConv
INSTALL = 'pip install "onnxruntime>=1.25"'


@runtime_checkable
class InferenceSession(Protocol):
    """A graph that is ready to run; ``name`` is its name in messages."""

    name: str

    def run(self, images: Float[np.ndarray, "B 3 H W"]) -> dict[str, np.ndarray]:
        """Return the graph's outputs by name."""
        ...


class OnnxRuntimeSession:
    """An ONNX graph that is ready to run on a device; ``content`` is a file, or its bytes.

    ``description`` is the JSON text inside; ``threads`` None leaves their number to ONNX Runtime.

    Raises:
        ConfigError: ONNX Runtime is not installed or too old, or has no such device.
        CheckpointError: the file is missing, damaged, of an unknown operator set, or not of this package.
    """

    def __init__(
        self, content: Path | bytes, device: str = "cpu", name: str | None = None, threads: int | None = None
    ) -> None:
        runtime = _onnxruntime()
        self.name = name or str(content)
        providers = _providers(runtime, device)
        self._session = _open(runtime, content, providers, threads, self.name)
        held: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        if KEY not in held:
            raise not_ours(self.name, "ONNX", "onnx")
        self.description = held[KEY]
        self.outputs: list[str] = [output.name for output in self._session.get_outputs()]

    def run(self, images: Float[np.ndarray, "B 3 H W"]) -> dict[str, np.ndarray]:
        """Return the graph's outputs by name."""
        found = self._session.run(self.outputs, {"images": images})
        return dict(zip(self.outputs, found, strict=True))


def _onnxruntime() -> Any:
    # from 1.29 on it would leave an identifier on the disk and report every session to its makers; "0" allows it
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"running an exported model needs the package onnxruntime: {INSTALL}", code="onnxruntime-missing"
        ) from error
    version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if version < NEEDED:
        raise ConfigError(
            f"onnxruntime {onnxruntime.__version__} is too old and has no deformable convolution for CPUs; exported "
            f"models need {NEEDED[0]}.{NEEDED[1]} or newer: {INSTALL}",
            code="onnxruntime-too-old",
        )
    return onnxruntime


def _providers(runtime: Any, device: str) -> list[Any]:
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    if number and not number.isdecimal():
        raise ConfigError(f"--device {device}: there is no such device; write cuda or cuda:1.", code="device-number")
    if kind == "cuda" and "CUDAExecutionProvider" in runtime.get_available_providers():
        return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]
    raise ConfigError(
        f"--device {device}: this onnxruntime cannot use it (it has {', '.join(runtime.get_available_providers())}).",
        code="device-not-in-onnxruntime",
    )


def _open(runtime: Any, content: Path | bytes, providers: list[Any], threads: int | None, name: str) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or 0  # 0 lets it choose
    options.log_severity_level = 4  # errors are raised, and need not be printed too
    try:
        if isinstance(content, Path):
            check_graph(content, name)
            return runtime.InferenceSession(str(content), options, providers=providers)  # faster than from its bytes
        return runtime.InferenceSession(content, options, providers=providers)
    except CheckpointError:
        raise
    except Exception as error:  # its errors have no common type
        reason = " ".join(str(error).split())
        if "opset" in reason:
            raise CheckpointError(
                f"{name}: its operator set is not known to onnxruntime {runtime.__version__} ({reason[:200]}); run "
                "pip install --upgrade onnxruntime, or export again with an older one.",
                code="onnx-opset",
            ) from error
        raise CheckpointError(
            f"{name}: damaged or not an ONNX file that runs here ({reason[:200]}).", code="onnx-not-run"
        ) from error
