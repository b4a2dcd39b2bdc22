"""YOLO labels: for each image a text file with a line for each object, in fractions of width and height.

A line is ``class x y width height``, x and y the middle, or ``class x1 y1 x2 y2 x3 y3 ...``, an outline, of which the
upright box around it is taken. ``data.yaml`` has the classes and the splits
(https://docs.ultralytics.com/datasets/detect); without one, ``classes.txt`` or ``obj.names`` names the classes and
folders are the splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from varifocal.data.annotations import Files, RawDataset, SourceLocation
from varifocal.data.archive import AnyPath
from varifocal.data.find_images import FoundImage, Lost, finder_of
from varifocal.data.listing import passed_over
from varifocal.data.options import ReadOptions
from varifocal.data.paths import ImageFinder, TextDecoder, iter_images, read_many
from varifocal.data.readers.columns import ColumnBuilder, count_from_one
from varifocal.data.readers.items import OUTLINE
from varifocal.data.readers.lookup import Lookup, Words
from varifocal.data.readers.shapes import enclosing_box
from varifocal.data.readers.values import COMMAS, NAN, read_numbers, to_whole, with_points
from varifocal.data.readers.yolo_find import read_layout
from varifocal.data.readers.yolo_labels import Found, LabelFinder
from varifocal.data.readers.yolo_layout import Entry, Layout
from varifocal.data.splits import NAMED, normalize_split
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted, cut, quoted, short, short_list

# Boxes of objects that the border cuts reach beyond 0 and 1 and are clipped; values far beyond are pixels.
_MIN_VALUE, _MAX_VALUE = -4.0, 5.0
_NAMES = Words(inside="write it from that folder on")


@dataclass
class _Reading:
    """The state that all label files of a split have in common."""

    columns: ColumnBuilder
    layout: Layout
    options: ReadOptions
    files: LabelFinder
    texts: TextDecoder = field(default_factory=TextDecoder)
    labels: list[tuple[AnyPath, str] | None] = field(default_factory=list)  # folder and name of each image's file
    classes: dict[int, int] = field(default_factory=dict)  # class id -> label
    used: set[int] = field(default_factory=set)  # class ids
    unknown: list[tuple[int, int, int]] = field(default_factory=list)  # box, line, class id
    shared: list[int] = field(default_factory=list)  # images with the file of labels of another image
    bare: list[str] = field(default_factory=list)  # images without labels
    passed: list[str] = field(default_factory=list)  # names of images that are not read


def read_yolo(source: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
    """Read one split; ``source`` is the ``data.yaml``, or the folder where there is none.

    Raises:
        DataError: ``data.yaml`` cannot be understood.
    """
    layout = read_layout(source, data)
    columns = ColumnBuilder("yolo", source, split)
    columns.categories = None if layout.unnamed else layout.categories
    reading = _Reading(columns, layout, options, LabelFinder(layout, options))
    reading.classes = {category.id: index for index, category in enumerate(layout.categories)}
    for kind, text, hint in layout.problems:
        columns.report(kind, source, "", text, hint)
    try:
        entries = layout.entries(split, options.images)
    except DataError as error:
        columns.report_error("missing-image", source, error)
        entries = []
    for entry in entries:
        for found in _images(entry, reading):
            _add_image(reading, entry, found)
    _read_labels(reading)
    _report_unknown(reading)
    _report_missing(reading, listed=any(entry.path.is_file() or entry.shared for entry in entries))
    _doubt_shared(reading)
    columns.notes += [*layout.notes, *layout.absent_notes(), *layout.moved_notes(split), *reading.texts.notes(source)]
    columns.notes += passed_over(reading.passed, source.name)
    columns.notes += [*_unlabeled(reading), *_prefixed(reading)]
    if layout.unnamed:
        columns.report_no_classes()
    return columns.finish(Files.of(reading.labels), normalized=True)


def _add_image(reading: _Reading, entry: Entry, found: Found) -> None:
    """Add an image with its file of labels; one without, as the option ``unlabeled`` says."""
    columns, path, name = reading.columns, found.path, found.name
    labels = reading.files.find(entry, found)
    if labels is None:
        if entry.shared:  # it may be of another split
            return
        reading.bare.append(name)
        if reading.options.unlabeled == "skip":
            return
    image = columns.add_image(f"{path}/{name}" if path else name, (found.folder, name))
    reading.labels.append(labels)
    if labels is not None:
        if labels[1] not in reading.files.lonely[labels[0]]:
            reading.shared.append(image)
        reading.files.lonely[labels[0]].discard(labels[1])


def _unlabeled(reading: _Reading) -> list[str]:
    """Return a note on images without labels, where the user does not say what they are."""
    bare, unlabeled = reading.bare, reading.options.unlabeled
    if not bare or unlabeled == "background":
        return []
    effect = "(is|are) left out" if unlabeled == "skip" else "(counts as one|count as images) without objects"
    what = counted(len(bare), f"(image has|images have) no file of labels and {effect}")
    return [f"{reading.columns.source.name}: {what}, first {bare[0]}."]


def _prefixed(reading: _Reading) -> list[str]:
    """Return a note on files of labels that are called like uploads of Label Studio."""
    files, name = reading.files.prefixed, reading.columns.source.name
    if not files:
        return []
    count = counted(len(files), "(file of labels has|files of labels have)")
    return [f"{name}: {count} Label Studio's prefix of eight letters before the image's name, first {files[0]}."]


def _doubt_shared(reading: _Reading) -> None:
    """Doubt the labels of images with the file of labels of another image; an image may be listed twice."""
    if not reading.shared:
        return
    columns = reading.columns
    first: dict[tuple[AnyPath, str] | None, int] = {}
    labels_of_several = {reading.labels[image] for image in reading.shared}
    for image, labels in enumerate(reading.labels):
        if labels in labels_of_several:
            first.setdefault(labels, image)
    locations = list(columns.locations())  # all images of YOLO are found
    for image in reading.shared:
        labels = reading.labels[image]
        assert labels is not None, "an image without labels has none in common with another"
        if locations[image] != locations[first[labels]]:
            names = columns.names[first[labels]], columns.names[image]
            columns.doubt_shared_labels(labels[0] / labels[1], *names, image)


def _images(entry: Entry, reading: _Reading) -> Iterator[Found]:
    """Yield the images of a folder, or those that a text file lists, one a line."""
    if entry.path.is_file():
        yield from _from_list(entry.path, reading)
    else:
        for folder, path, name in iter_images(entry.path, reading.passed):
            yield Found(folder, path, name, path)


class _Line(NamedTuple):
    """A line of a list: its number, the name of an image, the folder in the name as a path from the data folder on, and
    the image where it is found there."""

    number: int
    name: str
    folder: str
    found: FoundImage | None


def _from_list(file: AnyPath, reading: _Reading) -> Iterator[Found]:
    """Yield the images that a text file names, with the folders as it has them."""
    root, images = reading.layout.root, reading.options.images
    whole = finder_of([root], root, reading.columns.split, reading.options)
    beside = ImageFinder([file.parent]) if images is None else whole
    lines = [_line_of(number, name, reading.layout, whole, beside) for number, name in _names(reading.texts.read(file))]
    located = _locate_lost(file, lines, whole, reading.columns)
    for index, line in enumerate(lines):
        found = line.found or located.get(index)
        if found is not None:
            by_end = line.found is None and images is None
            inside = _below(found[0], root) if by_end else line.folder
            yield Found(found[0], inside, found[1], line.name.replace("\\", "/").rpartition("/")[0])


def _line_of(number: int, name: str, layout: Layout, whole: ImageFinder, beside: ImageFinder) -> _Line:
    """Return a line with the image that it names from the data folder (``whole``) or the folder of the list on."""
    path = layout.inside(name)
    if path is None:  # it leaves the data folder
        return _Line(number, name, "", None)
    # paths with a dot begin at the list, all others at the data folder; some programs do it the other way round
    finders = (beside, whole) if name.startswith("./") else (whole, beside)
    found = next((found for finder in finders if (found := finder.find(path)) is not None), None)
    return _Line(number, name, path.rpartition("/")[0], found)


def _locate_lost(
    file: AnyPath, lines: Sequence[_Line], finder: ImageFinder, columns: ColumnBuilder
) -> dict[int, FoundImage]:
    """Return the images of lines that are found by the end of their names only, by the indices of the lines."""
    lookup = Lookup(of_images=False)
    for index, line in enumerate(lines):
        if line.found is None:
            lookup.add(Lost(index, (line.name,), finder), SourceLocation(file, f"line {line.number}"), _NAMES)
    outcome = lookup.finish(file, lambda: {line.found for line in lines if line.found is not None})
    columns.problems.extend(outcome.problems)
    columns.notes += outcome.notes
    return outcome.locations


def _names(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and name of each line that is not empty, without quotes around it."""
    for number, line in enumerate(text.split("\n"), start=1):
        name = line.strip()
        if len(name) > 2 and name[0] == name[-1] and name[0] in "\"'":
            name = name[1:-1]
        if name:
            yield number, name


