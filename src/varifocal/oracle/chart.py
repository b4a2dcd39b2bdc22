"""The study as bars: an SVG of its own that is read on light and dark ground."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from varifocal.oracle.result import BASELINE, OracleRow, OracleStudy

NAMES, BARS, NUMBERS = 150, 420, 90  # pixels: columns of the chart
BAR, GAP, HEAD, FOOT = 13, 9, 58, 26
STYLE = """
  .ground { fill: #ffffff } text { font: 12px system-ui, sans-serif; fill: #1c1c1e }
  .title { font-weight: 600; font-size: 14px } .soft { fill: #5f6368 }
  .line { stroke: #d5d7da } .base { stroke: #b3261e; stroke-dasharray: 4 3 }
  .one { fill: #1a73b8 } .two { fill: #d97706 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #16181c } text { fill: #e8eaed } .soft { fill: #9aa0a6 }
    .line { stroke: #3c4043 } .base { stroke: #f28b82 } .one { fill: #62a8e5 } .two { fill: #f0a94b }
  }
"""


def chart(study: OracleStudy) -> str:
    """AP of every row; a detector with centerness has two bars a row. The dashed line is the detector's own AP."""
    groups: dict[str, list[OracleRow]] = {}
    for row in study.rows:
        groups.setdefault(row.name, []).append(row)
    body: list[str] = []
    top = HEAD
    for name, rows in groups.items():
        body += _group(name, rows, top)
        top += len(rows) * BAR + GAP
    width, height = NAMES + BARS + NUMBERS, top + FOOT
    title = f"{study.detector} on {study.data}: AP with the truth given"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" aria-label="{escape(title, quote=True)}">',
            f"<style>{STYLE}</style>",
            f'<rect class="ground" width="{width}" height="{height}"/>',
            f'<text class="title" x="12" y="22">{escape(title)}</text>',
            *_legend(study),
            *_axis(top),
            *body,
            _baseline(study, top),
            "</svg>\n",
        ]
    )


def _group(name: str, rows: list[OracleRow], top: int) -> Iterator[str]:
    middle = top + len(rows) * BAR / 2 + 4
    yield f'<text x="{NAMES - 8}" y="{middle:.1f}" text-anchor="end">{escape(name)}</text>'
    for i, row in enumerate(rows):
        y, length = top + i * BAR, _x(row.metrics.AP) - NAMES
        said = f"{100 * row.metrics.AP:.1f}" + ("" if row.name == BASELINE else f" ({100 * row.gain:+.1f})")
        kind = "two" if row.centerness else "one"
        meaning = escape(f"{row.name}: {row.meaning}; AP {said}")
        size = f'width="{length:.1f}" height="{BAR - 2}"'
        yield f'<rect class="{kind}" x="{NAMES}" y="{y}" {size}><title>{meaning}</title></rect>'
        yield f'<text x="{NAMES + length + 6:.1f}" y="{y + BAR - 3}">{said}</text>'


def _legend(study: OracleStudy) -> Iterator[str]:
    words = f"positives: {escape(study.assign)}; dashed: as predicted"
    if not any(row.centerness for row in study.rows):
        yield f'<text class="soft" x="12" y="42">{words}</text>'
        return
    yield '<rect class="one" x="12" y="33" width="10" height="10"/><text class="soft" x="28" y="42">class score</text>'
    yield '<rect class="two" x="112" y="33" width="10" height="10"/>'
    yield f'<text class="soft" x="128" y="42">times centerness; {words}</text>'


def _axis(bottom: int) -> Iterator[str]:
    for percent in range(0, 101, 20):
        x = _x(percent / 100)
        yield f'<line class="line" x1="{x:.1f}" x2="{x:.1f}" y1="{HEAD - 4}" y2="{bottom}"/>'
        yield f'<text class="soft" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{percent}</text>'


def _baseline(study: OracleStudy, bottom: int) -> str:
    x = _x(study.row(BASELINE).metrics.AP)
    return f'<line class="base" x1="{x:.1f}" x2="{x:.1f}" y1="{HEAD - 4}" y2="{bottom}"/>'


def _x(ap: float) -> float:
    """Where an AP of 0..1 ends; below 0, nothing to find, has no length."""
    return NAMES + BARS * max(ap, 0.0)
