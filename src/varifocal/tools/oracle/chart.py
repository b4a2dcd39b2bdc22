"""The study as a bar chart."""

from __future__ import annotations

from varifocal.analysis.charts.bars import Row, Segment, bars
from varifocal.tools.oracle.result import BASELINE, OracleRow, OracleStudy

SCORED = ("scored by class", "by class times centerness")


def chart(study: OracleStudy) -> str:
    """Return an SVG text with the AP of every row and its gain; a detector with centerness has two bars per row."""
    twice = any(row.centerness for row in study.rows)
    return bars(
        f"{study.detector}: AP with parts of the truth",
        f"COCO AP in percent on {study.data}, positives of {study.assign}. "
        + " ".join(f"{_name(row)} {_words(row)}." for row in study.rows),
        "AP, %",
        [Row(_name(row), (_bar(row),), _words(row)) for row in study.rows],
        high=100.0,
        parts=SCORED if twice else (),
    )


def _bar(row: OracleRow) -> Segment:
    return Segment(
        max(100 * row.metrics.AP, 0.0), int(bool(row.centerness)), f"{_name(row)}: {row.meaning}; AP {_words(row)}"
    )


def _name(row: OracleRow) -> str:
    return f"{row.name} x ctr" if row.centerness else row.name


def _words(row: OracleRow) -> str:
    if row.metrics.AP < 0:
        return "nothing to find"
    gain = "" if row.name == BASELINE else f" ({100 * row.gain:+.1f})"
    return f"{100 * row.metrics.AP:.1f}{gain}"
