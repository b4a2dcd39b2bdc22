"""Formats whose JSON is a list of images, each with its objects: CreateML and BDD100K.

- CreateML (https://developer.apple.com/documentation/createml): x and y are the middle of a box, in pixels.
- BDD100K, as Scalabel writes it (https://doc.scalabel.ai/format.html): corners in pixels. The first release has a JSON
  for each image. Lanes and areas have no box and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from varifocal.data.annotations import RawDataset
from varifocal.data.archive import AnyPath
from varifocal.data.options import ReadOptions
from varifocal.data.readers.columns import ColumnBuilder
from varifocal.data.readers.items import (
    Entry,
    Fault,
    Item,
    LeftOut,
    LocationFormat,
    Shape,
    entries_of,
    to_label,
    to_numbers,
)
from varifocal.data.readers.json_stream import Count, parse_json, read_list, read_object
from varifocal.data.readers.label_files import LabelFiles
from varifocal.data.readers.record_files import RecordFiles
from varifocal.data.readers.sniff import json_kind
from varifocal.data.readers.values import whole_size
from varifocal.utils.errors import DataError
from varifocal.utils.text import short

_NO_BOX = "(label|labels) without a box (lanes, areas) (was|were) left out"

Add = Callable[[Item], None]


def _record_adder(
    columns: ColumnBuilder, to_item: Callable[[int, dict[str, Any]], Item], add: Add
) -> Callable[..., None]:
    """Return a function that adds the items of the records of a list, and reports what is no record."""

    def add_records(first: int, records: list[Any]) -> None:
        for number, record in enumerate(records, start=first):
            if isinstance(record, dict):
                add(to_item(number, record))
            else:
                text = f"is {short(record)}"
                columns.report("malformed", columns.source, f"[{number}]", text, "it should be an object")

    return add_records


def _objects(values: Any, number: int, name: str, to_entry: Callable[[int, dict[str, Any]], Entry]) -> Iterator[Entry]:
    """Return the entries of the list ``name`` of a record; none where the record does not have it."""
    return entries_of([] if values is None else values, name, to_entry, number)


def _scan_createml(file: AnyPath, columns: ColumnBuilder, add: Add) -> None:
    count = read_list(file, _record_adder(columns, _createml_item, add))
    if count is None:
        text = "this is not CreateML, which is a list of images; export it again"
        raise DataError(f"{file}: {text}", code="createml-no-list")


def _createml_item(number: int, record: dict[str, Any]) -> Item:
    name = next((record[key] for key in ("image", "imagefilename", "imageURL") if key in record), "")
    objects = record.get("annotations", record.get("annotation"))
    return Item(name, _objects(objects, number, "annotations", _createml_entry), location=f"[{number}]")


def _createml_entry(index: int, record: dict[str, Any]) -> Entry:
    label = to_label(record.get("label"))
    if label is None:
        return Fault(index, f"has the label {short(record['label'])}", "it should be a name", "unknown-class")
    box = record.get("coordinates")
    sides = to_numbers([box.get(key) for key in ("x", "y", "width", "height")]) if isinstance(box, dict) else None
    if sides is None:
        return Shape(index, label, (), odd=short(box))
    x, y, width, height = sides
    return Shape(index, label, (x - width / 2, y - height / 2, x + width / 2, y + height / 2))


_CREATEML_LOCATION = LocationFormat("[{record}] annotations[{index}]")
CREATEML = RecordFiles("createml", "CreateML", (".json",), json_kind, _scan_createml, _CREATEML_LOCATION)


def _scan_bdd(file: AnyPath, columns: ColumnBuilder, add: Add) -> None:
    add_records = _record_adder(columns, _bdd_item, add)
    if read_list(file, add_records) is not None:
        return
    content = read_object(file, ("frames",), lambda _, first, records: add_records(first, records))
    if not isinstance(content.get("frames"), Count):
        text = "this is not BDD100K, which is a list of images or has one under 'frames'; name another"
        raise DataError(f"{file}: {text}", code="bdd100k-no-list")


def _bdd_item(number: int, record: dict[str, Any]) -> Item:
    entries = _objects(record.get("labels"), number, "labels", _bdd_entry)
    size = record.get("size")
    sides = (size.get("width"), size.get("height")) if isinstance(size, dict) else (None, None)
    return Item(record.get("name", ""), entries, whole_size(*sides), f"[{number}]")


def _bdd_entry(index: int, record: dict[str, Any]) -> Entry:
    box = record.get("box2d")
    if box is None:
        return LeftOut(_NO_BOX)
    label = to_label(record.get("category"))
    if label is None:
        return Fault(index, f"has the category {short(record['category'])}", "it should be a name", "unknown-class")
    sides = to_numbers([box.get(key) for key in ("x1", "y1", "x2", "y2")]) if isinstance(box, dict) else None
    if sides is None:
        return Shape(index, label, (), odd=short(box))
    flags = record.get("attributes")
    crowd = isinstance(flags, dict) and flags.get("crowd") is True
    return Shape(index, label, sides, crowd=crowd)


def _parse_bdd(text: str, file: AnyPath) -> Item | None:
    """Return the image of a file of the first release, which has one frame; None for any other JSON."""
    record = parse_json(text, file)
    frames = record.get("frames") if isinstance(record, dict) else None
    if not isinstance(frames, list) or len(frames) != 1 or not isinstance(frames[0], dict):
        return None
    name = record.get("name")
    named = name if isinstance(name, str) and name.strip() else file.stem
    return Item(named, _objects(frames[0].get("objects"), 0, "objects", _bdd_entry), other=file.stem)


def _image_kind(file: AnyPath) -> str:
    return json_kind(file).removesuffix("-image")


_BDD_LIST = RecordFiles(
    "bdd100k", "BDD100K", (".json",), json_kind, _scan_bdd, LocationFormat("[{record}] labels[{index}]")
)
_BDD_IMAGE = LabelFiles("bdd100k", "BDD100K", ".json", _image_kind, _parse_bdd, LocationFormat("objects[{index}]"))


def find_bdd(path: AnyPath) -> dict[str, AnyPath]:
    """Return the splits of BDD100K: a file for each, or folders with a file for each image.

    Raises:
        DataError: there are none, or several of one split.
    """
    try:
        return _BDD_LIST.splits(path)
    except DataError:
        if path.is_file() or next(_BDD_LIST.files(path), None) is not None:
            raise
        return _BDD_IMAGE.splits(path)


def read_bdd(source: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
    """Read one split, as ``find_bdd`` gives it.

    Raises:
        DataError: as the readers of the two layouts.
    """
    single = source.is_file() and json_kind(source) != "bdd100k-image"
    return (_BDD_LIST if single else _BDD_IMAGE).read(source, data, split, options)
