"""Common code of the readers of small formats: an image with its objects, as a source has it, is put into columns.

A format is then a pure function from a record (a text file, an object of JSON, a row) to an :class:`Item`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from varifocal.data.annotations import NO_LABEL, RawDataset, SourceLocation
from varifocal.data.archive import AnyPath
from varifocal.data.paths import ImageFinder, is_image
from varifocal.data.readers.columns import NAN, ColumnBuilder
from varifocal.data.readers.lookup import Words, record_of
from varifocal.utils.text import counted, short

_MAX_SIDE = 2**31 - 1
_MOST = 1e15  # of a number; beyond it a sum of two may be none
_SHIFT = 24  # bits of an object's index beside the number of its record

OUTLINE = "(outline|outlines) became the upright (box around it|boxes around them)"
TURNED = "turned (box became the upright box around it|boxes became the upright boxes around them)"
CIRCLE = "(circle|circles) became the upright (box around it|boxes around them)"
ELLIPSE = "(ellipse|ellipses) became the upright (box around it|boxes around them)"
MASK = "(mask|masks) became the (box around it|boxes around them)"

_NAMES = Words(
    said="is of the image",
    hint="put it there or take the labels away",
    inside="put it there or take the labels away",
)

ONE_CLASS = "object"  # where a source has boxes and no classes

IGNORED = None  # the label of a region where nothing is an object and nothing is background, of whatever class


class Shape(NamedTuple):
    """One object: its location ``number`` in the file, the name of its class ("" where it has none, ``IGNORED`` for a
    region that counts for no class), its box as xyxy pixels, and what stands there instead of numbers.

    ``note`` says how the box was made of something else; such notes are counted.
    """

    number: int
    label: str | None
    xyxy: Sequence[float]
    odd: str = ""
    note: str = ""
    crowd: bool = False
    difficult: bool = False


class Fault(NamedTuple):
    """Something instead of an object that cannot be interpreted."""

    number: int
    text: str
    hint: str
    kind: str = "malformed"


class LeftOut(NamedTuple):
    """Something instead of an object that has no box; such notes are counted."""

    note: str


Entry = Shape | Fault | LeftOut
LocationOf = Callable[[Any, int], str]  # of a file and a number: the location in words


def entries_of(values: Any, name: str, entry: Callable[[int, dict[str, Any]], Entry]) -> Iterator[Entry]:
    """The entries of a record's list of objects, which is its field ``name``; ``entry`` reads one of them."""
    if not isinstance(values, list):
        yield Fault(0, f"has the {name} {short(values)}", "they should be a list")
        return
    for number, one in enumerate(values):
        if isinstance(one, dict):
            yield entry(number, one)
        else:
            yield Fault(number, f"is {short(one)}", "it should be an object")


class Item(NamedTuple):
    """One image as a source has it: its name, with or without a suffix, its objects, and its size in pixels or 0.

    ``location`` are words for where it stands in its file; ``other`` is a second name for it, tried where ``name`` is
    not found.
    """

    name: str
    entries: Iterable[Entry]
    size: tuple[int, int] = (0, 0)
    location: str = ""
    other: str = ""


