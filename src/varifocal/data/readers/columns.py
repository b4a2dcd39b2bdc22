"""A builder for the columns of a data set, which a reader fills with one image and one box at a time."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int64

from varifocal.data.annotations import (
    LISTED,
    NO_LABEL,
    BoxColumns,
    Files,
    ImageColumns,
    Issue,
    Problems,
    RawDataset,
    SourceLocation,
    in_order,
)
from varifocal.data.archive import AnyPath, is_unsafe_path
from varifocal.data.find_images import Lost
from varifocal.data.image_scan import read_sizes
from varifocal.data.paths import ImageFinder
from varifocal.data.readers.classes import clash, join_duplicates, joined_notes
from varifocal.data.readers.lookup import Lookup, Words
from varifocal.data.readers.values import NAN
from varifocal.types import Category, SourceIds
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted, cut

UNSIZED = (
    "(image has|images have) no usable width and height; "
    "(its size was read from the image file|their sizes were read from the image files)"
)


_CAUSES = ("malformed", "unknown-class", "missing-labels")  # kinds of problems after which no class may be left


def line_of(file: AnyPath, number: int) -> str:
    """Return the location of an object that is a line of its file."""
    return f"line {number}"


@dataclass(frozen=True, eq=False)
class SourceIndex:
    """The location of each box: a file, and a number in it, of which ``words`` makes a text when a message needs it."""

    files: Sequence[Any]
    file_of: Int64[np.ndarray, "N"]
    numbers: Int64[np.ndarray, "N"]
    words: Callable[[Any, int], str]

    def __call__(self, index: int) -> SourceLocation:
        file = self.files[int(self.file_of[index])]
        return SourceLocation(file, self.words(file, int(self.numbers[index])))


class ColumnBuilder:
    """Collects images, boxes, problems and notes; ``finish`` returns the data set.

    Readers whose classes are names call ``add_label``; these are then sorted and get ids from 1. Others give labels
    that index ``categories``.
    """

    def __init__(self, format: str, source: AnyPath, split: str) -> None:
        self.format, self.source, self.split = format, source, split
        self.problems, self.doubts = Problems(), Problems()
        self.notes: list[str] = []
        self.left_out: list[str] = []  # names of images
        self.names: list[str] = []
        self.categories: tuple[Category, ...] | None = None
        self.odd: dict[int, str] = {}
        self.changed: Counter[str] = Counter()  # what was understood but not taken as it is, with counts
        self.counted = True  # the ids of the images are not those of the source
        self._classes: dict[Any, int] = {}
        self._folders: dict[AnyPath, int] = {}
        self._tails: list[str] = []
        self._folder_of, self._sizes, self._ids = array("q"), array("q"), array("q")
        self._image_of, self._label_of, self._numbers = array("q"), array("q"), array("q")
        self._xyxy, self._areas = array("d"), array("d")
        self._crowd, self._difficult = bytearray(), bytearray()
        self._lookup, self._lost = Lookup(), False  # whether any image is still to be located

    def add_image(
        self, name: str, found: tuple[AnyPath, str] | None, size: tuple[int, int] = (0, 0), id: int | None = None
    ) -> int:
        """Add an image by folder and file name, None where it is not found, and return its index."""
        index = len(self.names)
        self.names.append(name)
        folder = -1 if found is None else self._folders.setdefault(found[0], len(self._folders))
        # a million names are held once where source and file agree
        self._tails.append("" if found is None else name if found[1] == name else found[1])
        self._folder_of.append(folder)
        self._sizes.extend(size)
        self._ids.append(index + 1 if id is None else id)
        self.counted = self.counted and id is None
        return index

    def add_named_image(
        self,
        finder: ImageFinder,
        name: str,
        location: SourceLocation,
        words: Words = Words(),  # noqa: B008  # a tuple
        *,
        size: tuple[int, int] = (0, 0),
        found: tuple[AnyPath, str] | None = None,
        also: tuple[str, ...] = (),
        upload: bool = False,
        record: str = "",
    ) -> int:
        """Add an image by the name that the source has at ``location``, and return its index.

        Where it is not ``found`` under that name it is searched for by the end of the name, or of those in ``also``,
        once all names are known. ``record`` names the record that describes the image; there may be only one.
        """
        if found is None and not is_unsafe_path(name):
            found = finder.find(name)
        image = self.add_image(name, found, size)
        if found is None:
            self._lookup.add(Lost(image, (name, *also), finder, upload), location, words, record)
            self._lost = True
        elif (problem := self._lookup.second_record(image, found, location, record)) is not None:
            self.problems.add(problem)
        return image

    def find_lost(self) -> None:
        """Search for the images that are not where their names say, now that all names are known."""
        if not self._lost:
            return
        self._lost = False
        outcome = self._lookup.finish(self.source, lambda: set(self.locations()))
        for image, found in outcome.locations.items():
            self._folder_of[image] = self._folders.setdefault(found[0], len(self._folders))
            self._tails[image] = found[1]
        self.problems.extend(outcome.problems)
        self.notes += outcome.notes

    def locations(self) -> Iterator[tuple[AnyPath, str]]:
        """Yield folder and file name of each image that is found so far."""
        folders = list(self._folders)
        for folder, name in zip(self._folder_of, self._tails, strict=True):
            if folder >= 0:
                yield folders[folder], name

    def names_by_folder(self) -> dict[AnyPath, set[str]]:
        """Return the file names of the images that are found so far, by their folders."""
        found: dict[AnyPath, set[str]] = {}
        for folder, name in self.locations():
            found.setdefault(folder, set()).add(name)
        return found

    def add_box(
        self,
        image: int,
        label: int,
        xyxy: Sequence[float],
        number: int,
        *,
        crowd: bool = False,
        difficult: bool = False,
        area: float = NAN,
        odd: str = "",
    ) -> int:
        """Add a box of an image and return its index.

        ``number`` is its location, ``odd`` what the source has where numbers should be.
        """
        index = len(self._image_of)
        self._image_of.append(image)
        self._label_of.append(label)
        self._numbers.append(number)
        self._xyxy.extend(xyxy)
        self._areas.append(area)
        self._crowd.append(crowd)
        self._difficult.append(difficult)
        if odd and len(self.odd) < LISTED:
            self.odd[index] = cut(odd)
        return index

    def add_label(self, name: str | int) -> int:
        """Return the provisional number of a class by its name, or by its id where all classes have ids."""
        return self._classes.setdefault(name, len(self._classes))

    def declare_classes(self, names: Sequence[str]) -> None:
        """Set the classes that the source lists, in its order; no others are then made by ``add_label``."""
        self._classes = {name: index for index, name in enumerate(names)}
        self.categories = tuple(Category(index + 1, name) for index, name in enumerate(names))

    def known_label(self, name: str) -> int:
        """Return the number of a class that the source lists, -1 for another."""
        return self._classes.get(name, -1)

    def report(
        self, kind: str, file: AnyPath, location: str, text: str, hint: str, *, image: int = -1, box: int = -1
    ) -> None:
        """Add a problem."""
        self.problems.add(Issue(kind, SourceLocation(file, location), text, hint, image=image, box=box))

    def report_error(self, kind: str, file: AnyPath, error: DataError, *, image: int = -1) -> None:
        """Add a problem that an error about a file describes."""
        self.problems.add(problem_of(kind, file, error, image))

    def doubt_shared_labels(self, file: AnyPath, first: str, other: str, image: int) -> None:
        """Doubt the labels of an image, as another one has the same file of labels."""
        text = f"belongs to {first} and to {other}, which differ only in their suffix"
        self.doubts.add(
            Issue("shared-labels", SourceLocation(file, ""), text, "give one of them another name", image=image)
        )

    def image_of(self, box: int) -> int:
        """Return the image of a box."""
        return self._image_of[box]

    def all_labels(self) -> list[int]:
        """Return the labels of all classes that are known so far."""
        return list(range(len(self._classes) if self.categories is None else len(self.categories)))

    @property
    def boxes(self) -> int:
        """The number of boxes so far."""
        return len(self._image_of)

    @property
    def labels(self) -> Int64[np.ndarray, "N"]:
        """The labels so far."""
        return np.frombuffer(self._label_of, np.int64).copy()

    def finish(
        self,
        files: Sequence[Any],
        words: Callable[[Any, int], str] = line_of,
        *,
        file_of: Int64[np.ndarray, "M"] | None = None,
        xywh: bool = False,
        normalized: bool = False,
    ) -> RawDataset:
        """Return the data set.

        ``files`` has the file of each image's boxes, or is the only file; with ``file_of`` image i has the file
        ``files[file_of[i]]``. With ``normalized`` the boxes are fractions of width and height, and sizes of images that
        are not known are read from these.
        """
        self.find_lost()
        image_of = np.frombuffer(self._image_of, np.int64)
        if file_of is not None:
            file_of = file_of[image_of]
        else:
            file_of = image_of if len(files) != 1 else np.zeros(len(image_of), np.int64)
        where = SourceIndex(files, file_of, np.frombuffer(self._numbers, np.int64), words)
        labels, categories = self._sorted_classes()
        boxes = self._box_columns(labels, where, xywh)
        raw = RawDataset(
            self.format,
            self.source,
            self.split,
            self._image_columns(),
            boxes,
            categories,
            self.problems,
            tuple(self._all_notes()),
            doubts=self.doubts,
            ids=SourceIds(counted=self.counted),
            left_out=tuple(self.left_out),
        )
        return in_pixels(with_image_sizes(raw)) if normalized else raw

    def _image_columns(self) -> ImageColumns:
        return ImageColumns(
            self.names,
            Files(list(self._folders), np.frombuffer(self._folder_of, np.int64), self._tails),
            np.frombuffer(self._sizes, np.int64).reshape(-1, 2),
            np.frombuffer(self._ids, np.int64),
        )

    def _box_columns(self, labels: Int64[np.ndarray, "N"], where: SourceIndex, xywh: bool) -> BoxColumns:
        xyxy, swapped = in_order(np.frombuffer(self._xyxy, np.float64).reshape(-1, 4))
        crowd, difficult = (np.frombuffer(flags, np.bool_) for flags in (self._crowd, self._difficult))
        images, areas = np.frombuffer(self._image_of, np.int64), np.frombuffer(self._areas, np.float64)
        return BoxColumns(
            images, labels, xyxy, crowd, difficult, areas, where, xywh=xywh, odd=self.odd, swapped=swapped
        )

    def _all_notes(self) -> list[str]:
        """Return all notes: those of the reader, on shared files of labels, and on what was changed."""
        notes = list(self.notes)
        if self.doubts:
            count, first = self.doubts.counts.total(), self.doubts[0]
            files = counted(count, "(file of labels belongs|files of labels belong)")
            notes.append(f"{self.source.name}: {files} to two images, first: {first.location} {first.text}.")
        return notes + [f"{self.source.name}: {counted(count, what)}." for what, count in self.changed.items()]

    def _sorted_classes(self) -> tuple[Int64[np.ndarray, "N"], tuple[Category, ...]]:
        """Return the final labels and the categories; those that are names are sorted."""
        labels = self.labels
        if self.categories is not None:
            joined = join_duplicates(labels, self.categories)
            self.notes += joined_notes(self.source.name, joined.names)
            for name in joined.clashes:
                self.report("twice", self.source, "", *clash(name))
            return joined.labels, joined.categories
        names = sorted(self._classes)
        new_label = np.empty(len(names) + 2, np.int64)
        new_label[[self._classes[name] for name in names]] = np.arange(len(names))
        new_label[[-1, NO_LABEL]] = -1, NO_LABEL  # of an unknown class and of none
        if names and isinstance(names[0], int):
            return new_label[labels], tuple(Category(id, str(id)) for id in names)
        return new_label[labels], tuple(Category(index, name) for index, name in enumerate(names, start=1))

    def report_no_classes(self) -> None:
        """Report that there is no class to learn, unless objects or label files were refused, which is the cause."""
        self.find_lost()  # a missing image is what to fix first
        if not self._classes and not self.categories and not any(map(self.problems.counts.get, _CAUSES)):
            text, hint = "it has no box with a class", "label the images first"
            self.report("no-classes", self.source, "", text, hint)


def with_image_sizes(raw: RawDataset) -> RawDataset:
    """Return the set with the sizes that its source does not record, read from the headers of the images.

    An image whose header cannot be read is a problem of the set, and keeps the size 0.
    """
    unknown = np.flatnonzero((raw.images.sizes <= 0).any(axis=1)).tolist()
    unsized = {index: file for index in unknown if (file := raw.images.files[index]) is not None}
    if not unsized:
        return raw
    sizes = raw.images.sizes.copy()
    problems = Problems()
    problems.extend(raw.problems)
    for (index, file), found in zip(unsized.items(), read_sizes(list(unsized.values())), strict=True):
        if isinstance(found, DataError):
            sizes[index] = 0
            problems.add(problem_of("unreadable-image", file, found, index))
        else:
            sizes[index] = found
    return replace(raw, images=replace(raw.images, sizes=sizes), problems=problems)


def problem_of(kind: str, file: Any, error: DataError, image: int = -1) -> Issue:
    """Return an error about a file as a problem of the set."""
    text, _, hint = str(error).removeprefix(f"{file}: ").rpartition("; ")
    return Issue(kind, SourceLocation(file, ""), text or hint, hint if text else "", image=image)


def in_pixels(raw: RawDataset) -> RawDataset:
    """Return the set with boxes in pixels that were fractions of width and height."""
    xyxy = raw.boxes.xyxy * np.tile(raw.images.sizes, 2)[raw.boxes.images]
    return replace(raw, boxes=replace(raw.boxes, xyxy=xyxy))


def count_from_one(used: Collection[int], count: int) -> bool:
    """Return whether class ids seem to count from 1 where 0 to ``count - 1`` are known."""
    return count in used and all(0 < number <= count for number in used)
