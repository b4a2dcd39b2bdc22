"""What a sweep says: mean and spread of each row over its seeds, and each row against a baseline, in words."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from varifocal.analysis.comparison import Difference, paired_difference
from varifocal.tools.report.folders import RESULTS, is_number, is_run
from varifocal.utils.errors import ConfigError

SHOWN = ("AP", "AP50", "AP75")
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Row:
    """``values`` are the metrics by seed, in 0..1; ``paper`` the AP that the paper reports on COCO, in percent;
    ``against`` the row of the table without what this one adds."""

    name: str
    paper: float | None
    values: dict[str, dict[int, float]]
    against: str | None = None

    @property
    def seeds(self) -> list[int]:
        """The seeds that have an AP, in order."""
        return sorted(self.values["AP"])

    def mean(self, metric: str) -> float | None:
        """Over the seeds; None where there is none."""
        known = self.values[metric].values()
        return statistics.mean(known) if known else None

    def spread(self, metric: str) -> float | None:
        """The standard deviation over the seeds; None of fewer than two."""
        known = list(self.values[metric].values())
        return statistics.stdev(known) if len(known) > 1 else None


@dataclass(frozen=True)
class Comparison:
    """``row`` against the baseline in one metric; ``difference`` (row minus baseline, of metrics in 0..1) is None where
    they have no seed in common."""

    row: str
    baseline: str
    metric: str
    difference: Difference | None

    @property
    def verdict(self) -> str:
        """ "better", "worse" or "open"."""
        return "open" if self.difference is None else self.difference.verdict

    @property
    def words(self) -> str:
        """One sentence."""
        one = self.difference
        if one is None:
            return f"{self.row} against {self.baseline} is open: they have no {self.metric} of the same seed"
        points = f"{100 * one.mean:+.2f} {self.metric}"
        seeds = f"{one.pairs} {'seed' if one.pairs == 1 else 'seeds'}"
        if one.low is None or one.high is None:
            return f"{self.row} against {self.baseline} is open: {points} with {seeds}, too few for an interval"
        interval = (
            f"{100 * one.confidence:.0f} % interval {100 * one.low:+.2f} to {100 * one.high:+.2f}, p {p_words(one)}"
        )
        if self.verdict == "open":
            return f"{self.row} against {self.baseline} is open: {points} ({interval}, {seeds})"
        return f"{self.row} is {self.verdict} than {self.baseline}: {points} ({interval}, {seeds})"


@dataclass(frozen=True)
class Sweep:
    """``baseline`` is the name of the row that all others are compared with; None where rows are compared with
    different ones. There is no ``folder`` of runs that were named one by one."""

    name: str
    folder: Path | None
    rows: tuple[Row, ...]
    baseline: str | None
    statements: tuple[Comparison, ...]

    def of(self, metric: str) -> list[Comparison]:
        """The statements on one metric, in the order of the rows."""
        return [one for one in self.statements if one.metric == metric]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "baseline": self.baseline,
            "rows": [
                {
                    "name": row.name,
                    "paper_AP": row.paper,
                    "seeds": row.seeds,
                    **{metric: {"mean": row.mean(metric), "spread": row.spread(metric)} for metric in SHOWN},
                }
                for row in self.rows
            ],
            "statements": [
                {
                    "row": one.row,
                    "against": one.baseline,
                    "metric": one.metric,
                    "verdict": one.verdict,
                    "words": one.words,
                    "difference": None if one.difference is None else asdict(one.difference),
                }
                for one in self.statements
            ],
        }


def p_words(one: Difference) -> str:
    """The p of a difference."""
    if one.p is None:
        return "-"
    return "< 0.001" if one.p < 0.001 else f"{one.p:.3f}"


def is_sweep(folder: Path) -> bool:
    """Whether the folder holds a sweep's results."""
    return (folder / RESULTS).is_file()


def read_sweep(folder: Path, baseline: str | None = None) -> Sweep:
    """The results of a sweep. Where no baseline is named each row is compared with the one of its table that lacks what
    it adds, or else with the first.

    Raises:
        ConfigError: the results cannot be read, or there is no such row.
    """
    try:
        content = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        rows = make_rows(content["runs"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{folder / RESULTS}: not the results of a sweep ({type(error).__name__}: {error}); run the sweep again."
        ) from error
    if not rows:
        raise ConfigError(f"{folder / RESULTS}: has no run yet; run the sweep.")
    names = [row.name for row in rows]
    if baseline is not None and baseline not in names:
        raise ConfigError(f"--baseline {baseline}: {folder} has no such row; choose from {', '.join(names)}.")
    return make_sweep(str(content.get("sweep") or folder.name), folder, rows, baseline)


def make_sweep(name: str, folder: Path | None, rows: Sequence[Row], baseline: str | None = None) -> Sweep:
    """What at least one row says; ``baseline`` as of ``read_sweep``, the name of one of the rows."""
    pairs = _pairs(rows, baseline)
    bases = {base.name for _, base in pairs}
    statements = [_state(row, base, metric) for metric in SHOWN for row, base in pairs]
    one = (baseline or rows[0].name) if not bases else (bases.pop() if len(bases) == 1 else None)
    return Sweep(name, folder, tuple(rows), one, tuple(statements))


def _pairs(rows: Sequence[Row], baseline: str | None) -> list[tuple[Row, Row]]:
    """Rows, each with what it is compared with."""
    by_name = {row.name: row for row in rows}
    if baseline is None:
        own = [(row, by_name[row.against]) for row in rows if row.against in by_name and row.against != row.name]
        if own:
            return own
    base = rows[0] if baseline is None else by_name[baseline]
    return [(row, base) for row in rows if row is not base]


def shown_runs(sweep: Sweep) -> tuple[list[Path], list[str]]:
    """The run of each row that stands for it, that of its first seed with a folder, and sentences on the others; the
    baseline comes first."""
    folders: list[Path] = []
    notes: list[str] = []
    if sweep.folder is None:
        return folders, notes
    for row in sorted(sweep.rows, key=lambda row: row.name != sweep.baseline):
        there = [seed for seed in row.seeds if is_run(sweep.folder / f"{row.name}-seed{seed}")]
        if there:
            folders.append(sweep.folder / f"{row.name}-seed{there[0]}")
        else:
            notes.append(f"the row {row.name} has no run folder in {sweep.folder}, so only its numbers are shown")
    return folders, notes


def make_rows(runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Of what is known of runs: ``row``, ``seed``, ``metrics`` and, where there are such, ``against`` and ``paper_AP``.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: a run is not of that form.
    """
    rows: dict[str, Row] = {}
    for one in runs:
        name, seed, metrics = str(one["row"]), int(one["seed"]), one["metrics"]
        paper = None if one.get("paper_AP") is None else float(one["paper_AP"])
        against = None if one.get("against") is None else str(one["against"])
        row = rows.setdefault(name, Row(name, paper, {metric: {} for metric in SHOWN}, against))
        for metric in SHOWN:
            value = metrics.get(metric, -1)
            if is_number(value) and value >= 0:  # -1 stands for nothing to find
                row.values[metric][seed] = value
    return list(rows.values())


def _state(row: Row, base: Row, metric: str) -> Comparison:
    own, other = row.values[metric], base.values[metric]
    seeds = sorted(set(own) & set(other))
    if not seeds:
        return Comparison(row.name, base.name, metric, None)
    change = paired_difference([other[seed] for seed in seeds], [own[seed] for seed in seeds], CONFIDENCE)
    return Comparison(row.name, base.name, metric, change)
