"""Forest plot: differences with their confidence intervals, one below the other, and a line at zero."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from varifocal.analysis.charts import svg
from varifocal.analysis.charts.ticks import format_tick, ticks
from varifocal.analysis.comparison import Difference
from varifocal.tools.report.sweeps import Comparison

_LEFT, _RIGHT, _TOP, _PITCH = 170.0, 20.0, 44.0, 26.0
_WIDEST = 2.5  # widest chart, relative to the intervals of enough seeds: others may leave it
_ENOUGH = 3  # seeds
TONES = {"better": 2, "worse": 1, "open": 5}


def forest_plot(title: str, comparisons: Sequence[Comparison]) -> str:
    """Return an SVG text, "" without a difference; an interval that leaves the chart ends in an arrow."""
    known = [(each, each.difference) for each in comparisons if each.difference is not None]
    if not known:
        return ""
    low, high = _axis([difference for _, difference in known])
    scale = (svg.WIDTH - _LEFT - _RIGHT) / (high - low)
    bottom = _TOP + _PITCH * len(known)
    one_baseline = len({comparison.baseline for comparison, _ in known}) == 1
    body = list(_grid(low, high, scale, bottom))

    def x(value: float) -> float:
        return _LEFT + (100 * value - low) * scale

    for number, (comparison, difference) in enumerate(known):
        label = comparison.row if one_baseline else f"{comparison.row} / {comparison.baseline}"
        y, tone = _TOP + _PITCH * (number + 0.5), TONES[comparison.verdict]
        body.append(svg.text(_LEFT - 8, y + 4, svg.ellipsize(label, _LEFT - 20), "", "end"))
        if difference.low is not None and difference.high is not None:
            body += _interval(x(difference.low), x(difference.high), y, tone)
        body.append(svg.rect(x(difference.mean) - 4, y - 4, 8, 8, f"f{tone}", comparison.words))
    words = "; ".join(comparison.words for comparison, _ in known)
    return svg.draw(title, f"{words}.", bottom + 42, body)


def _axis(differences: Sequence[Difference]) -> tuple[float, float]:
    """Return the ends of the axis in points; intervals of few seeds do not widen it so far that others become tiny."""
    ends = _ends(differences)
    certain = [difference for difference in differences if difference.pairs >= _ENOUGH]
    low, high = min(ends), max(ends)
    if certain:
        inside = [*_ends(certain), *(100 * difference.mean for difference in differences)]
        middle, reach = (min(inside) + max(inside)) / 2, _WIDEST * (max(inside) - min(inside)) / 2
        if reach:
            low, high = max(low, middle - reach), min(high, middle + reach)
    margin = 0.08 * (high - low) or 1.0
    return low - margin, high + margin


def _ends(differences: Sequence[Difference]) -> list[float]:
    return [0.0, *(100 * value for d in differences for value in (d.mean, d.low, d.high) if value is not None)]


def _interval(first: float, last: float, y: float, tone: int) -> Iterator[str]:
    """Yield a line from x to x, with an arrow head where it continues outside of the chart."""
    left, right = _LEFT, svg.WIDTH - _RIGHT
    yield svg.line(max(first, left), y, min(last, right), y, f"curve s{tone}")
    for x, side, outside in ((left, 1, first < left), (right, -1, last > right)):
        if outside:
            yield f'<path class="f{tone}" d="M{x:.1f} {y:.1f}l{8 * side} -4v8z"/>'


def _grid(low: float, high: float, scale: float, bottom: float) -> Iterator[str]:
    for value in ticks(low, high):
        x = _LEFT + (value - low) * scale
        yield svg.line(x, _TOP, x, bottom)
        yield svg.text(x, bottom + 15, format_tick(value), "soft", "middle")
    zero = _LEFT - low * scale
    yield svg.line(zero, _TOP - 4, zero, bottom, "curve s5")
    yield svg.text((_LEFT + svg.WIDTH - _RIGHT) / 2, bottom + 33, "points more than the baseline", "", "middle")
