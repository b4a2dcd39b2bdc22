"""Images with their objects as sources have them, and their way into columns: the common part of small formats.

The reader of a format is then a pure function from a record (a text file, an object of JSON, a row) to an
:class:`Item`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from varifocal.data.annotations import NO_LABEL, RawDataset, SourceLocation
from varifocal.data.archive import AnyPath
from varifocal.data.find_images import FoundImage
from varifocal.data.options import ReadOptions
from varifocal.data.paths import ImageFinder, is_image
from varifocal.data.readers.columns import ColumnBuilder
from varifocal.data.readers.lookup import Words, record_of
from varifocal.data.readers.values import NAN, to_number
from varifocal.utils.text import counted, short, short_list

_MAX_NUMBER = 1e15  # beyond it the sum of two numbers may be none
_SHIFT = 24  # bits of an object's index beside the number of its record

OUTLINE = "(outline|outlines) became the upright (box around it|boxes around them)"
TURNED = "turned (box became the upright box around it|boxes became the upright boxes around them)"
CIRCLE = "(circle|circles) became the upright (box around it|boxes around them)"
ELLIPSE = "(ellipse|ellipses) became the upright (box around it|boxes around them)"
MASK = "(mask|masks) became the (box around it|boxes around them)"

_NAMES = Words(
    verb="is of the image",
    hint="add it, or remove the labels",
    inside="add it, or remove the labels",
)

ONE_CLASS = "object"  # where a source has boxes and no classes

IGNORED = None  # the label of a region where nothing is an object and nothing is background, of whatever class


class Shape(NamedTuple):
    """One object, with its box as xyxy pixels.

    ``number`` is its location in the file. ``label`` is the name of its class, "" where it has none, ``IGNORED`` for a
    region that counts for no class. ``odd`` is what the source has where numbers should be. ``note`` says how another
    shape became the box; such notes are counted.
    """

    number: int
    label: str | None
    xyxy: Sequence[float]
    odd: str = ""
    note: str = ""
    crowd: bool = False
    difficult: bool = False


class Fault(NamedTuple):
    """An entry that cannot be understood, with the text and the fix of the problem."""

    number: int
    text: str
    hint: str
    kind: str = "malformed"


class LeftOut(NamedTuple):
    """An entry that has no box, with a note; such notes are counted."""

    note: str


Entry = Shape | Fault | LeftOut
LocationOf = Callable[[Any, int], str]  # from a file and the number of an object to its location in words


def entries_of(
    values: Any, name: str, entry: Callable[[int, dict[str, Any]], Entry], record: int = 0
) -> Iterator[Entry]:
    """Yield the entries of the list of objects that a record has in its field ``name``.

    ``entry(number, object)`` reads one of them; the number holds that of the record and its index in the list.
    """
    if not isinstance(values, list):
        yield Fault(number_of(record, 0), f"has the {name} {short(values)}", "it should be a list")
        return
    for index, value in enumerate(values):
        number = number_of(record, index)
        if isinstance(value, dict):
            yield entry(number, value)
        else:
            yield Fault(number, f"is {short(value)}", "it should be an object")


class Item(NamedTuple):
    """One image as a source has it: its name with or without a suffix, its objects, and its size in pixels or 0.

    ``location`` describes its position in the file; ``other`` is a second name, tried where ``name`` is not found.
    """

    name: str
    entries: Iterable[Entry]
    size: tuple[int, int] = (0, 0)
    location: str = ""
    other: str = ""


@dataclass
class Items:
    """Puts items into columns; ``regions`` are those to be ignored, with the indices of their images."""

    columns: ColumnBuilder
    regions: list[tuple[int, Shape]] = field(default_factory=list)

    def add(self, item: Item, file: AnyPath, finder: ImageFinder, words: LocationOf) -> bool:
        """Add an image with its objects, located by ``words(file, number)``, and return whether it became an image."""
        columns = self.columns
        if not isinstance(item.name, str) or not item.name.strip():
            text = f"names no image but {short(item.name)}" if item.name else "names no image"
            columns.report("malformed", file, item.location, text, "add its file name, or remove the record")
            return False
        location = SourceLocation(file, item.location)
        record = f"{record_of(file, columns.source)} {item.location}".strip()
        found = without_suffix(finder, item.name)
        also = (item.other,) if item.other and item.other != item.name else ()
        image = columns.add_named_image(
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
            columns.report(entry.kind, file, location, entry.text, entry.hint, image=image)
        elif entry.label is IGNORED:
            self.regions.append((image, entry))
        else:
            label = NO_LABEL if not entry.label else columns.add_label(entry.label)
            self._box(entry, image, label)

    def _box(self, shape: Shape, image: int, label: int) -> None:
        if shape.note:
            self.columns.changed[shape.note] += 1
        flags = {"crowd": shape.crowd, "difficult": shape.difficult and not shape.crowd}
        xyxy = [NAN] * 4 if shape.odd else shape.xyxy
        self.columns.add_box(image, label, xyxy, shape.number, odd=shape.odd, **flags)

    def finish(self) -> None:
        """Add each ignored region as a crowd region of every class, now that all classes are known."""
        columns = self.columns
        labels = columns.all_labels()
        for image, shape in self.regions:
            for label in labels:
                self._box(shape._replace(crowd=True), image, label)
        if self.regions:
            columns.changed[
                "ignored (region is neither object|regions are neither objects) nor background, for every class"
            ] += len(self.regions)
        columns.report_no_classes()


def one_class_note(file: AnyPath, unread: Sequence[str] = ()) -> str:
    """Return the note on a source with boxes and no classes; ``unread`` are columns that might have held them."""
    note = f"{file.name}: nothing in it names a class, so that all boxes are of one, called '{ONE_CLASS}'."
    return note + (f" Columns not read: {short_list(unread)}." if unread else "")


def absent_note(file: AnyPath, names: Sequence[str]) -> str:
    """Return the note on images that a source names and that are not there, where that is no mistake."""
    images = counted(len(names), "(image is|images are)")
    return f"{file.name}: {images} named but missing, and left out, first {short(names[0])}."


def add_unlabeled(
    columns: ColumnBuilder,
    left: Sequence[FoundImage],
    what: str,
    options: ReadOptions,
    files: list[tuple[AnyPath, str] | None],
) -> None:
    """Add images without labels where the user says that nothing is on them; else count them in a note.

    ``what`` names the labels that are missing. ``files`` has the label file of each image, None for these.
    """
    if options.unlabeled == "background":
        for folder, name in left:
            columns.add_image(name, (folder, name))
            files.append(None)
    elif left:
        images = counted(len(left), f"(image has|images have) no {what} and (is|are) left out")
        hint = "--unlabeled background takes them as images without objects."
        columns.notes.append(f"{columns.source.name}: {images}, first {left[0][1]}; {hint}")


def without_suffix(finder: ImageFinder, name: str) -> tuple[AnyPath, str] | None:
    """Return the file of an image whose name lacks its suffix, if only one has that stem; else None."""
    found = None if is_image(name) else finder.find_stem(name.replace("\\", "/"))
    return None if found is not None and finder.same_stem(*found) else found


def to_numbers(values: Any, count: int | None = None) -> list[float] | None:
    """Return a list of numbers, some perhaps written as texts; None for another length or anything else in it."""
    if not isinstance(values, (list, tuple)) or (count is not None and len(values) != count):
        return None
    numbers = [to_number(value) if isinstance(value, str) else value for value in values]
    if not all(type(value) in (int, float) and abs(value) < _MAX_NUMBER for value in numbers):  # false for NaN, too
        return None
    return [float(value) for value in numbers]


def to_points(values: Any) -> list[tuple[float, float]] | None:
    """Return a list of points [x, y] as floats; None where it is no such list, or is empty."""
    if not isinstance(values, list) or not values:
        return None
    pairs = [to_numbers(value, 2) for value in values]
    return None if None in pairs else [(pair[0], pair[1]) for pair in pairs if pair is not None]


def to_label(value: Any) -> str | None:
    """Return the name of a class, a text or a whole number; "" where there is none, None for anything else."""
    if value is None:
        return ""
    if type(value) is int and abs(value) < 10**9:
        return str(value)
    return value.strip() if isinstance(value, str) else None


def number_of(record: int, index: int) -> int:
    """Return one number for the location of an object in the record of a file."""
    return record << _SHIFT | min(index, (1 << _SHIFT) - 1)


def record_and_index(number: int) -> tuple[int, int]:
    """Return the record and the index of an object from its number."""
    return number >> _SHIFT, number & ((1 << _SHIFT) - 1)


@dataclass(frozen=True)
class LocationFormat:
    """Describes the location of an object: ``text`` with the values of ``{record}`` and ``{index}``."""

    text: str

    def __call__(self, file: Any, number: int) -> str:
        record, index = record_and_index(number)
        return self.text.format(record=record, index=index)


def finished(items: Items, files: Sequence[Any], words: LocationOf, *, normalized: bool = False) -> RawDataset:
    """Return the data set of the items that were added."""
    columns = items.columns
    columns.find_lost()
    if not columns.names and not columns.problems:
        columns.report("malformed", columns.source, "", "it has no images", "name other labels")
    items.finish()
    return columns.finish(files, words, normalized=normalized)
