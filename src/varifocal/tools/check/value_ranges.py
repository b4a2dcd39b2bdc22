"""What is said of the values of images with more than 8 bits, and of files that hold several images."""

from __future__ import annotations

from collections.abc import Sequence

from varifocal.data.value_ranges import SMALL, Used
from varifocal.tools.check.findings import Finding, Findings
from varifocal.tools.check.image_scan import ScannedImages
from varifocal.tools.check.split import Split
from varifocal.types import Levels

LITTLE = 1 / 4  # of what the numbers of a file can hold: less is a warning
LEAST = 1 / 16  # of a range that is named, of which one image need not use all
TOPS = (1023, 4095, 16383, 65535)  # of the usual cameras


def find_ranges(
    found: Findings, splits: Sequence[Split], scans: Sequence[ScannedImages], levels: Levels | None
) -> None:
    """Images without a known range, such as use little of it, and such as go beyond the range that is named."""
    every = [used for scan in scans for used in scan.used.values()]
    for split, scan in zip(splits, scans, strict=True):
        _add(found, "no-range", split, scan.unknown)
        if levels is None:
            texts = {image: _narrow(used, every) for image, used in scan.used.items()}
            _add(found, "narrow-range", split, texts)
        elif not isinstance(levels, str):
            texts = {image: _narrow_in(used, levels) for image, used in scan.used.items()}
            _add(found, "narrow-range", split, texts)
            _add(found, "beyond-range", split, {image: _beyond(used, levels) for image, used in scan.used.items()})


def find_several(found: Findings, split: Split, scan: ScannedImages) -> None:
    """Files of several pages or frames."""
    _add(found, "several-images", split, {image: f"holds {count} images" for image, count in scan.frames.items()})


def _add(found: Findings, kind: str, split: Split, texts: dict[int, str]) -> None:
    """A finding for each image with a text."""

    def make(image: int) -> Finding:
        return split.on_image(kind, image, texts[image])

    found.add(kind, split.name, sorted(image for image, text in texts.items() if text), make)


def _narrow(used: Used, every: Sequence[Used]) -> str:
    """What is said of an image that uses little of the range that it is taken to have where none is named."""
    top = SMALL if used.top > SMALL >= used.high else used.top
    if not top or used.high - used.low >= LITTLE * top:
        return ""
    suggestion = _suggestion(every, top)
    return f"uses {used.low:g}..{used.high:g} of 0..{top}; data.preprocess.range={suggestion} says which part counts"


def _narrow_in(used: Used, levels: tuple[float, float]) -> str:
    low, high = levels
    if min(used.high, high) - max(used.low, low) >= LEAST * (high - low):
        return ""
    return f"uses {used.low:g}..{used.high:g} of data.preprocess.range, {low:g}..{high:g}"


def _beyond(used: Used, levels: tuple[float, float]) -> str:
    low, high = levels
    if used.low >= low and used.high <= high:
        return ""
    return f"has values of {used.low:g}..{used.high:g}, beyond data.preprocess.range, {low:g}..{high:g}"


def _suggestion(every: Sequence[Used], taken: int) -> str:
    """A range for all images that is less than 0 to ``taken``: that of the usual camera that holds them, or what they
    span where that is little, or else that of each image."""
    low, high = min(used.low for used in every), max(used.high for used in every)
    top = next((top for top in TOPS if high <= top), 0)
    if low >= 0 and top < taken and high - low >= LEAST * top > 0:
        return f"[0,{top}]"
    return f"[{low:g},{high:g}]" if 0 < high - low < LITTLE * taken else "image"
