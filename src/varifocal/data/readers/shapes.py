"""Upright boxes around points, turned boxes and ellipses."""

from __future__ import annotations

import math
from collections.abc import Sequence

Box = tuple[float, float, float, float]  # x1, y1, x2, y2


def enclosing_box(points: Sequence[tuple[float, float]]) -> Box:
    """Return the upright box around points, as x1, y1, x2, y2."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def rotate_box(box: Box, degrees: float, pivot: tuple[float, float]) -> Box:
    """Return the upright box around a box that is turned clockwise about a point."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    x0, y0 = pivot
    corners = [(x - x0, y - y0) for x in box[::2] for y in box[1::2]]
    return enclosing_box([(x0 + x * cosine - y * sine, y0 + x * sine + y * cosine) for x, y in corners])


def ellipse_box(x: float, y: float, rx: float, ry: float, degrees: float) -> Box:
    """Return the upright box around an ellipse that is turned clockwise about its middle.

    A half side is the hypotenuse of the two half axes as seen along it.
    """
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    width, height = math.hypot(rx * cosine, ry * sine), math.hypot(rx * sine, ry * cosine)
    return x - width, y - height, x + width, y + height
