"""Files of images with more than 8 bits, written byte by byte from the formats' own definitions."""

import struct
import zlib
from pathlib import Path

import numpy as np


def png16(path: Path, values: np.ndarray) -> Path:
    """A PNG of 16-bit grey [H, W], grey with alpha [H, W, 2] or color [H, W, 3 or 4] (https://www.w3.org/TR/png-3)."""
    height, width = values.shape[:2]
    kind_of_color = 0 if values.ndim == 2 else {2: 4, 3: 2, 4: 6}[values.shape[2]]
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in values)  # filter 0: as it is
    header = struct.pack(">IIBBBBB", width, height, 16, kind_of_color, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def tiff(path: Path, pixels: bytes, size: tuple[int, int], **tags: int | str | tuple[int, ...]) -> Path:
    """A little-endian TIFF of one strip; ``tags`` by number, as t258=(12,), are added to or replace the usual ones."""
    width, height = size
    usual = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(pixels)}
    given = usual | {int(name[1:]): value for name, value in tags.items()}
    start = 8 + len(pixels) + len(pixels) % 2
    extra, entries = b"", b""
    after = start + 2 + 12 * len(given) + 4
    for number, value in sorted(given.items()):
        if isinstance(value, str):
            kind, count, data = 2, len(value) + 1, value.encode() + b"\x00"
        else:
            values = value if isinstance(value, tuple) else (value,)
            kind, count, data = 4, len(values), struct.pack(f"<{len(values)}I", *values)
        if len(data) > 4:
            place, extra = after + len(extra), extra + data
            data = struct.pack("<I", place)
        entries += struct.pack("<HHI", number, kind, count) + data.ljust(4, b"\x00")
    head = b"II*\x00" + struct.pack("<I", start)
    directory = struct.pack("<H", len(given)) + entries + struct.pack("<I", 0)
    path.write_bytes(head + pixels.ljust(start - 8, b"\x00") + directory + extra)
    return path


def float_tiff(path: Path, values: np.ndarray, **tags: int | str) -> Path:
    """A TIFF of 32-bit floating-point numbers [H, W]."""
    height, width = values.shape
    return tiff(path, values.astype("<f4").tobytes(), (width, height), t258=32, t339=3, **tags)


# What begins every HEIC file of a telephone (ISO 14496-12: a box of 24 bytes, "ftyp", the brand, its version, others).
HEIC_HEAD = struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic"
