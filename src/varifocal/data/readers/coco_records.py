"""The records of a COCO file, some at a time, as columns.

Records that keep to the format are read column by column. The others are read one by one: what can be understood is
taken and counted in ``changed``, the rest is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from jaxtyping import Bool, Float

from varifocal.data.annotations import LISTED, NO_BOX, Issue, Problems, SourceLocation
from varifocal.data.archive import AnyPath
from varifocal.data.readers.coco_ids import Ids, are_plain, index_of, without_id
from varifocal.data.readers.columns import UNSIZED
from varifocal.data.readers.outline import outline_box
from varifocal.data.readers.values import NAN, sides_of, to_number, whole_side
from varifocal.utils.text import short

SECTIONS = ("images", "annotations", "categories")
HINT = "a COCO file is an object with images, annotations and categories"
_MAX_SIDE = 2**31 - 1
_ABSENT = object()

# The type of each field of a record.
_FIELDS: dict[str, dict[str, type]] = {
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list},
    "categories": {"id": int, "name": str},
}
_GET = {key: itemgetter(*fields) for key, fields in _FIELDS.items()}
# The keys of an image's name where there is no file_name; LVIS has addresses alone.
_OTHER_NAMES = ("filename", "coco_url", "path", "url")
_NO_BBOX = (
    "(annotation has|annotations have) no usable bbox; "
    "the upright (box around its outline was|boxes around their outlines were) taken"
)
_IGNORED = (
    "(annotation says|annotations say) ignore and (counts|count) as difficult; data.difficult=train takes such boxes"
)
_NO_BOX = [NAN] * 4


class _Unreadable(list[float]):
    """Four NaN for a bbox that is not a list of four numbers; ``value`` is that bbox, for messages."""

    def __init__(self, value: Any) -> None:
        super().__init__(_NO_BOX)
        self.value = value


TextAndHint = tuple[str, str]  # what is wrong with a record, and how to fix it


@dataclass
class Found:
    """The content of a file so far, as lists of columns, one for each run of records.

    Ids are codes of :class:`Ids`. ``nameless`` are images whose name was refused. ``lost`` are the image ids of
    annotations that were refused. ``idless`` are the problems of images without an id, whose boxes cannot be
    distinguished from those of unknown images.
    """

    file: AnyPath
    ids: dict[str, Ids] = field(default_factory=lambda: {key: Ids() for key in SECTIONS})
    problems: dict[str, Problems] = field(default_factory=lambda: {key: Problems() for key in SECTIONS})
    changed: Counter[str] = field(default_factory=Counter)
    categories: list[tuple[int, str]] = field(default_factory=list)
    image_ids: list[np.ndarray] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sizes: list[np.ndarray] = field(default_factory=list)
    columns: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    odd: dict[int, str] = field(default_factory=dict)
    boxes: int = 0
    notes: list[str] = field(default_factory=list)
    nameless: set[int] = field(default_factory=set)
    lost: list[int] = field(default_factory=list)
    idless: Problems = field(default_factory=Problems)

    def add_records(self, key: str, first: int, records: list[Any]) -> None:
        """Add the next records of a section; ``first`` is the index of the first one."""
        rows = _rows(key, records)
        if rows is None:
            rows, records = self._read_each(key, first, records)
        if not rows:
            return
        if key == "categories":
            self.categories += rows
        elif key == "images":
            self._add_images(rows)
        else:
            self._add_annotations(rows, records)

    def report(self, kind: str, section: str, location: str, text: str, hint: str, *, image: int = -1) -> None:
        """Add a problem of a section."""
        self.problems[section].add(Issue(kind, SourceLocation(self.file, location), text, hint, image=image))

    def _read_each(self, key: str, first: int, records: list[Any]) -> tuple[list[Any], list[Any]]:
        """Return the rows of the records that can be understood, and these records; the others are reported."""
        read = {"images": self._image, "annotations": self._annotation, "categories": self._category}[key]
        rows: list[Any] = []
        good: list[Any] = []
        for index, record in enumerate(records, start=first):
            location = f"{key}[{index}]"
            if type(record) is not dict:
                self.report("malformed", key, location, f"is {short(record)} and should be an object", HINT)
                continue
            if "id" in record:
                location += f" (id {short(record['id'])})"
            row = read(record, index, location, len(rows))
            if row is not None:
                rows.append(row)
                good.append(record)
        return rows, good

    def _image(self, record: dict[str, Any], index: int, location: str, row: int) -> tuple[Any, ...] | None:
        code = self.ids["images"].code(record.get("id"))
        image = len(self.names) + row
        if code is None:
            wrong = _no_id(record, "id")
            self.idless.add(Issue("malformed", SourceLocation(self.file, f"images[{index}]"), *wrong))
            return None
        name, key = _name_of(record)
        if name is None:
            self.report("malformed", "images", location, *_no_field(record, "file_name", "a text"), image=image)
            self.nameless.add(image)
            name = short(record.get("file_name"))
        elif key != "file_name":
            self.changed[f"(image has|images have) no file_name; the end of (its|their) {key} was taken"] += 1
        return code, name, *(whole_side(record.get(side)) for side in ("width", "height"))

    def _annotation(self, record: dict[str, Any], index: int, location: str, row: int) -> tuple[Any, ...] | None:
        image, category = self.ids["images"].code(record.get("image_id")), self._class_of(record, index)
        if image is None or category is None:
            key = "image_id" if image is None else "category_id"
            self.report("malformed", "annotations", location, *_no_id(record, key))
            if image is not None:
                self.lost.append(image)
            return None
        code = self.ids["annotations"].code(record.get("id"))
        if code is None:
            self.changed["(annotation has|annotations have) no id"] += 1
            code = without_id(index)
        box = _bbox(record)
        if isinstance(record.get("bbox"), dict) and type(box) is list and box is not _NO_BOX:
            self.changed["(bbox is an object|bboxes are objects) with x, y, width and height"] += 1
        return code, image, category, box

    def _class_of(self, record: dict[str, Any], index: int) -> int | None:
        """Return the code of an annotation's class, that of a record without an id where it has none."""
        value = record.get("category_id")
        return without_id(index) if value is None else self.ids["categories"].code(value)

    def _category(self, record: dict[str, Any], index: int, location: str, row: int) -> tuple[int, str] | None:
        code, name = self.ids["categories"].code(record.get("id")), record.get("name")
        name = "" if name is None else name
        if type(name) in (int, float):
            self.changed["(class is|classes are) called by a number"] += 1
            name = str(name)
        if code is None or not isinstance(name, str):
            wrong = _no_id(record, "id") if code is None else _no_field(record, "name", "a text")
            self.report("malformed", "categories", f"categories[{index}]" if code is None else location, *wrong)
            return None
        return code, name

    def _add_images(self, rows: list[Any]) -> None:
        sides = np.array([row[2:] for row in rows], np.int64)
        valid = np.asarray((sides >= 1) & (sides <= _MAX_SIDE)).all(axis=1)
        if not valid.all():
            self.changed[UNSIZED] += int((~valid).sum())
        self.sizes.append(np.where(valid.reshape(-1, 1), sides, 0))
        self.image_ids.append(np.array([row[0] for row in rows], np.int64))
        self.names += [row[1] for row in rows]

    def _add_annotations(self, rows: list[Any], records: list[dict[str, Any]]) -> None:
        ids, image_ids, category_ids, raw = zip(*rows, strict=True)
        xywh, texts = _to_array(raw)
        if texts:
            self.changed["(box has|boxes have) numbers that are written as texts"] += texts
        xyxy = _to_xyxy(xywh)
        for index in np.flatnonzero(~np.isfinite(xywh).all(axis=1)).tolist():
            self._without_box(xyxy, index, raw[index], records[index])
        for index in np.flatnonzero((xywh[:, 2:] == 0).any(axis=1)).tolist():
            self._without_area(xyxy, index, records[index])
        crowd, difficult = (self._flags(ids, records, key) for key in ("iscrowd", "difficult"))
        if any("ignore" in record for record in records):
            ignored = self._flags(ids, records, "ignore")
            self.changed[_IGNORED] += int(ignored.sum())
            difficult = difficult | ignored
        columns = (np.array(column, np.int64) for column in (ids, image_ids, category_ids))
        areas = np.array([_number(record.get("area")) for record in records], np.float64)
        self.columns.append((*columns, crowd, difficult, areas, xyxy))
        self.boxes += len(ids)

    def _without_box(self, xyxy: np.ndarray, index: int, raw: list[Any], record: dict[str, Any]) -> None:
        """Set the box of a record whose bbox is none to that around its outline, or else keep its text for messages."""
        box = outline_box(record.get("segmentation"))
        if box is not None:
            self.changed[_NO_BBOX] += 1
            xyxy[index] = box
        elif len(self.odd) < LISTED:
            shown = short(raw.value if isinstance(raw, _Unreadable) else raw)
            self.odd[self.boxes + index] = NO_BOX if raw is _NO_BOX else shown

    def _without_area(self, xyxy: np.ndarray, index: int, record: dict[str, Any]) -> None:
        """Set the box of a record whose bbox has no area to that around its outline, where that has an area.

        Some programs write zeros where they have an outline.
        """
        box = outline_box(record.get("segmentation"))
        if box is not None and box[2] > box[0] and box[3] > box[1]:
            self._without_box(xyxy, index, [], record)

    def _flags(self, ids: Sequence[int], records: list[dict[str, Any]], key: str) -> Bool[np.ndarray, "N"]:
        """Return the flag ``key`` of each annotation; a value that is none is reported and counts as 0."""
        values = [record.get(key, 0) for record in records]
        if set(map(type, values)) <= {int, bool} and set(values) <= {0, 1}:
            return np.array(values, bool)
        return np.array([self._flag(id, value, key) for id, value in zip(ids, values, strict=True)], bool)

    def _flag(self, id: int, value: Any, key: str) -> bool:
        if value in (0, 1) and type(value) in (int, bool):
            return bool(value)
        if value is None or value == "":
            return False
        number = to_number(value) if isinstance(value, str) else value
        if type(number) is float and number in (0, 1):
            return bool(number)
        self.report(
            "malformed", "annotations", self.annotation(id), f"has the {key} {short(value)}", "it must be 0 or 1"
        )
        return False

    def annotation(self, id: int) -> str:
        """Return the location of an annotation, by its id or, where it has none, by its index."""
        index = index_of(id)
        return f"annotations[{index}]" if index is not None else f"annotation {self.ids['annotations'].show(id)}"