@dataclass
class Items:
    """Puts items into columns, one after the other."""

    columns: ColumnBuilder
    regions: list[tuple[int, Shape]] = field(default_factory=list)

    def add(self, item: Item, file: AnyPath, finder: ImageFinder, words: LocationOf) -> bool:
        """Add an image with its objects, located by ``words(file, number)``, and return whether it became an image."""
        columns = self.columns
        if not isinstance(item.name, str) or not item.name.strip():
            text = f"names no image but {short(item.name)}" if item.name else "names no image"
            columns.problem("malformed", file, item.location, text, "add its file name, or take the record out")
            return False
        location, record = (
            SourceLocation(file, item.location),
            f"{record_of(file, columns.source)} {item.location}".strip(),
        )
        found = without_suffix(finder, item.name)
        also = (item.other,) if item.other and item.other != item.name else ()
        image = columns.named(
            finder, item.name, location, _NAMES, size=item.size, found=found, also=also, record=record
        )
        for entry in item.entries:
            self._entry(entry, image, file, words)
        return True

    def _entry(self, entry: Entry, image: int, file: AnyPath, words: LocationOf) -> None:
        columns = self.columns
        if isinstance(entry, LeftOut):
            columns.changed[entry.note] += 1
        elif isinstance(entry, Fault):
            location = words(file, entry.number)
            columns.problem(entry.kind, file, location, entry.text, entry.hint, image=image)
        elif entry.label is IGNORED:
            self.regions.append((image, entry))
        else:
            label = NO_LABEL if not entry.label else columns.label(entry.label)
            self._box(entry, image, label)

    def _box(self, shape: Shape, image: int, label: int) -> None:
        if shape.note:
            self.columns.changed[shape.note] += 1
        flags = {"crowd": shape.crowd, "difficult": shape.difficult and not shape.crowd}
        xyxy = [NAN] * 4 if shape.odd else shape.xyxy
        self.columns.box(image, label, xyxy, shape.number, odd=shape.odd, **flags)

    def finish(self) -> None:
        """What is known only at the end: each ignored region becomes a crowd region of every class."""
        columns = self.columns
        labels = columns.all_labels()
        for image, shape in self.regions:
            for label in labels:
                self._box(shape._replace(crowd=True), image, label)
        if self.regions:
            columns.changed[
                "ignored (region is neither object|regions are neither objects) nor background, for every class"
            ] += len(self.regions)
        columns.no_classes()


def one_class_note(file: AnyPath) -> str:
    """What is said of a source with boxes and no classes."""
    return f"{file.name}: nothing in it tells a class, so that all boxes are of one, called {ONE_CLASS!r}."


def absent_note(file: AnyPath, names: Sequence[str]) -> str:
    """What is said of images that a source names and that are not there, where that is no mistake."""
    images = counted(len(names), "(image is|images are)")
    return f"{file.name}: {images} named and not there, and left out, first {short(names[0])}."


def without_suffix(finder: ImageFinder, name: str) -> tuple[AnyPath, str] | None:
    """The file of an image whose name lacks its suffix, if only one has that stem."""
    found = None if is_image(name) else finder.find_stem(name.replace("\\", "/"))
    return None if found is not None and finder.same_stem(*found) else found


def to_numbers(values: Any, count: int | None = None) -> list[float] | None:
    """A list of numbers as floats; None where it is no list, of another length, or any value is no number."""
    if not isinstance(values, (list, tuple)) or (count is not None and len(values) != count):
        return None
    if not all(type(value) in (int, float) and abs(value) < _MOST for value in values):  # NaN is not below it either
        return None
    return [float(value) for value in values]


def to_points(values: Any) -> list[tuple[float, float]] | None:
    """A list of points [x, y]; None where it is none, or empty."""
    if not isinstance(values, list) or not values:
        return None
    pairs = [to_numbers(value, 2) for value in values]
    return None if None in pairs else [(pair[0], pair[1]) for pair in pairs if pair is not None]


def to_size(width: Any, height: Any) -> tuple[int, int]:
    """Width and height where both are whole numbers of pixels, else 0."""
    sides = to_numbers([width, height])
    if sides is None or not all(1 <= side <= _MAX_SIDE and side == math.floor(side) for side in sides):
        return 0, 0
    return int(sides[0]), int(sides[1])


def to_label(value: Any) -> str | None:
    """The name of a class: a text, or a whole number as one; "" where there is none, None for anything else."""
    if value is None:
        return ""
    if type(value) is int and abs(value) < 10**9:
        return str(value)
    return value.strip() if isinstance(value, str) else None


def number_of(record: int, index: int) -> int:
    """Return one number for the location of an object in the record of a file."""
    return record << _SHIFT | min(index, (1 << _SHIFT) - 1)


def record_and_index(number: int) -> tuple[int, int]:
    """What :func:`number_of` has put together."""
    return number >> _SHIFT, number & ((1 << _SHIFT) - 1)


def finished(items: Items, files: Sequence[Any], words: LocationOf, *, normalized: bool = False) -> RawDataset:
    """The set of what was added."""
    columns = items.columns
    columns.find_lost()
    if not columns.names and not columns.problems:
        columns.problem("malformed", columns.source, "", "there are no images in it", "name other labels")
    items.finish()
    return columns.finish(files, words, normalized=normalized)
