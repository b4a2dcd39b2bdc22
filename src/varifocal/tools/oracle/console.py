"""The study in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from varifocal.tools.oracle.result import BASELINE, OracleRow, OracleStudy


def show(study: OracleStudy) -> RenderableType:
    """Return the table of the rows, followed by the rows that the detector does not have, and why."""
    title = f"{study.detector} on {study.data}: {study.images:,} images, {study.objects:,} objects"
    table = Table(box=None, pad_edge=False, title=Text(title, "bold"), title_justify="left")
    for name in ("given", "scored by", "AP", "AP50", "AP75", "gain"):
        table.add_column(name, justify="left" if name in ("given", "scored by") else "right", no_wrap=True)
    table.add_column("what is replaced", style="dim")
    for row in study.rows:
        baseline = row.name == BASELINE
        style = "bold" if baseline else ""
        gain = "" if baseline else f"{100 * row.gain:+.1f}"
        metrics = row.metrics
        table.add_row(
            Text(row.name),
            scored_by(row),
            *_percents(metrics.AP, metrics.AP50, metrics.AP75),
            gain,
            Text(row.meaning),
            style=style,
        )
    positives = f"Positives: {study.positives:,}, assigned by {study.assign}."
    return Group(table, Text(positives), *(Text(line, style="dim") for line in _absent(study)))


def scored_by(row: OracleRow) -> str:
    """Return the factors of the scores of a row."""
    return "class x centerness" if row.centerness else "class"


def _percents(*values: float) -> Iterator[str]:
    return ("-" if value < 0 else f"{100 * value:.1f}" for value in values)


def _absent(study: OracleStudy) -> Iterator[str]:
    for reason in dict.fromkeys(study.absent.values()):
        yield f"No {', '.join(name for name, why in study.absent.items() if why == reason)}: {reason}."
