"""What a reader found, before it is judged: columns of images and of boxes, and all that was wrong while reading.

Every reader gives a :class:`RawSet`, whatever the format. ``finish`` makes a data set of it that can be trained on,
or stops at the first problem; who wants to know all problems looks at the columns and at ``problems``.
"""

from __future__ import annotations

import re
import reprlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.data.archive import AnyPath
from varifocal.types import Category, FileLike, SourceIds

NO_BOX = "nothing"  # stands for a box that is not there at all
LISTED = 1000  # problems of one kind that are kept; further ones are counted

# What is wrong with an object that could not be read: nothing of it is in the columns.
_OF_OBJECTS = ("malformed", "unknown-class")

# Boxes with one of these are left out where the user asks for it; nothing else is ever left out in silence.
DROPPABLE = ("no-label", "not-a-number", "no-area", "outside")

_BY_COUNT = re.compile(r"\(([^()|]*)\|([^()|]*)\)")
NO_LABEL = -2  # the label of a box that has none at all; -1 is that of a class that is not known


class SourceLocation(NamedTuple):
    """A location in the source: a file, and text for the position in it ("line 3", "annotation 17")."""

    file: Any
    text: str

    def __str__(self) -> str:
        return f"{self.file.name} {self.text}".strip()


@dataclass(frozen=True)
class Issue:
    """One thing that is wrong; ``sentence`` joins its parts to what a user reads.

    ``kind`` is one of a few words: "malformed", "unknown-class", "shifted-class" (unknown, as all ids seem one off),
    "unknown-image", "missing-image", "ambiguous-image", "missing-labels", "unreadable-image", "outside-folder",
    "bad-size", "bad-category", "twice", "shared-labels", and of boxes "no-label", "not-a-number", "no-area", "outside".
    ``image`` and ``box`` index the columns of the set; -1 where the problem is of none.
    """

    kind: str
    location: SourceLocation
    text: str
    hint: str
    image: int = -1
    box: int = -1

    @property
    def sentence(self) -> str:
        """The file, the location in it, what is wrong and how to fix it, as one sentence."""
        said = f"{self.location.text} {self.text}".strip()
        return f"{self.location.file}: {said}" + (f"; {self.hint}" if self.hint else "")


class Problems(Sequence[Issue]):
    """Problems in the order in which they were found, at most ``LISTED`` of each kind; ``counts`` has them all.

    ``damaged`` are the images of which some object could not be read, all of them; ``refused_classes`` are the names of
    the classes of such objects, where they are known.
    """

    def __init__(self, problems: Iterable[Issue] = ()) -> None:
        self.counts: Counter[str] = Counter()
        self.damaged: set[int] = set()
        self.refused_classes: set[str] = set()
        self._listed: list[Issue] = []
        for problem in problems:
            self.add(problem)

    def add(self, problem: Issue) -> None:
        """Count it, and keep it while there are few of its kind."""
        self.counts[problem.kind] += 1
        if problem.image >= 0 and problem.box < 0 and problem.kind in _OF_OBJECTS:
            self.damaged.add(problem.image)
        if self.counts[problem.kind] <= LISTED:
            self._listed.append(problem)

    def add_many(self, kind: str, indices: np.ndarray, make: Callable[[int], Issue]) -> None:
        """One problem for each index; only those that are kept are made."""
        room = max(LISTED - self.counts[kind], 0)
        self._listed += [make(int(index)) for index in indices[:room]]
        if len(indices):
            self.counts[kind] += len(indices)

    def extend(self, others: Problems) -> None:
        """Add another collection, with what it counted and did not keep."""
        kept = Counter(problem.kind for problem in others)
        for problem in others:
            self.add(problem)
        self.counts.update({kind: count - kept[kind] for kind, count in others.counts.items()})
        self.damaged |= others.damaged
        self.refused_classes |= others.refused_classes

    @overload
    def __getitem__(self, index: int) -> Issue: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Issue]: ...
    def __getitem__(self, index: int | slice) -> Issue | Sequence[Issue]:
        return self._listed[index]

    def __len__(self) -> int:
        return len(self._listed)


