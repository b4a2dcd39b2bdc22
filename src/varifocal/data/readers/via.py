"""VGG Image Annotator, version 1 and 2 (https://www.robots.ox.ac.uk/~vgg/software/via): its project, JSON and CSV.

The class is one of the attributes that a user has defined for regions: the one called class, label, name or the like,
or the only one. Circles, ellipses and polygons become the upright boxes around them; points and lines are left out.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any

from varifocal.data.archive import AnyPath
from varifocal.data.paths import TextDecoder
from varifocal.data.readers.columns import ColumnBuilder, line_of
from varifocal.data.readers.items import (
    CIRCLE,
    ELLIPSE,
    ONE_CLASS,
    OUTLINE,
    Entry,
    Fault,
    Item,
    LeftOut,
    LocationFormat,
    Shape,
    number_of,
    one_class_note,
    to_label,
    to_numbers,
)
from varifocal.data.readers.json_lists import Add
from varifocal.data.readers.json_stream import parse_json, read_object
from varifocal.data.readers.record_files import RecordFiles
from varifocal.data.readers.shapes import ellipse_box, enclosing_box
from varifocal.data.readers.sniff import json_kind, table_kind
from varifocal.utils.errors import DataError
from varifocal.utils.text import short, short_list

_CLASSES = ("class", "label", "name", "category", "type", "object", "classname", "species")
_KEYS = {
    "rect": ("x", "y", "width", "height"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "polygon": ("all_points_x", "all_points_y"),
}
_HEADER = ("filename", "region_shape_attributes", "region_attributes")

Region = tuple[int, Any, Any]  # its number, its shape attributes, its own attributes


def _kind(file: AnyPath) -> str:
    return table_kind(file) if file.name.lower().endswith(".csv") else json_kind(file)


def _scan(file: AnyPath, columns: ColumnBuilder, add: Add) -> None:
    if file.name.lower().endswith(".csv"):
        images = _from_csv(file, columns)
    else:
        images = [
            (name, list(_regions(number, values))) for number, (name, values) in enumerate(_records(file, columns))
        ]
    key = _class_key(file, (own for _, regions in images for _, _, own in regions))
    if key is None:
        columns.notes.append(one_class_note(file))
    for number, (name, regions) in enumerate(images):
        add(Item(name, (_entry(region, key) for region in regions), location=f"image {number}"))


def _records(file: AnyPath, columns: ColumnBuilder) -> list[tuple[Any, Any]]:
    """Return name and regions of each image of a JSON file.

    Raises:
        DataError: the file is no JSON, or none of VIA.
    """
    content: Any = read_object(file, (), lambda key, first, records: None)
    content = content.get("_via_img_metadata", content)
    if not isinstance(content, dict) or "" in content:
        text = f"this is not VIA but {short(content)}; save the project or export the annotations again"
        raise DataError(f"{file}: {text}", code="via-no-object")
    found = []
    for key, record in content.items():
        if isinstance(record, dict) and "filename" in record:
            found.append((record["filename"], record.get("regions")))
        else:
            text = f"is {short(record)}, which names no image"
            columns.report("malformed", file, short(key), text, "export the annotations again")
    return found


def _regions(number: int, values: Any) -> Iterator[Region]:
    """Yield the regions of an image: of a list or, in version 1, of an object whose keys are their indices."""
    if isinstance(values, dict):
        values = list(values.values())
    if values is not None and not isinstance(values, list):
        values = [values]
    for index, region in enumerate(values or []):
        location = number_of(number, index)
        if isinstance(region, dict):
            yield location, region.get("shape_attributes"), region.get("region_attributes")
        else:
            yield location, region, None


def _from_csv(file: AnyPath, columns: ColumnBuilder) -> list[tuple[Any, list[Region]]]:
    """Return name and regions of each image of a CSV file, which has a line for each region.

    Raises:
        DataError: the file is no CSV, or none of VIA.
    """
    texts = TextDecoder()
    reader = csv.reader(io.StringIO(texts.read(file), newline=""), strict=True)
    images: dict[str, list[Region]] = {}
    try:
        header = [name.lstrip("#") for name in next(reader, [])]
        if not set(_HEADER) <= set(header):
            text = f"this is not a CSV of VIA (found: {short_list(header)}); export it again"
            raise DataError(f"{file}: {text}", code="via-csv-header")
        cells_of = itemgetter(*map(header.index, _HEADER))
        for row in filter(any, reader):
            name, shape, own = cells_of(row + [""] * len(header))
            regions = images.setdefault(name, [])
            if shape not in ("", "{}"):
                regions.append((reader.line_num, _json_cell(shape, file), _json_cell(own or "{}", file)))
    except csv.Error as error:
        text = f"line {reader.line_num} is not CSV ({error}); export it again"
        raise DataError(f"{file}: {text}", code="via-csv-syntax") from None
    columns.notes += texts.notes(file)
    return list(images.items())


def _json_cell(text: str, file: AnyPath) -> Any:
    try:
        return parse_json(text, file)
    except DataError:
        return text


def _class_key(file: AnyPath, attributes: Iterable[Any]) -> str | None:
    """Return the attribute that holds the class; None where no region has any.

    Raises:
        DataError: there are several and none has a usual name.
    """
    counts: Counter[str] = Counter()
    for own in attributes:
        if isinstance(own, Mapping):
            counts.update(key for key, value in own.items() if value not in ("", {}, None))
    if len(counts) <= 1:
        return next(iter(counts), None)
    named = [key for usual in _CLASSES for key in counts if key.lower().replace("_", "").replace(" ", "") == usual]
    if not named:
        text = f"its regions have the attributes {short_list(counts)}, and none is called class or label"
        raise DataError(f"{file}: {text}; rename the one that holds the class", code="via-no-class-attribute")
    return named[0]


def _entry(region: Region, key: str | None) -> Entry:
    location, shape, own = region
    if not isinstance(shape, Mapping):
        return Fault(location, f"has the shape_attributes {short(shape)}", "they should be an object")
    kind = shape.get("name")
    if kind not in list(_KEYS):
        return LeftOut(f"(region|regions) of the shape {short(kind)} (was|were) left out")
    value = own.get(key) if isinstance(own, Mapping) else None
    label = ONE_CLASS if key is None else _label(value)
    if label is None:
        text, hint = f"has the {short(key)} {short(value)}", "it should be the name of one class"
        return Fault(location, text, hint, "unknown-class")
    box = _box(kind, shape)
    note = {"circle": CIRCLE, "ellipse": ELLIPSE, "polygon": OUTLINE}.get(kind, "")
    return Shape(location, label, box or (), odd="" if box else short(dict(shape)), note=note)


def _label(value: Any) -> str | None:
    """Return the class, which may be the only one that is ticked; "" where there is none, None for anything else."""
    if isinstance(value, Mapping):
        ticked = [name for name, on in value.items() if on in (True, "true", "1")]
        return ticked[0] if len(ticked) == 1 else None if ticked else ""
    return to_label(value)


def _box(kind: str, shape: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    values = [shape.get(key) for key in _KEYS[kind]]
    if kind == "polygon":
        xs, ys = map(to_numbers, values)
        return None if not xs or not ys or len(xs) != len(ys) else enclosing_box(list(zip(xs, ys, strict=True)))
    numbers = to_numbers(values)
    if numbers is None:
        return None
    if kind == "rect":
        x, y, width, height = numbers
        return x, y, x + width, y + height
    x, y, *radii = numbers
    turn = to_numbers([shape.get("theta", 0)])
    return ellipse_box(x, y, radii[0], radii[-1], math.degrees(turn[0] if turn else 0.0))


_REGION = LocationFormat("image {record} regions[{index}]")


def _location(file: Any, number: int) -> str:
    return line_of(file, number) if file.name.lower().endswith(".csv") else _REGION(file, number)


VIA = RecordFiles("via", "VGG Image Annotator", (".json", ".csv"), _kind, _scan, _location)
