"""What some detector found, as a COCO results file: a list of image_id, category_id, bbox and score."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from varifocal.data.raw import short, short_list
from varifocal.data.readers.json_stream import read_list
from varifocal.errors import DataError
from varifocal.records import DataSet, Detections

MEND = 'an entry is {"image_id": 1, "category_id": 3, "bbox": [x, y, width, height], "score": 0.9}'
_KEYS = ("image_id", "category_id", "bbox", "score")
_GET = itemgetter(*_KEYS)
_NUMBERS = {int, float}


def read_results(file: Path, data: DataSet) -> list[Detections]:
    """The detections of each sample of ``data``, best first; of equal scores the first in the file comes first.

    Pictures and classes are found by the ids that the data set has. Boxes and scores are float64, as they stand; boxes
    without width or height stay, as they do in COCO's own evaluation. Entries are read some at a time: a million takes
    about 60 MB.

    Raises:
        DataError: the file cannot be read or is no list of such entries, an id is unknown or used by two pictures, or a
            number is not finite.
    """
    taken = _Taken(file, data)
    if read_list(file, taken.take) is None:
        raise DataError(f"{file}: this is not a list of COCO results; {MEND}")
    return taken.finish()


class _Taken:
    """The columns of the entries so far: picture, label, and box and score in one."""

    def __init__(self, file: Path, data: DataSet) -> None:
        self.file, self.data = file, data
        self.places = _numbered([sample.image_id for sample in data.samples], data)
        self.labels = {category.id: label for label, category in enumerate(data.categories)}
        self.index: list[Int64[np.ndarray, "n 2"]] = [np.empty((0, 2), np.int64)]
        self.values: list[Float[np.ndarray, "n 5"]] = [np.empty((0, 5))]

    def take(self, first: int, entries: list[Any]) -> None:
        """The next entries, checked."""
        try:
            rows = list(map(_GET, entries))
            index = np.array([(self.places[row[0]], self.labels[row[1]]) for row in rows], np.int64)
            values = np.array([(*row[2], row[3]) for row in rows])
            sound = values.shape == (len(rows), 5) and values.dtype.kind in "if" and _plain(rows)
        except (KeyError, TypeError, ValueError, IndexError):
            sound = False
        if not sound or not np.isfinite(values).all() or (values[:, 2:4] < 0).any():
            self.complain(first, entries)
            # nothing is wrong: a whole number was too long for NumPy's integers
            values = np.array([[*map(float, (*row[2], row[3]))] for row in rows])
        self.index.append(index)
        self.values.append(values.astype(np.float64))

    def complain(self, first: int, entries: list[Any]) -> None:
        """Raise for the first entry that is wrong, if there is one."""
        for place, entry in enumerate(entries, start=first):
            wrong = self.wrong(entry)
            if wrong is not None:
                raise DataError(f"{self.file}: entry {place} {wrong}")

    def wrong(self, entry: Any) -> str | None:
        """What is wrong with an entry, as the end of a sentence."""
        if type(entry) is not dict:
            return f"is {short(entry)} and should be an object; {MEND}"
        missing = [key for key in _KEYS if key not in entry]
        if missing:
            return f"has no {missing[0]!r}; {MEND}"
        for key, known, where in (("image_id", self.places, "image"), ("category_id", self.labels, "category")):
            if type(entry[key]) is not int or entry[key] not in known:
                return f"has the {key} {short(entry[key])}, which no {where} of {self.data.source} has; {_ids(known)}"
        box, score = entry["bbox"], entry["score"]
        if type(box) is not list or len(box) != 4 or not all(map(_finite, box)) or min(box[2:]) < 0:
            return f"has the bbox {short(box)}; a box is [x, y, width, height] in pixels, no side below 0"
        return None if _finite(score) else f"has the score {short(score)}; it should be a finite number"

    def finish(self) -> list[Detections]:
        """One of each sample."""
        (places, labels), values = np.concatenate(self.index).T, np.concatenate(self.values)
        self.index.clear()
        self.values.clear()
        order = np.lexsort((-values[:, 4], places))
        places, labels, values = places[order], labels[order], values[order]
        values[:, 2:4] += values[:, :2]
        ends = np.searchsorted(places, np.arange(len(self.data.samples) + 1))
        return [
            Detections(values[start:end, :4], values[start:end, 4], labels[start:end], self.data.categories)
            for start, end in pairwise(ends.tolist())
        ]


def _plain(rows: list[tuple[Any, ...]]) -> bool:
    """Whether ids and numbers are of the right types; NumPy by itself would take true for 1."""
    images, categories, boxes, scores = zip(*rows, strict=True)
    numbers = set(map(type, chain(chain.from_iterable(boxes), scores)))
    return set(map(type, chain(images, categories))) <= {int} and numbers <= _NUMBERS


def _finite(value: Any) -> bool:
    return type(value) in _NUMBERS and bool(abs(value) <= sys.float_info.max)


def _numbered(ids: Sequence[int], data: DataSet) -> dict[int, int]:
    places = {id: place for place, id in enumerate(ids)}
    if len(places) < len(ids):
        raise DataError(f"{data.source}: two pictures have one id, so that results cannot be told apart; number them")
    return places


def _ids(known: dict[int, int]) -> str:
    first = list(known)[:5]
    return f"the ids there are {short_list(first)}{' and others' if len(known) > len(first) else ''}"
