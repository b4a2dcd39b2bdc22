"""Runs whose recipes differ in nothing but the seed, as the rows of a sweep."""

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
_SEED = re.compile(r"[-_/](seed[-_]?|s)\d+$")  # what a name says of its seed


@dataclass(frozen=True)
class SeedGroups:
    """A sweep of the runs on each data set; ``first`` is the folder that stands for the baseline that was named, where
    it is one of their rows, and ``hidden`` are those of the other runs than the first of each row."""

    sweeps: tuple[Sweep, ...] = ()
    first: Path | None = None
    hidden: frozenset[Path] = frozenset()

    @property
    def rows(self) -> list[str]:
        """The names of all rows."""
        return [row.name for sweep in self.sweeps for row in sweep.rows]


def group_by_seed(runs: Sequence[Run], baseline: str | None = None) -> SeedGroups:
    """Group runs that differ only by their seeds into rows, and rows on the same data into a sweep.

    A row are runs of one recipe but for its seed, on the same data. Rows make a sweep where there are at least two on
    the same data and one of them has two seeds. Runs without AP, recipe or known data, and those that repeat a seed of
    their row, belong to none.

    Args:
        runs: of different names and folders; the first of a row stands for it.
        baseline: the row that the others are compared with; the first where it is left out or is no row of a sweep.
    """
    groups = [group for group in _groups(runs) if len(group) > 1 and any(len(row) > 1 for row in group)]
    rows = [row for group in groups for row in group]
    names = row_names([[run.name for run in row.values()] for row in rows])
    folders = [[run.folder for run in row.values()] for row in rows]
    stands = {name: row[0] for name, row in zip(names, folders, strict=True)}
    after = iter(names)
    sweeps = tuple(_sweep([(next(after), row) for row in group], baseline) for group in groups)
    first = stands.get(baseline) if baseline is not None else None
    return SeedGroups(sweeps, first, frozenset(folder for row in folders for folder in row[1:]))


def _groups(runs: Sequence[Run]) -> list[list[dict[int, Run]]]:
    """Rows, each by seed, that were trained on the same data."""
    by_row: dict[str, dict[int, Run]] = {}
    for run in runs:
        if run.recipe is not None and run.digest is not None and (run.metrics or {}).get("AP", -1) >= 0:
            by_row.setdefault(_method(run), {}).setdefault(run.recipe.train.seed, run)
    by_data: dict[tuple[Any, ...], list[dict[int, Run]]] = {}
    for row in by_row.values():
        by_data.setdefault(_data(next(iter(row.values()))), []).append(row)
    return list(by_data.values())


def row_names(rows: Sequence[Sequence[str]]) -> list[str]:
    """What the names of the runs of a row are but for a seed at the end, where that is one and no other row may be
    meant by it; else the name of its first run."""
    stems = [{_SEED.sub("", name) for name in row} for row in rows]
    names = []
    for number, (row, own) in enumerate(zip(rows, stems, strict=True)):
        others = {name for i in range(len(rows)) if i != number for name in (*rows[i], *stems[i])}
        names.append(row[0] if len(own) > 1 or own & (others | {""}) else own.pop())
    return names


def _sweep(rows: Sequence[tuple[str, dict[int, Run]]], baseline: str | None) -> Sweep:
    runs = [{"row": name, "seed": seed, "metrics": run.metrics} for name, row in rows for seed, run in row.items()]
    return make_sweep(NAME, None, make_rows(runs), baseline if baseline in dict(rows) else None)


def _method(run: Run) -> str:
    """The recipe but for its seed, and the data."""
    recipe = to_dict(run.recipe)
    recipe["train"] = {key: value for key, value in recipe["train"].items() if key != "seed"}
    return json.dumps([recipe, run.digest], sort_keys=True)


def _data(run: Run) -> tuple[Any, ...]:
    """What tells apart the data that runs were trained and validated on."""
    assert run.recipe is not None
    data = run.recipe.data
    return run.digest, data.val_split, data.val_fraction, data.split_seed
