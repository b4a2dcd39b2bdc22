"""Image files measured by their headers, and scanned by decoding them."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import count
from threading import Lock
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from varifocal.data.images import TURNS, exif_orientation, opened, pixel_limit, quiet, read_low_bytes, to_rgb
from varifocal.data.value_ranges import Depth, Used, bounds, depth_of, needs_low, stored_values, to_levels, used_values
from varifocal.types import FileLike, Levels
from varifocal.utils.errors import DataError

THUMB = 16  # side of the small gray image by which images are compared


_TOGETHER = 256  # headers that a thread reads at a time


_AHEAD = 1024  # files in the queue of the threads


_ALONE = 1 << 25  # pixels above which only one image is decoded at a time


_LARGE_DECODED = Lock()


def read_size(path: FileLike) -> tuple[int, int]:
    """Return (width, height) in pixels of the upright image, read from the header without decoding.

    Raises:
        DataError: see ``read_image``, for problems that the header shows.
    """
    limit = pixel_limit(large=True)
    with quiet(limit):
        return _upright_size(path, limit)


def _upright_size(path: FileLike, limit: int) -> tuple[int, int]:
    with opened(path, limit, large=True) as image:
        width, height = _stored(image)
        orientation = _late_png_orientation(path) if _is_plain_png(image) else exif_orientation(image)
    return (height, width) if orientation >= 5 else (width, height)


def read_stored_size(path: FileLike) -> tuple[int, int]:
    """Return (width, height) in pixels as stored, before the EXIF rotation.

    Raises:
        DataError: see ``read_size``.
    """
    limit = pixel_limit(large=True)
    with quiet(limit), opened(path, limit, large=True) as image:
        return _stored(image)


def read_sizes(files: Sequence[FileLike], threads: int = 4) -> list[tuple[int, int] | DataError]:
    """Return ``read_size`` of many files, in their order, or the error of a file that cannot be read."""
    limit = pixel_limit(large=True)

    def read(part: Sequence[FileLike]) -> list[tuple[int, int] | DataError]:
        return [_size_or_error(file, limit) for file in part]

    parts = [files[start : start + _TOGETHER] for start in range(0, len(files), _TOGETHER)]
    with quiet(limit), ThreadPoolExecutor(threads) as pool:
        return [size for sizes in pool.map(read, parts) for size in sizes]


def _size_or_error(file: FileLike, limit: int) -> tuple[int, int] | DataError:
    try:
        return _upright_size(file, limit)
    except DataError as error:
        return error


def count_frames(path: FileLike) -> int:
    """Return the number of images in a file, such as pages of a TIFF or frames; ``read_image`` reads the first.

    Smaller copies in a TIFF, and depth maps or second exposures of a phone, do not count.

    Raises:
        DataError: see :func:`read_size`.
    """
    limit = pixel_limit(large=True)
    with quiet(limit), opened(path, limit, large=True) as image:
        return _frames(image)


def _frames(image: Image.Image) -> int:
    """Return the number of intact images in an opened file; afterwards the file is at another image."""
    pages = 0
    try:
        if image.format == "MPO" or not getattr(image, "is_animated", False):
            return 1
        if image.format != "TIFF":
            return int(image.n_frames)  # type: ignore[attr-defined]
        for number in count():
            image.seek(number)
            kind = image.tag_v2.get(ExifTags.Base.NewSubfileType, 0)  # type: ignore[attr-defined]
            pages += not kind & 0b101  # neither a smaller copy nor a mask
    except Exception:  # the end, or whatever Pillow raises on a damaged page
        pass
    return max(pages, 1)


class ImageScan(NamedTuple):
    """Result of decoding one image; ``error`` says why it cannot be read.

    ``size`` is (width, height) in pixels of the upright image, and ``stored`` before the EXIF rotation; both are (0, 0)
    if the header cannot be read either. ``digest`` is a hash of the file's bytes. ``gray`` is the upright image scaled
    to a square with sides of ``THUMB`` pixels. ``used`` is the range of values of an image of more than 8 bits; if its
    meaning is not known, there are values and an error. ``frames`` is the number of images in the file.
    """

    size: tuple[int, int] = (0, 0)
    stored: tuple[int, int] = (0, 0)
    orientation: int = 1
    digest: bytes = b""
    gray: UInt8[np.ndarray, "s s"] | None = None
    error: DataError | None = None
    used: Used | None = None
    frames: int = 1


def scan_images(
    files: Sequence[FileLike],
    take: Callable[[int, ImageScan], None],
    threads: int,
    *,
    levels: Levels | None = "image",
    large: bool = True,
) -> None:
    """Decode many files; ``take`` is called with the index and the scan of each, in order and in the calling thread.

    A file has an error exactly if ``read_image`` has one with the same ``levels`` and ``large``. JPEGs are decoded at a
    smaller size, which finds the same damage. Images that take much memory are decoded one at a time.
    """
    limit = pixel_limit(large=large)
    with quiet(limit), ThreadPoolExecutor(threads) as pool:
        scan = partial(_scan, limit=limit, levels=levels, large=large)
        for start in range(0, len(files), _AHEAD):
            for i, result in enumerate(pool.map(scan, files[start : start + _AHEAD]), start):
                take(i, result)


def _scan(path: FileLike, *, limit: int, levels: Levels | None, large: bool) -> ImageScan:
    scan = ImageScan()
    try:
        with opened(path, limit, large=large) as image:
            stored = _stored(image)
            orientation = _late_png_orientation(path) if _is_plain_png(image) else exif_orientation(image)
            size = stored[::-1] if orientation >= 5 else stored
            scan = ImageScan(size, stored, orientation, _digest(path))
            depth = depth_of(image)
            if image.format in ("JPEG", "MPO"):  # a draft of HEIC is its thumbnail, which hides damage
                image.draft("L", (4 * THUMB, 4 * THUMB))
            with _LARGE_DECODED if image.width * image.height > _ALONE else nullcontext():
                image.load()
                if depth is None:
                    flat = image if image.mode == "L" else to_rgb(image, str(path))
                    scan = scan._replace(gray=_small_gray(image, flat))
                else:
                    scan = _scan_deep(image, scan, depth, levels, path, limit)
                return scan._replace(frames=_frames(image))
    except DataError as error:
        return scan._replace(error=error)


def _scan_deep(
    image: Image.Image, scan: ImageScan, depth: Depth, levels: Levels | None, path: FileLike, limit: int
) -> ImageScan:
    """Return the scan of an image of more than 8 bits, whose thumbnail uses its own range of values."""
    low = partial(read_low_bytes, path, limit)
    whole = needs_low(image, depth, levels) or not depth.color
    values = stored_values(image, depth, low) if whole else np.asarray(image.convert("RGB")).astype(np.uint16) * 257
    gray = Image.fromarray(to_levels(values, depth, "image", str(path)))
    scan = scan._replace(used=used_values(values, depth), gray=_small_gray(image, gray))
    try:
        bounds(values, depth, None if levels is None else "image", str(path))
    except DataError as error:
        return scan._replace(error=error)
    return scan


def _digest(path: FileLike) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.digest()


def _small_gray(image: Image.Image, flat: Image.Image) -> UInt8[np.ndarray, "s s"]:
    """Return the upright thumbnail of ``flat``, the decoded ``image``."""
    small = flat.resize((THUMB, THUMB), Image.Resampling.BOX, reducing_gap=2.0).convert("L")
    turn = TURNS.get(exif_orientation(image))  # after decoding, which rotates a TIFF
    return np.asarray(small if turn is None else small.transpose(turn))


def _is_plain_png(image: Image.Image) -> bool:
    return image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys()


def _late_png_orientation(path: FileLike) -> int:
    """Return the orientation in a chunk after the pixels, which Pillow finds only by decoding them."""
    image = Image.new("L", (1, 1))
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                image.info["exif"] = b"Exif\x00\x00" + file.read(length)
                break
            file.seek(length + 4, os.SEEK_CUR)
    return exif_orientation(image)


def _stored(image: Image.Image) -> tuple[int, int]:
    # Pillow reports the size of a TIFF after its rotation, of all other formats before it.
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return image.size
    return int(tags[ExifTags.Base.ImageWidth]), int(tags[ExifTags.Base.ImageLength])
