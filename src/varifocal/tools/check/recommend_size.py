"""Which size of image, or which windows, the boxes ask for.

The rule. A box is learned well when its mean side, the root of its area, spans at least two cells of the finest map:
``CELLS`` x stride 8 = 16 pixels of the network's input. The size that is recommended makes 95 % of the boxes that
large, and never enlarges images more than twice, since that shows nothing new. Where the images would become
larger than ``LARGE`` on their longer side, windows are recommended instead: at that same scale, as large as ``WINDOW``
pixels of the input, and overlapping by the longest side of 99 % of the boxes, so that these are whole in some window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int64

from varifocal.types import Preprocess

CELLS = 2  # of the finest map that a box's mean side should span
COVERED = 0.95  # fraction of the boxes for which it should
ENLARGE = 2.0  # at most
SMALLEST = 320  # pixels of the shorter side: what a smaller input would save is little
LARGE = 1600  # pixels of the longer side from which windows are the better way
WINDOW = 800  # pixels of a window as the network sees it
STEP = 32  # sizes are multiples of it
ENOUGH = 0.75  # of the recipe's side: a need of less says that a smaller input would do


@dataclass(frozen=True)
class Advice:
    """``overrides`` are words for the command line; empty where the recipe's own size is right.

    ``fraction_now`` is the fraction of boxes whose mean side is at least ``least_side`` pixels at the recipe's size,
    ``fraction_then`` at the recommended one; ``side`` is the 5th percentile of these sides in pixels of the images.
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
    """The advice for these images, (width, height), and boxes; ``resized`` are the recipe's sizes of them.

    None where there are no boxes.
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
        return _windows(blank, scale, sides, float(np.quantile(spans.max(axis=1), 0.99)))
    factor = np.minimum(short / sizes.min(axis=1), long / sizes.max(axis=1))
    then = float((sides * factor[owner] >= least).mean())
    return _whole(blank, (short, long), float(np.median(resized.min(axis=1))), then)


def _whole(blank: Advice, size: tuple[int, int], usual: float, then: float) -> Advice:
    """Images taken whole, of this shorter and longer side; ``usual`` is the recipe's shorter side."""
    short, long = size
    least, now = blank.least_side, blank.fraction_now
    if ENOUGH * usual <= short <= usual or (now >= COVERED and short > usual):
        text = f"the recipe's size is right: {now:.0%} of the boxes span {least} pixels or more of the network's input"
        return replace(blank, text=text)
    if short < usual:
        text = (
            f"a shorter side of {short} pixels would do: {then:.0%} of the boxes still span {least} pixels or more "
            f"(at the recipe's {usual:.0f}, {now:.0%}), at {(short / usual) ** 2:.0%} of the work"
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


def _windows(blank: Advice, scale: float, sides: Float[np.ndarray, "N"], longer_side: float) -> Advice:
    """Windows at that scale of the images; ``longer_side`` is that of nearly the longest box."""
    overlap = math.ceil(longer_side) + 2  # a box two pixels shorter than the overlap is whole in some window
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
        f"read images in windows of {window} pixels that overlap by {overlap}, at a scale of {scale:g}: {then:.0%} "
        f"of the boxes then span {blank.least_side} pixels or more of the network's input; with the recipe as it is, "
        f"it is {blank.fraction_now:.0%}"
    )
    preprocess = replace(blank.preprocess, scale=scale)
    return replace(
        blank, text=text, overrides=words, preprocess=preprocess, fraction_then=then, window=window, overlap=overlap
    )
