"""Image files opened by Pillow within a limit of pixels, decoded and turned upright; failures become ``DataError``."""

from __future__ import annotations

import logging
import os
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, UnidentifiedImageError

from varifocal.data.image_errors import explain, has_heif, read_head
from varifocal.data.image_kinds import HEIC, RAW, kind_of_head, suffix_of, why_unread
from varifocal.data.value_ranges import Depth, depth_of, low_bytes, needs_low, stored_values, to_levels
from varifocal.types import FileLike, Levels
from varifocal.utils.errors import ConfigError, DataError

# Twice Pillow's own default bound: beyond it Pillow refuses to open a file at all.
MAX_PIXELS = 178_956_970
# Limit for images that are processed in tiles or crops: about 4 GiB in memory.
MAX_LARGE = 1 << 30
LIMIT = "VARIFOCAL_MAX_PIXELS"  # environment variable that replaces both
# Pillow would also open formats that run other programs (EPS starts Ghostscript).
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")
_MODES = frozenset(["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"])
_STRAIGHT = {"La": "LA", "RGBa": "RGBA"}  # modes whose colors are multiplied by their alpha


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: FileLike, levels: Levels | None = None, *, large: bool = False) -> Image.Image:
    """Return the upright image as RGB, 8 bits a channel, in memory and detached from its file.

    EXIF rotation is applied. Of an animation or a stack the first image is read. Alpha is dropped as in OpenCV and
    Pillow, so that an image from memory and one from disk are the same; a background would be an invented color.

    ``levels`` is ``Preprocess.range``: the values of an image of more than 8 bits that become 0 and 255. Without it,
    16 bits are scaled from 0..65535, or from 0..4095 if no value is larger: cameras of 10 and 12 bits write such files,
    which would keep only 16 of 256 levels. With ``large``, for images that are cut into tiles, more pixels are allowed.

    Raises:
        DataError: the file is missing, empty, a folder, not an image, damaged, truncated, has more pixels than
            :func:`varifocal.data.images.pixel_limit`, or has values without a known range and none is named.
    """
    limit = pixel_limit(large=large)
    with quiet(limit), opened(path, limit, large=large) as image:
        depth = depth_of(image) if _may_be_deep(image) else None
        image.load()
        return _upright(image, str(path), depth, levels, partial(read_low_bytes, path, limit))


def _may_be_deep(image: Image.Image) -> bool:
    """Return whether an image that is not decoded yet may have more than 8 bits, by its mode and its raw modes."""
    return image.mode[0] in "IF" or ";16" in str(getattr(image, "tile", ""))


def to_upright_rgb(image: Image.Image, name: str, levels: Levels | None = None) -> Image.Image:
    """Return an opened image as ``read_image`` does; ``name`` is the file in errors.

    Raises:
        DataError: see ``read_image``; also if a range is named and the image has colors of 16 bits.
    """
    if type(image) is Image.Image and image.mode == "RGB" and exif_orientation(image) == 1:
        return image  # a large one is not copied
    depth = depth_of(image)
    if depth is not None and depth.color:
        if levels is not None:
            raise DataError(
                f"{name}: Pillow keeps 8 of the 16 bits of its colors; give the file's path or its bytes",
                code="deep-color-in-memory",
            )
        depth = None
    return _upright(image, name, depth, levels, lambda: image)


def _upright(
    image: Image.Image, name: str, depth: Depth | None, levels: Levels | None, low: Callable[[], Image.Image]
) -> Image.Image:
    turn = TURNS.get(exif_orientation(image))
    if depth is not None and (not depth.color or needs_low(image, depth, levels)):
        rgb = Image.fromarray(to_levels(stored_values(image, depth, low), depth, levels, name)).convert("RGB")
    else:
        rgb = to_rgb(image, name)
    if turn is not None:
        rgb = rgb.transpose(turn)
    # a reader of the EXIF data must not rotate the upright image again
    rgb.info = {}
    return rgb


def read_low_bytes(path: FileLike, limit: int) -> Image.Image:
    """Return the image of 16-bit colors again, decoded to the low bytes of its values."""
    with opened(path, limit) as image:
        return low_bytes(image)


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; damaged EXIF data counts as upright."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return value if value in TURNS else 1


def to_rgb(image: Image.Image, path: str) -> Image.Image:
    """Return a decoded image of 8 bits as RGB."""
    if image.mode == "LAB":
        return _from_lab(image, path)
    image = image.convert(_STRAIGHT[image.mode]) if image.mode in _STRAIGHT else image
    if image.mode not in _MODES:
        raise DataError(
            f"{path}: pixels of type {image.mode!r} are not read; save the image as 8-bit RGB",
            code="pixel-type-unknown",
        )
    if image.mode == "RGB" and not image.readonly:  # otherwise Pillow has the file mapped into memory
        return image._new(image.im)  # the same pixels, which converting would copy
    return image.convert("RGB")


