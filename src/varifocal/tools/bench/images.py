"""The timed images, as the bytes of their files."""

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
    """The name of an image file, and its content."""

    name: str
    data: bytes


def read_images(pattern: str | None) -> tuple[list[TimedImage], str]:
    """Return the first ``MOST`` images of a file, folder or glob, or a synthetic one, and a description of them.

    Raises:
        DataError: there are none, or one of them cannot be read as an image.
    """
    if pattern is None:
        return [made_image()], "one synthetic JPEG of 640 x 480 pixels"
    files = list_images([pattern])
    for file in files[:MOST]:
        read_image(file, "image")  # its errors name the file, those of a decoder of bytes do not
    used = f"{len(files)}" if len(files) <= MOST else f"the first {MOST} of {len(files)}"
    return [_read(file) for file in files[:MOST]], f"{pattern} ({used})"


def _read(file: Path) -> TimedImage:
    try:
        return TimedImage(str(file), file.read_bytes())
    except OSError as error:
        raise DataError(
            f"{file}: the file cannot be read ({error.strerror}); check its permissions.", code="image-not-readable"
        ) from error


def made_image(width: int = 640, height: int = 480) -> TimedImage:
    """Return a JPEG of gradients, blocks and noise, about as large as a photograph of this size, always the same."""
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
    return TimedImage("synthetic image", buffer.getvalue())


def decode(image: TimedImage) -> Image.Image:
    """Return the upright RGB image, as :func:`varifocal.data.images.read_image` reads it from the file."""
    return read_image(as_file(image.data), "image")
