"""The upright box around an outline as COCO writes it: polygons, or runs of pixels (RLE), packed as a text or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_MOST = 1e15  # of a coordinate
_MAX_SIDE = 2**31 - 1

Box = tuple[float, float, float, float]


def outline_box(outline: Any) -> Box | None:
    """The box x1, y1, x2, y2 around a ``segmentation``, in pixels; None where it is no outline or an empty one.

    Polygons are lists of x1, y1, x2, y2, ... or of points; a single one may stand without the outer list. Of masks the
    edges of their pixels count, as in COCO's own tools.
    """
    if isinstance(outline, dict):
        return _mask_box(outline)
    if not isinstance(outline, list) or not outline:
        return None
    polygons = outline if all(isinstance(one, list) for one in outline) else [outline]
    xs: list[float] = []
    ys: list[float] = []
    for polygon in map(_without_pairs, polygons):
        if len(polygon) % 2 or not all(type(value) in (int, float) and abs(value) < _MOST for value in polygon):
            return None
        xs += polygon[::2]
        ys += polygon[1::2]
    return (float(min(xs)), float(min(ys)), float(max(xs)), float(max(ys))) if xs else None


def _without_pairs(polygon: list[Any]) -> list[Any]:
    """A polygon of points [x, y] as one list of numbers; any other as it is."""
    if polygon and all(isinstance(point, list) and len(point) == 2 for point in polygon):
        return [value for point in polygon for value in point]
    return polygon


def _mask_box(mask: dict[str, Any]) -> Box | None:
    """Runs go down the columns, from left to right, and the first one is of the background."""
    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2:
        return None
    if not all(type(side) is int and 0 < side <= _MAX_SIDE for side in size):
        return None
    runs = _unpack(counts) if isinstance(counts, str) else counts
    height, width = size
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        return None
    if sum(runs) > height * width:
        return None
    return _box_of_runs(runs, height)


def _box_of_runs(runs: Sequence[int], height: int) -> Box | None:
    ends = np.cumsum(np.array(runs, np.int64))[1::2]
    lengths = np.array(runs[1::2], np.int64)
    starts, lasts = (ends - lengths)[lengths > 0], (ends - 1)[lengths > 0]  # of the pixels of the object
    if not len(starts):
        return None
    left, right = starts // height, lasts // height
    whole = left < right  # such a run goes on from the bottom of a column to the top of the next
    top = 0 if whole.any() else int((starts % height).min())
    bottom = height if whole.any() else int((lasts % height).max()) + 1
    return float(left.min()), float(top), float(right.max()) + 1, float(bottom)


def _unpack(text: str) -> list[int] | None:
    """The runs of a packed text: five bits a sign, the lowest first; from the fourth run on as differences from the one
    before the last."""
    runs: list[int] = []
    value = shift = 0
    for sign in text.encode("utf-8", "replace"):
        bits = sign - 48
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
