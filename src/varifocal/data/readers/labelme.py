"""labelme's JSON beside each image, which AnyLabeling and X-AnyLabeling write, too (https://github.com/wkentaro/labelme).

A rectangle has two opposite corners, in any order, or four. Polygons, circles, turned rectangles and masks become the
upright boxes around them; points and lines are left out and counted.
"""

from __future__ import annotations

import json
import math
from typing import Any

from varifocal.data.archive import AnyPath
from varifocal.data.readers.columns import enclosing_box
from varifocal.data.readers.items import (
    CIRCLE,
    MASK,
    OUTLINE,
    TURNED,
    Entry,
    Fault,
    Item,
    LeftOut,
    Shape,
    entries_of,
    to_label,
    to_points,
    to_size,
)
from varifocal.data.readers.label_files import LabelFiles
from varifocal.data.readers.sniff import json_kind
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted, short

# Shapes with an area, the note on what becomes of them, and the fewest points they have.
_AREAS = {
    "rectangle": ("", 2),
    "polygon": (OUTLINE, 3),
    "circle": (CIRCLE, 2),
    "mask": (MASK, 2),
    **dict.fromkeys(("rotation", "oriented_rectangle", "quadrilateral"), (TURNED, 4)),
}


def parse_json(text: str, file: AnyPath) -> Any:
    """The value that a small JSON file holds.

    Raises:
        DataError: it is not valid JSON; the line is named.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        location = f"line {error.lineno} column {error.colno}"
        raise DataError(f"{file}: this is not valid JSON at {location} ({error.msg}); export it again") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: the JSON cannot be read ({error}); export it again") from None


def parse_labelme(text: str, file: AnyPath) -> Item | None:
    """The image of a label file and its shapes; None of a JSON file that is something else.

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
        to_size(record.get("imageWidth"), record.get("imageHeight")),
        other=file.stem,
    )


def _entry(number: int, shape: dict[str, Any]) -> Entry:
    kind = shape.get("shape_type") or "polygon"
    if kind not in list(_AREAS):
        return LeftOut(f"(shape|shapes) of the type {short(kind)} (was|were) left out")
    label = to_label(shape.get("label"))
    if label is None:
        return Fault(number, f"has the label {short(shape['label'])}", "it should be a name", "unknown-class")
    note, fewest = _AREAS[kind]
    points = to_points(shape.get("points"))
    if points is None:
        return Shape(number, label, (), odd=short(shape.get("points")))
    if len(points) < fewest:
        return Fault(
            number,
            f"is a {kind} of {counted(len(points), '(point|points)')}",
            f"it has at least {fewest}; draw it again",
        )
    box = _circle(points) if kind == "circle" else enclosing_box(points)
    return Shape(number, label, box, note=note, difficult=shape.get("difficult") is True)


def _circle(points: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    """The box around a circle given by its middle and a point on it."""
    (x, y), rim = points[0], points[1]
    radius = math.dist((x, y), rim)
    return x - radius, y - radius, x + radius, y + radius


def _shape_of(file: Any, number: int) -> str:
    return f"shapes[{number}]"


LABELME = LabelFiles("labelme", "labelme", ".json", json_kind, parse_labelme, _shape_of)
