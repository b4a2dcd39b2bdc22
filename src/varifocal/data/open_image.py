"""Image files opened by Pillow, within a limit of pixels; every failure becomes a ``DataError`` of one sentence."""

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

# Twice Pillow's own default bound: beyond it Pillow refuses to open a file at all.
MAX_PIXELS = 178_956_970
# Of images that are read in windows, by tiles or crops: about 4 GiB in memory.
MAX_LARGE = 1 << 30
LIMIT = "VARIFOCAL_MAX_PIXELS"  # environment variable that replaces both

# Pillow would also open formats that run other programs (EPS starts Ghostscript).
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")


def pixel_limit(*, large: bool = False) -> int:
    """How many pixels an image may have; more with ``large``, where it is cut into windows.

    Raises:
        ConfigError: the environment variable holds something else than a whole number above 0.
    """
    text = os.environ.get(LIMIT, "")
    if not text:
        return MAX_LARGE if large else MAX_PIXELS
    if not text.isdecimal() or not int(text):
        raise ConfigError(f"{LIMIT}={text}: give a whole number of pixels above 0.")
    return int(text)


def beyond(pixels: str, limit: int, *, large: bool = False) -> str:
    """What to say of an image with too many ``pixels``, and how to read it all the same."""
    windows = "" if large else "read it in windows with --tile (in training with data.augment.crop), or "
    return (
        f"the image has {pixels} pixels, above the limit of {limit}; "
        f"{windows}raise the limit with --max-pixels N or the environment variable {LIMIT}"
    )


class _PillowLimit:
    """Pillow's own limit holds for the whole process: it is raised while files of ours are open that may be larger."""

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
                Image.MAX_IMAGE_PIXELS = max(current, limit)  # it warns beyond, and refuses twice as many
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
    """Without Pillow's warnings (large image, odd metadata), its words on stderr and its limit.

    What they announce is checked here.

    Filters of warnings belong to all threads: this is entered once, around them.
    """
    # Pillow also logs what it then raises, which Python prints where nobody listens
    logging.getLogger("PIL").addHandler(_NOBODY)
    with warnings.catch_warnings(), _PILLOW.raised(limit):
        warnings.filterwarnings("ignore", module=r"PIL\.")
        Image.init()
        yield


@contextmanager
def opened(path: FileLike, limit: int, *, large: bool = False) -> Iterator[Image.Image]:
    """The file opened by Pillow, with every failure inside the block turned into a ``DataError``."""
    if isinstance(path, Path):
        _check_file(path)
    try:
        # Pillow maps a file of a path into memory, and does not close one that it is given
        with ExitStack() as stack:
            file = path if isinstance(path, Path) else stack.enter_context(path.open("rb"))
            image = stack.enter_context(_open(path, file))
            if image.size[0] * image.size[1] > limit:
                raise DataError(f"{path}: {beyond(f'{image.size[0]} x {image.size[1]}', limit, large=large)}")
            if image.format == "TIFF" and suffix_of(path.name) in RAW:
                raise DataError(f"{path}: {why_unread(b'', path.name)}")
            yield image
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError as error:  # of Pillow, beyond twice the limit
        pixels = re.search(r"\d+", str(error))
        raise DataError(f"{path}: {beyond(pixels[0] if pixels else 'too many', limit, large=large)}") from None
    except Exception as error:  # Pillow's decoders raise nearly every type there is on damaged data.
        raise DataError(f"{path}: {_explain(error, path)}") from None


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
    """Whether Pillow reads HEIC images, after the package that does it was looked for."""
    for name in ("pillow_heif", "pi_heif"):
        try:
            import_module(name).register_heif_opener()
        except ImportError:
            continue
        return True
    return "HEIF" in Image.OPEN


def read_head(path: FileLike) -> bytes:
    """The first ``HEAD`` bytes of a file; none of one that cannot be read."""
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
        return f"Pillow is built without what reads this image ({reason}); run pip install --force-reinstall pillow"
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
    """What is in a TIFF that Pillow has no mode for; None where its tags cannot be read either."""
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
    except Exception:  # whatever damaged tags lead to
        return None
    if min(width, height) < 1 or not 1 <= bands <= 65535 or not 1 <= bits <= 64:
        return None
    if packing not in TiffImagePlugin.COMPRESSION_INFO:
        return f"this is a TIFF with the compression {packing}, which is not read; save it uncompressed or with LZW"
    numbers = f"{bands} {'band' if bands == 1 else 'bands'} of {bits}-bit {form}numbers"
    hint = "save three bands of it as an RGB image" if bands > 1 else "save it as 16-bit gray or 32-bit floating point"
    return f"this is a TIFF with {numbers}, which is not read; {hint}"


def _check_file(path: Path) -> None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise DataError(f"{path}: the image does not exist; check the path") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the image cannot be reached ({error}); check the path") from None
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{path}: this is a folder and not an image; name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: this is not a regular file; name an image file")
    if status.st_size == 0:
        raise DataError(f"{path}: the image is empty (0 bytes); replace it or leave it out")
