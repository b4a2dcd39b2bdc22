"""Differences with their intervals, one below the other, about a line at zero."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from varifocal.charts import svg
from varifocal.charts.ticks import ticks, written
from varifocal.report.sweeps import Statement

_LEFT, _RIGHT, _TOP, _PITCH = 170.0, 20.0, 44.0, 26.0
TONES = {"better": 2, "worse": 1, "open": 5}


def forest(title: str, statements: Sequence[Statement]) -> str:
    """An SVG text; empty where no statement has a difference."""
    known = [(one, one.difference) for one in statements if one.difference is not None]
    if not known:
        return ""
    ends = [100 * value for _, d in known for value in (d.mean, d.low or d.mean, d.high or d.mean)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    room = 0.08 * (high - low) or 1.0
    low, high = low - room, high + room
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
            body.append(svg.line(first, y, last, y, f"curve s{tone}"))
        body.append(svg.rect(at - 4, y - 4, 8, 8, f"f{tone}", one.words))
    words = "; ".join(one.words for one, _ in known)
    return svg.draw(title, f"{words}.", bottom + 42, body)


def _grid(low: float, high: float, scale: float, bottom: float) -> Iterator[str]:
    for value in ticks(low, high):
        x = _LEFT + (value - low) * scale
        yield svg.line(x, _TOP, x, bottom)
        yield svg.text(x, bottom + 15, written(value), "soft", "middle")
    zero = _LEFT - low * scale
    yield svg.line(zero, _TOP - 4, zero, bottom, "curve s5")
    yield svg.text((_LEFT + svg.WIDTH - _RIGHT) / 2, bottom + 33, "points more than the other row", "", "middle")