class Files(Sequence[Any]):
    """Where each image lies, made from few folders and many names when asked for; None where it is not found.

    What lies in an archive is given as a value that can be sent to another process. A million ``Path`` take half a
    gigabyte; their names are there anyway.
    """

    def __init__(self, folders: Sequence[AnyPath], folder_of: Int64[np.ndarray, "M"], names: Sequence[str]) -> None:
        self._folders, self._folder_of, self._names = list(folders), folder_of, names

    @classmethod
    def of(cls, locations: Iterable[tuple[AnyPath, str] | None]) -> Files:
        """The column of these folders and names."""
        folders: dict[AnyPath, int] = {}
        folder_of, names = array("q"), []
        for location in locations:
            folder_of.append(-1 if location is None else folders.setdefault(location[0], len(folders)))
            names.append("" if location is None else location[1])
        return cls(list(folders), np.array(folder_of, np.int64), names)

    def placed(self, locations: Mapping[int, tuple[AnyPath, str]]) -> Files:
        """Return the same column with these paths for images that were not found."""
        folders, folder_of, names = list(self._folders), self._folder_of.copy(), list(self._names)
        numbers = {folder: number for number, folder in enumerate(folders)}
        for index, (folder, name) in locations.items():
            folder_of[index] = numbers.setdefault(folder, len(numbers))
            names[index] = name
        return Files(list(numbers), folder_of, names)

    def locations(self) -> Iterator[tuple[AnyPath, str]]:
        """Folder and name of each image that is found."""
        for folder, name in zip(self._folder_of.tolist(), self._names, strict=True):
            if folder >= 0:
                yield self._folders[folder], name

    def by_folder(self) -> dict[AnyPath, tuple[int, set[str]]]:
        """For each folder with images that are found: the index of the first of them, and the names of all."""
        found: list[tuple[int, set[str]] | None] = [None] * len(self._folders)
        for index, (folder, name) in enumerate(zip(self._folder_of.tolist(), self._names, strict=True)):
            if folder >= 0:
                path = found[folder]
                if path is None:
                    path = found[folder] = index, set()
                path[1].add(name)
        return {self._folders[number]: location for number, location in enumerate(found) if location is not None}

    def extended(self, locations: Iterable[tuple[AnyPath, str]]) -> Files:
        """The same column with more images at its end."""
        more = Files.of(locations)
        folders = {folder: number for number, folder in enumerate(self._folders)}
        number_of = np.array([folders.setdefault(folder, len(folders)) for folder in more._folders], np.int64)
        folder_of = np.concatenate([self._folder_of, number_of[more._folder_of]])
        return Files(list(folders), folder_of, [*self._names, *more._names])

    @property
    def missing(self) -> Int64[np.ndarray, "K"]:
        """Indices of the images that are not found."""
        return np.flatnonzero(self._folder_of < 0)

    @overload
    def __getitem__(self, index: int) -> FileLike | None: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FileLike | None]: ...
    def __getitem__(self, index: int | slice) -> FileLike | Sequence[FileLike | None] | None:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        folder = int(self._folder_of[index])
        if folder < 0:
            return None
        file = self._folders[folder] / self._names[index]
        return file if isinstance(file, Path) else file.member()

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, eq=False)
class ImageColumns:
    """Columns of M images: the name in the source, the file, (width, height) in pixels or 0 where the source does
    not say, and the id, which counts from 1 where the format has none."""

    names: Sequence[str]
    files: Sequence[FileLike | None]
    sizes: Int64[np.ndarray, "M 2"]
    ids: Int64[np.ndarray, "M"]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class BoxColumns:
    """Columns of N boxes in the order of the source.

    ``images`` and ``labels`` index the images and the categories; a label is -1 where the class is unknown and
    ``NO_LABEL`` where the source gives none. ``xyxy`` is what the format means, in pixels of the upright image, not
    clipped; NaN where the source holds no number. Its corners are in order, upper left before lower right; ``swapped``
    are the boxes of which the source has them otherwise (see :func:`in_order`). ``areas`` are square pixels, NaN where
    the source gives none. ``where`` gives the location of a box in the source. Messages show boxes as the source does:
    ``xywh`` with width and height, ``origin`` being the number of the first pixel, ``odd`` what stands there instead
    of numbers.
    """

    images: Int64[np.ndarray, "N"]
    labels: Int64[np.ndarray, "N"]
    xyxy: Float[np.ndarray, "N 4"]
    crowd: Bool[np.ndarray, "N"]
    difficult: Bool[np.ndarray, "N"]
    areas: Float[np.ndarray, "N"]
    where: Callable[[int], SourceLocation]
    xywh: bool = False
    origin: int = 0
    odd: dict[int, str] = field(default_factory=dict)
    swapped: Int64[np.ndarray, "K"] = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.images)

    def show(self, index: int) -> str:
        """The box as the source has it, for a message."""
        if index in self.odd:
            return self.odd[index]
        box = self.xyxy[index].tolist()
        if self.xywh:
            box[2:] = box[2] - box[0], box[3] - box[1]
        box[:2] = box[0] + self.origin, box[1] + self.origin
        return "[" + ", ".join(f"{value:.10g}" for value in box) + "]"

    def said(self, index: int, fault: str) -> str:
        """What is wrong with a box, as the end of a sentence about the object."""
        word, shown = "bbox" if self.xywh else "box", self.show(index)
        return f"has no {word}" if shown == NO_BOX else f"has the {word} {shown}, which {fault}"


