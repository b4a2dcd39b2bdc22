"""The images that are timed, as the bytes of their files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from varifocal.data.images import read_image
from varifocal.data.listing import list_images
from varifocal.inference.image_inputs import as_file
from varifocal.utils.errors import DataError

MOST = 64  # images of a folder that are held in memory


@dataclass(frozen=True)
class TimedImage:
    """An image's file in memory, and its name."""

    name: str
    data: bytes


def read_images(pattern: str | None) -> tuple[list[TimedImage], str]:
    """The first ``MOST`` images of a file, folder or glob, or the made one; and what they are, in words.

    Raises:
        DataError: there are none, or one of them cannot be read as an image.
    """
    if pattern is None:
        return [made_image()], "one made JPEG, 640 wide and 480 high"
    files = list_images([pattern])
    for file in files[:MOST]:
        read_image(file, "image")  # says what is wrong with it, which a decoder of bytes cannot
    used = f"{len(files)}" if len(files) <= MOST else f"the first {MOST} of {len(files)}"
    return [_read(file) for file in files[:MOST]], f"{pattern} ({used})"


def _read(file: Path) -> TimedImage:
    try:
        return TimedImage(str(file), file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: the file cannot be read ({error.strerror}); check its permissions.") from error


def made_image(width: int = 640, height: int = 480) -> TimedImage:
    """A JPEG of slopes, blocks and noise, about as many bytes as a photograph of this size, always the same."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    pixels = 96 + 64 * np.stack([np.sin(x / 70 + y / 90 + color) for color in range(3)], axis=-1)
    for _ in range(40):
        left, top = rng.integers(0, width), rng.integers(0, height)
        side = rng.integers(10, 120)
        pixels[top : top + side, left : left + side] += rng.integers(-60, 60, 3)
    pixels += rng.normal(0, 6, pixels.shape)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, format="JPEG", quality=90)
    return TimedImage("made image", buffer.getvalue())


def decode(image: TimedImage) -> Image.Image:
    """The upright RGB image, as :func:`varifocal.data.images.read_image` gives it of the file."""
    return read_image(as_file(image.data), "image")
