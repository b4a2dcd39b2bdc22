"""Sessions of OpenVINO, which only this module imports to run models."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from varifocal.inference.exported.info import KEY
from varifocal.inference.exported.metadata import checksum, read_ir
from varifocal.inference.exported.openvino_bf16 import faster_in_bf16
from varifocal.utils.errors import CheckpointError, ConfigError

NEEDED = (2025, 4)  # it reads the files of later versions
INSTALL = 'pip install "openvino>=2025.4"'
WEIGHTS = f"{KEY}_weights"  # the key of the checksum of its weights, see weights_checksum


class OpenvinoSession:
    """An OpenVINO graph, ``NAME.xml`` with its weights in ``NAME.bin``, that is ready to run on the CPU.

    ``precision`` is the type of the convolutions: "fp32", or "bf16" on a processor that supports it. ``threads`` None
    leaves their number to OpenVINO; ``calls`` of :meth:`run` in as many threads share them. Only the two files are
    read, and none is written.

    Raises:
        ConfigError: OpenVINO is not installed or too old, or has no such device or precision.
        CheckpointError: one of the files is missing or damaged, they do not belong together, or are not of this
            package.
    """

    def __init__(
        self,
        file: Path,
        device: str = "cpu",
        precision: str = "fp32",
        threads: int | None = None,
        name: str | None = None,
        calls: int = 1,
    ) -> None:
        openvino = import_openvino()
        self.name = name or str(file)
        kind = _precision(openvino, device, precision, self.name)
        _check_weights(file.with_suffix(".bin"), read_ir(file, self.name).get(WEIGHTS), self.name)
        self._compiled = _compile(openvino, file, kind, threads, self.name, calls)
        if precision == "bf16" and self._compiled.get_property("INFERENCE_PRECISION_HINT") != kind:
            raise ConfigError(
                f"{self.name}: this processor does not support bf16; use --precision fp32.",
                code="bf16-not-in-processor",
            )
        self._requests = threading.local()  # a request computes for one thread at a time
        # a file of int8; and a graph of a fixed size becomes one of a fixed batch for bf16, see _compile
        self._alone = self._compiled.inputs[0].get_partial_shape()[0].is_static
        self.outputs: list[str] = [output.get_any_name() for output in self._compiled.outputs]

    def run(self, images: Float[np.ndarray, "B 3 H W"]) -> dict[str, np.ndarray]:
        """Return the graph's outputs by name; a graph for one image runs once for each image."""
        if not self._alone:
            return self._run(images)
        found = [self._run(images[i : i + 1]) for i in range(len(images))]
        return {name: np.concatenate([one[name] for one in found]) for name in self.outputs}

    def _run(self, images: Float[np.ndarray, "B 3 H W"]) -> dict[str, np.ndarray]:
        request = getattr(self._requests, "own", None)
        if request is None:
            request = self._requests.own = self._compiled.create_infer_request()
        found = request.infer([images], share_inputs=True)
        return {name: found[i] for i, name in enumerate(self.outputs)}


def import_openvino(install: str = INSTALL) -> Any:
    """Import the package; errors name the command ``install``.

    Raises:
        ConfigError: the package is not installed, or is too old.
    """
    try:
        import openvino
    except ImportError as error:
        raise ConfigError(
            f"an OpenVINO model needs the package openvino: {install}", code="openvino-missing"
        ) from error
    version = tuple(int(part) for part in openvino.__version__.split("-")[0].split(".")[:2])
    if version < NEEDED:
        raise ConfigError(
            f"openvino {version[0]}.{version[1]} is too old; exported models need {NEEDED[0]}.{NEEDED[1]} or newer: "
            f"{install}",
            code="openvino-too-old",
        )
    return openvino


def weights_checksum(file: Path) -> str:
    """Return the number of bytes of a .bin and their CRC-32, which differ between two exports of one network."""
    size = file.stat().st_size
    with open(file, "rb") as content:
        return f"{size} {checksum(content, size):08x}"


def _check_weights(file: Path, recorded: str | None, name: str) -> None:
    try:
        mark = weights_checksum(file)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{name}: its weights, {file.name}, are not beside it; copy both files.", code="openvino-weights-missing"
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be read ({error.strerror}).", code="openvino-weights-not-read"
        ) from error
    if recorded is not None and mark != recorded:
        size, right = mark.split()[0], recorded.split()[0]
        why = "other bytes than those that were written" if size == right else f"{size} bytes of {right}"
        raise CheckpointError(
            f"{file}: damaged, or not the weights of {Path(name).name} ({why}); copy both files again.",
            code="openvino-weights-checksum",
        )


def _precision(openvino: Any, device: str, precision: str, name: str) -> Any:
    if device != "cpu":
        raise ConfigError(
            f"--device {device}: files of OpenVINO run on the CPU here; use --device cpu.", code="openvino-device"
        )
    kinds = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}
    if precision not in kinds:
        raise ConfigError(
            f"{name}: OpenVINO computes in {' or '.join(kinds)} on a CPU, not in {precision}.",
            code="openvino-precision",
        )
    return kinds[precision]


def _compile(openvino: Any, file: Path, kind: Any, threads: int | None, name: str, calls: int) -> Any:
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": kind, "PERFORMANCE_HINT": "LATENCY"}
    if calls > 1:
        config |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": calls}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    try:
        core = openvino.Core()
        model = core.read_model(file)
        if kind == openvino.Type.bf16:
            shape = model.inputs[0].get_partial_shape()
            if shape[2].is_static and shape[3].is_static:
                model.reshape([1, *(shape[axis].get_length() for axis in (1, 2, 3))])
            faster_in_bf16(model)
        return core.compile_model(model, "CPU", config)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[-200:]
        version = openvino.__version__.split("-")[0]
        raise CheckpointError(
            f"{name}: damaged, or not a model that openvino {version} runs ({reason}); export it again, or run "
            "pip install --upgrade openvino.",
            code="openvino-not-run",
        ) from error
