"""The state of a run: how far it is, with the weights and the optimizer in one file from which it resumes exactly.

Random numbers are not stored: each step seeds them from the run's seed and the step, and so does the sampler.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from varifocal.models.checkpoint import load_state_dict_strict, read_checkpoint, read_info, write_checkpoint
from varifocal.structures import Batch
from varifocal.training.processes import gather_from_processes, sum_over_processes
from varifocal.utils.atomic_write import atomic_write
from varifocal.utils.errors import CheckpointError, DataError

STATE = "state.safetensors"
UNREADABLE = "unreadable_images.txt"
FEW = 3  # unreadable images that large data sets may have whatever the fraction; small ones a tenth


@dataclass
class TrainState:
    """How far a run is.

    ``step`` counts finished steps, ``best`` is the best validation AP in 0..1 and ``metrics`` are those of the same
    weights. ``validated`` is False while a validation is due that has not finished. ``since_best`` counts the
    validations after the best one. ``unreadable`` maps the index of each unreadable training image to the reason.
    """

    step: int = 0
    best: float = -2.0  # below -1, the AP of labels without boxes
    metrics: dict[str, float] = field(default_factory=dict)
    validated: bool = True
    since_best: int = 0
    unreadable: dict[int, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the state under the keys of the file."""
        return {
            "step": self.step,
            "best": self.best,
            "metrics": self.metrics,
            "measured": self.validated,
            "since_best": self.since_best,
            "unreadable_images": [list(row) for row in sorted(self.unreadable.items())],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainState:
        """Return the state that :meth:`to_json` wrote, of this or an older version."""
        rows = values.get("unreadable_images", values.get("bad_pictures", ()))  # its key before version 0.1.0
        unreadable = {index: reason for index, reason in rows}
        validated, since_best = values.get("measured", True), values.get("since_best", 0)
        return cls(values["step"], values["best"], values["metrics"], validated, since_best, unreadable)


def save_state(run: Path, parts: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, state: TrainState) -> None:
    """Write the state, the weights of the ``parts`` and the optimizer's averages into the folder of the run."""
    tensors = {f"{part}.{name}": t for part, module in parts.items() for name, t in module.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
    write_checkpoint(run / STATE, tensors, {"kind": "state", "place": state.to_json()})


def read_state(run: Path) -> TrainState:
    """Read the state of a run without its weights.

    Raises:
        CheckpointError: there is none.
    """
    info = read_info(run / STATE)
    if info.get("kind") != "state":
        raise CheckpointError(f"{run / STATE}: not the state of a run.", code="not-a-state")
    return TrainState.from_json(info["place"])


def load_state(run: Path, parts: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> TrainState:
    """Load the weights and the optimizer of a run, and return its state.

    Raises:
        CheckpointError: there is none, or it does not fit this model or optimizer.
    """
    path, state = run / STATE, read_state(run)
    tensors, _ = read_checkpoint(path)
    for part, module in parts.items():
        load_state_dict_strict(module, _tensors_of(tensors, part), path)
    _load_optimizer(optimizer, _tensors_of(tensors, "optimizer"), path)
    return state


def _tensors_of(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name[len(part) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(part + ".")}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], path: Path) -> None:
    content = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = tensor
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    needed = "exp_avg" if "betas" in optimizer.param_groups[0] else "momentum_buffer"
    for index, values in state.items():
        if index >= len(parameters) or needed not in values or values[needed].shape != parameters[index].shape:
            raise CheckpointError(
                f"{path}: the optimizer's state does not fit; the recipe has changed since.", code="optimizer-state"
            )
    optimizer.load_state_dict({"state": state, "param_groups": content["param_groups"]})


class UnreadableImages:
    """The unreadable training images of a run, by index in the data set: the same in every process.

    ``fraction`` of the ``total`` images may be unreadable, and never fewer than three or a tenth, unless it is 0: then
    none. ``found`` is updated in place. The process that gets the folder ``run`` writes the list there.
    """

    def __init__(self, fraction: float, total: int, run: Path | None, found: dict[int, str]) -> None:
        self.fraction, self.total, self.run, self.found = fraction, total, run, found
        self.limit = max_unreadable(fraction, total)

    def add(self, batches: Iterable[Batch], device: torch.device) -> None:
        """Add the unreadable images of the batches of a step, in all processes at once.

        Raises:
            DataError: in every process, if there are more than the limit.
        """
        new = {index: reason for batch in batches for index, reason in batch.bad if index not in self.found}
        if sum_over_processes([len(new)], device)[0]:
            for of_process in gather_from_processes(new):
                self.found.update(of_process)
        if len(self.found) <= self.limit:
            return
        first = next(iter(self.found.values()))
        if self.limit == 0:
            raise DataError(first, code="unreadable-image")
        self.write()
        raise DataError(
            f"{len(self.found)} of {self.total} images cannot be read or do not match their labels, but at most "
            f"{self.limit} may (train.max_unreadable={self.fraction:g}; {UNREADABLE} in the run folder lists them). "
            f"The first: {first}",
            code="too-many-unreadable-images",
        )

    def summary(self) -> str:
        """Return a sentence that counts the images and names the first three files."""
        files = [reason.partition(": ")[0] for _, reason in sorted(self.found.items())]
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        return (
            f"{len(files)} of {self.total} images so far cannot be used and were replaced by others: "
            f"{', '.join(files[:3])}{more} (see {UNREADABLE})"
        )

    def write(self) -> None:
        """Write the reasons to the list, one on each line."""
        if self.run is not None:
            lines = [reason + "\n" for _, reason in sorted(self.found.items())]
            atomic_write(self.run / UNREADABLE, "".join(lines).encode())


def max_unreadable(fraction: float, total: int) -> int:
    """Return how many of ``total`` images may be unreadable."""
    return max(int(fraction * total), min(FEW, total // 10)) if fraction else 0
