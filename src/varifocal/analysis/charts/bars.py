"""Bars that lie, each with a name and a number; a bar may have several parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from varifocal.analysis.charts import svg
from varifocal.analysis.charts.ticks import ticks, written

_STEP, _THICK, _TOP = 26.0, 17.0, 34.0


@dataclass(frozen=True)
class Segment:
    """``value`` is 0 or more; ``tooltip`` is shown when it is pointed at."""

    value: float
    tone: int = 0
    tooltip: str = ""


@dataclass(frozen=True)
class Row:
    """A bar, its parts one after the other; ``words`` stand behind it."""

    name: str
    parts: tuple[Segment, ...]
    words: str = ""


def bars(
    title: str,
    description: str,
    label: str,
    rows: Sequence[Row],
    *,
    high: float | None = None,
    parts: Sequence[str] = (),
) -> str:
    """An SVG text; ``label`` names the unit of the axis, which ends at ``high`` or the longest bar. ``parts`` are the
    names of the tones 0, 1, ... for a legend."""
    keys = [(svg.rect(2, 0, 14, 10, f"f{tone % svg.TONES}"), name) for tone, name in enumerate(parts)]
    above, taken = svg.legend(keys, 12, _TOP + 8, svg.WIDTH - 24)
    top = _TOP + taken + 4
    left = 20 + min(max((svg.length(row.name) for row in rows), default=0), 150)
    totals = [sum(part.value for part in row.parts) for row in rows]
    most = high if high is not None else max(totals, default=0)
    # as long as lets the words behind each bar in
    room = [
        (svg.WIDTH - 22 - svg.length(row.words) - left) / total
        for row, total in zip(rows, totals, strict=True)
        if total > 0 and row.words
    ]
    scale = min([(svg.WIDTH - 22 - left) / (most or 1.0), *room])
    bottom = top + _STEP * len(rows)
    body = [above, *_axis(left, top, bottom, scale, most or 1.0, label)]
    for i, row in enumerate(rows):
        y = top + _STEP * i + (_STEP - _THICK) / 2
        body += _bar(row, left, y, scale)
    return svg.draw(title, description, bottom + 42, body)


def _axis(left: float, top: float, bottom: float, scale: float, most: float, label: str) -> Iterator[str]:
    for value in ticks(0.0, most):
        x = left + scale * value
        yield svg.line(x, top, x, bottom)
        yield svg.text(x, bottom + 14, written(value), "soft", "middle")
    yield svg.text(left + scale * most / 2, bottom + 31, label, "", "middle")


def _bar(row: Row, left: float, y: float, scale: float) -> Iterator[str]:
    yield svg.text(left - 6, y + _THICK - 4, svg.shortened(row.name, 150), "", "end")
    x = left
    for part in row.parts:
        yield svg.rect(x, y, scale * part.value, _THICK, f"f{part.tone % svg.TONES}", part.tooltip)
        x += scale * part.value
    if row.words:
        yield svg.text(x + 6, y + _THICK - 4, row.words, "soft")
