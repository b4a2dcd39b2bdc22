"""Annotations as a reader returns them, before validation: columns of images and boxes, and all problems of the source.

Every reader returns a :class:`RawDataset`, whatever the format. ``varifocal.data.load.build_dataset`` turns it into a
data set for training or stops at the first problem; ``problems`` lists all of them.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.data.archive import AnyPath
from varifocal.types import Category, FileLike, SourceIds
from varifocal.utils.text import counted

T = TypeVar("T")
NO_BOX = "nothing"  # stands for a box that is missing
LISTED = 1000  # entries of one kind that are kept; further ones are only counted

# Problems of an object that could not be read, so that it is not in the columns.
_OF_OBJECTS = ("malformed", "unknown-class")

# Boxes with one of these problems are left out if the user requests it; nothing else is ever left out.
DROPPABLE = ("no-label", "not-a-number", "no-area", "outside")

NO_LABEL = -2  # the label of a box without one; -1 is the label of an unknown class


class SourceLocation(NamedTuple):
    """A location in the source: a file, and the position in it as text ("line 3", "annotation 17")."""

    file: Any
    text: str

    def __str__(self) -> str:
        return f"{self.file.name} {self.text}".strip()


@dataclass(frozen=True)
class Issue:
    """One problem of a source; ``sentence`` is what a user reads.

    ``kind`` is one of: "malformed", "unknown-class", "shifted-class" (unknown, as all ids seem one off),
    "unknown-image", "missing-image", "ambiguous-image", "missing-labels", "unreadable-image", "outside-folder",
    "bad-size", "bad-category", "no-classes", "twice", "shared-labels", and of boxes "no-label", "not-a-number",
    "no-area", "outside".
    ``image`` and ``box`` index the columns of the data set, -1 if the problem belongs to none.
    """

    kind: str
    location: SourceLocation
    text: str
    hint: str
    image: int = -1
    box: int = -1

    @property
    def sentence(self) -> str:
        """The file, the location in it, the problem and its fix as one sentence."""
        problem = f"{self.location.text} {self.text}".strip()
        return f"{self.location.file}: {problem}" + (f"; {self.hint}" if self.hint else "")


class CappedList(Sequence[T]):
    """Entries in the order in which they came, at most ``LISTED`` of each kind; ``counts`` counts all."""

    def __init__(self) -> None:
        self.counts: Counter[Any] = Counter()
        self._listed: list[T] = []

    def add_many(
        self, kind: Hashable, sources: Sequence[Any], make: Callable[[Any], T], count: int | None = None
    ) -> None:
        """Add an entry for each of ``sources``; ``make`` is called only for those that are kept.

        ``count`` is the number of all entries if ``sources`` holds only some of their sources.
        """
        room = max(LISTED - self.counts[kind], 0)
        self._listed += [make(source) for source in sources[:room]]
        count = len(sources) if count is None else count
        if count:
            self.counts[kind] += count

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        return self._listed[index]

    def __len__(self) -> int:
        return len(self._listed)


class Problems(CappedList[Issue]):
    """Problems in the order in which they were found, capped and counted by their kind.

    ``damaged`` holds every image with an object that could not be read, ``refused_classes`` the names of the classes of
    such objects, where they are known.
    """

    def __init__(self, problems: Iterable[Issue] = ()) -> None:
        super().__init__()
        self.damaged: set[int] = set()
        self.refused_classes: set[str] = set()
        for problem in problems:
            self.add(problem)

    def add(self, problem: Issue) -> None:
        """Count a problem, and keep it unless ``LISTED`` of its kind are kept already."""
        if problem.image >= 0 and problem.box < 0 and problem.kind in _OF_OBJECTS:
            self.damaged.add(problem.image)
        self.add_many(problem.kind, [problem], lambda issue: issue)

    def without(self, kind: str) -> Problems:
        """Return the problems of all other kinds."""
        rest = Problems(problem for problem in self if problem.kind != kind)
        rest.counts = Counter({name: count for name, count in self.counts.items() if name != kind})
        rest.damaged, rest.refused_classes = self.damaged, self.refused_classes
        return rest

    def extend(self, others: Problems) -> None:
        """Add the problems of another collection, also those that it only counted."""
        kept = Counter(problem.kind for problem in others)
        for problem in others:
            self.add(problem)
        self.counts.update({kind: count - kept[kind] for kind, count in others.counts.items()})
        self.damaged |= others.damaged
        self.refused_classes |= others.refused_classes


class LazySequence(Sequence[T]):
    """A sequence whose items are made when they are read; subclasses define ``item`` and ``__len__``.

    A slice is a list of its items.
    """

    def item(self, index: int) -> T:
        """Make the item at an index from 0 to the length."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        length = len(self)
        if isinstance(index, slice):
            return [self.item(i) for i in range(*index.indices(length))]
        if not -length <= index < length:
            raise IndexError(f"index {index} of {length}")
        return self.item(index % length)

    def __iter__(self) -> Iterator[T]:
        return map(self.item, range(len(self)))


