"""Images of more than 8 bits: what values a file holds, which range of them counts, and their 256 levels.

Pillow has no mode for colors of 16 bits and keeps the high byte of each number. Read a second time with the bytes the
other way around, the same file gives the low ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from varifocal.types import Levels
from varifocal.utils.errors import DataError

WHOLE = 65535
SMALL = 4095  # an image without a larger value is taken for one of 12 bits: of 256 levels it would keep 16 else
PERCENTILES = (1.0, 99.0)
_ROWS = 1 << 22  # values that are scaled at a time, so that what is made on the way stays small
_NODATA = 42113  # GDAL's tag of a TIFF
_GRAY_ALPHA = "LA;16B"  # of PNG, which Pillow has in no other order of bytes
_SWAPPED = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}


@dataclass(frozen=True)
class Depth:
    """What the header of an image of more than 8 bits says: ``top`` is the largest value its numbers can hold.

    Pillow gives them ``scale`` times as large as they are stored. With ``inverted`` the least value is white.
    ``nodata`` stands for pixels without a value. In an image with ``color`` Pillow keeps only the high bytes.
    """

    top: int = WHOLE
    scale: float = 1.0
    inverted: bool = False
    nodata: float | None = None
    color: bool = False


@dataclass(frozen=True)
class Used:
    """The least and the largest value of an image of more than 8 bits, and the largest that could be, 0 if unknown."""

    low: float
    high: float
    top: int


def depth_of(image: Image.Image) -> Depth | None:
    """The depth of an image that is opened and not decoded yet; None for 8 bits."""
    if image.mode.startswith("I") or image.mode == "F":
        tags: Any = getattr(image, "tag_v2", {})
        top = SMALL if tags.get(ExifTags.Base.BitsPerSample) == (12,) else WHOLE
        maxval = _maxval(image)
        return Depth(
            maxval or top,
            WHOLE / maxval if maxval else 1.0,
            tags.get(ExifTags.Base.PhotometricInterpretation) == 0,
            _number(tags.get(_NODATA)),
        )
    # colors that are multiplied by their alpha have no low bytes of their own
    raw = [_raw_mode(tile) for tile in _tiles(image)]
    color = bool(raw) and all(
        mode == _GRAY_ALPHA or (mode[:-4] in ("RGB", "RGBA", "RGBX") and mode[-4:] in _SWAPPED) for mode in raw
    )
    return Depth(color=True) if color else None


def _maxval(image: Image.Image) -> int:
    """The largest value that a PGM file declares, where Pillow has scaled it; else 0."""
    args = _tiles(image)[0][3] if image.format == "PPM" and _tiles(image) else ()
    return int(args[1]) if isinstance(args, tuple) and len(args) == 2 and isinstance(args[1], int) else 0


def _number(text: Any) -> float | None:
    try:
        return float(str(text).strip("\x00 ")) if text is not None else None
    except ValueError:
        return None


def _tiles(image: Image.Image) -> list[Any]:
    return list(getattr(image, "tile", None) or [])


def _raw_mode(tile: Any) -> str:
    args = tile[3]
    return str(args[0] if isinstance(args, tuple) and args else args)


def low_bytes(image: Image.Image) -> Image.Image:
    """Return the low bytes, not the high ones, of an image with 16-bit colors that is opened and not yet decoded."""
    if any(_raw_mode(tile) == _GRAY_ALPHA for tile in _tiles(image)):
        # the four bytes of a pixel are the high and the low byte of its gray, and those of its alpha
        image._mode = "RGBA"
        image.tile = [_with_raw_mode(tile, "RGBA") for tile in _tiles(image)]  # type: ignore[attr-defined]
        return image.getchannel("G")
    swapped = []
    for tile in _tiles(image):
        raw = _raw_mode(tile)
        swapped.append(_with_raw_mode(tile, raw[:-4] + _SWAPPED.get(raw[-4:], raw[-4:])))
    image.tile = swapped  # type: ignore[attr-defined]
    image.load()
    return image


def _with_raw_mode(tile: Any, raw: str) -> Any:
    args = (raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw
    return tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args)


def stored_values(image: Image.Image, depth: Depth, low: Callable[[], Image.Image]) -> np.ndarray:
    """The numbers [H, W] or [H, W, 3] of a decoded image as its file holds them; ``low`` gives its low bytes.

    Those of gray with alpha are colors of three equal numbers.
    """
    if not depth.color:
        values = np.asarray(image)
        values = values if depth.scale == 1 else np.rint(values / depth.scale).astype(np.int32)
        return depth.top - values if depth.inverted and values.dtype.kind != "f" else values
    high = np.asarray(image.convert("RGB"))
    return high.astype(np.uint16) << 8 | np.asarray(low().convert("RGB"))


def needs_low(image: Image.Image, depth: Depth, levels: Levels | None) -> bool:
    """Whether the high bytes of 16-bit colors do not do: where a range is named, or where they are nearly all 0."""
    if not depth.color or levels is not None:
        return depth.color
    return max(high for _, high in image.convert("RGB").getextrema()) <= SMALL >> 8  # type: ignore[misc]


def used_values(values: np.ndarray, depth: Depth) -> Used:
    """The range that the values of an image span."""
    low, high = _span(values, depth)
    known = values.dtype.kind != "f" and low >= 0 and high <= depth.top
    return Used(low, high, depth.top if known else 0)


def _span(values: np.ndarray, depth: Depth) -> tuple[float, float]:
    values = _numbers(values, depth)
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def _numbers(values: np.ndarray, depth: Depth) -> np.ndarray:
    """The values that are finite and not those of pixels without one."""
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    return values if depth.nodata is None else values[values != _like(depth.nodata, values)]


def _like(number: float, values: np.ndarray) -> float:
    """A number as an array of that type holds it: a TIFF writes it as a text with fewer digits."""
    if values.dtype.kind != "f":
        return number
    with np.errstate(over="ignore"):
        return float(np.float32(number))


def bounds(values: np.ndarray, depth: Depth, levels: Levels | None, name: str) -> tuple[float, float]:
    """The values that become black and white.

    Raises:
        DataError: no range is named, and the numbers have none by themselves; ``name`` stands for the file.
    """
    if levels is not None and not isinstance(levels, str):
        return levels
    if levels == "percentile":
        numbers = _numbers(values, depth)
        low, high = np.percentile(numbers, PERCENTILES).tolist() if numbers.size else (0.0, 0.0)
        return low, high
    low, high = _span(values, depth)
    if levels == "image":
        return low, high
    hint = "name the range with data.preprocess.range (--range in predict), or save the image as 8-bit RGB"
    if values.dtype.kind == "f":
        raise DataError(
            f"{name}: pixels of type 'F' have no known range; here they run from {low:g} to {high:g}; {hint}"
        )
    if low < 0 or high > depth.top:
        raise DataError(f"{name}: gray values run from {low:g} to {high:g}, outside 0..{depth.top}; {hint}")
    return 0, SMALL if depth.top == WHOLE and high <= SMALL else depth.top


def to_levels(values: np.ndarray, depth: Depth, levels: Levels | None, name: str) -> UInt8[np.ndarray, "H W *C"]:
    """The values as bytes: the low bound becomes 0, the high one 255, what lies beyond is clipped.

    Pixels without a value are 0. Errors are those of :func:`bounds`.
    """
    low, high = bounds(values, depth, levels, name)
    width = high - low if high > low else np.inf
    result = np.empty(values.shape, np.uint8)
    rows = max(_ROWS // max(values[0].size, 1), 1)
    for start in range(0, len(values), rows):
        part = values[start : start + rows].astype(np.float64)
        if depth.nodata is not None:
            part[part == _like(depth.nodata, values)] = np.nan
        with np.errstate(invalid="ignore"):  # infinite by infinite
            scaled = np.clip((part - low) * 255 / width + 0.5, 0, 255)
        result[start : start + rows] = np.nan_to_num(scaled, nan=0.0)
    return result
