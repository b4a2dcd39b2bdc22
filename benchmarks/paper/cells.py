"""Cells of the page's tables: means over seeds, and differences between two rows with their interval."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from varifocal.analysis.comparison import Difference, paired_difference

BySeed = Mapping[int, float]
VERDICTS = {"better": "holds", "worse": "**does not hold**", "open": "open"}


def values_of(entries: Sequence[Mapping[str, Any]], row: str, metric: str, factor: float = 100.0) -> dict[int, float]:
    """Return one metric of a row by seed, times the factor, where the entry has a number."""
    own = [entry for entry in entries if entry["row"] == row]
    return {one["seed"]: factor * one["metrics"][metric] for one in own if one["metrics"].get(metric) is not None}


def gain(first: BySeed, second: BySeed) -> Difference | None:
    """Return the difference second - first over the seeds that both have; None without any."""
    seeds = sorted(first.keys() & second.keys())
    return paired_difference(*([side[seed] for seed in seeds] for side in (first, second))) if seeds else None


def mean_cell(values: BySeed, digits: int = 1) -> str:
    """Return the mean and, if there are several values, the standard deviation."""
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values.values()):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values.values()):.{digits}f}{spread}"


def interval(found: Difference, digits: int = 1) -> str | None:
    """Return the two ends of the interval, or None for a single pair."""
    if found.low is None or found.high is None:
        return None
    return f"{found.low:+.{digits}f} to {found.high:+.{digits}f}"


def gain_cells(found: Difference | None) -> tuple[str, str]:
    """Return the mean with its interval and p, and the verdict."""
    if found is None:
        return "-", "not run"
    between = interval(found)
    if between is None:
        return f"{found.mean:+.1f}", "one seed"
    return f"{found.mean:+.1f} ({between}; p {found.p:.2g})", VERDICTS[found.verdict]


def gain_cell(found: Difference | None, digits: int = 1) -> str:
    """Return the mean and its interval in one cell, in bold if the interval excludes zero."""
    if found is None:
        return "-"
    between = interval(found, digits)
    text = f"{found.mean:+.{digits}f} ({between or 'one seed'})"
    return text if found.verdict == "open" else f"**{text}**"


def line(*cells: str) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table and an empty one."""
    return [line(*head), f"|{'---|' * len(head)}", *(line(*row) for row in rows), ""]
