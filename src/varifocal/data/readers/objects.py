"""The boxes of one image as a record has them, in image folders, Parquet files and tar shards alike.

``{"objects": {"bbox": [[x, y, width, height], ...], "categories": [...]}}`` as Hugging Face's image folders have it, or
a list of ``{"bbox": [...], "category": ...}`` under "objects" or, as in COCO, "annotations". Pixels; a class is a name
or a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from varifocal.data.annotations import LISTED, NO_BOX, Issue, SourceLocation
from varifocal.data.readers.columns import NAN, ColumnBuilder, count_from_one, to_number, whole_side
from varifocal.types import Category
from varifocal.utils.text import short, short_list

CLASS_KEYS = ("categories", "category", "category_id", "labels", "label", "classes", "class", "class_name", "names")
_MAX_ID = 2**31
_ABSENT = object()
_SHIFT = 24  # bits of an object's index beside the number of its record


@dataclass
class ObjectReader:
    """Reads the objects of one record after another into columns; ``names`` are those of classes 0, 1, ... if known."""

    columns: ColumnBuilder
    names: Sequence[str] | None = None
    kind: type | None = None  # of the classes: int or str
    used: set[int] = field(default_factory=set)
    unknown: list[tuple[SourceLocation, int, int, int]] = field(default_factory=list)  # location, class, image, box

    def read(self, record: Mapping[str, Any], image: int, location: SourceLocation, number: int | None = None) -> None:
        """Add the boxes of an image, each at its index in the record, which has a ``number`` in its file if it is not
        a file by itself.

        A record without objects is an image without any.
        """
        rows = self._rows(record, image, location)
        for index, (box, category, crowd, area) in enumerate(rows):
            at = SourceLocation(location.file, f"{location.text} objects[{index}]".strip())
            label = self._label(category, image, at)
            if label is None:
                continue
            values = [NAN] * 4 if box is _ABSENT or box is None or box == [] else _numbers(box)
            x, y, width, height = values or [NAN] * 4
            odd = "" if values and all(value == value for value in values) else short(box) if box else NO_BOX
            self.columns.box(
                image,
                label,
                (x, y, x + width, y + height),
                index | (number or 0) << _SHIFT,
                crowd=crowd in (1, True),
                area=area if type(area) in (int, float) and abs(area) < 1e300 else NAN,
                odd=odd,
            )

    def finish(self) -> None:
        """Report what is known only at the end: classes that are not in the list of names, or have none at all."""
        if self.names is not None:
            self.columns.categories = tuple(Category(index, name) for index, name in enumerate(self.names))
            self._report_unknown(self.names)
        elif self.kind is int:
            self.columns.notes.append(f"{self.columns.source.name}: classes are numbers without names, and called so.")
        self.columns.no_classes()

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
        """Box, class, crowd and area of each object."""
        given: Any = next((record[key] for key in ("objects", "annotations") if record.get(key) is not None), [])
        if isinstance(given, Mapping):
            return self._from_lists(given, image, location)
        if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
            hint = "they are lists of bbox and categories, or a list of objects"
            self._report(image, location, f"has the objects {short(given)}", hint)
            return []
        return [
            (one.get("bbox", _ABSENT), _first(one, CLASS_KEYS), one.get("iscrowd"), one.get("area")) for one in given
        ]

    def _from_lists(
        self, given: Mapping[str, Any], image: int, location: SourceLocation
    ) -> list[tuple[Any, Any, Any, Any]]:
        boxes, categories = given.get("bbox", []), _first(given, CLASS_KEYS)
        if categories is _ABSENT and not boxes:
            return []
        if not isinstance(boxes, list) or not isinstance(categories, list) or len(boxes) != len(categories):
            text = f"has the bbox {short(boxes)} and the classes {short(None if categories is _ABSENT else categories)}"
            self._report(image, location, text, "they are two lists of the same length")
            return []
        others = [_first(given, keys) for keys in (("iscrowd", "is_crowd"), ("area",))]
        crowd, areas = (
            one if isinstance(one, list) and len(one) == len(boxes) else [None] * len(boxes) for one in others
        )
        return list(zip(boxes, categories, crowd, areas, strict=True))

    def _label(self, category: Any, image: int, location: SourceLocation) -> int | None:
        """The label of a class, -1 where the names do not have it; None where it is none, which is reported."""
        if wrong := self._wrong(category):
            self._report(image, location, *wrong, "unknown-class")
            return None
        self.kind = type(category)
        if self.names is None:
            return self.columns.label(category)
        if isinstance(category, str):
            category = self.names.index(category) if category in self.names else -1
        self.used.add(category)
        if 0 <= category < len(self.names):
            return int(category)
        if len(self.unknown) < LISTED:
            self.unknown.append((location, category, image, self.columns.boxes))
        return -1

    def _wrong(self, category: Any) -> tuple[str, str] | None:
        """Why a value is no class, and what to do."""
        if type(category) not in (int, str) or category == "":
            text = "has no class" if category is _ABSENT or category is None else f"has the class {short(category)}"
            return text, "a class is a name or a number"
        if type(category) is int and not -_MAX_ID <= category < _MAX_ID:
            return f"has the class {short(category)}", "a class is a small number"
        if self.kind not in (None, type(category)):
            others = "numbers" if self.kind is int else "names"
            return f"has the class {short(category)}, and others are {others}", "write all in the same way"
        return None

    def _report(self, image: int, location: SourceLocation, text: str, hint: str, kind: str = "malformed") -> None:
        self.columns.problems.add(Issue(kind, location, text, hint, image=image))


def _first(record: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((record[key] for key in keys if key in record), _ABSENT)


def _numbers(box: Any) -> list[float] | None:
    """Four numbers, NaN for what is none; None where there are not four."""
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        return None
    numbers = [to_number(value) if isinstance(value, str) else value for value in box]
    return [float(value) if type(value) in (int, float) and abs(value) < 1e300 else NAN for value in numbers]


def record_size(record: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height where a record has them, else 0."""
    width, height = (whole_side(record.get(side)) for side in ("width", "height"))
    return (width, height) if width and height else (0, 0)


def object_of(file: Any, number: int) -> str:
    """Return the location of an object in a record that is a file by itself."""
    return f"objects[{number & ((1 << _SHIFT) - 1)}]"


def line_object(file: Any, number: int) -> str:
    """Return the location of an object in a record that is a line."""
    return f"line {number >> _SHIFT} {object_of(file, number)}"


def row_object(file: Any, number: int) -> str:
    """Return the location of an object in a record that is a row."""
    return f"row {number >> _SHIFT} {object_of(file, number)}"
