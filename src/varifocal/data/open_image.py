"""Image files opened with Pillow up to a limit of pixels; every failure becomes a ``DataError`` of one sentence."""

from __future__ import annotations

import logging
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from varifocal.data.image_kinds import AVIF, HEAD, HEIC, RAW, kind_of_head, suffix_of, why_unread
from varifocal.types import FileLike
from varifocal.utils.errors import ConfigError, DataError
from varifocal.utils.text import counted

# Twice Pillow's own default bound: beyond it Pillow refuses to open a file at all.
MAX_PIXELS = 178_956_970
# Limit for images that are processed in tiles or crops: about 4 GiB in memory.
MAX_LARGE = 1 << 30
LIMIT = "VARIFOCAL_MAX_PIXELS"  # environment variable that replaces both

# Pillow would also open formats that run other programs (EPS starts Ghostscript).
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")


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
        raise DataError(f"{path}: {_explain(error, path)}", code="image-undecodable") from None


def _open(path: FileLike, file: Any) -> Image.Image:
    try:
        return Image.open(file, formats=_known_formats())
    except UnidentifiedImageError:
        if kind_of_head(read_head(path)) != HEIC or not has_heif():
            raise
        return Image.open(file, formats=_known_formats())


def _known_formats() -> list[str]:
    return [name for name in _FORMATS if name in Image.OPEN]


@cache
def has_heif() -> bool:
    """Return whether Pillow reads HEIC images, once the package for it is registered."""
    for name in ("pillow_heif", "pi_heif"):
        try:
            import_module(name).register_heif_opener()
        except ImportError:
            continue
        return True
    return "HEIF" in Image.OPEN


def read_head(path: FileLike) -> bytes:
    """Return the first ``HEAD`` bytes of a file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""


def _explain(error: Exception, path: FileLike) -> str:
    if isinstance(error, UnidentifiedImageError):
        return _explain_unidentified(path)
    if isinstance(error, OSError) and error.errno is not None:
        return f"the file cannot be read ({error.strerror}); check its permissions and its disk"
    reason = " ".join(str(error).split()) or type(error).__name__
    if re.search(r"(de|en)coder \w+ not available", reason):
        return f"Pillow is built without the decoder of this image ({reason}); run pip install --force-reinstall pillow"
    return f"the image is damaged or cut short ({reason}); replace it or leave it out"


def _explain_unidentified(path: FileLike) -> str:
    head = read_head(path)
    if not head:
        return "the image is empty (0 bytes); replace it or leave it out"
    kind = kind_of_head(head)
    if (kind == HEIC and has_heif()) or (kind == AVIF and "AVIF" in Image.OPEN):
        return f"this is {kind} that is damaged, cut short or of a rare kind; replace it or leave it out"
    if head[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
        tags = _tiff_tags(path)
        if tags is not None:
            return tags
    return why_unread(head, path.name)


def _tiff_tags(path: FileLike) -> str | None:
    """Return what is in a TIFF for which Pillow has no mode, and the fix; None if its tags cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
            if b"+" in head[2:4]:
                head += file.read(8)
            tags: Any = TiffImagePlugin.ImageFileDirectory_v2(head)
            file.seek(tags.next)
            tags.load(file)
            bits = max(tags.get(ExifTags.Base.BitsPerSample, (1,)))
            bands = int(tags.get(ExifTags.Base.SamplesPerPixel, 1))
            form = {1: "", 2: "signed ", 3: "floating-point "}.get(max(tags.get(339, (1,))), "unusual ")
            packing = int(tags.get(ExifTags.Base.Compression, 1))
            width, height = int(tags[ExifTags.Base.ImageWidth]), int(tags[ExifTags.Base.ImageLength])
    except Exception:  # whatever damaged tags cause
        return None
    if min(width, height) < 1 or not 1 <= bands <= 65535 or not 1 <= bits <= 64:
        return None
    if packing not in TiffImagePlugin.COMPRESSION_INFO:
        return f"this is a TIFF with the compression {packing}, which is not read; save it uncompressed or with LZW"
    numbers = counted(bands, f"(band|bands) of {bits}-bit {form}numbers")
    hint = "save three bands of it as an RGB image" if bands > 1 else "save it as 16-bit gray or 32-bit floating point"
    return f"this is a TIFF with {numbers}, which is not read; {hint}"


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
