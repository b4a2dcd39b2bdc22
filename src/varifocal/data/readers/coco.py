"""COCO annotations: one json, read in a pass, whatever its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from varifocal.data.archive import Tree
from varifocal.data.find import Lost, finder_of
from varifocal.data.names import leaves_folder
from varifocal.data.options import ReadOptions
from varifocal.data.raw import (
    LISTED,
    Files,
    Place,
    Problem,
    Problems,
    RawBoxes,
    RawImages,
    RawSet,
    first_copies,
    short,
    short_list,
)
from varifocal.data.readers.coco_layout import picture_roots
from varifocal.data.readers.json_stream import read_object
from varifocal.data.readers.lookup import Lookup, Words
from varifocal.data.tree import PictureFinder
from varifocal.errors import DataError
from varifocal.records import Category

_SECTIONS = ("images", "annotations", "categories")
_MEND = "a COCO file is an object with images, annotations and categories"
_MAX_SIDE = 2**31 - 1
_MAX_ID = 2**63
_ABSENT = object()

# What each field of a record must be.
_FIELDS: dict[str, dict[str, type]] = {
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list},
    "categories": {"id": int, "name": str},
}
_WORDS = {int: "a whole number", str: "a text", list: "a list [x, y, width, height]"}
_NAMES = Words("has the file_name", "put it there or take it out of the json")
_GET = {key: itemgetter(*fields) for key, fields in _FIELDS.items()}


@dataclass(frozen=True, eq=False)
class _Where:
    """The place of each annotation: its id and that of its image."""

    file: Tree
    ids: Int64[np.ndarray, "N"]
    image_ids: Int64[np.ndarray, "N"]

    def __call__(self, index: int) -> Place:
        return Place(self.file, f"annotation {self.ids[index]} of image {self.image_ids[index]}")


@dataclass
class _Found:
    """What was collected of the file so far: lists of columns, one for each run of records."""

    file: Tree
    problems: dict[str, Problems] = field(default_factory=lambda: {key: Problems() for key in _SECTIONS})
    categories: list[tuple[int, str]] = field(default_factory=list)
    image_ids: list[np.ndarray] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sizes: list[np.ndarray] = field(default_factory=list)
    columns: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    odd: dict[int, str] = field(default_factory=dict)
    boxes: int = 0
    notes: list[str] = field(default_factory=list)

    def take(self, key: str, first: int, records: list[Any]) -> None:
        """The next records of a section."""
        rows = _rows(key, records)
        if rows is None:
            rows, records = self._check(key, first, records)
        if not rows:
            return
        if key == "categories":
            self.categories += rows
        elif key == "images":
            self._take_sizes(rows, first)
            self.image_ids.append(np.array([row[0] for row in rows], np.int64))
            self.names += [row[1] for row in rows]
        else:
            self._take_annotations(rows, records)

    def report(self, kind: str, section: str, place: str, text: str, mend: str, *, image: int = -1) -> None:
        self.problems[section].add(Problem(kind, Place(self.file, place), text, mend, image=image))

    def _check(self, key: str, first: int, records: list[Any]) -> tuple[list[Any], list[Any]]:
        """Report the records that are not what they must be; the rows of the others, and these themselves."""
        rows, good = [], []
        for index, record in enumerate(records, start=first):
            wrong = _wrong(key, index, record)
            if wrong is None:
                rows.append(_GET[key](record))
                good.append(record)
            else:
                self.report("malformed", key, *wrong)
        return rows, good

    def _take_sizes(self, rows: list[Any], records: int) -> None:
        sides = np.array([row[2:] for row in rows], np.int64)
        valid = np.asarray((sides >= 1) & (sides <= _MAX_SIDE)).all(axis=1)
        for index in np.flatnonzero(~valid).tolist():
            width, height = sides[index].tolist()
            self.report(
                "bad-size",
                "images",
                f"images[{records + index}] (id {rows[index][0]})",
                f"has the size {width} x {height}",
                f"width and height are whole numbers of pixels from 1 to {_MAX_SIDE}",
                image=len(self.names) + index,
            )
        self.sizes.append(np.where(valid.reshape(-1, 1), sides, 0))

    def _take_annotations(self, rows: list[Any], records: list[dict[str, Any]]) -> None:
        ids, image_ids, category_ids, raw = zip(*rows, strict=True)
        xywh = _to_array(raw)
        for index in np.flatnonzero(~np.isfinite(xywh).all(axis=1))[: max(LISTED - len(self.odd), 0)]:
            self.odd[self.boxes + int(index)] = short(raw[index])
        flags = (
            [self._flag(record, "iscrowd") for record in records],
            [self._flag(record, "difficult") for record in records],
        )
        self.columns.append(
            (
                *(np.array(column, np.int64) for column in (ids, image_ids, category_ids)),
                *(np.array(column, bool) for column in flags),
                np.array([_number(record.get("area")) for record in records], np.float64),
                _to_xyxy(xywh),
            )
        )
        self.boxes += len(ids)

    def _flag(self, record: dict[str, Any], key: str) -> bool:
        value = record.get(key, 0)
        if value in (0, 1) and type(value) in (int, bool):
            return bool(value)
        self.report(
            "malformed", "annotations", f"annotation {record['id']}", f"has the {key} {short(value)}", "it is 0 or 1"
        )
        return False


def read_coco(file: Tree, data: Tree, split: str, options: ReadOptions) -> RawSet:
    """One json of a data set that lies in ``data``, which is the folder or the json itself.

    Raises:
        DataError: the file cannot be read, is not JSON or not COCO. Whatever else is wrong is a problem of the set.
    """
    found = _Found(file)
    _check_sections(read_object(file, _SECTIONS, found.take), file)
    categories = _read_categories(found)
    roots = picture_roots(file, data, split)
    images = _read_images(found, finder_of(roots, roots[-1], split, options))
    boxes = _read_boxes(found, images, categories)
    problems = Problems()
    for key in ("categories", "images", "annotations"):
        problems.extend(found.problems[key])
    classes = tuple(Category(*pair) for pair in categories)
    return RawSet("coco", file, split, images, boxes, classes, problems, tuple(found.notes))


def _check_sections(content: dict[str, Any], file: Tree) -> None:
    if "" in content and len(content) == 1:
        _refuse_value(content[""], file)
    for key in _SECTIONS:
        if key not in content:
            found = short_list(content) or "nothing"
            raise DataError(f"{file}: this is not COCO, {key!r} is missing (found: {found}); {_MEND}")
        if type(content[key]) is not int:
            raise DataError(f"{file}: {key!r} is {short(content[key])} and should be a list; {_MEND}")


def _refuse_value(content: Any, file: Tree) -> None:
    if not isinstance(content, list):
        raise DataError(f"{file}: this is not COCO but {short(content)}; {_MEND}")
    first = content[0] if content else None
    if isinstance(first, dict) and "image_id" in first:
        raise DataError(f"{file}: this is a list of detection results, not a data set; {_MEND}")
    mend = f"{_MEND}; of Label Studio export JSON and not JSON-MIN" if isinstance(first, dict) else _MEND
    raise DataError(f"{file}: this is not COCO but a list of {len(content)}; {mend}")


def _rows(key: str, records: list[Any]) -> list[Any] | None:
    """The fields of all records, or None where any record is not what it must be."""
    try:
        rows = list(map(_GET[key], records))
    except (KeyError, TypeError, IndexError):
        return None
    if set(map(type, records)) != {dict}:
        return None
    for column, wanted in zip(zip(*rows, strict=True), _FIELDS[key].values(), strict=True):
        if set(map(type, column)) != {wanted}:
            return None
        if wanted is int and not _fits(column):
            return None
        if wanted is list and set(map(len, column)) != {4}:
            return None
    return rows


def _fits(numbers: Sequence[Any]) -> bool:
    return min(numbers) >= -_MAX_ID and max(numbers) < _MAX_ID


def _wrong(key: str, index: int, record: Any) -> tuple[str, str, str] | None:
    """Place, text and mend of the first thing that is wrong with a record."""
    place = f"{key}[{index}]"
    if type(record) is not dict:
        return place, f"is {short(record)} and should be an object", _MEND
    for name, wanted in _FIELDS[key].items():
        value = record.get(name, _ABSENT)
        if name != "id" and "id" in record:
            place = f"{key}[{index}] (id {short(record['id'])})"
        if value is _ABSENT:
            return place, f"has no {name!r}", f"add it, {_WORDS[wanted]}"
        if type(value) is not wanted:
            return place, f"has the {name} {short(value)}", f"it should be {_WORDS[wanted]}"
        if wanted is int and not _fits([value]):
            return place, f"has the {name} {short(value)}", "it should be a whole number of 64 bits"
    if key == "annotations" and len(record["bbox"]) != 4:
        place = f"annotation {record['id']} of image {record['image_id']}"
        text = f"has the bbox {short(record['bbox'])} of {len(record['bbox'])} values"
        return place, text, "a box is [x, y, width, height]"
    return None


def _read_categories(found: _Found) -> list[tuple[int, str]]:
    """Id and name of each category, sorted by id; of those that are there twice the first."""
    if not found.categories and not found.problems["categories"]:
        found.report("bad-category", "categories", "", "'categories' is empty", "add the classes of the boxes")
    for index, (_, name) in enumerate(found.categories):
        if not name.strip():
            place = f"categories[{index}]"
            found.report("bad-category", "categories", place, "has an empty name", "give each category a name")
    ids, names = ([pair[place] for pair in found.categories] for place in (0, 1))
    copies = _report_copies(found, "categories", ids, "category id")
    _report_copies(found, "categories", names, "category name")
    return sorted(pair for index, pair in enumerate(found.categories) if index not in copies)


def _report_copies(found: _Found, section: str, values: Sequence[Any], what: str) -> set[int]:
    """Report values that are there twice; their indices."""
    copies = list(first_copies(values))
    for index in copies:
        found.report("twice", section, "", f"the {what} {short(values[index])} is there twice", "each must be its own")
    return set(copies)


def _read_images(found: _Found, finder: PictureFinder) -> RawImages:
    if not found.names and not found.problems["images"]:
        found.report("malformed", "images", "", "'images' is empty", "a data set needs at least one image")
    ids = np.concatenate([np.empty(0, np.int64), *found.image_ids])
    if not (np.diff(np.sort(ids)) > 0).all():
        _report_copies(found, "images", ids.tolist(), "image id")
    sizes = np.concatenate([np.empty((0, 2), np.int64), *found.sizes])
    files = _find(found, ids, finder)
    return RawImages(found.names, files, sizes, ids)


def _find(found: _Found, ids: Int64[np.ndarray, "M"], finder: PictureFinder) -> Files:
    """The file of each image, by its name or else by the end of that; those that are nowhere become problems."""
    files = Files.of(None if leaves_folder(name) else finder.find(name) for name in found.names)
    lookup = Lookup()
    for index in files.missing.tolist():
        place = Place(found.file, f"image {ids[index]}")
        lookup.add(Lost(index, (found.names[index],), finder), place, _NAMES)
    outcome = lookup.finish(found.file, lambda: set(files.places()))
    for problem in outcome.problems:
        found.problems["images"].add(problem)
    found.notes += [outcome.note] if outcome.note else []
    return files.placed(outcome.places) if outcome.places else files


def _read_boxes(found: _Found, images: RawImages, categories: Sequence[tuple[int, str]]) -> RawBoxes:
    columns = [np.concatenate(parts) for parts in zip(_NO_COLUMNS, *found.columns, strict=True)]
    found.columns.clear()
    ids, image_ids, category_ids, crowd, difficult, areas, xyxy = columns
    if not (np.diff(np.sort(ids)) > 0).all():
        _report_copies(found, "annotations", ids.tolist(), "annotation id")
    known = np.array([id for id, _ in categories], np.int64)
    where = _Where(found.file, ids, image_ids)
    image_of, label_of = _look_up(image_ids, images.ids), _look_up(category_ids, known)
    _report_unknown(found, "unknown-image", image_of, image_ids, images.ids, where)
    _report_unknown(found, "unknown-class", label_of, category_ids, known, where)
    odd = found.odd
    if (image_of < 0).any():
        keep = image_of >= 0
        place = np.cumsum(keep) - 1
        odd = {int(place[index]): text for index, text in odd.items() if keep[index]}
        where = _Where(found.file, ids[keep], image_ids[keep])
        image_of, label_of, xyxy, crowd, difficult, areas = (
            column[keep] for column in (image_of, label_of, xyxy, crowd, difficult, areas)
        )
    return RawBoxes(image_of, label_of, xyxy, crowd, difficult, areas, where, xywh=True, odd=odd)


_NO_COLUMNS = (
    *(np.empty(0, np.int64) for _ in range(3)),
    *(np.empty(0, bool) for _ in range(2)),
    np.empty(0, np.float64),
    np.empty((0, 4), np.float64),
)


def _look_up(values: Int64[np.ndarray, "N"], known: Int64[np.ndarray, "K"]) -> Int64[np.ndarray, "N"]:
    """The position of each value among the known ones, -1 for the others."""
    if not len(known):
        return np.full(len(values), -1, np.int64)
    order = np.argsort(known, kind="stable")
    places = np.minimum(np.searchsorted(known[order], values), len(known) - 1)
    return np.where(known[order][places] == values, order[places], -1)


def _report_unknown(
    found: _Found,
    kind: str,
    index_of: Int64[np.ndarray, "N"],
    values: Int64[np.ndarray, "N"],
    known: Int64[np.ndarray, "K"],
    where: _Where,
) -> None:
    key, section = {"unknown-image": ("image_id", "images"), "unknown-class": ("category_id", "categories")}[kind]
    listed = short_list(known[:8].tolist()) + (f" and {len(known) - 8} more" if len(known) > 8 else "")

    mend = _shifted(np.unique(values), known)
    of_class = kind == "unknown-class"
    if mend and of_class:
        kind = "shifted-class"

    def make(index: int) -> Problem:
        place = where(index) if of_class else Place(found.file, f"annotation {where.ids[index]}")
        text = f"has the {key} {values[index]}, which is not in '{section}' ({listed})"
        return Problem(kind, place, text, mend or "add it there or remove the annotation")

    found.problems["annotations"].add_many(kind, np.flatnonzero(index_of < 0), make)


def _shifted(used: Int64[np.ndarray, "U"], known: Int64[np.ndarray, "K"]) -> str:
    """How to mend ids that would all be known if they were one more or one less; "" for others."""
    for step, word in ((1, "low; add 1 to each"), (-1, "high; subtract 1 from each")):
        if len(used) > 1 and np.isin(used + step, known).all():
            return f"all of them seem one too {word}"
    return ""


def _to_array(rows: Sequence[list[Any]]) -> Float[np.ndarray, "N 4"]:
    """Float64, with NaN for what is not a number; numpy by itself would read strings as numbers."""
    if set(map(type, chain.from_iterable(rows))) <= {int, float}:
        try:
            return np.array(rows, dtype=np.float64).reshape(-1, 4)
        except OverflowError:
            pass
    return np.array([[_number(value) for value in row] for row in rows], dtype=np.float64).reshape(-1, 4)


def _to_xyxy(xywh: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, "N 4"]:
    with np.errstate(over="ignore", invalid="ignore"):
        far = xywh[:, :2] + xywh[:, 2:]
    # a sum of two finite numbers may overflow; the box is then as far as a number goes
    finite = np.isfinite(xywh).all(axis=1)
    far[finite] = np.clip(far[finite], -np.finfo(np.float64).max, np.finfo(np.float64).max)
    return np.concatenate([xywh[:, :2], far], axis=1)


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf")
