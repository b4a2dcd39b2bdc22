"""Large images as overlapping tiles, and the detections of an image from those of its tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int64

from varifocal.inference.boxes_numpy import batched_nms_numpy, box_iou
from varifocal.types import Detections, PostProcess, Tiling
from varifocal.utils.errors import ConfigError

Tile = tuple[int, int, int, int]  # xyxy pixels of the image
VOTERS = 256  # boxes that are averaged at a time, so that the matrix of IoUs stays small
OVERLAP = 0.2  # default fraction of the tile by which tiles overlap


def tiling_from_options(own: Tiling, size: int | None, overlap: float | int | None) -> Tiling:
    """Return the tiling that the options --tile and --overlap describe, or the model's own without --tile.

    ``size`` 0 reads images whole. A float is an overlap as a fraction of the tile, an int is one in pixels; the default
    is a fifth of the tile. How boxes are averaged stays the model's own choice.

    Raises:
        ConfigError: an overlap is given without tiles, or a size or an overlap is out of range.
    """
    if overlap is not None and not size:
        raise ConfigError(
            f"--overlap {overlap}: needs tiles; give their side in pixels with --tile.", code="overlap-without-tile"
        )
    if size is None:
        return own
    if size < 0:
        raise ConfigError(
            f"--tile {size}: give the side of the tiles in pixels, or 0 to read images whole.", code="tile-size"
        )
    overlap = OVERLAP if overlap is None else overlap
    pixels = overlap if isinstance(overlap, int) else _pixels(overlap, size)
    if size and not 0 <= pixels < size:
        raise ConfigError(
            f"--overlap {overlap}: tiles of {size} pixels overlap by 0 to {size - 1} pixels.", code="overlap-pixels"
        )
    return replace(own, size=size, overlap=pixels)


def _pixels(fraction: float, size: int) -> int:
    if not 0 <= fraction < 1:
        raise ConfigError(
            f"--overlap {fraction}: a fraction of the tile is at least 0 and below 1; a number of pixels is written "
            "without a decimal point.",
            code="overlap-fraction",
        )
    return min(math.ceil(fraction * size - 1e-9), max(size - 1, 0))  # 0.07 * 100 is a little more than 7


def make_tiles(height: int, width: int, tiling: Tiling) -> list[Tile]:
    """Return evenly spread tiles that cover an image, row by row; a single one where the image fits into it."""
    if not tiling.size:
        return [(0, 0, width, height)]
    return [
        (left, top, min(left + tiling.size, width), min(top + tiling.size, height))
        for top in _starts(height, tiling)
        for left in _starts(width, tiling)
    ]


def _starts(length: int, tiling: Tiling) -> list[int]:
    rest = length - tiling.size
    if rest <= 0:
        return [0]
    gaps = -(-rest // (tiling.size - tiling.overlap))
    return [i * rest // gaps for i in range(gaps + 1)]


def merge_tiles(
    parts: Sequence[Detections], size: tuple[int, int], tiling: Tiling, settings: PostProcess
) -> tuple[Detections, Int64[np.ndarray, "K"]]:
    """Return the detections of an image of (height, width), best first, from those of its tiles in pixels of each tile.

    A box cut by the border of its tile is left to the neighbor, which sees more of it, unless its visible part is
    longer than the overlap. Then class-wise suppression joins the boxes that several tiles found, and the best
    ``settings.max_detections`` stay. The second value is the index of each detection among those of all tiles, in
    their order. Soft suppression is not repeated: the scores that it lowered must not be lowered twice.
    """
    tiles = make_tiles(*size, tiling)
    if len(tiles) == 1 and not tiling.vote:
        return parts[0], np.arange(len(parts[0]))
    boxes, scores, labels, origins = [], [], [], []
    start = 0
    for part, tile in zip(parts, tiles, strict=True):
        keep = ~_left_to_neighbor(part.boxes, tile, *size, tiling.overlap)
        origins.append(start + np.flatnonzero(keep))
        start += len(part)
        boxes.append(part.boxes[keep] + np.array([tile[0], tile[1]] * 2, dtype=np.float32))
        scores.append(part.scores[keep])
        labels.append(part.labels[keep])
    box, score, label = (np.concatenate(arrays) for arrays in (boxes, scores, labels))
    kept = batched_nms_numpy(box, score, label, settings.nms_iou, settings.max_detections)
    final = _voted(box, score, label, kept, tiling.vote) if tiling.vote else box[kept]
    return Detections(final, score[kept], label[kept], parts[0].categories), np.concatenate(origins)[kept]


def _voted(
    boxes: Float[np.ndarray, "N 4"],
    scores: Float[np.ndarray, "N"],
    labels: Int64[np.ndarray, "N"],
    kept: Int64[np.ndarray, "K"],
    min_iou: float,
) -> Float[np.ndarray, "K 4"]:
    """Return each kept box as the mean, weighted by score, of the boxes of its class that overlap it enough."""
    result = boxes[kept].copy()
    everything = boxes.astype(np.float64)
    for start in range(0, len(kept), VOTERS):
        part = kept[start : start + VOTERS]
        near = (box_iou(everything[part], everything) >= min_iou) & (labels[part][:, None] == labels)
        near[np.arange(len(part)), part] = True  # also of a box without area, whose IoU with itself is no number
        weights = near * scores.astype(np.float64)
        result[start : start + VOTERS] = weights @ boxes / weights.sum(axis=1, keepdims=True)
    return result


def _left_to_neighbor(boxes: np.ndarray, tile: Tile, height: int, width: int, overlap: int) -> np.ndarray:
    """Return which boxes [N, 4] end within a pixel of the tile's inner border but lie well inside the next tile.

    A box that ends at such a border and is two pixels shorter than the overlap begins two pixels inside the neighbor.
    """
    left, top, right, bottom = tile
    lengths = boxes[:, 2:] - boxes[:, :2]
    cut_x = ((boxes[:, 0] < 1) & (left > 0)) | ((boxes[:, 2] > right - left - 1) & (right < width))
    cut_y = ((boxes[:, 1] < 1) & (top > 0)) | ((boxes[:, 3] > bottom - top - 1) & (bottom < height))
    shorter: np.ndarray = lengths <= overlap - 2
    return (cut_x & shorter[:, 0]) | (cut_y & shorter[:, 1])
