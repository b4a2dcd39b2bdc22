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
from varifocal.data.readers.columns import enclosing_box
from varifocal.data.readers.items import (
    MASK,
    OUTLINE,
    Entry,
    Fault,
    Item,
    LeftOut,
    Shape,
    entries_of,
    to_label,
    to_numbers,
    to_points,
    to_size,
)
from varifocal.data.readers.label_files import LabelFiles
from varifocal.data.readers.labelme import parse_json
from varifocal.data.readers.sniff import json_kind
from varifocal.utils.text import short

_PNG = b"\x89PNG\r\n\x1a\n"
_HEAD = 24  # bytes of a PNG up to its height


def parse_supervisely(text: str, file: AnyPath) -> Item | None:
    """The image of an annotation file and its objects; None of a JSON file that is something else.

    Raises:
        DataError: it is not valid JSON.
    """
    record = parse_json(text, file)
    if not isinstance(record, dict) or "objects" not in record or "size" not in record:
        return None
    size = record["size"] if isinstance(record["size"], dict) else {}
    # the file is called a.jpg.json, or a.json in old projects
    return Item(
        file.stem, entries_of(record["objects"], "objects", _entry), to_size(size.get("width"), size.get("height"))
    )


def _entry(number: int, one: dict[str, Any]) -> Entry:
    kind = _kind(one)
    if kind not in ("rectangle", "polygon", "bitmap", "alpha_mask"):
        return LeftOut(f"(object|objects) of the type {short(kind)} (was|were) left out")
    label = to_label(one.get("classTitle"))
    if label is None:
        return Fault(number, f"has the classTitle {short(one['classTitle'])}", "it should be a name", "unknown-class")
    if kind in ("bitmap", "alpha_mask"):
        mask = one.get("bitmap", one.get("alpha_mask"))
        box = _mask_box(mask)
        return Shape(number, label, box or (), odd="" if box else short(mask), note=MASK)
    points = one.get("points")
    corners = to_points(points.get("exterior") if isinstance(points, dict) else None)
    if corners is None:
        return Shape(number, label, (), odd=short(points))
    x1, y1, x2, y2 = enclosing_box(corners)
    return Shape(number, label, (x1, y1, x2 + 1, y2 + 1), note=OUTLINE if kind == "polygon" else "")


def _kind(one: dict[str, Any]) -> Any:
    """The type of an object; old projects do not say it."""
    if "geometryType" in one:
        return one["geometryType"]
    if isinstance(one.get("bitmap"), dict):
        return "bitmap"
    points = one.get("points")
    corners = points.get("exterior") if isinstance(points, dict) else None
    return "rectangle" if isinstance(corners, list) and len(corners) == 2 else "polygon"


def _mask_box(mask: Any) -> tuple[float, float, float, float] | None:
    """The box of a mask, which is a packed PNG at its origin; its header alone is unpacked."""
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


def _object_of(file: Any, number: int) -> str:
    return f"objects[{number}]"


SUPERVISELY = LabelFiles("supervisely", "Supervisely", ".json", json_kind, parse_supervisely, _object_of)
