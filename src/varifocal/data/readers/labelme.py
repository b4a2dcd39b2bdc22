"""labelme's JSON beside each image, which AnyLabeling and X-AnyLabeling also write (https://github.com/wkentaro/labelme).

A rectangle has two opposite corners, in any order, or four. Polygons, circles, turned rectangles and masks become the
upright boxes around them; points and lines are left out and counted.
"""

from __future__ import annotations

import math
from typing import Any

from varifocal.data.archive import AnyPath
from varifocal.data.readers.items import (
    CIRCLE,
    MASK,
    OUTLINE,
    TURNED,
    Entry,
    Fault,
    Item,
    LeftOut,
    LocationFormat,
    Shape,
    entries_of,
    to_label,
    to_points,
)
from varifocal.data.readers.json_stream import parse_json
from varifocal.data.readers.label_files import LabelFiles
from varifocal.data.readers.shapes import enclosing_box
from varifocal.data.readers.sniff import json_kind
from varifocal.data.readers.values import whole_size
from varifocal.utils.text import counted, short

# For each shape with an area: the note on its conversion to a box, and the number of points it has at least.
_AREAS = {
    "rectangle": ("", 2),
    "polygon": (OUTLINE, 3),
    "circle": (CIRCLE, 2),
    "mask": (MASK, 2),
    **dict.fromkeys(("rotation", "oriented_rectangle", "quadrilateral"), (TURNED, 4)),
}


def parse_labelme(text: str, file: AnyPath) -> Item | None:
    """Return the image of a label file with its shapes; None for a JSON file that is something else.

    Raises:
        DataError: it is not valid JSON.
    """
    record = parse_json(text, file)
    if not isinstance(record, dict) or "shapes" not in record:
        return None
    path, shapes = record.get("imagePath"), record["shapes"]
    # the image may have been renamed together with its labels
    name = path if isinstance(path, str) and path.strip() else file.stem
    return Item(
        name,
        entries_of(shapes, "shapes", _entry),
        whole_size(record.get("imageWidth"), record.get("imageHeight")),
        other=file.stem,
    )


def _entry(number: int, shape: dict[str, Any]) -> Entry:
    kind = shape.get("shape_type") or "polygon"
    if kind not in list(_AREAS):
        return LeftOut(f"(shape|shapes) of the type {short(kind)} (was|were) left out")
    label = to_label(shape.get("label"))
    if label is None:
        return Fault(number, f"has the label {short(shape['label'])}", "it should be a name", "unknown-class")
    note, min_points = _AREAS[kind]
    points = to_points(shape.get("points"))
    if points is None:
        return Shape(number, label, (), odd=short(shape.get("points")))
    if len(points) < min_points:
        odd = f"{short(shape.get('points'))} (a {kind} of {counted(len(points), '(point|points)')})"
        return Shape(number, label, (), odd=odd)
    box = _circle(points) if kind == "circle" else enclosing_box(points)
    return Shape(number, label, box, note=note, difficult=shape.get("difficult") is True)


def _circle(points: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    """Return the box around a circle that is given by its middle and a point on it."""
    (x, y), rim = points[0], points[1]
    radius = math.dist((x, y), rim)
    return x - radius, y - radius, x + radius, y + radius


LABELME = LabelFiles("labelme", "labelme", ".json", json_kind, parse_labelme, LocationFormat("shapes[{index}]"))
