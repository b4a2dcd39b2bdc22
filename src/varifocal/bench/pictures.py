"""The pictures that are timed, as the bytes of their files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from varifocal.data.images import list_images, read_image
from varifocal.errors import DataError
from varifocal.pictures import open_picture

MOST = 64  # pictures of a folder that are held in memory


@dataclass(frozen=True)
class Picture:
    """A picture's file in memory, and its name."""

    name: str
    data: bytes


def read_pictures(pattern: str | None) -> tuple[list[Picture], str]:
    """The first ``MOST`` pictures of a file, folder or glob, or the made one; and what they are, in words.

    Raises:
        DataError: there are none, or one of them cannot be read as a picture.
    """
    if pattern is None:
        return [made_picture()], "one made JPEG, 640 wide and 480 high"
    files = list_images([pattern])
    for file in files[:MOST]:
        read_image(file, "image")  # says what is wrong with it, which a decoder of bytes cannot
    used = f"{len(files)}" if len(files) <= MOST else f"the first {MOST} of {len(files)}"
    return [_read(file) for file in files[:MOST]], f"{pattern} ({used})"


def _read(file: Path) -> Picture:
    try:
        return Picture(str(file), file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: the file cannot be read ({error.strerror}); check its permissions.") from error


def made_picture(width: int = 640, height: int = 480) -> Picture:
    """A JPEG of slopes, blocks and noise, about as many bytes as a photograph of this size, always the same."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    pixels = 96 + 64 * np.stack([np.sin(x / 70 + y / 90 + colour) for colour in range(3)], axis=-1)
    for _ in range(40):
        left, top = rng.integers(0, width), rng.integers(0, height)
        side = rng.integers(10, 120)
        pixels[top : top + side, left : left + side] += rng.integers(-60, 60, 3)
    pixels += rng.normal(0, 6, pixels.shape)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, format="JPEG", quality=90)
    return Picture("made picture", buffer.getvalue())


def decode(picture: Picture) -> Image.Image:
    """The upright RGB picture, as :func:`varifocal.data.images.read_image` gives it of the file."""
    return open_picture(picture.data, "image")
