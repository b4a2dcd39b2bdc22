"""Recommendation of an image size, or of tiles, for the boxes of a data set.

A box is learned well if its mean side, the root of its area, spans at least two cells of the finest feature map:
``CELLS`` x stride 8 = 16 pixels of the network's input. The recommended size makes 95 % of the boxes that large, and
enlarges images at most twice, since more shows nothing new. If the images would become larger than ``LARGE`` on their
longer side, tiles are recommended instead: at the same scale, ``WINDOW`` pixels of the input large, and overlapping by
the longest side of 99 % of the boxes, so that each of these is whole in some tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int64

from varifocal.types import Preprocess

CELLS = 2  # cells of the finest feature map that a box's mean side should span
COVERED = 0.95  # fraction of the boxes for which it should
ENLARGE = 2.0  # largest factor
SMALLEST = 320  # pixels of the shorter side: a smaller input would save little
LARGE = 1600  # pixels of the longer side from which tiles are better
WINDOW = 800  # pixels of a tile in the network's input
STEP = 32  # sizes are multiples of it
ENOUGH = 0.75  # fraction of the recipe's side below which a smaller input is recommended


@dataclass(frozen=True)
class Advice:
    """A recommended size; ``overrides`` are options for the command line, empty if the recipe's own size is right.

    ``fraction_now`` is the fraction of boxes whose mean side is at least ``least_side`` pixels at the recipe's size,
    ``fraction_then`` at the recommended one. ``side`` is the 5th percentile of the mean sides in pixels of the images.
    """

    text: str
    overrides: tuple[str, ...]
    preprocess: Preprocess
    least_side: int
    side: float
    fraction_now: float
    fraction_then: float
    window: int = 0
    overlap: int = 0


def recommend_size(
    sizes: Int64[np.ndarray, "M 2"],
    owner: Int64[np.ndarray, "N"],
    boxes: Float[np.ndarray, "N 4"],
    resized: Int64[np.ndarray, "M 2"],
    preprocess: Preprocess,
    finest: int,
) -> Advice | None:
    """Return the advice for images of these (width, height); None without boxes.

    Args:
        sizes: (width, height) of the images in pixels.
        owner: the image of each box.
        boxes: xyxy in pixels.
        resized: (width, height) of the images after the recipe's resize.
        preprocess: the recipe's resize.
        finest: the stride of the finest feature map.
    """
    if not len(boxes):
        return None
    least = CELLS * finest
    spans = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
    sides = np.sqrt(spans.prod(axis=1))
    now = float((sides * np.sqrt(resized.prod(axis=1) / sizes.prod(axis=1))[owner] >= least).mean())
    side = float(np.quantile(sides, 1 - COVERED))
    blank = Advice("", (), preprocess, least, side, now, now)
    scale = min(least / max(side, 1e-6), ENLARGE)
    relative = sides / sizes[owner].min(axis=1)
    most = ENLARGE * float(np.median(sizes.min(axis=1)))
    short = min(least / max(float(np.quantile(relative, 1 - COVERED)), 1e-6), most)
    short = max(math.ceil(short / STEP) * STEP, SMALLEST)
    ratio = float(np.quantile(sizes.max(axis=1) / sizes.min(axis=1), 0.9))
    long = math.ceil(short * ratio / STEP) * STEP
    if max(long, scale * np.median(sizes.max(axis=1))) > LARGE:
        return _tiled(blank, scale, sides, float(np.quantile(spans.max(axis=1), 0.99)))
    factor = np.minimum(short / sizes.min(axis=1), long / sizes.max(axis=1))
    then = float((sides * factor[owner] >= least).mean())
    return _whole(blank, (short, long), float(np.median(resized.min(axis=1))), then)


def _whole(blank: Advice, size: tuple[int, int], usual: float, then: float) -> Advice:
    """Return the advice for whole images of this shorter and longer side; ``usual`` is the recipe's shorter side."""
    short, long = size
    least, now = blank.least_side, blank.fraction_now
    if ENOUGH * usual <= short <= usual or (now >= COVERED and short > usual):
        text = f"the recipe's size is right: {now:.0%} of the boxes span {least} pixels or more of the network's input"
        return replace(blank, text=text)
    if short < usual:
        text = (
            f"a shorter side of {short} pixels is enough: {then:.0%} of the boxes still span {least} pixels or more "
            f"(at the recipe's {usual:.0f}, {now:.0%}), with {(short / usual) ** 2:.0%} of the computation"
        )
    else:
        text = (
            f"enlarge images to a shorter side of {short} pixels: {then:.0%} of the boxes then span {least} pixels "
            f"or more; at the recipe's {usual:.0f} it is {now:.0%}"
        )
    words = [f"data.preprocess.short_side={short}", f"data.preprocess.max_long_side={long}"]
    if blank.preprocess.scale is not None:
        words.append("data.preprocess.scale=null")
    preprocess = replace(
        blank.preprocess,
        short_side=short,
        max_long_side=long,
        scale=None,
        max_size=max(blank.preprocess.max_size, long),
    )
    return replace(blank, text=text, overrides=tuple(words), preprocess=preprocess, fraction_then=then)


def _tiled(blank: Advice, scale: float, sides: Float[np.ndarray, "N"], longer_side: float) -> Advice:
    """Return the advice for tiles at this scale; ``longer_side`` is the longer side of the 99 % smallest boxes."""
    overlap = math.ceil(longer_side) + 2  # a box two pixels shorter than the overlap is whole in some tile
    window = math.ceil(max(WINDOW / scale, 2 * overlap) / STEP) * STEP
    scale = round(scale, 3)
    then = float((sides * scale >= blank.least_side).mean())
    words = (
        f"data.preprocess.scale={scale:g}",
        f"data.augment.crop={math.ceil(window * scale / STEP) * STEP}",
        f"tiling.size={window}",
        f"tiling.overlap={overlap}",
    )
    text = (
        f"read images in tiles of {window} pixels that overlap by {overlap}, at a scale of {scale:g}: {then:.0%} "
        f"of the boxes then span {blank.least_side} pixels or more of the network's input; with the unchanged recipe "
        f"it is {blank.fraction_now:.0%}"
    )
    preprocess = replace(blank.preprocess, scale=scale)
    return replace(
        blank, text=text, overrides=words, preprocess=preprocess, fraction_then=then, window=window, overlap=overlap
    )
