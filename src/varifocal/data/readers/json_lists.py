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
    Shape,
    number_of,
    record_and_index,
    to_label,
    to_numbers,
    to_size,
)
from varifocal.data.readers.json_stream import Count, read_list, read_object
from varifocal.data.readers.label_files import LabelFiles
from varifocal.data.readers.labelme import parse_json
from varifocal.data.readers.record_files import RecordFiles
from varifocal.data.readers.sniff import json_kind
from varifocal.utils.errors import DataError
from varifocal.utils.text import short

_NO_BOX = "(label|labels) without a box (lanes, areas) (was|were) left out"

Add = Callable[[Item], None]


def _take(columns: ColumnBuilder, to_item: Callable[[int, dict[str, Any]], Item], add: Add) -> Callable[..., None]:
    """What adds each record of a list, and reports what is none."""

    def take(first: int, records: list[Any]) -> None:
        for number, record in enumerate(records, start=first):
            if isinstance(record, dict):
                add(to_item(number, record))
            else:
                text = f"is {short(record)}"
                columns.problem("malformed", columns.source, f"[{number}]", text, "it should be an object")

    return take


def _objects(given: Any, number: int, name: str, to_entry: Callable[[int, dict[str, Any]], Entry]) -> Iterator[Entry]:
    """The entries of the list that a record has under ``name``; nothing where it has none."""
    if given is None:
        return
    if not isinstance(given, list):
        yield Fault(number_of(number, 0), f"has the {name} {short(given)}", "they should be a list")
        return
    for index, one in enumerate(given):
        location = number_of(number, index)
        if isinstance(one, dict):
            yield to_entry(location, one)
        else:
            yield Fault(location, f"is {short(one)}", "it should be an object")


def _scan_createml(file: AnyPath, columns: ColumnBuilder, add: Add) -> None:
    count = read_list(file, _take(columns, _createml_item, add))
    if count is None:
        raise DataError(f"{file}: this is not CreateML, which is a list of images; export it again")


def _createml_item(number: int, record: dict[str, Any]) -> Item:
    name = next((record[key] for key in ("image", "imagefilename", "imageURL") if key in record), "")
    given = record.get("annotations", record.get("annotation"))
    return Item(name, _objects(given, number, "annotations", _createml_entry), location=f"[{number}]")


def _createml_entry(index: int, one: dict[str, Any]) -> Entry:
    label = to_label(one.get("label"))
    if label is None:
        return Fault(index, f"has the label {short(one['label'])}", "it should be a name", "unknown-class")
    box = one.get("coordinates")
    sides = to_numbers([box.get(key) for key in ("x", "y", "width", "height")]) if isinstance(box, dict) else None
    if sides is None:
        return Shape(index, label, (), odd=short(box))
    x, y, width, height = sides
    return Shape(index, label, (x - width / 2, y - height / 2, x + width / 2, y + height / 2))


def _createml_location(file: Any, number: int) -> str:
    record, index = record_and_index(number)
    return f"[{record}] annotations[{index}]"


CREATEML = RecordFiles("createml", "CreateML", (".json",), json_kind, _scan_createml, _createml_location)


def _scan_bdd(file: AnyPath, columns: ColumnBuilder, add: Add) -> None:
    take = _take(columns, _bdd_item, add)
    if read_list(file, take) is not None:
        return
    content = read_object(file, ("frames",), lambda _, first, records: take(first, records))
    if not isinstance(content.get("frames"), Count):
        raise DataError(
            f"{file}: this is not BDD100K, which is a list of images or has one under 'frames'; name another"
        )


def _bdd_item(number: int, record: dict[str, Any]) -> Item:
    entries = _objects(record.get("labels"), number, "labels", _bdd_entry)
    size = record.get("size")
    sides = (size.get("width"), size.get("height")) if isinstance(size, dict) else (None, None)
    return Item(record.get("name", ""), entries, to_size(*sides), f"[{number}]")


def _bdd_entry(index: int, one: dict[str, Any]) -> Entry:
    box = one.get("box2d")
    if box is None:
        return LeftOut(_NO_BOX)
    label = to_label(one.get("category"))
    if label is None:
        return Fault(index, f"has the category {short(one['category'])}", "it should be a name", "unknown-class")
    sides = to_numbers([box.get(key) for key in ("x1", "y1", "x2", "y2")]) if isinstance(box, dict) else None
    if sides is None:
        return Shape(index, label, (), odd=short(box))
    flags = one.get("attributes")
    crowd = isinstance(flags, dict) and flags.get("crowd") is True
    return Shape(index, label, sides, crowd=crowd)


def _bdd_location(file: Any, number: int) -> str:
    record, index = record_and_index(number)
    return f"[{record}] labels[{index}]"


def _parse_bdd(text: str, file: AnyPath) -> Item | None:
    """The image of a file of the first release, which has one frame."""
    record = parse_json(text, file)
    frames = record.get("frames") if isinstance(record, dict) else None
    if not isinstance(frames, list) or len(frames) != 1 or not isinstance(frames[0], dict):
        return None
    name = record.get("name")
    named = name if isinstance(name, str) and name.strip() else file.stem
    return Item(named, _objects(frames[0].get("objects"), 0, "objects", _bdd_entry), other=file.stem)


def _bdd_object(file: Any, number: int) -> str:
    return f"objects[{number}]"


def _image_kind(file: AnyPath) -> str:
    return json_kind(file).removesuffix("-image")


_BDD_LIST = RecordFiles("bdd100k", "BDD100K", (".json",), json_kind, _scan_bdd, _bdd_location)
_BDD_IMAGE = LabelFiles("bdd100k", "BDD100K", ".json", _image_kind, _parse_bdd, _bdd_object)


def find_bdd(path: AnyPath) -> dict[str, AnyPath]:
    """The splits of BDD100K: a file each, or folders with a file for each image.

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
    """One split, as ``find_bdd`` gives it; errors as of the two ways."""
    single = source.is_file() and json_kind(source) != "bdd100k-image"
    return (_BDD_LIST if single else _BDD_IMAGE).read(source, data, split, options)
