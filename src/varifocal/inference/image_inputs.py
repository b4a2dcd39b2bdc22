"""Images that are handed over in memory, and what every way to hand one over has in common."""

from __future__ import annotations

import inspect
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from varifocal.data.image_errors import refuse_address
from varifocal.data.images import to_upright_rgb
from varifocal.data.value_ranges import Depth, to_levels
from varifocal.types import FileLike, Levels
from varifocal.utils.errors import DataError


@runtime_checkable
class Readable(Protocol):
    """A file that is opened with "rb", or an object that is read like one."""

    def read(self, size: int = ..., /) -> bytes: ...


ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray | bytes | bytearray | memoryview | Readable
IMAGE_HINT = (
    "give a path, the bytes of a file, a file opened with 'rb', a Pillow image, an array of RGB bytes [H, W, 3] or of "
    "gray values [H, W], or a list of these"
)
_COLORS, _GRAYS = (  # the types of arrays; of floating-point numbers and of more than 8 bits `range` says what is white
    ("uint8", "uint16"),
    ("uint8", "int16", "uint16", "int32", "uint32", "float16", "float32", "float64"),
)


def as_image(image: Image.Image | np.ndarray, levels: Levels | None) -> Image.Image:
    """Return an image in memory as upright RGB of 8 bits, as :func:`varifocal.data.images.read_image` reads one.

    Raises:
        DataError: it has no pixels, cannot be decoded, or is an array of another shape or type.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image, levels)
    if not all(image.size):
        raise DataError(
            f"image: it has no pixels, {image.width} x {image.height}; give another one.", code="image-empty"
        )
    try:
        return to_upright_rgb(image, "image", levels)
    except (OSError, ValueError) as error:  # Pillow decodes an opened file only now; ValueError: it is closed
        raise DataError(
            f"image: cannot be decoded ({error}); open another copy of it.", code="image-not-decoded"
        ) from error


def _from_array(image: np.ndarray, levels: Levels | None) -> Image.Image:
    """Return an array as RGB: alpha is dropped, and more than 8 bits are scaled by ``levels``."""
    values = image[:, :, 0] if image.shape[2:] == (1,) else image
    kind = values.dtype.name
    color = values.ndim == 3 and values.shape[2] in (3, 4) and kind in _COLORS
    gray = values.ndim == 2 and kind in _GRAYS
    if not values.size or not (color or gray):
        raise DataError(
            f"image: an array of {image.dtype} and shape {image.shape}; give RGB or RGBA, uint8 or uint16 "
            "[H, W, 3 or 4], or gray values, [H, W] or [H, W, 1] of uint8, 16 or 32 bits or floating point.",
            code="image-array",
        )
    values = values[:, :, :3] if color else values
    if kind != "uint8":
        values = to_levels(values, Depth(), levels, "image")
    return Image.fromarray(np.ascontiguousarray(values)).convert("RGB")


@dataclass(frozen=True)
class _Content:
    """The bytes of a file that is not on a disk, under the name by which errors call it."""

    name: str
    content: bytes

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    def open(self, mode: Literal["rb"]) -> io.BytesIO:
        return io.BytesIO(self.content)

    def __str__(self) -> str:
        return self.name


def as_file(image: Any) -> FileLike:
    """Return the file of a path, of bytes, or of an open file object, which is read from its beginning.

    Raises:
        DataError: the path is an address, the object cannot be read or gives no bytes, or the value is no image.
    """
    if isinstance(image, (str, os.PathLike)):
        refuse_address(os.fsdecode(image))
        return Path(os.fsdecode(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _Content("image", bytes(image))
    if not isinstance(image, Readable):
        raise DataError(f"image: cannot read a value of type {type(image).__name__}; {IMAGE_HINT}.", code="image-type")
    return _read_object(image)


def _read_object(file: Any) -> _Content:
    name = file.name if isinstance(getattr(file, "name", None), str) else "image"
    try:
        if hasattr(file, "seekable") and file.seekable():
            file.seek(0)
        content = file.read()
    except (OSError, ValueError) as error:  # ValueError: it is closed, or text that is not UTF-8
        raise DataError(
            f"{name}: cannot be read ({error}); open it once more with 'rb'.", code="image-file-not-read"
        ) from error
    if inspect.iscoroutine(content):
        content.close()
        raise DataError(f"{name}: is read asynchronously; give its bytes, await file.read().", code="image-file-async")
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise DataError(
            f"{name}: gives {type(content).__name__} instead of bytes; open it with 'rb'.", code="image-file-text"
        )
    return _Content(name, bytes(content))
