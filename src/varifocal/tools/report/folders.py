"""Reading of run folders, complete or not: what is missing or cannot be read becomes a sentence in ``notes``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from varifocal.recipes.recipe import Recipe, read_recipe_of_run
from varifocal.recipes.run import DATA, METRICS, RECIPE, find_data
from varifocal.utils.errors import ConfigError, VarifocalError

LOG = "log.jsonl"
BEST = "best.safetensors"
RESULTS = "results.json"


@dataclass(frozen=True, eq=False)
class Run:
    """A training run.

    ``steps`` and ``validations`` are lines of its log in order, ``metrics`` are those of its best weights. ``data`` is
    the path of its data set as it was typed, ``absolute`` the absolute path at that time, ``from_run`` the path
    relative to the run folder, and ``digest`` the checksum of the labels.
    """

    name: str
    folder: Path
    recipe: Recipe | None
    steps: tuple[dict[str, Any], ...]
    validations: tuple[dict[str, Any], ...]
    metrics: dict[str, Any] | None
    checkpoint: Path | None
    data: str | None
    digest: str | None
    notes: tuple[str, ...]
    absolute: str | None = None
    from_run: str | None = None

    @property
    def data_path(self) -> str | None:
        """The path of the data set today, None if the run does not name it."""
        return find_data(self.folder, self.data, self.absolute, self.from_run)


def is_run(folder: Path) -> bool:
    """Return whether the folder holds any file of a run."""
    return any((folder / name).is_file() for name in (RECIPE, LOG, METRICS, BEST))


def read_run(folder: Path, name: str) -> Run:
    """Read everything that the folder of a run holds.

    Raises:
        ConfigError: it holds nothing of a run.
    """
    if not is_run(folder):
        raise ConfigError(
            f"{folder}: neither a run (no {RECIPE}, {LOG}, {METRICS} or {BEST}) nor a sweep (no {RESULTS}); "
            "name the folder that train --out or sweep --out created.",
            code="no-run-folder",
        )
    notes: list[str] = []
    recipe = _part(folder / RECIPE, notes, read_recipe_of_run)
    metrics = _part(folder / METRICS, notes, _read_metrics)
    data = _part(folder / DATA, notes, _read_object) or {}
    lines = _part(folder / LOG, notes, _read_log) or []
    if not (folder / BEST).is_file():
        notes.append(f"{BEST} is missing, so its detections cannot be shown")
    return Run(
        name,
        folder,
        recipe,
        tuple(line for line in lines if "loss" in line),
        tuple(line for line in lines if isinstance(line.get("validation"), dict)),
        metrics,
        folder / BEST if (folder / BEST).is_file() else None,
        _text(data.get("data")),
        _text(data.get("sha256")),
        tuple(notes),
        _text(data.get("absolute")),
        _text(data.get("from_run")),
    )


def name_runs(folders: Sequence[Path]) -> list[str]:
    """Return a name for each folder, with as many parent folders as it takes to tell them apart."""
    resolved = [folder.resolve() for folder in folders]
    depth, names = 0, [""] * len(resolved)
    while len(set(names)) < len(names) or not depth:
        depth += 1
        names = ["/".join(folder.parts[-depth:]) for folder in resolved]
    return names


def unique_folders(folders: Sequence[Path]) -> list[Path]:
    """Return the folders without repetitions, in the same or another spelling."""
    known: dict[Path, Path] = {}
    for folder in folders:
        known.setdefault(folder.resolve(), folder)
    return list(known.values())


def _part(file: Path, notes: list[str], read: Callable[[Path], Any]) -> Any:
    if not file.is_file():
        notes.append(f"{file.name} is missing")
        return None
    try:
        return read(file)
    except (VarifocalError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        notes.append(f"{file.name} cannot be read ({' '.join(str(error).split())})")
        return None


def _read_object(file: Path) -> dict[str, Any]:
    value = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def _read_metrics(file: Path) -> dict[str, Any]:
    """Return numbers by name, and ``per_class``, numbers by class; anything else is left out."""
    value = _read_object(file)
    per_class = value.get("per_class")
    classes = {str(k): v for k, v in per_class.items() if is_number(v)} if isinstance(per_class, dict) else {}
    return {name: number for name, number in value.items() if is_number(number)} | {"per_class": classes}


def is_number(value: object) -> bool:
    """Return whether the value is a number that fits into a float."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _read_log(file: Path) -> list[dict[str, Any]]:
    """Return the complete lines; the last one may be cut off if the run was killed."""
    lines = []
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and is_number(line.get("step")) and line["step"] >= 0:
            lines.append(line)
    if not lines:
        raise ValueError("it has no line of a training step")
    return lines


def _text(value: object) -> str | None:
    return None if value is None else str(value)