class Files(LazySequence[Any]):
    """The file of each image, made from few folders and many names when it is read; None if it is not found.

    A file in an archive is a value that can be sent to another process. A million ``Path`` take half a gigabyte; their
    names are in memory anyway.
    """

    def __init__(self, folders: Sequence[AnyPath], folder_of: Int64[np.ndarray, "M"], names: Sequence[str]) -> None:
        self._folders, self._folder_of, self._names = list(folders), folder_of, names

    @classmethod
    def of(cls, locations: Iterable[tuple[AnyPath, str] | None]) -> Files:
        """Return the column of these folders and names."""
        folders: dict[AnyPath, int] = {}
        folder_of, names = array("q"), []
        for location in locations:
            folder_of.append(-1 if location is None else folders.setdefault(location[0], len(folders)))
            names.append("" if location is None else location[1])
        return cls(list(folders), np.array(folder_of, np.int64), names)

    def placed(self, locations: Mapping[int, tuple[AnyPath, str]]) -> Files:
        """Return the column with the locations of images, by index, that had not been found."""
        folders, folder_of, names = list(self._folders), self._folder_of.copy(), list(self._names)
        numbers = {folder: number for number, folder in enumerate(folders)}
        for index, (folder, name) in locations.items():
            folder_of[index] = numbers.setdefault(folder, len(numbers))
            names[index] = name
        return Files(list(numbers), folder_of, names)

    def locations(self) -> Iterator[tuple[AnyPath, str]]:
        """Yield the folder and the name of each image that is found."""
        for folder, name in zip(self._folder_of.tolist(), self._names, strict=True):
            if folder >= 0:
                yield self._folders[folder], name

    def by_folder(self) -> dict[AnyPath, tuple[int, set[str]]]:
        """Return the index of the first image and the names of all images in each folder."""
        firsts, names_in = [-1] * len(self._folders), [set[str]() for _ in self._folders]
        for index, (folder, name) in enumerate(zip(self._folder_of.tolist(), self._names, strict=True)):
            if folder >= 0:
                if firsts[folder] < 0:
                    firsts[folder] = index
                names_in[folder].add(name)
        columns = zip(self._folders, firsts, names_in, strict=True)
        return {folder: (first, names) for folder, first, names in columns if first >= 0}

    def extended(self, locations: Iterable[tuple[AnyPath, str]]) -> Files:
        """Return the column with more images at its end."""
        more = Files.of(locations)
        folders = {folder: number for number, folder in enumerate(self._folders)}
        number_of = np.array([folders.setdefault(folder, len(folders)) for folder in more._folders], np.int64)
        folder_of = np.concatenate([self._folder_of, number_of[more._folder_of]])
        return Files(list(folders), folder_of, [*self._names, *more._names])

    @property
    def missing(self) -> Int64[np.ndarray, "K"]:
        """The indices of the images that are not found."""
        return np.flatnonzero(self._folder_of < 0)

    def item(self, index: int) -> FileLike | None:
        """Return the file of an image, or None."""
        folder = int(self._folder_of[index])
        if folder < 0:
            return None
        file = self._folders[folder] / self._names[index]
        return file if isinstance(file, Path) else file.member()

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, eq=False)
class ImageColumns:
    """Columns of M images: the name in the source, the file, (width, height) in pixels or 0 if the source does not give
    it, and the id, which counts from 1 if the format has none."""

    names: Sequence[str]
    files: Sequence[FileLike | None]
    sizes: Int64[np.ndarray, "M 2"]
    ids: Int64[np.ndarray, "M"]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class BoxColumns:
    """Columns of N boxes in the order of the source.

    ``images`` and ``labels`` index the images and the categories; a label is -1 if the class is unknown and
    ``NO_LABEL`` if the source gives none. ``xyxy`` is in pixels of the upright image, not clipped, and NaN where the
    source has no number. Its corners are in order, upper left before lower right; ``swapped`` lists the boxes whose
    corners the source has in another order (see :func:`in_order`). ``areas`` are square pixels, NaN if the source gives
    none. ``where`` returns the location of a box in the source. Messages show boxes as the source writes them: with
    width and height if ``xywh``, with ``origin`` as the number of the first pixel, and with the text in ``odd`` if the
    source has something else than four numbers.
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
        """Return the box as the source writes it, for a message."""
        if index in self.odd:
            return self.odd[index]
        box = self.xyxy[index].tolist()
        if self.xywh:
            box[2:] = box[2] - box[0], box[3] - box[1]
        box[:2] = box[0] + self.origin, box[1] + self.origin
        return "[" + ", ".join(f"{value:.10g}" for value in box) + "]"

    def describe(self, index: int, fault: str) -> str:
        """Return what is wrong with a box, as the end of a sentence about the object."""
        word, shown = "bbox" if self.xywh else "box", self.show(index)
        return f"has no {word}" if shown == NO_BOX else f"has the {word} {shown}, which {fault}"


@dataclass(frozen=True, eq=False)
class RawDataset:
    """One split of a data set as its source has it.

    ``format`` is a name of ``varifocal.data.readers.formats.READERS``, ``source`` the file or folder that was read.
    ``notes`` are sentences for the user on what was understood but not taken as written. ``doubts`` are suspicious and
    stop nothing. ``left_out`` are the names of images that the source lists and that were left out for a reason.
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
    """Return the boxes with x1 <= x2 and y1 <= y2, and the indices of those that had another order.

    The rectangle is the same whichever way it was drawn. Boxes that are not finite stay as they are.
    """
    swapped = np.flatnonzero((xyxy[:, 2:] < xyxy[:, :2]).any(axis=1))
    swapped = swapped[np.isfinite(xyxy[swapped]).all(axis=1)]
    if len(swapped):
        xyxy = xyxy.copy()
        low, high = xyxy[swapped, :2], xyxy[swapped, 2:]
        xyxy[swapped] = np.concatenate([np.minimum(low, high), np.maximum(low, high)], axis=1)
    return xyxy, swapped


