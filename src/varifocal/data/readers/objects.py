"""The objects of one image as records have them in image folders, Parquet files and tar shards.

``{"objects": {"bbox": [[x, y, width, height], ...], "categories": [...]}}`` as Hugging Face's image folders have it, or
a list of ``{"bbox": [...], "category": ...}`` under "objects" or, as in COCO, "annotations". Pixels; a class is a name
or a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from varifocal.data.annotations import LISTED, NO_BOX, Issue, SourceLocation
from varifocal.data.readers.columns import ColumnBuilder, count_from_one
from varifocal.data.readers.items import LocationFormat, number_of
from varifocal.data.readers.values import NAN, to_number
from varifocal.types import Category
from varifocal.utils.text import short, short_list

CLASS_KEYS = ("categories", "category", "category_id", "labels", "label", "classes", "class", "class_name", "names")
_MAX_ID = 2**31
_ABSENT = object()
_MAX_NUMBER = 1e300

# locations of objects in a record that is a file, a line or a row
OBJECT_OF_FILE = LocationFormat("objects[{index}]")
OBJECT_OF_LINE = LocationFormat("line {record} objects[{index}]")
OBJECT_OF_ROW = LocationFormat("row {record} objects[{index}]")


@dataclass
class ObjectReader:
    """Reads the objects of records into columns; ``names`` are those of the classes 0, 1, ... where they are known."""

    columns: ColumnBuilder
    names: Sequence[str] | None = None
    kind: type | None = None  # of the classes: int or str
    used: set[int] = field(default_factory=set)
    unknown: list[tuple[SourceLocation, int, int, int]] = field(default_factory=list)  # location, class, image, box

    def read(self, record: Mapping[str, Any], image: int, location: SourceLocation, number: int = 0) -> None:
        """Add the boxes of an image; ``number`` is that of its record in a file.

        A record without objects is an image without any.
        """
        for index, (box, category, crowd, area) in enumerate(self._rows(record, image, location)):
            at = SourceLocation(location.file, f"{location.text} objects[{index}]".strip())
            label = self._label(category, image, at)
            if label is None:
                continue
            (x, y, width, height), odd = _xywh(box)
            self.columns.add_box(
                image,
                label,
                (x, y, x + width, y + height),
                number_of(number, index),
                crowd=crowd in (1, True),
                area=_to_float(area),
                odd=odd,
            )

    def finish(self) -> None:
        """Set the classes, and report those that are not in the list of names."""
        if self.names is not None:
            self.columns.categories = tuple(Category(index, name) for index, name in enumerate(self.names))
            self._report_unknown(self.names)
        elif self.kind is int:
            self.columns.notes.append(f"{self.columns.source.name}: classes are numbers and have no names.")
        self.columns.report_no_classes()

    def _report_unknown(self, names: Sequence[str]) -> None:
        kind, hint = "unknown-class", "add the class there, or fix the label"
        if count_from_one(self.used, len(names)):
            kind = "shifted-class"
            hint = "the classes seem to count from 1 and names counts from 0; subtract 1 from each"
        listed = short_list(f"{index} {name}" for index, name in enumerate(names))
        for location, category, image, box in self.unknown:
            text = f"has the class {category}, which is not in names ({listed})"
            self.columns.problems.add(Issue(kind, location, text, hint, image=image, box=box))

    def _rows(self, record: Mapping[str, Any], image: int, location: SourceLocation) -> list[tuple[Any, Any, Any, Any]]:
        """Return box, class, crowd flag and area of each object of a record."""
        objects: Any = next((record[key] for key in ("objects", "annotations") if record.get(key) is not None), [])
        if isinstance(objects, Mapping):
            return self._from_lists(objects, image, location)
        if not isinstance(objects, list) or not all(isinstance(value, Mapping) for value in objects):
            hint = "it should have lists of bbox and categories, or be a list of objects"
            self._report(image, location, f"has the objects {short(objects)}", hint)
            return []
        return [
            (value.get("bbox"), _first(value, CLASS_KEYS), value.get("iscrowd"), value.get("area")) for value in objects
        ]

    def _from_lists(
        self, objects: Mapping[str, Any], image: int, location: SourceLocation
    ) -> list[tuple[Any, Any, Any, Any]]:
        """Return the rows of :meth:`_rows` of objects whose fields are lists."""
        boxes, categories = objects.get("bbox", []), _first(objects, CLASS_KEYS, None)
        if categories is None and not boxes:
            return []
        if not isinstance(boxes, list) or not isinstance(categories, list) or len(boxes) != len(categories):
            text = f"has the bbox {short(boxes)} and the classes {short(categories)}"
            self._report(image, location, text, "both should be lists of the same length")
            return []
        others = [_first(objects, keys) for keys in (("iscrowd", "is_crowd"), ("area",))]
        crowd, areas = (
            values if isinstance(values, list) and len(values) == len(boxes) else [None] * len(boxes)
            for values in others
        )
        return list(zip(boxes, categories, crowd, areas, strict=True))

    def _label(self, category: Any, image: int, location: SourceLocation) -> int | None:
        """Return the label of a class, -1 where the names do not have it; None for no class, which is reported."""
        if wrong := self._class_problem(category):
            self._report(image, location, *wrong, "unknown-class")
            return None
        self.kind = type(category)
        if self.names is None:
            return self.columns.add_label(category)
        if isinstance(category, str):
            category = self.names.index(category) if category in self.names else -1
        self.used.add(category)
        if 0 <= category < len(self.names):
            return int(category)
        if len(self.unknown) < LISTED:
            self.unknown.append((location, category, image, self.columns.boxes))
        return -1

    def _class_problem(self, category: Any) -> tuple[str, str] | None:
        """Return the text and the fix of the problem that a value is no class; None for a class."""
        if type(category) not in (int, str) or category == "":
            text = "has no class" if category is _ABSENT or category is None else f"has the class {short(category)}"
            return text, "a class is a name or a number"
        if type(category) is int and not -_MAX_ID <= category < _MAX_ID:
            return f"has the class {short(category)}", "a class is a small number"
        if self.kind not in (None, type(category)):
            others = "numbers" if self.kind is int else "names"
            return f"has the class {short(category)}, and others are {others}", "write all of them in the same way"
        return None

    def _report(self, image: int, location: SourceLocation, text: str, hint: str, kind: str = "malformed") -> None:
        self.columns.problems.add(Issue(kind, location, text, hint, image=image))


def _first(record: Mapping[str, Any], keys: Sequence[str], default: Any = _ABSENT) -> Any:
    return next((record[key] for key in keys if key in record), default)


def _xywh(box: Any) -> tuple[list[float], str]:
    """Return x, y, width and height, NaN for what is no number, and "" or, where one is none, what the source has."""
    if not box:
        return [NAN] * 4, NO_BOX
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        return [NAN] * 4, short(box)
    numbers = [_to_float(to_number(value) if isinstance(value, str) else value) for value in box]
    return numbers, "" if all(number == number for number in numbers) else short(box)


def _to_float(value: Any) -> float:
    return float(value) if type(value) in (int, float) and abs(value) < _MAX_NUMBER else NAN
