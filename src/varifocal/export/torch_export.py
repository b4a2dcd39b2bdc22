"""Export with torch.export to PyTorch's own operators only, so that torch loads the file without this package.

``torch.export.load`` unpickles and evaluates what a file contains, so it must only be given files from trusted sources;
this package only calls it on a file that it has just written itself.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.export import ExportedProgram

from varifocal.export.config import ExportSettings, check_settings
from varifocal.export.graph import capture, export_info, graph_info, output_names
from varifocal.export.parity import Built, Parity, sidecar, write_compared
from varifocal.inference.exported.info import KEY, ExportInfo, to_json
from varifocal.inference.model import Model
from varifocal.utils.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image

BUILT_IN = ("aten", "prim", "prims", "_operator", "math")  # libraries of operators that are part of torch


class ProgramRunner:
    """Runs a program of torch.export as an inference session for the comparison."""

    def __init__(self, program: ExportedProgram, names: Sequence[str], name: str) -> None:
        self.name = name
        self._module, self._names = program.module(), names

    def run(self, images: Float[np.ndarray, "B 3 H W"]) -> dict[str, np.ndarray]:
        """Return the program's outputs by name."""
        with torch.inference_mode():
            outputs = self._module(torch.from_numpy(images))
        return {name: value.numpy() for name, value in zip(self._names, outputs, strict=True)}


def export_torch(model: Model, target: Path, settings: ExportSettings, images: Sequence[Image.Image]) -> Parity:
    """Write ``target`` (.pt2) and its description as JSON beside it, after a comparison on the images.

    Raises:
        ConfigError: the model cannot be exported with these settings.
        ExportError: the program's results differ from those of the network; nothing is written.
        CheckpointError: the file cannot be written.
    """
    program, info = build_program(model, settings)

    def files(info: ExportInfo) -> dict[Path, bytes]:
        return {target: serialize(program, info), **sidecar(target, info)}

    # the comparison uses the program as it is stored
    runner = ProgramRunner(deserialize(serialize(program, info)), output_names(model.info, settings), str(target))
    return write_compared(model, Built(runner, info, files), target, images)


def deserialize(content: bytes) -> ExportedProgram:
    """Return the program in the content of a file from :func:`serialize`."""
    with warnings.catch_warnings():  # torch 2.9 warns about the bytes of its own archive
        warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
        return torch.export.load(io.BytesIO(content))


def build_program(model: Model, settings: ExportSettings) -> tuple[ExportedProgram, ExportInfo]:
    """Return the program and its description, without a comparison.

    Raises:
        ConfigError: the model cannot be exported with these settings.
    """
    _check_supported(settings)
    check_settings(settings, model.info)
    settings = replace(settings, deform="gridsample")
    model = model.to("cpu").eval()
    graph = graph_info(model, settings, 0)
    program = capture(model, settings, graph)
    program._example_inputs = None  # a whole image of zeros, and the only part that would be pickled
    for name, weight in program.state_dict.items():
        if isinstance(weight, nn.Parameter):  # the same numbers, without gradients
            program.state_dict[name] = nn.Parameter(weight.detach(), requires_grad=False)
    for node in program.graph.nodes:
        for name in ("stack_trace", "nn_module_stack"):  # paths on this machine
            node.meta.pop(name, None)
    foreign = sorted({name for name in _operators(program) if name.split(".")[0] not in BUILT_IN})
    if foreign:
        raise ConfigError(
            f"{model.info.config.backbone.name}: torch does not have the operators {', '.join(foreign)}.",
            code="operator-not-in-torch",
        )
    return program, export_info(model, graph)


def serialize(program: ExportedProgram, info: ExportInfo) -> bytes:
    """Return the content of a file, with the description as the extra file ``varifocal.json``."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor")  # torch takes channels-last weights for parts
        torch.export.save(program, buffer, extra_files={f"{KEY}.json": json.dumps(to_json(info))})
    return buffer.getvalue()


def _check_supported(settings: ExportSettings) -> None:
    """Raise ConfigError for settings that torch alone cannot run."""
    if settings.nms == "graph":
        raise ConfigError("--nms graph: torch itself has no NMS; export with --nms host.", code="nms-in-program")
    if settings.deform == "deformconv":
        raise ConfigError(
            "--deform-op deformconv: torch itself has no deformable convolution; remove --deform-op.",
            code="deform-op-in-program",
        )
    if settings.precision != "fp32":
        raise ConfigError(
            f"--precision {settings.precision}: torch programs are exported in fp32; call them under torch.autocast.",
            code="precision-of-program",
        )


def _operators(program: ExportedProgram) -> list[str]:
    """Return the names of the operators that a program calls; the library is before the first dot."""
    called: list[Any] = [node.target for node in program.graph.nodes if node.op == "call_function"]
    return [
        str(target) if isinstance(target, torch._ops.OpOverload) else f"{target.__module__}.{target.__name__}"
        for target in called
    ]
