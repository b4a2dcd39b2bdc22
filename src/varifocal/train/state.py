"""Everything a run needs to resume exactly: weights, averages, optimizer and position, in one safetensors file.

Random numbers are not stored: each step seeds them from the run's seed and the step, and so does the sampler.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from varifocal.models.checkpoint import load_state_dict_strict, read_checkpoint, read_info, write_checkpoint
from varifocal.utils.errors import CheckpointError

STATE = "state.safetensors"


def save_state(
    run: Path,
    parts: dict[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    progress: dict[str, Any],
) -> None:
    """Write the run's state; ``progress`` holds plain numbers such as the step and the best metric."""
    tensors = {f"{part}.{name}": t for part, module in parts.items() for name, t in module.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
    write_checkpoint(run / STATE, tensors, {"kind": "state", "place": progress})


def read_progress(run: Path) -> dict[str, Any]:
    """The progress of the run's state, without its weights.

    Raises:
        CheckpointError: there is none.
    """
    info = read_info(run / STATE)
    if info.get("kind") != "state":
        raise CheckpointError(f"{run / STATE}: not the state of a run.")
    progress: dict[str, Any] = info["place"]
    return progress


def load_state(run: Path, parts: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put the run's state back and return its progress.

    Raises:
        CheckpointError: there is none, or it does not fit this model or optimizer.
    """
    path, progress = run / STATE, read_progress(run)
    tensors, _ = read_checkpoint(path)
    for part, module in parts.items():
        load_state_dict_strict(module, _under(tensors, part), path)
    _load_optimizer(optimizer, _under(tensors, "optimizer"), path)
    return progress


def _under(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name[len(part) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(part + ".")}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], path: Path) -> None:
    content = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    needed = "exp_avg" if "betas" in optimizer.param_groups[0] else "momentum_buffer"
    for parameter, values in state.items():
        if parameter >= len(parameters) or needed not in values or values[needed].shape != parameters[parameter].shape:
            raise CheckpointError(f"{path}: the optimizer's state does not fit; the recipe was changed since.")
    optimizer.load_state_dict({"state": state, "param_groups": content["param_groups"]})
