"""Plots of lines, steps, filled columns and dots over two numeric axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from varifocal.analysis.charts import svg
from varifocal.analysis.charts.ticks import format_tick, ticks

Numbers = Sequence[float] | np.ndarray
_HEIGHT = 300.0
_TOP, _BOTTOM, _RIGHT = 34.0, 40.0, 16.0


@dataclass(frozen=True)
class Axis:
    """An axis from ``low`` to ``high`` in the unit ``label``."""

    label: str
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, eq=False)
class Line:
    """A line through points. Without a name it is not in the legend; a ``faint`` one is background."""

    x: Numbers
    y: Numbers
    name: str = ""
    tone: int = 0
    faint: bool = False


@dataclass(frozen=True, eq=False)
class Steps:
    """A level from each edge to the next; there is one more edge than levels."""

    edges: Numbers
    y: Numbers
    name: str = ""
    tone: int = 0


@dataclass(frozen=True, eq=False)
class Area:
    """Columns from 0 to each level, from each edge to the next, with their ``tooltips``."""

    edges: Numbers
    y: Numbers
    name: str = ""
    tone: int = 0
    tooltips: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Dots:
    """Single points."""

    x: Numbers
    y: Numbers
    name: str = ""
    tone: int = 0


Series = Line | Steps | Area | Dots


@dataclass(frozen=True)
class _Frame:
    """The mapping of values on the axes to positions in the drawing."""

    x: Axis
    y: Axis
    left: float
    right: float
    top: float
    bottom: float

    def across(self, values: Numbers) -> np.ndarray:
        fraction = (np.asarray(values, np.float64) - self.x.low) / (self.x.high - self.x.low)
        return self.left + np.clip(fraction, -0.01, 1.01) * (self.right - self.left)

    def up(self, values: Numbers) -> np.ndarray:
        fraction = (np.asarray(values, np.float64) - self.y.low) / (self.y.high - self.y.low)
        return self.bottom - np.clip(fraction, -0.01, 1.01) * (self.bottom - self.top)


def plot(title: str, description: str, x: Axis, y: Axis, marks: Sequence[Series]) -> str:
    """Return an SVG text; ``description`` is the chart in words.

    ``marks`` are drawn in order, and the legend lists those with names. Values outside the axes are drawn at their
    ends.
    """
    entries = [(_KEYS[type(mark)](mark), mark.name) for mark in marks if mark.name]
    legend, legend_height = svg.legend(entries, 12, _TOP + 8, svg.WIDTH - 24)
    rows = ticks(y.low, y.high)
    left = 34 + max((svg.length(format_tick(value)) for value in rows), default=0)
    top = _TOP + legend_height + 4
    height = _HEIGHT + legend_height + _BOTTOM
    frame = _Frame(x, y, left, svg.WIDTH - _RIGHT, top, height - _BOTTOM)
    body = [legend, *_axes(frame, rows), *(_DRAW[type(mark)](frame, mark) for mark in marks)]
    return svg.draw(title, description, height, body)


def _axes(frame: _Frame, rows: Sequence[float]) -> Iterator[str]:
    for value, y in zip(rows, frame.up(rows), strict=True):
        yield svg.line(frame.left, y, frame.right, y)
        yield svg.text(frame.left - 6, y + 4, format_tick(value), "soft", "end")
    columns = ticks(frame.x.low, frame.x.high)
    for value, x in zip(columns, frame.across(columns), strict=True):
        yield svg.line(x, frame.top, x, frame.bottom)
        yield svg.text(x, frame.bottom + 15, format_tick(value), "soft", "middle")
    yield svg.text((frame.left + frame.right) / 2, frame.bottom + 32, frame.x.label, "", "middle")
    yield svg.text(16, (frame.top + frame.bottom) / 2, frame.y.label, "", "middle", -90)


def _line(frame: _Frame, mark: Line) -> str:
    return _path(frame.across(mark.x), frame.up(mark.y), _stroke(mark))


def _stroke(mark: Line | Steps) -> str:
    if isinstance(mark, Line) and mark.faint:
        return f'class="curve faint s{mark.tone % svg.TONES}"'
    dash = svg.DASHES[mark.tone % svg.TONES]
    return f'class="curve s{mark.tone % svg.TONES}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _steps(frame: _Frame, mark: Steps) -> str:
    return _path(np.repeat(frame.across(mark.edges), 2)[1:-1], np.repeat(frame.up(mark.y), 2), _stroke(mark))


def _path(x: np.ndarray, y: np.ndarray, kind: str) -> str:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    return f'<polyline {kind} points="{points}"/>'


def _area(frame: _Frame, mark: Area) -> str:
    x, y, ground = frame.across(mark.edges).tolist(), frame.up(mark.y).tolist(), float(frame.up([0.0])[0])
    tooltips = mark.tooltips or [""] * len(y)
    tone = f"f{mark.tone % svg.TONES}"
    return "".join(
        svg.rect(x[i] + 0.5, level, x[i + 1] - x[i] - 1, ground - level, tone, tooltips[i], 0.75)
        for i, level in enumerate(y)
        if ground - level > 0
    )


def _dots(frame: _Frame, mark: Dots) -> str:
    x, y = frame.across(mark.x).tolist(), frame.up(mark.y).tolist()
    # a line of no length with round ends is a dot, in a tenth of the bytes of a circle
    points = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x, y, strict=True))
    return f'<path class="dots s{mark.tone % svg.TONES}" d="{points}"/>'


def _line_key(mark: Line | Steps) -> str:
    return f'<path {_stroke(mark)} d="M0 5h18"/>'


def _area_key(mark: Area) -> str:
    return svg.rect(2, 0, 14, 10, f"f{mark.tone % svg.TONES}", "", 0.75)


def _dots_key(mark: Dots) -> str:
    return f'<path class="dots s{mark.tone % svg.TONES}" style="stroke-width:6;stroke-opacity:1" d="M9 5h0"/>'


_DRAW: dict[type, Callable[..., str]] = {Line: _line, Steps: _steps, Area: _area, Dots: _dots}
_KEYS: dict[type, Callable[..., str]] = {Line: _line_key, Steps: _line_key, Area: _area_key, Dots: _dots_key}