def _below(folder: AnyPath, top: AnyPath) -> str:
    """Return the path of a folder from another one on that it lies in."""
    return str(folder).removeprefix(str(top)).strip("/")


def _read_labels(reading: _Reading) -> None:
    """Read the lines of all files of labels."""
    images = [image for image, found in enumerate(reading.labels) if found is not None]
    files = (found[0] / found[1] for found in reading.labels if found is not None)
    for image, (file, content) in zip(images, read_many(files), strict=True):
        try:
            if isinstance(content, DataError):
                raise content
            text = reading.texts.decode(content, file)
        except DataError as error:
            reading.columns.report_error("malformed", file, error, image=image)
            continue
        for number, line in enumerate(text.split("\n"), start=1):
            words = line.split()
            if words:
                _read_line(reading, image, file, number, words)


def _read_line(reading: _Reading, image: int, file: AnyPath, number: int, words: list[str]) -> None:
    columns, layout = reading.columns, reading.layout
    category = to_whole(words[0])
    words = _with_points(columns, words)
    values, unread = read_numbers(words[1:5] if layout.keypoint_values else words[1:])
    problem = _line_problem(reading, words, category, values)
    if problem is not None:
        kind, text, hint = problem
        columns.report(kind, file, f"line {number}", text, hint, image=image)
        columns.problems.refused_classes.update(known.name for known in layout.categories if known.id == category)
        return
    assert category is not None, "a line without a class is a problem"
    reading.used.add(category)
    is_new = layout.unnamed and category >= 0
    label = columns.add_label(category) if is_new else reading.classes.get(category, -1)
    if label < 0:
        reading.unknown.append((columns.boxes, number, category))
    columns.add_box(image, label, (NAN,) * 4 if unread else _box(columns, values), number, odd=unread)


