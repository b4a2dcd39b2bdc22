"""Images on disk: measured and decoded; whatever is wrong with one becomes a ``DataError``."""

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

from varifocal.data.open_image import opened, pixel_limit, quiet
from varifocal.data.value_ranges import (
    Depth,
    Used,
    bounds,
    depth_of,
    low_bytes,
    needs_low,
    stored_values,
    to_levels,
    used_values,
)
from varifocal.types import FileLike, Levels
from varifocal.utils.errors import DataError

_TOGETHER = 256  # headers that a thread reads before it looks for more

_MODES = frozenset(["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"])
_STRAIGHT = {"La": "LA", "RGBa": "RGBA"}  # modes whose colors are multiplied by their alpha

THUMB = 16  # side of the small gray image by which images are compared
_AHEAD = 1024  # files that wait for a thread
_ALONE = 1 << 25  # pixels of an image that is decoded while no other thread decodes such a one
_LARGE_DECODED = Lock()

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: FileLike, levels: Levels | None = None, *, large: bool = False) -> Image.Image:
    """The upright image as RGB, 8 bits a channel, in memory and detached from its file.

    EXIF rotation is applied. Of an animation or a stack the first image is read. Alpha is dropped, as OpenCV and
    Pillow's own conversion to RGB do, so that an image handed over in memory and one read from disk are the same; a
    background would be an invented color.

    ``levels`` is ``Preprocess.range``: the values of an image of more than 8 bits that become 0 and 255. Without it,
    16 bits are scaled from 0..65535, but from 0..4095 where no value is larger: cameras of 10 and 12 bits write such
    files, and 16 of 256 levels would be left of them. With ``large``, for what is cut into windows, more pixels
    are allowed.

    Raises:
        DataError: the file is missing, empty, a folder, not an image, damaged, cut short, has more pixels than
            :func:`varifocal.data.open_image.pixel_limit`, or holds numbers without a known range and none is named.
    """
    limit = pixel_limit(large=large)
    with quiet(limit), opened(path, limit, large=large) as image:
        depth = depth_of(image)
        image.load()
        return _upright(image, str(path), depth, levels, partial(_low_bytes, path, limit))


def to_upright_rgb(image: Image.Image, name: str, levels: Levels | None = None) -> Image.Image:
    """What ``read_image`` makes of an opened image; ``name`` stands for the file in errors.

    Raises:
        DataError: as ``read_image``; a range is named, and the image has colors of 16 bits.
    """
    if type(image) is Image.Image and image.mode == "RGB" and _orientation(image) == 1:
        return image  # a large one need not be there twice
    depth = depth_of(image)
    if depth is not None and depth.color:
        if levels is not None:
            raise DataError(f"{name}: Pillow gives 8 of the 16 bits of its colors; give the file's path or its bytes")
        depth = None
    return _upright(image, name, depth, levels, lambda: image)


def _upright(
    image: Image.Image, name: str, depth: Depth | None, levels: Levels | None, low: Callable[[], Image.Image]
) -> Image.Image:
    turn = _TURNS.get(_orientation(image))
    rgb = _to_rgb(image, name, depth, levels, low)
    if turn is not None:
        rgb = rgb.transpose(turn)
    # What is upright now must not be rotated again by a reader of the EXIF data.
    rgb.info = {}
    return rgb


def _low_bytes(path: FileLike, limit: int) -> Image.Image:
    """The image of 16-bit colors once more, decoded to the low bytes of its numbers."""
    with opened(path, limit) as image:
        return low_bytes(image)


def count_frames(path: FileLike) -> int:
    """How many images a file holds: the pages of a TIFF, or the frames of an animation; ``read_image`` reads the first.

    Smaller copies in a TIFF and what a telephone puts beside its photograph (depth, a second exposure) do not count.

    Raises:
        DataError: as :func:`read_size`.
    """
    limit = pixel_limit(large=True)
    with quiet(limit), opened(path, limit, large=True) as image:
        return _frames(image)


def _frames(image: Image.Image) -> int:
    """How many images an opened file holds, as far as it is whole; the image is then another one."""
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
    except Exception:  # the end, or whatever Pillow raises on a damaged page: the first one was sound
        pass
    return max(pages, 1)


def read_size(path: FileLike) -> tuple[int, int]:
    """(width, height) in pixels of the upright image, read from the header without decoding.

    Raises:
        DataError: as ``read_image``, as far as the header shows it.
    """
    limit = pixel_limit(large=True)
    with quiet(limit):
        return _upright_size(path, limit)


def _upright_size(path: FileLike, limit: int) -> tuple[int, int]:
    with opened(path, limit, large=True) as image:
        width, height = _stored(image)
        orientation = _late_png_orientation(path) if _is_plain_png(image) else _orientation(image)
    return (height, width) if orientation >= 5 else (width, height)


def read_stored_size(path: FileLike) -> tuple[int, int]:
    """(width, height) in pixels as stored, before the EXIF rotation.

    Raises:
        DataError: as ``read_size``.
    """
    limit = pixel_limit(large=True)
    with quiet(limit), opened(path, limit, large=True) as image:
        return _stored(image)


def read_sizes(files: Sequence[FileLike], threads: int = 4) -> list[tuple[int, int] | DataError]:
    """Return ``read_size`` of many files, in their order; a file that cannot be read has its error there."""

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


