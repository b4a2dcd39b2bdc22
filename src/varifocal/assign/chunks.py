"""Boxes in blocks, so that no table of all points with all boxes is ever in memory."""

from __future__ import annotations

from collections.abc import Iterator

PAIRS = 2**18  # of a point and a box that are looked at together


def chunk_boxes(points: int, boxes: int) -> Iterator[slice]:
    """Slices that go through the boxes, each with about ``PAIRS`` pairs with the points or a single box."""
    step = max(PAIRS // max(points, 1), 1)
    return (slice(start, min(start + step, boxes)) for start in range(0, boxes, step))
