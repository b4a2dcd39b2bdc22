"""Boxes in blocks, so that no matrix of all points and all boxes is in memory."""

from __future__ import annotations

from collections.abc import Iterator

PAIRS = 2**18  # pairs of a point and a box in a block


def chunk_boxes(points: int, boxes: int) -> Iterator[slice]:
    """Return slices of the boxes, each of which makes about ``PAIRS`` pairs with the points or holds a single box."""
    step = max(PAIRS // max(points, 1), 1)
    return (slice(start, min(start + step, boxes)) for start in range(0, boxes, step))
