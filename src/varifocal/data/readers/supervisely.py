"""Supervisely's projects: ``DATASET/img/a.jpg`` with ``DATASET/ann/a.jpg.json`` (https://developer.supervisely.com).

Pixels count from 0 and the last one belongs to the box, so that a rectangle from 10 to 19 is 10 pixels wide. Polygons
and masks become the boxes around them; points, lines and graphs are left out and counted.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Any

from varifocal.data.archive import AnyPath
from varifocal.data.readers.items import (
    MASK,
    OUTLINE,
    Entry,
    Fault,
    Item,
    LeftOut,
    LocationFormat,
    Shape,
    entries_of,
    to_label,
    to_numbers,
    to_points,
)
from varifocal.data.readers.json_stream import parse_json
from varifocal.data.readers.label_files import LabelFiles
from varifocal.data.readers.shapes import enclosing_box
from varifocal.data.readers.sniff import json_kind
from varifocal.data.readers.values import whole_size
from varifocal.utils.text import short

_PNG = b"\x89PNG\r\n\x1a\n"
_HEAD = 24  # bytes of a PNG up to its height


def parse_supervisely(text: str, file: AnyPath) -> Item | None:
    """Return the image of an annotation file with its objects; None for a JSON file that is something else.

    Raises:
        DataError: it is not valid JSON.
    """
    record = parse_json(text, file)
    if not isinstance(record, dict) or "objects" not in record or "size" not in record:
        return None
    size = record["size"] if isinstance(record["size"], dict) else {}
    # the file is called a.jpg.json, or a.json in old projects
    entries = entries_of(record["objects"], "objects", _entry)
    return Item(file.stem, entries, whole_size(size.get("width"), size.get("height")))


def _entry(number: int, record: dict[str, Any]) -> Entry:
    kind = _kind(record)
    if kind not in ("rectangle", "polygon", "bitmap", "alpha_mask"):
        return LeftOut(f"(object|objects) of the type {short(kind)} (was|were) left out")
    label = to_label(record.get("classTitle"))
    if label is None:
        return Fault(
            number, f"has the classTitle {short(record['classTitle'])}", "it should be a name", "unknown-class"
        )
    if kind in ("bitmap", "alpha_mask"):
        mask = record.get("bitmap", record.get("alpha_mask"))
        box = _mask_box(mask)
        return Shape(number, label, box or (), odd="" if box else short(mask), note=MASK)
    points = record.get("points")
    corners = to_points(points.get("exterior") if isinstance(points, dict) else None)
    if corners is None:
        return Shape(number, label, (), odd=short(points))
    x1, y1, x2, y2 = enclosing_box(corners)
    return Shape(number, label, (x1, y1, x2 + 1, y2 + 1), note=OUTLINE if kind == "polygon" else "")


def _kind(record: dict[str, Any]) -> Any:
    """Return the type of an object; in old projects it follows from the other fields."""
    if "geometryType" in record:
        return record["geometryType"]
    if isinstance(record.get("bitmap"), dict):
        return "bitmap"
    points = record.get("points")
    corners = points.get("exterior") if isinstance(points, dict) else None
    return "rectangle" if isinstance(corners, list) and len(corners) == 2 else "polygon"


def _mask_box(mask: Any) -> tuple[float, float, float, float] | None:
    """Return the box of a mask, which is a packed PNG at its origin, of which the header alone is unpacked."""
    origin = to_numbers(mask.get("origin"), 2) if isinstance(mask, dict) else None
    if origin is None or not isinstance(mask.get("data"), str):
        return None
    try:
        head = zlib.decompressobj().decompress(base64.b64decode(mask["data"], validate=True), _HEAD)
    except (binascii.Error, ValueError, zlib.error):
        return None
    if len(head) < _HEAD or not head.startswith(_PNG):
        return None
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    x, y = origin
    return x, y, x + width, y + height


_LOCATION = LocationFormat("objects[{index}]")
SUPERVISELY = LabelFiles("supervisely", "Supervisely", ".json", json_kind, parse_supervisely, _LOCATION)