class ImageScan(NamedTuple):
    """What is seen of one image by decoding it; ``error`` says why it cannot be read.

    ``size`` is (width, height) in pixels of the upright image and ``stored`` before the EXIF rotation; both are
    (0, 0) where the header cannot be read either. ``digest`` is a hash of the file's bytes. ``gray`` is the upright
    image on a square of ``THUMB`` pixels. ``used`` are the values of one of more than 8 bits, which may have an error
    and be seen all the same, where its range is not known. ``frames`` is how many images the file holds.
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
    """Decode many files; ``take`` gets the index and the look of each, in order and in the calling thread.

    A file has an error exactly where ``read_image`` has one with the same ``levels`` and ``large``. JPEGs are decoded
    small, which finds the same damage. Of images that take much memory one is decoded at a time.
    """
    limit = pixel_limit(large=large)
    with quiet(limit), ThreadPoolExecutor(threads) as pool:
        look = partial(_look_at, limit=limit, levels=levels, large=large)
        for start in range(0, len(files), _AHEAD):
            for i, one in enumerate(pool.map(look, files[start : start + _AHEAD]), start):
                take(i, one)


def _look_at(path: FileLike, *, limit: int, levels: Levels | None, large: bool) -> ImageScan:
    look = ImageScan()
    try:
        with opened(path, limit, large=large) as image:
            stored = _stored(image)
            orientation = _late_png_orientation(path) if _is_plain_png(image) else _orientation(image)
            size = stored[::-1] if orientation >= 5 else stored
            look = ImageScan(size, stored, orientation, _digest(path))
            depth = depth_of(image)
            if image.format in ("JPEG", "MPO"):  # of HEIC it would decode a thumbnail, whatever is wrong with the rest
                image.draft("L", (4 * THUMB, 4 * THUMB))
            with _LARGE_DECODED if image.width * image.height > _ALONE else nullcontext():
                image.load()
                if depth is None:
                    flat = image if image.mode == "L" else _to_rgb(image, str(path))
                    look = look._replace(gray=_small_gray(image, flat))
                else:
                    look = _look_deep(image, look, depth, levels, path, limit)
                return look._replace(frames=_frames(image))
    except DataError as error:
        return look._replace(error=error)


def _look_deep(
    image: Image.Image, look: ImageScan, depth: Depth, levels: Levels | None, path: FileLike, limit: int
) -> ImageScan:
    """What is seen of an image of more than 8 bits, compared with others by its own range of values."""
    low = partial(_low_bytes, path, limit)
    whole = needs_low(image, depth, levels) or not depth.color
    values = stored_values(image, depth, low) if whole else np.asarray(image.convert("RGB")).astype(np.uint16) * 257
    gray = Image.fromarray(to_levels(values, depth, "image", str(path)))
    look = look._replace(used=used_values(values, depth), gray=_small_gray(image, gray))
    try:
        bounds(values, depth, None if levels is None else "image", str(path))
    except DataError as error:
        return look._replace(error=error)
    return look


def _digest(path: FileLike) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.digest()


def _small_gray(image: Image.Image, flat: Image.Image) -> UInt8[np.ndarray, "s s"]:
    """The upright thumbnail of what ``image`` became."""
    small = flat.resize((THUMB, THUMB), Image.Resampling.BOX, reducing_gap=2.0).convert("L")
    turn = _TURNS.get(_orientation(image))  # after decoding, which turns a TIFF by itself
    return np.asarray(small if turn is None else small.transpose(turn))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; damaged EXIF data is no reason to refuse an image and counts as upright."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return value if value in _TURNS else 1


def _is_plain_png(image: Image.Image) -> bool:
    return image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys()


def _late_png_orientation(path: FileLike) -> int:
    """Orientation in a chunk behind the pixels, which Pillow would find only by decoding them."""
    image = Image.new("L", (1, 1))
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                image.info["exif"] = b"Exif\x00\x00" + file.read(length)
                break
            file.seek(length + 4, os.SEEK_CUR)
    return _orientation(image)


def _stored(image: Image.Image) -> tuple[int, int]:
    # Pillow reports the size of a TIFF after its rotation, of all other formats before it.
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return image.size
    return int(tags[ExifTags.Base.ImageWidth]), int(tags[ExifTags.Base.ImageLength])


def _to_rgb(
    image: Image.Image,
    path: str,
    depth: Depth | None = None,
    levels: Levels | None = None,
    low: Callable[[], Image.Image] | None = None,
) -> Image.Image:
    """A decoded image as RGB; ``low`` gives the low bytes of one whose ``depth`` has 16-bit colors."""
    if depth is not None and (not depth.color or (low is not None and needs_low(image, depth, levels))):
        values = stored_values(image, depth, low or (lambda: image))
        return Image.fromarray(to_levels(values, depth, levels, path)).convert("RGB")
    if image.mode == "LAB":
        return _from_lab(image, path)
    image = image.convert(_STRAIGHT[image.mode]) if image.mode in _STRAIGHT else image
    if image.mode not in _MODES:
        raise DataError(f"{path}: pixels of type {image.mode!r} are not read; save the image as 8-bit RGB")
    if image.mode == "RGB" and not image.readonly:  # else Pillow holds the file mapped into memory
        return image._new(image.im)  # the same pixels: converting would copy them
    return image.convert("RGB")


def _from_lab(image: Image.Image, path: str) -> Image.Image:
    try:
        from PIL import ImageCms

        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "LAB", "RGB"))  # type: ignore[return-value]
    except ImportError as error:
        raise DataError(f"{path}: Pillow is built without what converts CIELAB; save the image as 8-bit RGB") from error
