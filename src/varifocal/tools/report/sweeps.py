"""The results of a sweep: mean and spread of each row over its seeds, and comparisons of rows with a baseline."""

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
from varifocal.utils.text import count_of

SHOWN = ("AP", "AP50", "AP75")
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Row:
    """A row of a sweep; ``values`` are the metrics by seed, in 0..1.

    ``paper`` is the AP that the paper reports on COCO, in percent, and ``against`` the name of the row that lacks what
    this one adds.
    """

    name: str
    paper: float | None
    values: dict[str, dict[int, float]]
    against: str | None = None

    @property
    def seeds(self) -> list[int]:
        """The seeds that have an AP, in order."""
        return sorted(self.values["AP"])

    def mean(self, metric: str) -> float | None:
        """Return the mean over the seeds; None without seeds."""
        known = self.values[metric].values()
        return statistics.mean(known) if known else None

    def spread(self, metric: str) -> float | None:
        """Return the standard deviation over the seeds; None for fewer than two."""
        known = list(self.values[metric].values())
        return statistics.stdev(known) if len(known) > 1 else None


@dataclass(frozen=True)
class Comparison:
    """The comparison of a row with the baseline in one metric.

    ``difference`` is row minus baseline, of metrics in 0..1, and None if they have no seed in common.
    """

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
        """The comparison in words."""
        change = self.difference
        if change is None:
            return f"{self.row} against {self.baseline} is open: they have no {self.metric} of the same seed"
        points = f"{100 * change.mean:+.2f} {self.metric}"
        seeds = count_of(change.pairs, "seed")
        if change.low is None or change.high is None:
            return f"{self.row} against {self.baseline} is open: {points} with {seeds}, too few for an interval"
        ends = f"{100 * change.low:+.2f} to {100 * change.high:+.2f}"
        interval = f"{100 * change.confidence:.0f} % interval {ends}, p {p_words(change)}"
        if self.verdict == "open":
            return f"{self.row} against {self.baseline} is open: {points} ({interval}, {seeds})"
        return f"{self.row} is {self.verdict} than {self.baseline}: {points} ({interval}, {seeds})"


@dataclass(frozen=True)
class Sweep:
    """The rows and comparisons of a sweep.

    ``baseline`` is the row with which all others are compared, None if they are compared with different ones.
    ``folder`` is None for runs that were named one by one.
    """

    name: str
    folder: Path | None
    rows: tuple[Row, ...]
    baseline: str | None
    comparisons: tuple[Comparison, ...]

    def of(self, metric: str) -> list[Comparison]:
        """Return the comparisons in one metric, in the order of the rows."""
        return [comparison for comparison in self.comparisons if comparison.metric == metric]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
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
                    "row": comparison.row,
                    "against": comparison.baseline,
                    "metric": comparison.metric,
                    "verdict": comparison.verdict,
                    "words": comparison.words,
                    "difference": None if comparison.difference is None else asdict(comparison.difference),
                }
                for comparison in self.comparisons
            ],
        }


def p_words(difference: Difference) -> str:
    """Return the p-value of a difference in words."""
    if difference.p is None:
        return "-"
    return "< 0.001" if difference.p < 0.001 else f"{difference.p:.3f}"


def is_sweep(folder: Path) -> bool:
    """Return whether the folder holds a sweep's results."""
    return (folder / RESULTS).is_file()


def read_sweep(folder: Path, baseline: str | None = None) -> Sweep:
    """Read the results of a sweep.

    Without a ``baseline`` each row is compared with the row that lacks what it adds, or else with the first one.

    Raises:
        ConfigError: the results cannot be read, or there is no such row.
    """
    try:
        content = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        rows = make_rows(content["runs"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{folder / RESULTS}: not the results of a sweep ({type(error).__name__}: {error}); run the sweep again.",
            code="sweep-results-unreadable",
        ) from error
    if not rows:
        raise ConfigError(f"{folder / RESULTS}: has no run yet; run the sweep.", code="sweep-without-runs")
    names = [row.name for row in rows]
    if baseline is not None and baseline not in names:
        raise ConfigError(
            f"--baseline {baseline}: {folder} has no such row; choose from {', '.join(names)}.", code="unknown-baseline"
        )
    return make_sweep(str(content.get("sweep") or folder.name), folder, rows, baseline)


def make_sweep(name: str, folder: Path | None, rows: Sequence[Row], baseline: str | None = None) -> Sweep:
    """Return the sweep of at least one row; ``baseline`` is the name of a row or None, as in ``read_sweep``."""
    pairs = _pairs(rows, baseline)
    bases = {base.name for _, base in pairs}
    comparisons = [_compare(row, base, metric) for metric in SHOWN for row, base in pairs]
    common = (baseline or rows[0].name) if not bases else (bases.pop() if len(bases) == 1 else None)
    return Sweep(name, folder, tuple(rows), common, tuple(comparisons))


def _pairs(rows: Sequence[Row], baseline: str | None) -> list[tuple[Row, Row]]:
    """Return rows, each with the row that it is compared with."""
    by_name = {row.name: row for row in rows}
    if baseline is None:
        own = [(row, by_name[row.against]) for row in rows if row.against in by_name and row.against != row.name]
        if own:
            return own
    base = rows[0] if baseline is None else by_name[baseline]
    return [(row, base) for row in rows if row is not base]


def shown_runs(sweep: Sweep) -> tuple[list[Path], list[str]]:
    """Return the run folder that is shown for each row, the baseline first, and sentences on rows without one.

    It is that of the first seed which has a folder.
    """
    folders: list[Path] = []
    notes: list[str] = []
    if sweep.folder is None:
        return folders, notes
    for row in sorted(sweep.rows, key=lambda row: row.name != sweep.baseline):
        present = [seed for seed in row.seeds if is_run(sweep.folder / f"{row.name}-seed{seed}")]
        if present:
            folders.append(sweep.folder / f"{row.name}-seed{present[0]}")
        else:
            notes.append(f"the row {row.name} has no run folder in {sweep.folder}, so only its numbers are shown")
    return folders, notes


def make_rows(runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the rows of runs given as ``row``, ``seed``, ``metrics`` and optionally ``against`` and ``paper_AP``.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: a run does not have this form.
    """
    rows: dict[str, Row] = {}
    for run in runs:
        name, seed, metrics = str(run["row"]), int(run["seed"]), run["metrics"]
        paper = None if run.get("paper_AP") is None else float(run["paper_AP"])
        against = None if run.get("against") is None else str(run["against"])
        row = rows.setdefault(name, Row(name, paper, {metric: {} for metric in SHOWN}, against))
        for metric in SHOWN:
            value = metrics.get(metric, -1)
            if is_number(value) and value >= 0:  # -1 stands for a metric without objects
                row.values[metric][seed] = value
    return list(rows.values())


def _compare(row: Row, base: Row, metric: str) -> Comparison:
    own, other = row.values[metric], base.values[metric]
    seeds = sorted(set(own) & set(other))
    if not seeds:
        return Comparison(row.name, base.name, metric, None)
    change = paired_difference([other[seed] for seed in seeds], [own[seed] for seed in seeds], CONFIDENCE)
    return Comparison(row.name, base.name, metric, change)