def _from_lab(image: Image.Image, path: str) -> Image.Image:
    try:
        from PIL import ImageCms

        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "LAB", "RGB"))  # type: ignore[return-value]
    except ImportError as error:
        raise DataError(
            f"{path}: Pillow is built without the conversion from CIELAB; save the image as 8-bit RGB",
            code="cielab-not-supported",
        ) from error


def pixel_limit(*, large: bool = False) -> int:
    """Return the largest number of pixels of an image; with ``large``, of one that is processed in tiles or crops.

    Raises:
        ConfigError: the environment variable is not a whole number above 0.
    """
    text = os.environ.get(LIMIT, "")
    if not text:
        return MAX_LARGE if large else MAX_PIXELS
    if not text.isdecimal() or not int(text):
        raise ConfigError(f"{LIMIT}={text}: give a whole number of pixels above 0.", code="max-pixels-not-a-number")
    return int(text)


def beyond(pixels: str, limit: int, *, large: bool = False) -> str:
    """Return the problem and the fix for an image with too many ``pixels``."""
    tiles = "" if large else "read it in tiles with --tile (in training with data.augment.crop), or "
    return (
        f"the image has {pixels} pixels, above the limit of {limit}; "
        f"{tiles}raise the limit with --max-pixels N or the environment variable {LIMIT}"
    )


class _PillowLimit:
    """Raises Pillow's own limit, which holds for the whole process, while our files are open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: int | None = None

    @contextmanager
    def raised(self, limit: int) -> Iterator[None]:
        with self._lock:
            if not self._users:
                self._before = Image.MAX_IMAGE_PIXELS
            self._users += 1
            current = Image.MAX_IMAGE_PIXELS
            if current is not None:
                Image.MAX_IMAGE_PIXELS = max(current, limit)  # Pillow warns beyond it, and refuses twice as many
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    Image.MAX_IMAGE_PIXELS = self._before


_PILLOW = _PillowLimit()


_NOBODY = logging.NullHandler()


@contextmanager
def quiet(limit: int) -> Iterator[None]:
    """Suppress Pillow's warnings (large image, odd metadata), its messages on stderr and its limit.

    The callers check for the same problems. Warning filters belong to all threads, so this is entered once around them.
    """
    # Pillow also logs what it then raises, and Python prints logs without a handler
    logging.getLogger("PIL").addHandler(_NOBODY)
    with warnings.catch_warnings(), _PILLOW.raised(limit):
        warnings.filterwarnings("ignore", module=r"PIL\.")
        Image.init()
        yield


@contextmanager
def opened(path: FileLike, limit: int, *, large: bool = False) -> Iterator[Image.Image]:
    """Open a file with Pillow; every failure, also inside the block, becomes a ``DataError``."""
    if isinstance(path, Path):
        _check_file(path)
    try:
        # Pillow maps a file given by its path into memory, and does not close a file object
        with ExitStack() as stack:
            file = path if isinstance(path, Path) else stack.enter_context(path.open("rb"))
            image = stack.enter_context(_open(path, file))
            if image.size[0] * image.size[1] > limit:
                size = f"{image.size[0]} x {image.size[1]}"
                raise DataError(f"{path}: {beyond(size, limit, large=large)}", code="image-too-many-pixels")
            if image.format == "TIFF" and suffix_of(path.name) in RAW:
                raise DataError(f"{path}: {why_unread(b'', path.name)}", code="image-raw")
            yield image
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError as error:  # Pillow's own, beyond twice the limit
        match = re.search(r"\d+", str(error))
        pixels = match[0] if match else "too many"
        raise DataError(f"{path}: {beyond(pixels, limit, large=large)}", code="image-too-many-pixels") from None
    except Exception as error:  # on damaged data Pillow's decoders raise nearly every type
        raise DataError(f"{path}: {explain(error, path)}", code="image-undecodable") from None


def _open(path: FileLike, file: Any) -> Image.Image:
    try:
        return Image.open(file, formats=_known_formats())
    except UnidentifiedImageError:
        if kind_of_head(read_head(path)) != HEIC or not has_heif():
            raise
        return Image.open(file, formats=_known_formats())


def _known_formats() -> list[str]:
    return [name for name in _FORMATS if name in Image.OPEN]


def _check_file(path: Path) -> None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise DataError(f"{path}: the image does not exist; check the path", code="image-missing") from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: the image cannot be accessed ({error}); check the path", code="image-inaccessible"
        ) from None
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{path}: this is a folder and not an image; name a file in it", code="image-is-folder")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: this is not a regular file; name an image file", code="image-not-a-file")
    if status.st_size == 0:
        raise DataError(f"{path}: the image is empty (0 bytes); replace it or leave it out", code="image-zero-bytes")
