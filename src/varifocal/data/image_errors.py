"""Why an image cannot be read, as a sentence with the way to fix it."""

from __future__ import annotations

import os
import re
from functools import cache
from importlib import import_module
from typing import Any

from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from varifocal.data.image_kinds import AVIF, HEAD, HEIC, kind_of_head, why_unread
from varifocal.types import FileLike
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted

_ADDRESS = re.compile(
    r"[a-z][a-z0-9+.-]+:/+[^/]|data:[a-z]+/", re.IGNORECASE
)  # even of a Path, which keeps only one slash
_LONGEST = 80  # characters of a URL in a sentence


def refuse_address(name: str) -> None:
    """Raise ``DataError`` if a name is a URL (http, s3, rtsp, data) and not a file; nothing is downloaded."""
    if _ADDRESS.match(name) and not os.path.exists(name):
        shown = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
        raise DataError(
            f"{shown}: is a URL, which is not downloaded; download the image and name its file", code="image-url"
        )


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


def explain(error: Exception, path: FileLike) -> str:
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
