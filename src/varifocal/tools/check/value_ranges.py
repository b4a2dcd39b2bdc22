"""Findings about the values of images with more than 8 bits, and about files that hold several images."""

from __future__ import annotations

from collections.abc import Sequence

from varifocal.data.value_ranges import SMALL, Used
from varifocal.tools.check.findings import Findings
from varifocal.tools.check.image_scan import ScannedImages
from varifocal.tools.check.split import Split
from varifocal.types import Levels

LITTLE = 1 / 4  # of what the numbers of a file can hold: less is a warning
LEAST = 1 / 16  # of the range of a recipe, of which one image need not use all
TOPS = (1023, 4095, 16383, 65535)  # largest values of common cameras


def add_value_ranges(
    findings: Findings, splits: Sequence[Split], scans: Sequence[ScannedImages], levels: Levels | None
) -> None:
    """Add images without a known range, those that use little of it, and those beyond the range of the recipe."""
    every = [used for scan in scans for used in scan.used.values()]
    for split, scan in zip(splits, scans, strict=True):
        split.add_texts(findings, "no-range", scan.unknown)
        if levels is None:
            texts = {image: _narrow(used, every) for image, used in scan.used.items()}
            split.add_texts(findings, "narrow-range", texts)
        elif not isinstance(levels, str):
            texts = {image: _narrow_in(used, levels) for image, used in scan.used.items()}
            split.add_texts(findings, "narrow-range", texts)
            split.add_texts(findings, "beyond-range", {i: _beyond(used, levels) for i, used in scan.used.items()})


def add_multi_image_files(findings: Findings, split: Split, scan: ScannedImages) -> None:
    """Add files of several pages or frames."""
    split.add_texts(findings, "several-images", {i: f"holds {count} images" for i, count in scan.frames.items()})


def _narrow(used: Used, every: Sequence[Used]) -> str:
    """Return a text on an image that uses little of the range it is read with if the recipe has none, or ""."""
    top = SMALL if used.top > SMALL >= used.high else used.top
    if not top or used.high - used.low >= LITTLE * top:
        return ""
    suggestion = _suggestion(every, top)
    return f"uses only {used.low:g}..{used.high:g} of 0..{top}; set data.preprocess.range={suggestion}"


def _narrow_in(used: Used, levels: tuple[float, float]) -> str:
    """Return a text on an image that uses little of the recipe's range, or ""."""
    low, high = levels
    if min(used.high, high) - max(used.low, low) >= LEAST * (high - low):
        return ""
    return f"uses only {used.low:g}..{used.high:g} of data.preprocess.range, {low:g}..{high:g}"


def _beyond(used: Used, levels: tuple[float, float]) -> str:
    """Return a text on an image with values outside the recipe's range, or ""."""
    low, high = levels
    if used.low >= low and used.high <= high:
        return ""
    return f"has values of {used.low:g}..{used.high:g}, beyond data.preprocess.range, {low:g}..{high:g}"


def _suggestion(every: Sequence[Used], taken: int) -> str:
    """Return a range for all images that is smaller than 0 to ``taken``.

    It is that of a common camera that holds their values, or what they span if that is little, or else "image", the
    range of each image.
    """
    low, high = min(used.low for used in every), max(used.high for used in every)
    top = next((top for top in TOPS if high <= top), 0)
    if low >= 0 and top < taken and high - low >= LEAST * top > 0:
        return f"[0,{top}]"
    return f"[{low:g},{high:g}]" if 0 < high - low < LITTLE * taken else "image"