def _rows(key: str, records: list[Any]) -> list[Any] | None:
    """Return the fields of all records, or None where a field of any record is missing or of another type."""
    try:
        rows = list(map(_GET[key], records))
    except (KeyError, TypeError, IndexError):
        return None
    if set(map(type, records)) != {dict}:
        return None
    for column, kind in zip(zip(*rows, strict=True), _FIELDS[key].values(), strict=True):
        if set(map(type, column)) != {kind}:
            return None
        if kind is int and not are_plain(column):
            return None
        if kind is list and set(map(len, column)) != {4}:
            return None
    return rows


def _no_id(record: dict[str, Any], key: str) -> TextAndHint:
    return _no_field(record, key, "a whole number or a text")


def _no_field(record: dict[str, Any], key: str, missing: str) -> TextAndHint:
    """Return the text and the fix of the problem that a field is missing or of the wrong type."""
    value = record.get(key, _ABSENT)
    if value is _ABSENT:
        return f"has no '{key}'", f"add it, {missing}"
    return f"has the {key} {short(value)}", f"it should be {missing}"


def _name_of(record: dict[str, Any]) -> tuple[str | None, str]:
    """Return the name of an image's file, of an address the path, and its key; None where no name is usable."""
    file_name = record.get("file_name")
    if isinstance(file_name, str) and file_name.strip():
        return file_name, "file_name"
    for key in _OTHER_NAMES:
        value = record.get(key)
        if isinstance(value, str) and value.strip() and (name := _path_of(value)):
            return name, key
    return (file_name if isinstance(file_name, str) else None), "file_name"