def _with_points(columns: ColumnBuilder, words: list[str]) -> list[str]:
    """Return the words of a line with decimal points in place of decimal commas, which are counted."""
    if "," not in "".join(words):
        return words
    pointed = with_points(words)
    if pointed != words:
        columns.changed[COMMAS] += 1
    return pointed


def _line_problem(
    reading: _Reading, words: list[str], category: int | None, values: list[float]
) -> tuple[str, str, str] | None:
    """Return kind, text and fix of the problem of a line that is no label; None for a label."""
    wrong = _wrong_count(len(words), reading.layout.keypoint_values)
    if wrong is not None:
        return "malformed", *wrong
    if category is None:
        text = f"begins with {short(words[0])}, which is not the number of a class"
        return "unknown-class", text, f"the classes are {_listed(reading)}"
    beyond = [word for word, x in zip(words[1:], values, strict=False) if x < _MIN_VALUE or x > _MAX_VALUE]
    if beyond:
        text = f"has the value {cut(beyond[0])}, but YOLO writes fractions of the image's width and height, from 0 to 1"
        return "malformed", text, "divide pixels by the size of the image"
    return None


def _box(columns: ColumnBuilder, values: list[float]) -> tuple[float, float, float, float]:
    if len(values) == 4:
        x, y, width, height = values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    columns.changed[OUTLINE] += 1
    return enclosing_box(list(zip(values[::2], values[1::2], strict=True)))


