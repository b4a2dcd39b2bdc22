"""Images of more than 8 bits: the values in a file, and their conversion to 256 levels.

Pillow has no mode for colors of 16 bits and keeps only the high byte of each number. Read a second time in the other
byte order, the same file gives the low bytes.
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
SMALL = 4095  # an image without a larger value counts as 12 bits; otherwise only 16 of 256 levels would be used
PERCENTILES = (1.0, 99.0)
_ROWS = 1 << 22  # values that are scaled at a time, to bound the memory
_NODATA = 42113  # GDAL's tag of a TIFF
_GRAY_ALPHA = "LA;16B"  # of PNG; Pillow has it in no other byte order
_SWAPPED = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}


@dataclass(frozen=True)
class Depth:
    """Properties of an image of more than 8 bits by its header.

    ``top`` is the largest possible value, and Pillow returns the stored values times ``scale``. With ``inverted`` the
    smallest value is white. ``nodata`` marks pixels without a value. Of ``color`` values Pillow keeps the high bytes.
    """

    top: int = WHOLE
    scale: float = 1.0
    inverted: bool = False
    nodata: float | None = None
    color: bool = False


@dataclass(frozen=True)
class Used:
    """The smallest and the largest value of an image of more than 8 bits, and the largest possible one or 0."""

    low: float
    high: float
    top: int


def depth_of(image: Image.Image) -> Depth | None:
    """Return the depth of an image that is opened and not yet decoded; None for 8 bits."""
    if image.mode.startswith("I") or image.mode == "F":
        tags: Any = getattr(image, "tag_v2", {})
        maxval = _maxval(image)
        top = maxval or (SMALL if tags.get(ExifTags.Base.BitsPerSample) == (12,) else WHOLE)
        inverted = tags.get(ExifTags.Base.PhotometricInterpretation) == 0
        return Depth(top, WHOLE / maxval if maxval else 1.0, inverted, _number(tags.get(_NODATA)))
    tiles = _tiles(image)
    return Depth(color=True) if tiles and all(_is_deep_color(_raw_mode(tile)) for tile in tiles) else None


def _is_deep_color(mode: str) -> bool:
    """Return whether a raw mode has colors of 16 bits; colors multiplied by their alpha have no low bytes."""
    return mode == _GRAY_ALPHA or (mode[:-4] in ("RGB", "RGBA", "RGBX") and mode[-4:] in _SWAPPED)


def _maxval(image: Image.Image) -> int:
    """Return the largest value that a PGM file declares if Pillow has scaled the values, else 0."""
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
    """Return the low bytes of an image with 16-bit colors that is opened and not yet decoded."""
    if any(_raw_mode(tile) == _GRAY_ALPHA for tile in _tiles(image)):
        # the four bytes of a pixel are the high and the low byte of gray, and of alpha
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
    """Return the stored values [H, W] or [H, W, 3] of a decoded image; ``low`` returns the image of its low bytes.

    Gray with alpha gives colors of three equal values.
    """
    if not depth.color:
        values = np.asarray(image)
        values = values if depth.scale == 1 else np.rint(values / depth.scale).astype(np.int32)
        return depth.top - values if depth.inverted and values.dtype.kind != "f" else values
    high = np.asarray(image.convert("RGB"))
    return high.astype(np.uint16) << 8 | np.asarray(low().convert("RGB"))


def needs_low(image: Image.Image, depth: Depth, levels: Levels | None) -> bool:
    """Return whether the high bytes of 16-bit colors are not enough: a range is named, or they are nearly all 0."""
    if not depth.color or levels is not None:
        return depth.color
    return max(high for _, high in image.convert("RGB").getextrema()) <= SMALL >> 8  # type: ignore[misc]


def used_values(values: np.ndarray, depth: Depth) -> Used:
    """Return the range of the values of an image."""
    low, high = _span(values, depth)
    known = values.dtype.kind != "f" and low >= 0 and high <= depth.top
    return Used(low, high, depth.top if known else 0)


def _span(values: np.ndarray, depth: Depth) -> tuple[float, float]:
    values = _numbers(values, depth)
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def _numbers(values: np.ndarray, depth: Depth) -> np.ndarray:
    """Return the finite values without those that mark pixels without a value."""
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    return values if depth.nodata is None else values[values != _like(depth.nodata, values)]


def _like(number: float, values: np.ndarray) -> float:
    """Return a number with the precision of an array; a TIFF writes it as text with fewer digits."""
    if values.dtype.kind != "f":
        return number
    with np.errstate(over="ignore"):
        return float(np.float32(number))


def bounds(values: np.ndarray, depth: Depth, levels: Levels | None, name: str) -> tuple[float, float]:
    """Return the values that become black and white.

    Raises:
        DataError: no range is named and the values have none by themselves; ``name`` is the file in the message.
    """
    if levels is not None and not isinstance(levels, str):
        return levels
    if levels == "percentile":
        numbers = _numbers(values, depth)
        low, high = np.percentile(numbers, PERCENTILES).tolist() if numbers.size else (0.0, 0.0)
        return low, high
    low, high = _span(values, depth)
    return (low, high) if levels == "image" else _usual_bounds(values, low, high, depth.top, name)


def _usual_bounds(values: np.ndarray, low: float, high: float, top: int, name: str) -> tuple[float, float]:
    hint = "name the range with data.preprocess.range (--range in predict), or save the image as 8-bit RGB"
    if values.dtype.kind == "f":
        raise DataError(
            f"{name}: pixels of type 'F' have no known range; here they run from {low:g} to {high:g}; {hint}",
            code="float-without-range",
        )
    if low < 0 or high > top:
        raise DataError(
            f"{name}: gray values run from {low:g} to {high:g}, outside 0..{top}; {hint}", code="values-out-of-range"
        )
    return 0, SMALL if top == WHOLE and high <= SMALL else top


def to_levels(values: np.ndarray, depth: Depth, levels: Levels | None, name: str) -> UInt8[np.ndarray, "H W *C"]:
    """Return the values as bytes: the lower bound becomes 0, the upper one 255, values beyond are clipped.

    Pixels without a value become 0. Raises the errors of :func:`bounds`.
    """
    low, high = bounds(values, depth, levels, name)
    width = high - low if high > low else np.inf
    result = np.empty(values.shape, np.uint8)
    rows = max(_ROWS // max(values[0].size, 1), 1)
    for start in range(0, len(values), rows):
        part = values[start : start + rows].astype(np.float64)
        if depth.nodata is not None:
            part[part == _like(depth.nodata, values)] = np.nan
        with np.errstate(invalid="ignore"):  # infinity by infinity
            scaled = np.clip((part - low) * 255 / width + 0.5, 0, 255)
        result[start : start + rows] = np.nan_to_num(scaled, nan=0.0)
    return result
