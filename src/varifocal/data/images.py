"""Pictures on disk: find, measure and decode them; whatever is wrong with one becomes a ``DataError``."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import stat
import struct
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from varifocal.errors import DataError
from varifocal.records import StoredFile

# Twice Pillow's own default bound: beyond it Pillow refuses to open a file at all.
MAX_PIXELS = 178_956_970
_TOGETHER = 256  # headers that a thread reads before it looks for more

# fmt: off
SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif",
])
# fmt: on

# Pillow would also open formats that run other programs (EPS starts Ghostscript).
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF")

_MODES = frozenset(["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"])

THUMB = 16  # side of the small grey picture by which pictures are compared
_AHEAD = 1024  # files that wait for a thread

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: StoredFile) -> Image.Image:
    """The upright picture as RGB, 8 bits a channel, in memory and detached from its file.

    EXIF rotation is applied. 16-bit grey is scaled from 0..65535 to 0..255. Of an animation the first frame
    is read. Alpha is dropped, as OpenCV and Pillow's own conversion to RGB do, so that a picture handed over
    in memory and one read from disk are the same; a background would be an invented colour.

    Raises:
        DataError: the file is missing, empty, a folder, not an image, damaged, cut short, larger than
            ``MAX_PIXELS``, or holds pixels without a known range (floating point).
    """
    with _quiet(), _opened(path) as image:
        image.load()
        return upright_rgb(image, str(path))


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """What ``read_image`` makes of an opened image; ``name`` stands for the file in errors."""
    turn = _TURNS.get(_orientation(image))
    rgb = _to_rgb(image, name)
    if turn is not None:
        rgb = rgb.transpose(turn)
    # What is upright now must not be rotated again by a reader of the EXIF data.
    rgb.info = {}
    return rgb


def read_size(path: StoredFile) -> tuple[int, int]:
    """(width, height) in pixels of the upright picture, read from the header without decoding.

    Raises:
        DataError: as ``read_image``, as far as the header shows it.
    """
    with _quiet():
        return _upright_size(path)


def _upright_size(path: StoredFile) -> tuple[int, int]:
    with _opened(path) as image:
        width, height = _stored(image)
        orientation = _late_png_orientation(path) if _is_plain_png(image) else _orientation(image)
    return (height, width) if orientation >= 5 else (width, height)


def read_stored_size(path: StoredFile) -> tuple[int, int]:
    """(width, height) in pixels as stored, before the EXIF rotation.

    Raises:
        DataError: as ``read_size``.
    """
    with _quiet(), _opened(path) as image:
        return _stored(image)


def read_sizes(files: Sequence[StoredFile], threads: int = 4) -> list[tuple[int, int] | DataError]:
    """``read_size`` of many files at once, in their order; what one raises stands in its place."""

    def read(part: Sequence[StoredFile]) -> list[tuple[int, int] | DataError]:
        return [_size_or_error(file) for file in part]

    parts = [files[start : start + _TOGETHER] for start in range(0, len(files), _TOGETHER)]
    # the filters of warnings belong to all threads: they are set once, around them
    with _quiet(), ThreadPoolExecutor(threads) as pool:
        return [size for sizes in pool.map(read, parts) for size in sizes]


def _size_or_error(file: StoredFile) -> tuple[int, int] | DataError:
    try:
        return _upright_size(file)
    except DataError as error:
        return error


class Look(NamedTuple):
    """What is seen of one picture by decoding it; ``error`` says why it cannot be read.

    ``size`` is (width, height) in pixels of the upright picture and ``stored`` before the EXIF rotation; both are
    (0, 0) where the header cannot be read either. ``digest`` is a hash of the file's bytes. ``grey`` is the upright
    picture on a square of ``THUMB`` pixels.
    """

    size: tuple[int, int] = (0, 0)
    stored: tuple[int, int] = (0, 0)
    orientation: int = 1
    digest: bytes = b""
    grey: UInt8[np.ndarray, "s s"] | None = None
    error: DataError | None = None


def look_at_all(files: Sequence[StoredFile], take: Callable[[int, Look], None], threads: int) -> None:
    """Decode many files; ``take`` gets place and look of each, in order and in the calling thread.

    A file has an error exactly where ``read_image`` has one. JPEGs are decoded small, which finds the same damage.
    """
    with _quiet(), ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(files), _AHEAD):
            for i, look in enumerate(pool.map(_look_at, files[start : start + _AHEAD]), start):
                take(i, look)


def _look_at(path: StoredFile) -> Look:
    look = Look()
    try:
        with _opened(path) as image:
            stored = _stored(image)
            orientation = _late_png_orientation(path) if _is_plain_png(image) else _orientation(image)
            size = stored[::-1] if orientation >= 5 else stored
            look = Look(size, stored, orientation, _digest(path))
            image.draft("L", (4 * THUMB, 4 * THUMB))
            image.load()
            return look._replace(grey=_small_grey(image, str(path)))
    except DataError as error:
        return look._replace(error=error)


def _digest(path: StoredFile) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.digest()


def _small_grey(image: Image.Image, path: str) -> UInt8[np.ndarray, "s s"]:
    flat = image if image.mode == "L" else _to_rgb(image, path)
    small = flat.resize((THUMB, THUMB), Image.Resampling.BOX, reducing_gap=2.0).convert("L")
    turn = _TURNS.get(_orientation(image))  # after decoding, which turns a TIFF by itself
    return np.asarray(small if turn is None else small.transpose(turn))


def list_images(patterns: Sequence[str], suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """The image files that files, folders and glob patterns name, each once, in the order given.

    A folder gives what lies in it at any depth, sorted by path, by its suffix, one of ``suffixes`` in lower case, and
    without hidden files. A glob (``*``, ``?``, ``[]``, ``**``) gives its sorted matches: folders as above, files by
    suffix too. A file named in full is taken whatever its suffix.

    Raises:
        DataError: a pattern finds no image, or a folder cannot be read.
    """
    found: dict[Path, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        files = _match(pattern, suffixes)
        if not files:
            raise DataError(f"{pattern}: no image is found there; name an image, a folder of images or a glob")
        found.update(dict.fromkeys(files))
    if not found:
        raise DataError("no images are named; name an image, a folder of images or a glob")
    return list(found)


def _match(pattern: str, suffixes: Collection[str]) -> list[Path]:
    if os.path.isfile(pattern):
        return [Path(pattern)]
    if os.path.isdir(pattern):
        return _walk(pattern, suffixes)
    files: list[Path] = []
    for match in sorted(glob.glob(_with_real_folders(pattern), recursive=True)):
        if os.path.isdir(match):
            files += _walk(match, suffixes)
        elif _has_suffix(match, suffixes):
            files.append(Path(match))
    return files


def _with_real_folders(pattern: str) -> str:
    """The glob in which the signs of folders that are there, called [v2] or a*b, say, are signs of names."""
    place = pattern
    while place and not os.path.isdir(place):
        above = os.path.dirname(place)
        if above == place:
            return pattern
        place = above
    return glob.escape(place) + pattern[len(place) :]


def _walk(folder: str, suffixes: Collection[str]) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: the folder cannot be read ({error.strerror}); check its permissions")

    files: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        status = os.stat(root)
        # A link to a folder above would otherwise be walked for ever.
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(root, name) for name in names if not name.startswith(".") and _has_suffix(name, suffixes)]
    return sorted(files)


def _has_suffix(name: str, suffixes: Collection[str]) -> bool:
    return os.path.splitext(name)[1].lower() in suffixes


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings (large picture, odd metadata); what they announce is checked here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        Image.init()
        yield


@contextmanager
def _opened(path: StoredFile) -> Iterator[Image.Image]:
    """The file opened by Pillow, with every failure inside the block turned into a ``DataError``."""
    if isinstance(path, Path):
        _check_file(path)
    try:
        # Pillow maps a file of a path into memory, and does not close one that it is given
        with ExitStack() as stack:
            file = path if isinstance(path, Path) else cast(IO[bytes], stack.enter_context(path.open("rb")))
            formats = [name for name in _FORMATS if name in Image.OPEN]
            image = stack.enter_context(Image.open(file, formats=formats))
            _check_pixels(image, path)
            yield image
    except (DataError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise nearly every type there is on damaged data.
        raise DataError(f"{path}: {_explain(error)}") from None


def _explain(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        numbers = re.findall(r"\d+", str(error))
        size, limit = numbers if len(numbers) == 2 else ("too many", str(MAX_PIXELS))
        return f"the image has {size} pixels, above the limit of {limit}; cut it into tiles or make it smaller"
    if isinstance(error, UnidentifiedImageError):
        return "this is not an image of a known format, or its header is damaged; replace it or leave it out"
    if isinstance(error, OSError) and error.errno is not None:
        return f"the file cannot be read ({error.strerror}); check its permissions and its disk"
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"the image is damaged or cut short ({reason}); replace it or leave it out"


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


def _check_pixels(image: Image.Image, path: StoredFile) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{path}: the image has {width} x {height} pixels, above the limit of {MAX_PIXELS}; "
            "cut it into tiles or make it smaller"
        )


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; damaged EXIF data is no reason to refuse a picture and counts as upright."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return value if value in _TURNS else 1


def _is_plain_png(image: Image.Image) -> bool:
    return image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys()


def _late_png_orientation(path: StoredFile) -> int:
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


def _to_rgb(image: Image.Image, path: str) -> Image.Image:
    if image.mode.startswith("I"):
        image = _grey16_to_grey8(image, path)
    if image.mode not in _MODES:
        raise DataError(f"{path}: pixels of type {image.mode!r} have no known range; save the image as 8-bit RGB")
    return image.convert("RGB")


def _grey16_to_grey8(image: Image.Image, path: str) -> Image.Image:
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise DataError(
            f"{path}: grey values run from {low} to {high}, outside 0..65535; save the image with 8 or 16 bits"
        )
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