@dataclass(frozen=True, eq=False)
class RawDataset:
    """One split of a data set as its source has it.

    ``format`` is a name of ``varifocal.data.readers.formats.READERS``, ``source`` the file or folder it was read from.
    ``notes`` are sentences for the user on what was understood but not taken as it is. ``doubts`` are worth a look, and
    stop nothing. ``left_out`` are names of images that the source has and that were left out for a reason of its own.
    """

    format: str
    source: AnyPath
    split: str
    images: ImageColumns
    boxes: BoxColumns
    categories: tuple[Category, ...]
    problems: Problems
    notes: tuple[str, ...] = ()
    doubts: Problems = field(default_factory=Problems)
    ids: SourceIds = field(default_factory=SourceIds)
    left_out: tuple[str, ...] = ()


def in_order(xyxy: Float[np.ndarray, "N 4"]) -> tuple[Float[np.ndarray, "N 4"], Int64[np.ndarray, "K"]]:
    """The boxes with x1 <= x2 and y1 <= y2, and which ones were drawn from right to left or from bottom to top.

    The rectangle is known whichever way it was drawn. Boxes that are not finite stay as they are.
    """
    swapped = np.flatnonzero((xyxy[:, 2:] < xyxy[:, :2]).any(axis=1))
    swapped = swapped[np.isfinite(xyxy[swapped]).all(axis=1)]
    if len(swapped):
        xyxy = xyxy.copy()
        low, high = xyxy[swapped, :2], xyxy[swapped, 2:]
        xyxy[swapped] = np.concatenate([np.minimum(low, high), np.maximum(low, high)], axis=1)
    return xyxy, swapped


def box_note(raw: RawDataset, which: Int64[np.ndarray, "K"], done: str, why: str) -> list[str]:
    """Return a sentence on the boxes ``which``, with their count and the location of the first; none without boxes."""
    if not len(which):
        return []
    boxes = counted(len(which), "(box was|boxes were)")
    location = raw.boxes.where(int(which[0]))
    first = location.text if location.file == raw.source else str(location)
    return [f"{raw.source.name}: {boxes} {done}, first that of {first}: {why}."]


def counted(count: int, text: str) -> str:
    """A count and what is counted; in the words (one|many) stands for what goes with one or with several."""
    return f"{count} " + _BY_COUNT.sub(lambda match: match[1] if count == 1 else match[2], text)


def first_copies(values: Sequence[Any] | np.ndarray) -> Iterator[int]:
    """Indices of values that an earlier one equals, in order."""
    seen: set[Any] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield index
        seen.add(value)


def short(value: Any) -> str:
    """Return a value as Python writes it, cut where it is long, but with single backslashes, as paths have them."""
    return reprlib.repr(value).replace("\\\\", "\\")


def quoted(text: str) -> str:
    """Return a whole text in quotes, with single backslashes, as paths have them."""
    return repr(text).replace("\\\\", "\\")


def cut(text: str, most: int = 100) -> str:
    """A text as it is, on one line, cut where it is long."""
    text = text if text.isprintable() else quoted(text)[1:-1]
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 4 :]}"


def short_list(values: Iterable[Any], most: int = 8) -> str:
    """The first few values and how many more there are."""
    items = [cut(str(value), 60) for value in values]
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
