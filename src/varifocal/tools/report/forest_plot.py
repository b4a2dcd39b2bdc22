"""Differences with their intervals, one below the other, about a line at zero."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from varifocal.analysis.charts import svg
from varifocal.analysis.charts.ticks import ticks, written
from varifocal.analysis.comparison import Difference
from varifocal.tools.report.sweeps import Comparison

_LEFT, _RIGHT, _TOP, _PITCH = 170.0, 20.0, 44.0, 26.0
_WIDEST = 2.5  # times what the sure ones take: beyond it an interval of few seeds leaves the chart
_SURE = 3  # seeds
TONES = {"better": 2, "worse": 1, "open": 5}


def forest_plot(title: str, statements: Sequence[Comparison]) -> str:
    """An SVG text; empty where no statement has a difference. An interval that leaves the chart ends in an arrow."""
    known = [(one, one.difference) for one in statements if one.difference is not None]
    if not known:
        return ""
    low, high = _axis([d for _, d in known])
    scale = (svg.WIDTH - _LEFT - _RIGHT) / (high - low)
    bottom = _TOP + _PITCH * len(known)
    alone = len({one.baseline for one, _ in known}) == 1
    body = list(_grid(low, high, scale, bottom))
    for number, (one, d) in enumerate(known):
        y = _TOP + _PITCH * (number + 0.5)
        tone = TONES[one.verdict]
        label = one.row if alone else f"{one.row} / {one.baseline}"
        at = _LEFT + (100 * d.mean - low) * scale
        body.append(svg.text(_LEFT - 8, y + 4, svg.shortened(label, _LEFT - 20), "", "end"))
        if d.low is not None and d.high is not None:
            first, last = (_LEFT + (100 * value - low) * scale for value in (d.low, d.high))
            body += _interval(first, last, y, tone)
        body.append(svg.rect(at - 4, y - 4, 8, 8, f"f{tone}", one.words))
    words = "; ".join(one.words for one, _ in known)
    return svg.draw(title, f"{words}.", bottom + 42, body)


def _axis(differences: Sequence[Difference]) -> tuple[float, float]:
    """From where to where, in points: all of it, but for intervals of few seeds that would make the others specks."""
    every = _ends(differences)
    sure = [d for d in differences if d.pairs >= _SURE]
    low, high = min(every), max(every)
    if sure:
        inside = [*_ends(sure), *(100 * d.mean for d in differences)]
        middle, reach = (min(inside) + max(inside)) / 2, _WIDEST * (max(inside) - min(inside)) / 2
        if reach:
            low, high = max(low, middle - reach), min(high, middle + reach)
    room = 0.08 * (high - low) or 1.0
    return low - room, high + room


def _ends(differences: Sequence[Difference]) -> list[float]:
    return [0.0, *(100 * value for d in differences for value in (d.mean, d.low, d.high) if value is not None)]


def _interval(first: float, last: float, y: float, tone: int) -> Iterator[str]:
    """From x to x, with an arrow head where it goes on outside of the chart."""
    left, right = _LEFT, svg.WIDTH - _RIGHT
    yield svg.line(max(first, left), y, min(last, right), y, f"curve s{tone}")
    for x, side, outside in ((left, 1, first < left), (right, -1, last > right)):
        if outside:
            yield f'<path class="f{tone}" d="M{x:.1f} {y:.1f}l{8 * side} -4v8z"/>'


def _grid(low: float, high: float, scale: float, bottom: float) -> Iterator[str]:
    for value in ticks(low, high):
        x = _LEFT + (value - low) * scale
        yield svg.line(x, _TOP, x, bottom)
        yield svg.text(x, bottom + 15, written(value), "soft", "middle")
    zero = _LEFT - low * scale
    yield svg.line(zero, _TOP - 4, zero, bottom, "curve s5")
    yield svg.text((_LEFT + svg.WIDTH - _RIGHT) / 2, bottom + 33, "points more than the other row", "", "middle")
