"""A program of torch.export with PyTorch's own operators only, which plain torch loads without this package.

``torch.export.load`` unpickles and evaluates what a file tells it to, so that only files of people one trusts may be
given to it; this package never does so with a file that it has not just written itself.
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
from varifocal.export.parity import Parity, compare
from varifocal.inference.exported.info import KEY, ExportInfo, sidecar_path, to_json
from varifocal.inference.exported.model import ExportedModel
from varifocal.inference.model import Model
from varifocal.utils.atomic_write import atomic_write_all
from varifocal.utils.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image

STOCK = ("aten", "prim", "prims", "_operator", "math")  # whose operators every torch has


class ProgramRunner:
    """A program of torch as the runner that a comparison wants."""

    def __init__(self, program: ExportedProgram, names: Sequence[str], name: str) -> None:
        self.name = name
        self._module, self._names = program.module(), names

    def run(self, images: Float[np.ndarray, "B 3 H W"]) -> dict[str, np.ndarray]:
        """The program's outputs by name."""
        with torch.inference_mode():
            found = self._module(torch.from_numpy(images))
        return {name: value.numpy() for name, value in zip(self._names, found, strict=True)}


def export_torch(model: Model, target: Path, settings: ExportSettings, images: Sequence[Image.Image]) -> Parity:
    """Write ``target`` (.pt2) and its description as JSON beside it, after a comparison on the images.

    Raises:
        ConfigError: the model cannot be exported so.
        ExportError: the program gives other numbers than the network; nothing is written.
        CheckpointError: the file cannot be written.
    """
    program, info = build_program(model, settings)
    content = saved(program, info)
    # what was written is what is compared
    runner = ProgramRunner(loaded(content), output_names(model.info, settings), str(target))
    parity = compare(model, ExportedModel(runner, info), images)
    parity.check(target)
    info = replace(info, parity=parity.to_json())
    atomic_write_all({target: saved(program, info), sidecar_path(target): json.dumps(to_json(info), indent=1).encode()})
    return parity


def loaded(content: bytes) -> ExportedProgram:
    """The program of a file that was written here."""
    with warnings.catch_warnings():  # torch 2.9 gives a warning about the bytes of its own archive
        warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
        return torch.export.load(io.BytesIO(content))


def build_program(model: Model, settings: ExportSettings) -> tuple[ExportedProgram, ExportInfo]:
    """The program and its description, not compared with anything yet.

    Raises:
        ConfigError: the model cannot be exported so.
    """
    _check(settings)
    check_settings(settings, model.info)
    settings = replace(settings, deform="gridsample")
    model = model.to("cpu").eval()
    graph = graph_info(model, settings, 0)
    program = capture(model, settings, graph)
    program._example_inputs = None  # a whole image of zeros, and the one part that would be pickled
    for name, weight in program.state_dict.items():
        if isinstance(weight, nn.Parameter):  # the same numbers, which nobody trains
            program.state_dict[name] = nn.Parameter(weight.detach(), requires_grad=False)
    for node in program.graph.nodes:
        for name in ("stack_trace", "nn_module_stack"):  # paths on this machine
            node.meta.pop(name, None)
    strange = sorted({name for name in _operators(program) if name.split(".")[0] not in STOCK})
    if strange:
        raise ConfigError(f"{model.info.config.backbone.name}: plain torch does not have {', '.join(strange)}.")
    return program, export_info(model, graph)


def saved(program: ExportedProgram, info: ExportInfo) -> bytes:
    """The content of a file, with the description as the extra file ``varifocal.json``."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor")  # it takes weights with channels last for parts
        torch.export.save(program, buffer, extra_files={f"{KEY}.json": json.dumps(to_json(info))})
    return buffer.getvalue()


def _check(settings: ExportSettings) -> None:
    if settings.nms == "graph":
        raise ConfigError("--nms graph: plain torch has no suppression of boxes; export with --nms host.")
    if settings.deform == "deformconv":
        raise ConfigError("--deform-op deformconv: plain torch has no deformable convolution; leave --deform-op.")
    if settings.precision != "fp32":
        raise ConfigError(
            f"--precision {settings.precision}: a program of torch is exported in fp32; call it under torch.autocast."
        )


def _operators(program: ExportedProgram) -> list[str]:
    """The names of what is called, with the library before the first dot."""
    called: list[Any] = [node.target for node in program.graph.nodes if node.op == "call_function"]
    return [
        str(target) if isinstance(target, torch._ops.OpOverload) else f"{target.__module__}.{target.__name__}"
        for target in called
    ]
