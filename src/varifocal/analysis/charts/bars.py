"""Horizontal bar charts; each bar has a name, and may have several segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from varifocal.analysis.charts import svg
from varifocal.analysis.charts.ticks import format_tick, ticks

_STEP, _THICK, _TOP = 26.0, 17.0, 34.0


@dataclass(frozen=True)
class Segment:
    """A segment of a bar; ``value`` is 0 or more, ``tooltip`` is shown when the pointer is on it."""

    value: float
    tone: int = 0
    tooltip: str = ""


@dataclass(frozen=True)
class Row:
    """A bar of segments one after the other, followed by ``words``."""

    name: str
    parts: tuple[Segment, ...]
    words: str = ""

    @property
    def total(self) -> float:
        """The length of the bar."""
        return sum(part.value for part in self.parts)


def bars(
    title: str,
    description: str,
    label: str,
    rows: Sequence[Row],
    *,
    high: float | None = None,
    parts: Sequence[str] = (),
) -> str:
    """Return an SVG text.

    Args:
        title: the heading of the chart.
        description: the chart in words.
        label: the unit of the axis.
        rows: the bars from top to bottom.
        high: the end of the axis; that of the longest bar if left out.
        parts: names of the tones 0, 1, ... for a legend.
    """
    keys = [(svg.rect(2, 0, 14, 10, f"f{tone % svg.TONES}"), name) for tone, name in enumerate(parts)]
    legend, height = svg.legend(keys, 12, _TOP + 8, svg.WIDTH - 24)
    top = _TOP + height + 4
    left = 20 + min(max((svg.length(row.name) for row in rows), default=0), 150)
    most = high if high is not None else max((row.total for row in rows), default=0)
    # the widest scale at which the words behind each bar fit
    ends = [(svg.WIDTH - 22 - left, most or 1.0)]
    ends += [(svg.WIDTH - 22 - svg.length(row.words) - left, row.total) for row in rows if row.words]
    scale = min(room / value for room, value in ends if value > 0)
    bottom = top + _STEP * len(rows)
    body = [legend, *_axis(left, top, bottom, scale, most or 1.0, label)]
    for i, row in enumerate(rows):
        y = top + _STEP * i + (_STEP - _THICK) / 2
        body += _bar(row, left, y, scale)
    return svg.draw(title, description, bottom + 42, body)


def _axis(left: float, top: float, bottom: float, scale: float, most: float, label: str) -> Iterator[str]:
    for value in ticks(0.0, most):
        x = left + scale * value
        yield svg.line(x, top, x, bottom)
        yield svg.text(x, bottom + 14, format_tick(value), "soft", "middle")
    yield svg.text(left + scale * most / 2, bottom + 31, label, "", "middle")


def _bar(row: Row, left: float, y: float, scale: float) -> Iterator[str]:
    yield svg.text(left - 6, y + _THICK - 4, svg.ellipsize(row.name, 150), "", "end")
    x = left
    for part in row.parts:
        yield svg.rect(x, y, scale * part.value, _THICK, f"f{part.tone % svg.TONES}", part.tooltip)
        x += scale * part.value
    if row.words:
        yield svg.text(x + 6, y + _THICK - 4, row.words, "soft")