def _path_of(address: str) -> str:
    """Return the path of an address, "" where it has none; any other text as it is."""
    if "://" not in address:
        return address
    try:
        return unquote(urlsplit(address).path).lstrip("/")
    except ValueError:
        return ""


def _to_array(rows: Sequence[list[Any]]) -> tuple[Float[np.ndarray, "N 4"], int]:
    """Return rows as float64, with NaN for what is no number, and the number of rows with numbers that are texts."""
    if set(map(type, chain.from_iterable(rows))) <= {int, float}:
        try:
            return np.array(rows, dtype=np.float64).reshape(-1, 4), 0
        except OverflowError:
            pass
    texts = sum(any(isinstance(value, str) and to_number(value) == to_number(value) for value in row) for row in rows)
    numbers = [[to_number(value) if isinstance(value, str) else _number(value) for value in row] for row in rows]
    return np.array(numbers, dtype=np.float64).reshape(-1, 4), texts


def _bbox(record: dict[str, Any]) -> list[Any]:
    """Return the bbox of a record, or four NaN where it has none; the box may then be that around its outline."""
    box = record.get("bbox")
    if isinstance(box, list) and len(box) == 4:
        return box
    if isinstance(box, dict) and (sides := sides_of(box)):
        return sides
    is_missing = box is None or box == [] or outline_box(record.get("segmentation")) is not None
    return _NO_BOX if is_missing else _Unreadable(box)


def _to_xyxy(xywh: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 4"]:
    with np.errstate(over="ignore", invalid="ignore"):
        far = xywh[:, :2] + xywh[:, 2:]
    # a sum of two finite numbers may overflow; the box then ends at the largest number
    finite = np.isfinite(xywh).all(axis=1)
    far[finite] = np.clip(far[finite], -np.finfo(np.float64).max, np.finfo(np.float64).max)
    return np.concatenate([xywh[:, :2], far], axis=1)


def _number(value: Any) -> float:
    """Return a value as a float, NaN where it is no number."""
    if type(value) not in (int, float):
        return NAN
    try:
        return float(value)
    except OverflowError:
        return float("inf")
