"""Large images as overlapping windows, and the windows' detections as those of the image."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int64

from varifocal.inference.boxes_numpy import batched_nms_numpy, box_iou
from varifocal.types import Detections, Tiling
from varifocal.utils.errors import ConfigError

Tile = tuple[int, int, int, int]
VOTERS = 256
OVERLAP = 0.2  # of windows that are asked for without one


def tiling_from_options(own: Tiling, size: int | None, overlap: float | int | None) -> Tiling:
    """The tiling that the options --tile and --overlap ask for; the model's own without --tile.

    ``size`` 0 takes images whole. A float is an overlap as a fraction of the window, an int is one in pixels; a fifth
    of the window when left out. How boxes are averaged stays the model's own choice.

    Raises:
        ConfigError: an overlap without windows, or a size or overlap that cannot be.
    """
    if overlap is not None and not size:
        raise ConfigError(f"--overlap {overlap}: of which windows? Give their side in pixels with --tile.")
    if size is None:
        return own
    if size < 0:
        raise ConfigError(f"--tile {size}: give the side of the windows in pixels, or 0 to read images whole.")
    overlap = OVERLAP if overlap is None else overlap
    pixels = overlap if isinstance(overlap, int) else _pixels(overlap, size)
    if size and not 0 <= pixels < size:
        raise ConfigError(f"--overlap {overlap}: windows of {size} pixels overlap by 0 to {size - 1}.")
    return replace(own, size=size, overlap=pixels)


def _pixels(fraction: float, size: int) -> int:
    if not 0 <= fraction < 1:
        raise ConfigError(
            f"--overlap {fraction}: a fraction of the window is at least 0 and below 1; pixels are a whole number."
        )
    return min(math.ceil(fraction * size - 1e-9), max(size - 1, 0))  # 0.07 * 100 is a little more than 7


def make_tiles(height: int, width: int, tiling: Tiling) -> list[Tile]:
    """xyxy windows that cover an image, row by row, evenly spread; one that is the image if it fits."""
    if not tiling.size:
        return [(0, 0, width, height)]
    return [
        (left, top, min(left + tiling.size, width), min(top + tiling.size, height))
        for top in _starts(height, tiling)
        for left in _starts(width, tiling)
    ]


def _starts(length: int, tiling: Tiling) -> list[int]:
    room = length - tiling.size
    if room <= 0:
        return [0]
    gaps = -(-room // (tiling.size - tiling.overlap))
    return [i * room // gaps for i in range(gaps + 1)]


def merge_tiles(
    parts: list[Detections], tiles: list[Tile], height: int, width: int, tiling: Tiling, iou: float, most: int
) -> Detections:
    """The image's detections, best first, from those of its windows in pixels of each window.

    A box cut by the border of its window is left to the neighbor, which sees more of it, unless its visible part
    is longer than the overlap. Then class-wise suppression at ``iou`` joins what several windows found, and the
    best ``most`` stay.
    """
    return merge_tiles_with_indices(parts, tiles, height, width, tiling, iou, most)[0]


def merge_tiles_with_indices(
    parts: list[Detections], tiles: list[Tile], height: int, width: int, tiling: Tiling, iou: float, most: int
) -> tuple[Detections, Int64[np.ndarray, "K"]]:
    """Return what :func:`merge` does, and each detection's index among those of all windows, in their order."""
    boxes, scores, labels, origins = [], [], [], []
    start = 0
    for part, tile in zip(parts, tiles, strict=True):
        keep = ~_left_to_neighbor(part.boxes, tile, height, width, tiling.overlap)
        origins.append(start + np.flatnonzero(keep))
        start += len(part)
        boxes.append(part.boxes[keep] + np.array([tile[0], tile[1]] * 2, dtype=np.float32))
        scores.append(part.scores[keep])
        labels.append(part.labels[keep])
    box, score, label = (np.concatenate(arrays) for arrays in (boxes, scores, labels))
    kept = batched_nms_numpy(box, score, label, iou, most)
    final = _voted(box, score, label, kept, tiling.vote) if tiling.vote else box[kept]
    return Detections(final, score[kept], label[kept], parts[0].categories), np.concatenate(origins)[kept]


def _voted(
    boxes: Float[np.ndarray, "N 4"],
    scores: Float[np.ndarray, "N"],
    labels: Int64[np.ndarray, "N"],
    kept: Int64[np.ndarray, "K"],
    least: float,
) -> Float[np.ndarray, "K 4"]:
    """The kept boxes as means of what overlaps them, a few at a time so that the matrix stays small."""
    result = boxes[kept].copy()
    everything = boxes.astype(np.float64)
    for start in range(0, len(kept), VOTERS):
        part = kept[start : start + VOTERS]
        near = (box_iou(everything[part], everything) >= least) & (labels[part][:, None] == labels)
        near[np.arange(len(part)), part] = True  # also of a box without area, whose IoU with itself is no number
        weights = near * scores.astype(np.float64)
        result[start : start + VOTERS] = weights @ boxes / weights.sum(axis=1, keepdims=True)
    return result


def _left_to_neighbor(boxes: np.ndarray, tile: Tile, height: int, width: int, overlap: int) -> np.ndarray:
    """Which boxes [N, 4] end within a pixel of a border that is not the image's, and not so in the next window.

    A box two pixels shorter than the overlap that ends at a border begins two pixels inside the neighbor.
    """
    left, top, right, bottom = tile
    lengths = boxes[:, 2:] - boxes[:, :2]
    cut_x = ((boxes[:, 0] < 1) & (left > 0)) | ((boxes[:, 2] > right - left - 1) & (right < width))
    cut_y = ((boxes[:, 1] < 1) & (top > 0)) | ((boxes[:, 3] > bottom - top - 1) & (bottom < height))
    shorter: np.ndarray = lengths <= overlap - 2
    return (cut_x & shorter[:, 0]) | (cut_y & shorter[:, 1])
