"""The upright box around an outline as COCO writes it: polygons, or run lengths of pixels (RLE), packed or not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeGuard

import numpy as np

from varifocal.data.readers.shapes import Box

_MAX_NUMBER = 1e15
_MAX_SIDE = 2**31 - 1


def outline_box(outline: Any) -> Box | None:
    """Return the box x1, y1, x2, y2 around a ``segmentation``, in pixels; None where it is no outline or is empty.

    Polygons are lists of x1, y1, x2, y2, ... or of points; a single one may lack the outer list. The box of a mask goes
    along the edges of its pixels, as in COCO's own tools.
    """
    if isinstance(outline, dict):
        return _mask_box(outline)
    if not isinstance(outline, list) or not outline:
        return None
    polygons = outline if all(isinstance(polygon, list) for polygon in outline) else [outline]
    numbers = [_coordinates(polygon) for polygon in polygons]
    if None in numbers:
        return None
    values = [*chain.from_iterable(filter(None, numbers))]
    xs, ys = values[::2], values[1::2]
    return (float(min(xs)), float(min(ys)), float(max(xs)), float(max(ys))) if values else None


def _coordinates(polygon: list[Any]) -> list[float] | None:
    """Return the numbers of a polygon, x and y in turn; None where it holds anything else."""
    if polygon and all(isinstance(point, list) and len(point) == 2 for point in polygon):
        polygon = [*chain.from_iterable(polygon)]
    if len(polygon) % 2 or not all(type(value) in (int, float) and abs(value) < _MAX_NUMBER for value in polygon):
        return None
    return polygon


def _are_whole(values: Any, least: int) -> TypeGuard[list[int]]:
    """Return whether a value is a list of whole numbers that are not too small and not too large."""
    return isinstance(values, list) and all(type(value) is int and least <= value < _MAX_NUMBER for value in values)


def _mask_box(mask: dict[str, Any]) -> Box | None:
    """Return the box of a mask; its runs go down the columns, from left to right, and the first is background."""
    size, counts = mask.get("size"), mask.get("counts")
    runs = _unpack(counts) if isinstance(counts, str) else counts
    if not _are_whole(size, 1) or len(size) != 2 or max(size) > _MAX_SIDE or not _are_whole(runs, 0):
        return None
    height, width = size
    return _box_of_runs(runs, height) if sum(runs) <= height * width else None


def _box_of_runs(runs: Sequence[int], height: int) -> Box | None:
    """Return the box of run lengths; None where no pixel is of the object."""
    ends = np.cumsum(np.array(runs, np.int64))[1::2]
    lengths = np.array(runs[1::2], np.int64)
    starts, lasts = (ends - lengths)[lengths > 0], (ends - 1)[lengths > 0]  # of the pixels of the object
    if not len(starts):
        return None
    left, right = starts // height, lasts // height
    is_high = (left < right).any()  # the run continues at the top of the next column
    top = 0 if is_high else int((starts % height).min())
    bottom = height if is_high else int((lasts % height).max()) + 1
    return float(left.min()), float(top), float(right.max()) + 1, float(bottom)


def _unpack(text: str) -> list[int] | None:
    """Return the run lengths in a packed text; None where it holds none.

    A character holds five bits, the lowest first. From the fourth on, a run is the difference from that two before it.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text.encode("utf-8", "replace"):
        bits = character - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return None if shift else runs
