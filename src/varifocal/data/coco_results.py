"""Detections read from a COCO results file: a list of entries with image_id, category_id, bbox and score."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from varifocal.data.paths import is_image
from varifocal.data.readers.coco_ids import Ids, are_plain
from varifocal.data.readers.json_stream import Count, read_lines, read_list, read_object
from varifocal.data.readers.outline import outline_box
from varifocal.data.readers.values import sides_of
from varifocal.data.result_join import Column, Joined, entries_of, join_classes, join_images
from varifocal.types import Dataset, Detections
from varifocal.utils.errors import DataError
from varifocal.utils.text import short, short_list

EXPECTED = 'an entry is {"image_id": 1, "category_id": 3, "bbox": [x, y, width, height], "score": 0.9}'
_KEYS = ("image_id", "category_id", "bbox", "score")
_GET = itemgetter(*_KEYS)
_NUMBERS = {int, float}
_LISTS = ("annotations", "predictions", "detections", "results")  # keys of an object that may hold the entries
_NAMED = {"images": "file_name", "categories": "name"}  # keys of an object that define its ids
_NAME_KEYS = {"image_id": "file_name", "category_id": "category_name"}  # names that may replace an id


def read_results(file: Path, data: Dataset, tell: Callable[[str], None] = lambda note: None) -> list[Detections]:
    """Return the detections of each sample of ``data``, best first; equal scores keep the order of the file.

    Images and classes are found by their ids, or by the ``file_name`` and ``category_name`` of the entries if the data
    set has any of these names. ``tell`` is called with a sentence if ids and names contradict each other, and on
    entries that belong to nothing in the data set. A name may replace an id, an outline (``segmentation``) may replace
    a box, numbers may be texts, and the list may be in an object under "annotations", "predictions", "detections" or
    "results", beside the images and categories that define its ids; a file may also have an entry on each line. Boxes
    [N, 4] are xyxy in pixels, they and the scores float64; boxes without width or height are kept, as in COCO's own
    evaluation. Entries are read in chunks: a million take about 80 MB.

    Raises:
        DataError: the file cannot be read or is not a list of such entries, an id is unknown or belongs to two images,
            or a number is not finite.
    """
    if file.is_dir():
        inside = file / "detections.json"
        hint = f"name {inside}" if inside.is_file() else "name the results file in it"
        raise DataError(f"{file}: is a folder; {hint}", code="results-folder")
    columns = _Columns(file, data)
    if read_list(file, columns.add) is None and not _read_lines(file, columns) and not _read_wrapped(file, columns):
        raise DataError(f"{file}: this is not a list of COCO results; {EXPECTED}", code="results-not-a-list")
    return columns.detections(tell)


def _read_lines(file: Path, columns: _Columns) -> bool:
    """Add the entries of a file that has one on each line (JSON lines); return False for any other file."""
    return (
        read_lines(file, lambda value: type(value) is dict and not value.keys().isdisjoint(_KEYS), columns.add)
        is not None
    )


def _read_wrapped(file: Path, columns: _Columns) -> bool:
    """Add the entries of an object that contains them in a list, as tools export detections like a data set.

    The file is read twice, because the definitions of its ids may come after the entries. Return False if there is no
    such list.
    """

    def keep(key: str, _: int, records: list[Any]) -> None:
        if key in _NAMED:
            pairs = ((one.get("id"), one.get(_NAMED[key])) for one in records if type(one) is dict)
            columns.known[key].update((str(id), name) for id, name in pairs if type(name) is str)

    found = read_object(file, (*_LISTS, *_NAMED), keep)
    held = [key for key in _LISTS if isinstance(found.get(key), Count)]
    if len(held) != 1:
        return False
    read_object(file, held, lambda _, first, entries: columns.add(first, entries))
    return True


class _Columns:
    """Columns of the entries read so far: images, classes, and boxes with scores."""

    def __init__(self, file: Path, data: Dataset) -> None:
        self.file, self.data = file, data
        self.images, self.classes = Column(Ids()), Column(Ids())
        self.values: list[Float[np.ndarray, "n 5"]] = [np.empty((0, 5))]
        self.known: dict[str, dict[str, str]] = {key: {} for key in _NAMED}  # names by the ids in the file
        self.outlines = self.texts = 0  # entries with the box around an outline, and with numbers as texts
        if len({sample.image_id for sample in data.samples}) < len(data.samples):
            raise DataError(
                f"{data.source}: two images have the same id, so results cannot be assigned; renumber the images",
                code="image-ids-repeated",
            )

    def add(self, first: int, entries: list[Any]) -> None:
        """Check and add entries, of which the first has the index ``first`` in the file.

        Raises:
            DataError: an entry is malformed, or has an id that the data set cannot have.
        """
        values = _plain_values(entries)
        plain = values is not None
        if values is None:
            entries = [self.repaired(entry) for entry in entries]
            self.refuse_malformed(first, entries)
            # ids are texts, or an integer is too long for NumPy
            values = np.array([[*map(float, (*row[2], row[3]))] for row in map(_GET, entries)])
        ids = zip(*map(_GET, entries), strict=True)
        columns = zip((self.images, self.classes), ids, _NAME_KEYS.values(), _NAMED, strict=False)
        for column, of_entries, name_key, names in columns:
            called = [entry.get(name_key) for entry in entries]
            if known := self.known[names]:
                called = [name or known.get(str(id)) for name, id in zip(called, of_entries, strict=True)]
            column.take(of_entries, called, plain=plain)
        self.values.append(values)

    def repaired(self, entry: Any) -> Any:
        """Return an entry with missing values replaced: an id by a name, a box by the box around the outline, texts by
        numbers. Values without such a replacement are unchanged."""
        if type(entry) is not dict:
            return entry
        new = dict(entry)
        for key, name in _NAME_KEYS.items():
            if new.get(key) is None and type(new.get(name) or None) is str:
                new[key] = None
        if not new.get("bbox") and (box := outline_box(new.get("segmentation"))):
            new["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            self.outlines += 1
        box, score = _sides(new.get("bbox")), new.get("score")
        numbers = {"score": _read_number(score), "bbox": _read_number(box)}
        self.texts += numbers != {"score": score, "bbox": box}
        return new | {key: value for key, value in numbers.items() if key in new}

    def refuse_malformed(self, first: int, entries: list[Any]) -> None:
        """Raise ``DataError`` for the first malformed entry, if there is one."""
        for index, entry in enumerate(entries, start=first):
            wrong = self.wrong(entry)
            if wrong is not None:
                raise DataError(f"{self.file}: entry {index} {wrong}", code="results-entry")

    def wrong(self, entry: Any) -> str | None:
        """Return what is wrong with an entry, as the end of a sentence, or None."""
        if type(entry) is not dict:
            return f"is {short(entry)} and should be an object; {EXPECTED}"
        missing = [key for key in _KEYS if key not in entry]
        if missing:
            return f"has no {missing[0]!r}; {EXPECTED}"
        if (id_text := self.wrong_id(entry)) is not None:
            return id_text
        box, score = entry["bbox"], entry["score"]
        if type(box) is not list or len(box) != 4 or not all(map(_finite, box)) or min(box[2:]) < 0:
            return f"has the bbox {short(box)}; a box is [x, y, width, height] in pixels, no side below 0"
        return None if _finite(score) else f"has the score {short(score)}; it should be a finite number"

    def wrong_id(self, entry: dict[str, Any]) -> str | None:
        """Return what is wrong with the ids of an entry, or None; a name may replace an id."""
        for key, where, known in (
            ("image_id", "image", (sample.image_id for sample in self.data.samples)),
            ("category_id", "category", (category.id for category in self.data.categories)),
        ):
            named = entry[key] is None and entry.get(_NAME_KEYS[key])
            if not named and Ids().code(entry[key]) is None:
                return (
                    f"has the {key} {short(entry[key])}, which no {where} of {self.data.source} has; {_ids([*known])}"
                )
        return None

    def detections(self, tell: Callable[[str], None]) -> list[Detections]:
        """Return the detections of each sample; ``tell`` is called with notes.

        Raises:
            DataError: an entry has an id that the data set does not have.
        """
        values = np.concatenate(self.values)
        self.values.clear()
        images, classes = join_images(self.images, self.data), join_classes(self.classes, self.data)
        self.refuse(images, "image_id", "image", [sample.image_id for sample in self.data.samples])
        self.refuse(classes, "category_id", "category", [category.id for category in self.data.categories])
        for note in (*images.notes, *classes.notes, *self.notes()):
            tell(note)
        kept = np.flatnonzero((images.indices >= 0) & (classes.indices >= 0))
        order = kept[np.lexsort((-values[kept, 4], images.indices[kept]))]
        locations, labels, values = images.indices[order], classes.indices[order], values[order]
        values[:, 2:4] += values[:, :2]
        ends = np.searchsorted(locations, np.arange(len(self.data.samples) + 1))
        return [
            Detections(values[start:end, :4], values[start:end, 4], labels[start:end], self.data.categories)
            for start, end in pairwise(ends.tolist())
        ]

    def notes(self) -> list[str]:
        """Return sentences on entries that were not taken as written."""
        sentences = []
        if self.outlines:
            sentences.append(f"{entries_of(self.outlines)} without a bbox: the box around the segmentation was used.")
        if self.texts:
            sentences.append(f"{entries_of(self.texts)} with numbers written as texts.")
        return sentences

    def refuse(self, joined: Joined, key: str, where: str, known: list[int]) -> None:
        """Raise ``DataError`` if an entry has an id that the data set does not have."""
        if joined.unknown is None:
            return
        entry, id = joined.unknown
        names = [sample.file.name for sample in self.data.samples]
        listed = f"its images are {_some(names)}" if where == "image" and is_image(id.strip("'")) else _ids(known)
        raise DataError(
            f"{self.file}: entry {entry} has the {key} {id}, which no {where} of {self.data.source} has; "
            f"{listed}{joined.hint}",
            code="results-unknown-id",
        )


def _plain_values(entries: list[Any]) -> Float[np.ndarray, "n 5"] | None:
    """Return boxes and scores of entries in which everything is as COCO has it; None if anything is not."""
    try:
        rows = list(map(_GET, entries))
        values = np.array([(*row[2], row[3]) for row in rows])
        if values.shape != (len(rows), 5) or values.dtype.kind not in "if" or not _is_plain(rows):
            return None
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    if not np.isfinite(values).all() or (values[:, 2:4] < 0).any():
        return None
    return values.astype(np.float64)


def _is_plain(rows: list[tuple[Any, ...]]) -> bool:
    """Return whether ids and numbers are of the right types; NumPy alone would take true for 1."""
    images, categories, boxes, scores = zip(*rows, strict=True)
    numbers = set(map(type, chain(chain.from_iterable(boxes), scores)))
    whole = set(map(type, chain(images, categories))) <= {int}
    return whole and numbers <= _NUMBERS and are_plain(images) and are_plain(categories)


def _sides(box: Any) -> Any:
    """Return x, y, width and height of a box that is an object with these, or any other value unchanged."""
    return sides_of(box) or box if isinstance(box, dict) else box


def _read_number(value: Any) -> Any:
    """Return the number in a text, a list with its texts replaced so, or any other value unchanged."""
    if type(value) is list:
        return list(map(_read_number, value))
    if type(value) is not str or not value.isascii() or "_" in value:
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _finite(value: Any) -> bool:
    return type(value) in _NUMBERS and bool(abs(value) <= sys.float_info.max)


def _ids(known: list[int]) -> str:
    return f"its ids are {_some(known)}"


def _some(values: Sequence[Any]) -> str:
    return f"{short_list(values[:5])}{' and others' if len(values) > 5 else ''}"