def box_note(raw: RawDataset, which: Int64[np.ndarray, "K"], done: str, why: str) -> list[str]:
    """Return a sentence with the number of the boxes ``which`` and the location of the first; none without boxes."""
    if not len(which):
        return []
    boxes = counted(len(which), "(box was|boxes were)")
    location = raw.boxes.where(int(which[0]))
    first = location.text if location.file == raw.source else str(location)
    return [f"{raw.source.name}: {boxes} {done}, first that of {first}: {why}."]


def first_copies(values: Sequence[Any] | np.ndarray) -> Iterator[int]:
    """Yield the indices of values that are equal to an earlier one, in order."""
    seen: set[Any] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield index
        seen.add(value)


def region_numbers(
    images: Int64[np.ndarray, "N"],
    labels: Int64[np.ndarray, "N"],
    xyxy: Float[np.ndarray, "N 4"],
    crowd: Bool[np.ndarray, "N"],
) -> Int64[np.ndarray, "N"]:
    """Return for each box the number of the ignored region that it belongs to, from 0, or -1 for a box of one class.

    VisDrone's ignored regions and KITTI's ``DontCare`` are to be ignored whatever the class. No box has all classes at
    once, so such a region is one crowd box of every class at the same location, which is also how COCO can hold it. It
    does not mean that any of these classes is in the image.
    """
    numbers = np.full(len(labels), -1, np.int64)
    crowds, numbers_of_crowds = _crowd_regions(images, labels, xyxy, crowd)
    numbers[crowds] = numbers_of_crowds
    return numbers


def each_region_once(
    images: Int64[np.ndarray, "N"],
    labels: Int64[np.ndarray, "N"],
    xyxy: Float[np.ndarray, "N 4"],
    crowd: Bool[np.ndarray, "N"],
) -> Bool[np.ndarray, "N"]:
    """Return which boxes are reported: all but the boxes of an ignored region after its first."""
    once = np.ones(len(labels), bool)
    crowds, numbers = _crowd_regions(images, labels, xyxy, crowd)
    once[crowds] = numbers < 0
    once[crowds[np.unique(numbers, return_index=True)[1]]] = True
    return once


def _crowd_regions(
    images: Int64[np.ndarray, "N"],
    labels: Int64[np.ndarray, "N"],
    xyxy: Float[np.ndarray, "N 4"],
    crowd: Bool[np.ndarray, "N"],
) -> tuple[Int64[np.ndarray, "K"], Int64[np.ndarray, "K"]]:
    """Return the indices of the crowd boxes, which are few, and the number of the region of each, or -1."""
    crowds = np.flatnonzero(crowd)
    crowds = crowds[np.isfinite(xyxy[crowds]).all(axis=1)]
    if len(crowds) < 2:
        return crowds, np.full(len(crowds), -1, np.int64)
    boxes = np.column_stack([images[crowds], xyxy[crowds]])
    _, where = np.unique(boxes, axis=0, return_inverse=True)
    where = where.reshape(-1)  # NumPy 2.0 gives it another shape
    classes = np.unique(np.column_stack([where, labels[crowds]]), axis=0)[:, 0]  # each class of a location once
    several = np.bincount(classes, minlength=where.max() + 1) > 1
    return crowds, np.where(several, np.cumsum(several) - 1, -1)[where]
