"""Runs whose recipes differ only in the seed, grouped into the rows of a sweep."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from varifocal.tools.report.folders import Run
from varifocal.tools.report.sweeps import Sweep, make_rows, make_sweep
from varifocal.utils.config import to_dict

NAME = "runs by seed"
_SEED = re.compile(r"[-_/](seed[-_]?|s)\d+$")  # the end of a name that gives a seed


@dataclass(frozen=True)
class SeedGroups:
    """A sweep of the runs on each data set.

    ``first`` is the folder that stands for the named baseline, if it is one of their rows. ``hidden`` are the folders
    of all runs except the first one of each row.
    """

    sweeps: tuple[Sweep, ...] = ()
    first: Path | None = None
    hidden: frozenset[Path] = frozenset()

    @property
    def rows(self) -> list[str]:
        """The names of all rows."""
        return [row.name for sweep in self.sweeps for row in sweep.rows]


def group_by_seed(runs: Sequence[Run], baseline: str | None = None) -> SeedGroups:
    """Group runs that differ only in their seeds into rows, and rows on the same data into a sweep.

    Rows make a sweep if there are at least two on the same data and one of them has two seeds. Runs without AP, recipe
    or known data, and those that repeat a seed of their row, belong to none.

    Args:
        runs: runs with different names and folders; the first one of a row stands for it.
        baseline: the row with which the others are compared; the first one if it is left out or no row of a sweep.
    """
    groups = _groups(runs)
    rows = {name: row for group in groups for name, row in group.items()}
    sweeps = tuple(_sweep(group, baseline) for group in groups)
    first = rows[baseline][0].folder if baseline in rows else None
    return SeedGroups(sweeps, first, frozenset(run.folder for row in rows.values() for run in row[1:]))


def _groups(runs: Sequence[Run]) -> list[dict[str, list[Run]]]:
    """Return for each data set that has enough rows these rows by name; the runs of a row differ only in the seed."""
    by_method: dict[str, dict[int, Run]] = {}
    for run in runs:
        if run.recipe is not None and run.digest is not None and (run.metrics or {}).get("AP", -1) >= 0:
            by_method.setdefault(_method(run), {}).setdefault(run.recipe.train.seed, run)
    by_data: dict[tuple[Any, ...], list[list[Run]]] = {}
    for row in (list(by_seed.values()) for by_seed in by_method.values()):
        by_data.setdefault(_data(row[0]), []).append(row)
    groups = [group for group in by_data.values() if len(group) > 1 and max(map(len, group)) > 1]
    return _named(groups)


def _named(groups: Sequence[Sequence[list[Run]]]) -> list[dict[str, list[Run]]]:
    names = iter(row_names([[run.name for run in row] for group in groups for row in group]))
    return [{next(names): row for row in group} for group in groups]


def row_names(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a name for each row of names of runs.

    It is the common name without the seed at its end if it identifies the row, else the name of the first run.
    """
    stems = [{_SEED.sub("", name) for name in row} for row in rows]
    names = []
    for number, (row, own) in enumerate(zip(rows, stems, strict=True)):
        others = {name for i in range(len(rows)) if i != number for name in (*rows[i], *stems[i])}
        names.append(row[0] if len(own) > 1 or own & (others | {""}) else own.pop())
    return names


def _sweep(rows: dict[str, list[Run]], baseline: str | None) -> Sweep:
    runs = [
        {"row": name, "seed": run.recipe.train.seed, "metrics": run.metrics}
        for name, row in rows.items()
        for run in row
        if run.recipe is not None
    ]
    return make_sweep(NAME, None, make_rows(runs), baseline if baseline in rows else None)


def _method(run: Run) -> str:
    """Return a key of the recipe without its seed, and the data."""
    recipe = to_dict(run.recipe)
    recipe["train"] = {key: value for key, value in recipe["train"].items() if key != "seed"}
    return json.dumps([recipe, run.digest], sort_keys=True)


def _data(run: Run) -> tuple[Any, ...]:
    """Return a key of the data that the run was trained and validated on."""
    assert run.recipe is not None
    data = run.recipe.data
    return run.digest, data.val_split, data.val_fraction, data.split_seed
