"""What some detector found, as a COCO results file: a list of image_id, category_id, bbox and score."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import chain, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from varifocal.data.annotations import short, short_list
from varifocal.data.readers.coco_ids import Ids, are_plain
from varifocal.data.readers.json_stream import Count, read_list, read_object
from varifocal.data.readers.outline import outline_box
from varifocal.data.result_join import Column, Joined, entries_of, join_classes, join_images
from varifocal.types import Dataset, Detections
from varifocal.utils.errors import DataError

EXPECTED = 'an entry is {"image_id": 1, "category_id": 3, "bbox": [x, y, width, height], "score": 0.9}'
_KEYS = ("image_id", "category_id", "bbox", "score")
_GET = itemgetter(*_KEYS)
_NUMBERS = {int, float}
_LISTS = ("annotations", "predictions", "detections", "results")  # keys of an object that may hold the entries
_NAMED = {"images": "file_name", "categories": "name"}  # keys of an object that say what its ids mean
_OF = {"image_id": "file_name", "category_id": "category_name"}  # what may stand instead of an id


def _ignore(note: str) -> None:
    """Nobody wants to know."""


def read_results(file: Path, data: Dataset, tell: Callable[[str], None] = _ignore) -> list[Detections]:
    """The detections of each sample of ``data``, best first; of equal scores the first in the file comes first.

    Images and classes are found by the ids that the data set has, or by the ``file_name`` and ``category_name`` of the
    entries where they have some that the data set knows; ``tell`` gets a sentence where ids and names contradict each
    other, and on entries that belong to nothing in the data set. A name may stand without an id, an outline
    (``segmentation``) without a box, numbers may be texts, and the list may stand in an object, under "annotations",
    "predictions", "detections" or "results", beside the images and categories that its ids mean. Boxes and scores are
    float64, as they stand; boxes without width or height stay, as they do in COCO's own evaluation. Entries are read
    some at a time: a million takes about 80 MB.

    Raises:
        DataError: the file cannot be read or is no list of such entries, an id is unknown or used by two images, or a
            number is not finite.
    """
    if file.is_dir():
        inside = file / "detections.json"
        hint = f"name {inside}" if inside.is_file() else "name the file of results in it"
        raise DataError(f"{file}: is a folder; {hint}")
    taken = _Taken(file, data)
    if read_list(file, taken.take) is None and not _read_wrapped(file, taken):
        raise DataError(f"{file}: this is not a list of COCO results; {EXPECTED}")
    return taken.finish(tell)


def _read_wrapped(file: Path, taken: _Taken) -> bool:
    """Take the entries of an object that holds them in a list, as tools export detections like a data set.

    The file is read twice, as what its ids mean may stand behind the entries. False where there is no such list.
    """

    def keep(key: str, _: int, records: list[Any]) -> None:
        if key in _NAMED:
            pairs = ((one.get("id"), one.get(_NAMED[key])) for one in records if type(one) is dict)
            taken.known[key].update((str(id), name) for id, name in pairs if type(name) is str)

    found = read_object(file, (*_LISTS, *_NAMED), keep)
    held = [key for key in _LISTS if isinstance(found.get(key), Count)]
    if len(held) != 1:
        return False
    read_object(file, held, lambda _, first, entries: taken.take(first, entries))
    return True


class _Taken:
    """The columns of the entries so far: image, class, and box and score in one."""

    def __init__(self, file: Path, data: Dataset) -> None:
        self.file, self.data = file, data
        self.images, self.classes = Column(Ids()), Column(Ids())
        self.values: list[Float[np.ndarray, "n 5"]] = [np.empty((0, 5))]
        self.known: dict[str, dict[str, str]] = {key: {} for key in _NAMED}  # names by the ids of the file itself
        self.outlines = self.texts = 0  # entries whose box is that around an outline, and with numbers as texts
        if len({sample.image_id for sample in data.samples}) < len(data.samples):
            raise DataError(
                f"{data.source}: two images have one id, so that results cannot be assigned to one of them; number them"
            )

    def take(self, first: int, entries: list[Any]) -> None:
        """The next entries, checked."""
        try:
            rows = list(map(_GET, entries))
            values = np.array([(*row[2], row[3]) for row in rows])
            sound = values.shape == (len(rows), 5) and values.dtype.kind in "if" and _plain(rows)
        except (KeyError, TypeError, ValueError, IndexError):
            sound = False
        if not sound or not np.isfinite(values).all() or (values[:, 2:4] < 0).any():
            entries = [self.fixed(entry) for entry in entries]
            self.complain(first, entries)
            # nothing is wrong: ids are texts, or a whole number was too long for NumPy's integers
            rows = list(map(_GET, entries))
            values = np.array([[*map(float, (*row[2], row[3]))] for row in rows])
        for column, part, names in zip((self.images, self.classes), (0, 1), _NAMED, strict=True):
            known, key = self.known[names], _OF[_KEYS[part]]
            called = [entry.get(key) for entry in entries]
            if known:
                called = [name or known.get(str(row[part])) for name, row in zip(called, rows, strict=True)]
            column.take([row[part] for row in rows], called, plain=sound)
        self.values.append(values.astype(np.float64))

    def fixed(self, entry: Any) -> Any:
        """Return the entry with missing values replaced by what is meant: a name for an id, the box around an outline
        for a box, numbers for texts. What has no such meaning stays as it is."""
        if type(entry) is not dict:
            return entry
        new = dict(entry)
        for key, name in _OF.items():
            if new.get(key) is None and type(new.get(name)) is str and new[name]:
                new[key] = None
        if not new.get("bbox") and (box := outline_box(new.get("segmentation"))):
            new["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            self.outlines += 1
        box, score = new.get("bbox"), new.get("score")
        if type(score) is str or (type(box) is list and any(type(side) is str for side in box)):
            new["score"] = _read_number(score)
            new["bbox"] = [_read_number(side) for side in box] if type(box) is list else box
            self.texts += 1
        return new

    def complain(self, first: int, entries: list[Any]) -> None:
        """Raise for the first entry that is wrong, if there is one."""
        for index, entry in enumerate(entries, start=first):
            wrong = self.wrong(entry)
            if wrong is not None:
                raise DataError(f"{self.file}: entry {index} {wrong}")

    def wrong(self, entry: Any) -> str | None:
        """What is wrong with an entry, as the end of a sentence."""
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
        """Return what is wrong with the ids of an entry, as the end of a sentence; a name stands for an id."""
        for key, where, known in (
            ("image_id", "image", (sample.image_id for sample in self.data.samples)),
            ("category_id", "category", (category.id for category in self.data.categories)),
        ):
            named = entry[key] is None and entry.get(_OF[key])
            if not named and Ids().code(entry[key]) is None:
                return (
                    f"has the {key} {short(entry[key])}, which no {where} of {self.data.source} has; {_ids([*known])}"
                )
        return None

    def finish(self, tell: Callable[[str], None]) -> list[Detections]:
        """One of each sample."""
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
        """Sentences on entries that were not taken as they stand."""
        sentences = []
        if self.outlines:
            sentences.append(f"{entries_of(self.outlines)} without a bbox: the box around the segmentation was taken.")
        if self.texts:
            sentences.append(f"{entries_of(self.texts)} with numbers that are written as texts.")
        return sentences

    def refuse(self, joined: Joined, key: str, where: str, known: list[int]) -> None:
        """Raise where an entry has an id that nothing in the data set has."""
        if joined.unknown is None:
            return
        entry, id = joined.unknown
        raise DataError(
            f"{self.file}: entry {entry} has the {key} {id}, which no {where} of {self.data.source} has; "
            f"{_ids(known)}{joined.hint}"
        )


def _plain(rows: list[tuple[Any, ...]]) -> bool:
    """Whether ids and numbers are of the right types; NumPy by itself would take true for 1."""
    images, categories, boxes, scores = zip(*rows, strict=True)
    numbers = set(map(type, chain(chain.from_iterable(boxes), scores)))
    whole = set(map(type, chain(images, categories))) <= {int}
    return whole and numbers <= _NUMBERS and are_plain(images) and are_plain(categories)


def _read_number(value: Any) -> Any:
    """The number that a text says, or else the value itself."""
    if type(value) is not str or not value.isascii() or "_" in value:
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _finite(value: Any) -> bool:
    return type(value) in _NUMBERS and bool(abs(value) <= sys.float_info.max)


def _ids(known: list[int]) -> str:
    return f"the ids there are {short_list(known[:5])}{' and others' if len(known) > 5 else ''}"