def _wrong_count(count: int, keypoint_values: int) -> tuple[str, str] | None:
    """Return the text and the fix of the problem that a line has a wrong number of values; None for a right one."""
    if not keypoint_values and (count == 5 or (count >= 7 and count % 2)):
        return None
    if keypoint_values and count == 5 + keypoint_values:
        return None
    text = f"has {counted(count, '(value|values)')}"
    if keypoint_values:
        return text, f"by kpt_shape in data.yaml it has {5 + keypoint_values}: a class, a box, and its points"
    if count == 6:
        return text, "these look like predictions; remove the score, a label is: class x y width height"
    return text, "a label is: class x y width height, or class and the x y of at least three points"


def _listed(reading: _Reading) -> str:
    return short_list(f"{category.id} {category.name}" for category in reading.layout.categories)


def _report_unknown(reading: _Reading) -> None:
    """Report class ids that names does not have, with a fix for all where they seem one too high."""
    if not reading.unknown:
        return
    columns, known = reading.columns, sorted(reading.classes)
    text = f"which is not in names ({_listed(reading)})"
    kind, hint = "unknown-class", "add the class there, or fix the label"
    if known == list(range(len(known))) and count_from_one(reading.used, len(known)):
        names = ", ".join(f"{category.id + 1}: {category.name}" for category in reading.layout.categories[:2])
        kind = "shifted-class"
        hint = (
            "the labels seem to count from 1 and YOLO counts from 0; subtract 1 from the class of every line, "
            f"or give names their numbers, {{{cut(names)}{', ...' if len(known) > 2 else ''}}}"
        )
    for box, number, category in reading.unknown:
        image = columns.image_of(box)
        found = reading.labels[image]
        assert found is not None, "a box without a file"
        location, unknown = f"line {number}", f"has the class {category}, {text}"
        columns.report(kind, found[0] / found[1], location, unknown, hint, image=image, box=box)


def _no_images(reading: _Reading) -> tuple[str, str]:
    """Return the text and the fix of the problem that a split has no images that can be read."""
    text = f"split {quoted(reading.columns.split)} has no images"
    if not reading.passed:
        return text, "put them there"
    others = counted(len(reading.passed), f"(other|others) (first {short(reading.passed[0])})")
    return f"{text} of a kind that is read, but {others}", "convert them to JPEG, PNG or TIFF"


def _report_missing(reading: _Reading, *, listed: bool) -> None:
    """Report labels without an image, images of which none has labels, and that there are no images at all."""
    columns = reading.columns
    if not columns.names:
        if not columns.problems:
            columns.report("missing-image", columns.source, "", *_no_images(reading))
        return
    if not any(reading.labels) and reading.options.unlabeled != "background":
        path = " or ".join(str(directory) for directory in list(reading.files.listings)[:2])
        text = f"no image of split {quoted(columns.split)} has a file of labels; they are expected in {path}"
        columns.report("missing-labels", columns.source, "", text, "put a text file of the same name there for each")
    if listed:  # a list may name some of the images
        return
    for folder, names in reading.files.lonely.items():
        for name in sorted(name for name in names if normalize_split(name[:-4]) not in NAMED):
            hint = "put the image beside the others, or remove the labels"
            columns.report("missing-image", folder / name, "", "there is no image for these labels", hint)
