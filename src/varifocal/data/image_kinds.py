"""Kinds of image files, by suffix and by first bytes: those that are read, and those that are only recognized."""

from __future__ import annotations

import os
import re

HEIF = frozenset([".heic", ".heif", ".hif", ".avif"])  # in an MP4 container

# fmt: off
SUFFIXES = HEIF | frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp",
    ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx",
])

# Raw files of cameras; many are TIFFs, of which Pillow would read the small preview.
RAW = frozenset([
    ".dng", ".raw", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef",
    ".srw", ".x3f", ".3fr", ".iiq", ".erf", ".kdc", ".dcr", ".mrw",
])
# fmt: on

_RAW = "a raw file of a camera"
_NAMED = {
    **dict.fromkeys(RAW, _RAW),
    **dict.fromkeys([".jxl"], "a JPEG XL image"),
    **dict.fromkeys([".jxr", ".wdp", ".hdp"], "a JPEG XR image"),
    **dict.fromkeys([".psd", ".psb"], "a Photoshop file"),
    **dict.fromkeys([".xcf"], "a GIMP file"),
    **dict.fromkeys([".svg", ".svgz"], "an SVG drawing"),
    **dict.fromkeys([".exr"], "an OpenEXR image"),
    **dict.fromkeys([".hdr"], "a Radiance HDR image"),
    **dict.fromkeys([".dcm", ".dicom"], "a DICOM file"),
    **dict.fromkeys([".fits"], "a FITS file"),
    **dict.fromkeys([".svs", ".ndpi", ".scn", ".mrxs", ".czi", ".nd2", ".lif"], "a file of a microscope"),
    **dict.fromkeys([".ecw", ".sid"], "a compressed aerial image"),
    **dict.fromkeys(
        [".tga", ".pcx", ".sgi", ".ras", ".dds", ".qoi", ".bpg", ".ico", ".icns"], "of a rare image format"
    ),
}
UNREAD = frozenset(_NAMED)  # suffixes of images that are not read, which notes report

HEIC, AVIF = "a HEIC image", "an AVIF image"
_HEIC_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())
_HEADS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (0, b"II\xbc", "a JPEG XR image"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"gimp xcf", "a GIMP file"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (0, b"#?RADIANCE", "a Radiance HDR image"),
    (0, b"FUJIFILMCCD-RAW", _RAW),
    (0, b"IIU\x00", _RAW),
    (0, b"IIRO", _RAW),
    (0, b"IIRS", _RAW),
    (0, b"FOVb", _RAW),
    (4, b"ftypcrx ", _RAW),
    (128, b"DICM", "a DICOM file"),
    (0, b"SIMPLE  =", "a FITS file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"%PDF-", "a PDF document"),
)
_OF_IMAGES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|II[*+]\x00|MM\x00[*+]|RIFF....WEBP|BM....\x00\x00\x00\x00|"
    rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51",
    re.DOTALL,
)
# suffixes changed by downloads and editors: a.jpg_large, a.jpeg!d, a.png~
_CHANGED = re.compile(r"\.(jpe?g|png|tiff?|bmp|webp|gif|heic|avif)[^./\\]+$", re.IGNORECASE)
_TEXTS = [".txt", ".json", ".jsonl", ".xml", ".csv", ".tsv", ".yaml", ".yml", ".md", ".html", ".htm", ".log", ".py"]
_OTHER = frozenset([*_TEXTS, ".zip", ".tar"])
HEAD = 512  # bytes by which a kind is recognized


def suffix_of(name: str) -> str:
    """Return the suffix of a file name in lower case, with its dot; "" if there is none."""
    return os.path.splitext(name)[1].lower()


def has_changed_suffix(name: str) -> bool:
    """Return whether a file name ends like that of an image with something appended."""
    return suffix_of(name) not in SUFFIXES and suffix_of(name) not in UNREAD and _CHANGED.search(name) is not None


def may_be_image(name: str) -> bool:
    """Return whether a file may be an image although its name does not say so."""
    suffix = suffix_of(name)
    return suffix not in SUFFIXES and suffix not in UNREAD and suffix not in _OTHER


def kind_of_head(head: bytes) -> str:
    """Return the kind of a file by its first ``HEAD`` bytes, if Pillow alone does not read it; else ""."""
    if head[4:8] == b"ftyp" and b"avif" in head[8:64]:
        return AVIF
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return HEIC
    for offset, mark, kind in _HEADS:
        if head[offset : offset + len(mark)] == mark:
            return kind
    return "an SVG drawing" if b"<svg" in head else ""


def kind_of_name(name: str) -> str:
    """Return the kind of a file by its name, if it is an image that is not read; else ""."""
    return _NAMED.get(suffix_of(name), "")


def begins_as_image(head: bytes) -> bool:
    """Return whether the first bytes are those of an image that is read."""
    return _OF_IMAGES.match(head) is not None or kind_of_head(head) in (HEIC, AVIF)


def why_unread(head: bytes, name: str) -> str:
    """Return why Pillow cannot identify a file, and the fix, by the file's first bytes and its name."""
    kind = kind_of_head(head)
    if kind == HEIC:
        return 'this is a HEIC image, which needs the package pillow-heif; run pip install "varifocal[heif]"'
    if kind == AVIF:
        return "this is an AVIF image, which needs Pillow 11.3 or newer; run pip install --upgrade pillow"
    if head.startswith(b"version https://git-lfs"):
        return "this is a pointer of Git LFS and not the image; run git lfs pull"
    if re.match(rb"\s*<(!doctype html|html)", head, re.IGNORECASE):
        return "this is a web page and not the image; download it again"
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"Rar!")) or head[257:262] == b"ustar":
        return (
            "this is an archive and not an image; unpack it and name the folder of its images, or use predict "
            "--output, which reads archives"
        )
    kind = kind or kind_of_name(name)
    if kind:
        return f"this is {kind}, which is not read; convert it to JPEG, PNG or TIFF, or leave it out"
    return "this is not an image of a known format, or its header is damaged; replace it or leave it out"
