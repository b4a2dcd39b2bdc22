"""YOLO labels: for each picture a text file, a line for each object, in shares of width and height.

``class x y width height``, x and y the middle, or ``class x1 y1 x2 y2 x3 y3 ...``, an outline, of which the upright
box around it is taken. The classes and the splits stand in ``data.yaml`` (https://docs.ultralytics.com/datasets/detect);
without one, ``classes.txt`` or ``obj.names`` names the classes and folders are the splits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from varifocal.data.archive import Tree
from varifocal.data.listing import passed_over
from varifocal.data.raw import Files, RawSet, cut, short, short_list
from varifocal.data.readers.columns import NAN, Columns, count_from_one, hull, to_number
from varifocal.data.readers.yolo_layout import NOT_LABELS, Layout, label_place, read_layout
from varifocal.data.tree import PictureFinder, Texts, names_in, pictures_below, read_many
from varifocal.errors import DataError

# Shares a little beyond the picture come from rounding; they are clipped with the rest.
_LEAST, _MOST = -0.01, 1.01

Found = tuple[Tree, str, str]  # the folder of a picture, the path of that as the source has it, the picture's name


@dataclass
class _Reading:
    """What is shared by all label files of a split."""

    columns: Columns
    layout: Layout
    texts: Texts = field(default_factory=Texts)
    labels: list[tuple[Tree, str] | None] = field(default_factory=list)  # folder and name of each picture's file
    classes: dict[int, int] = field(default_factory=dict)  # class id -> label
    used: set[int] = field(default_factory=set)  # class ids
    unknown: list[tuple[int, int, int]] = field(default_factory=list)  # box, line, class id
    places: dict[Tree, tuple[Tree, ...]] = field(default_factory=dict)  # folder of pictures -> where labels may lie
    listings: dict[Tree, frozenset[str]] = field(default_factory=dict)  # folder -> files of labels in it
    lonely: dict[Tree, set[str]] = field(default_factory=dict)  # the same, those without a picture
    passed: list[str] = field(default_factory=list)  # names of images that are not read


def read_yolo(source: Tree, data: Tree, split: str) -> RawSet:
    """One split; ``source`` is the ``data.yaml``, or the folder where there is none.

    Raises:
        DataError: ``data.yaml`` cannot be understood, or names a folder that is not there.
    """
    layout = read_layout(source)
    columns = Columns("yolo", source, split)
    columns.categories = layout.categories
    reading = _Reading(columns, layout)
    reading.classes = {category.id: index for index, category in enumerate(layout.categories)}
    for kind, text, mend in layout.problems:
        columns.problem(kind, source, "", text, mend)
    entries = layout.entries(split)
    for entry in entries:
        for folder, path, name in _pictures(entry, reading):
            columns.picture(f"{path}/{name}" if path else name, (folder, name))
            reading.labels.append(_label_file(reading, folder, os.path.splitext(name)[0] + ".txt"))
    _read_labels(reading)
    _report_unknown(reading)
    _report_missing(reading, listed=any(entry.is_file() for entry in entries))
    columns.notes += [*layout.notes, *reading.texts.notes(source), *passed_over(reading.passed, source.name)]
    return columns.finish(Files.of(reading.labels), shares=True)


def _pictures(entry: Tree, reading: _Reading) -> Iterator[Found]:
    """The pictures of a folder, or those that a text file lists, one a line."""
    if not entry.is_file():
        yield from pictures_below(entry, reading.passed)
        return
    columns, root = reading.columns, reading.layout.root
    finders = PictureFinder([root]), PictureFinder([entry.parent])
    for number, line in enumerate(reading.texts.read(entry).split("\n"), start=1):
        name = line.strip()
        if not name:
            continue
        inside = reading.layout.inside(name)
        if inside is None:
            text = f"names the picture {short(name)}, which is not a file inside the data folder {root}"
            columns.problem("outside-folder", entry, f"line {number}", text, "write it from that folder on")
            continue
        # what begins with a dot is meant from the list, all else from the data folder; either may be written
        tried = finders[::-1] if name.startswith("./") else finders
        found = next((place for finder in tried if (place := finder.find(inside)) is not None), None)
        if found is None:
            text = f"names the picture {short(name)}, which is not found in {root}"
            columns.problem("missing-image", entry, f"line {number}", text, "put it there or take the line out")
        else:
            yield found[0], inside.rpartition("/")[0], found[1]


def _read_labels(reading: _Reading) -> None:
    """The lines of all files of labels."""
    images = [image for image, found in enumerate(reading.labels) if found is not None]
    files = (found[0] / found[1] for found in reading.labels if found is not None)
    for image, (file, content) in zip(images, read_many(files), strict=True):
        try:
            if isinstance(content, DataError):
                raise content
            text = reading.texts.decode(content, file)
        except DataError as error:
            reading.columns.failure("malformed", file, error, image=image)
            continue
        for number, line in enumerate(text.split("\n"), start=1):
            words = line.split()
            if words:
                _read_line(reading, image, file, number, words)


def _label_file(reading: _Reading, folder: Tree, name: str) -> tuple[Tree, str] | None:
    """In the folder of labels that mirrors that of pictures, or beside the picture."""
    if folder not in reading.places:
        reading.places[folder] = tuple(dict.fromkeys((label_place(folder, reading.layout.root), folder)))
    for place in reading.places[folder]:
        if place not in reading.listings:
            names = [file for file in names_in(place)[1] if file.endswith(".txt") and file.lower() not in NOT_LABELS]
            reading.listings[place] = frozenset(names)
            reading.lonely[place] = set(names)
        if name in reading.listings[place]:
            reading.lonely[place].discard(name)
            return place, name
    return None


def _read_line(reading: _Reading, image: int, file: Tree, number: int, words: list[str]) -> None:
    columns, place = reading.columns, f"line {number}"
    wrong = _wrong_count(len(words), reading.layout.keypoint_values)
    if wrong is not None:
        columns.problem("malformed", file, place, *wrong, image=image)
        return
    category = _whole(words[0])
    if category is None:
        text = f"begins with {short(words[0])}, which is not the number of a class"
        columns.problem("unknown-class", file, place, text, f"the classes are {_listed(reading)}", image=image)
        return
    values = [to_number(word) for word in words[1:]]
    if reading.layout.keypoint_values:
        values = values[:4]
    beyond = [word for word, value in zip(words[1:], values, strict=False) if value < _LEAST or value > _MOST]
    if beyond:
        text = f"has the value {cut(beyond[0])}, but YOLO writes shares of the picture's width and height, from 0 to 1"
        columns.problem("malformed", file, place, text, "divide pixels by the size of the picture", image=image)
        return
    reading.used.add(category)
    label = reading.classes.get(category, -1)
    if label < 0:
        reading.unknown.append((columns.boxes, number, category))
    odd = "" if all(value == value for value in values) else " ".join(words[1:])
    columns.box(image, label, (NAN,) * 4 if odd else _box(columns, values), number, odd=odd)


def _box(columns: Columns, values: list[float]) -> tuple[float, float, float, float]:
    if len(values) == 4:
        x, y, width, height = values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    columns.changed["outlines became the upright boxes around them"] += 1
    return hull(list(zip(values[::2], values[1::2], strict=True)))


def _wrong_count(count: int, keypoint_values: int) -> tuple[str, str] | None:
    """Text and mend where a line has a number of values that means nothing."""
    text = f"has {count} values"
    if keypoint_values:
        mend = f"kpt_shape in data.yaml wants {5 + keypoint_values}: a class, a box, and its points"
        return None if count == 5 + keypoint_values else (text, mend)
    if count == 5 or (count >= 7 and count % 2):
        return None
    if count == 6:
        return text, "these look like predictions; take the score out, a label is: class x y width height"
    return text, "a label is: class x y width height, or class and the x y of at least three points"


def _whole(word: str) -> int | None:
    """A class id; some programs write it as 3.0."""
    value = to_number(word)
    return int(value) if value == value and abs(value) < 1e9 and value == int(value) else None


def _listed(reading: _Reading) -> str:
    return short_list(f"{category.id} {category.name}" for category in reading.layout.categories)


def _report_unknown(reading: _Reading) -> None:
    """Class ids that names does not have; where all are one too high, that is said."""
    if not reading.unknown:
        return
    columns, known = reading.columns, sorted(reading.classes)
    text = f"which is not in names ({_listed(reading)})"
    kind, mend = "unknown-class", "add the class there, or mend the label"
    if known == list(range(len(known))) and count_from_one(reading.used, len(known)):
        names = ", ".join(f"{category.id + 1}: {category.name}" for category in reading.layout.categories[:2])
        kind = "shifted-class"
        mend = (
            "the labels seem to count from 1 and YOLO counts from 0; subtract 1 from the class of every line, "
            f"or give names their numbers, {{{cut(names)}{', ...' if len(known) > 2 else ''}}}"
        )
    for box, number, category in reading.unknown:
        image = columns.image_of(box)
        found = reading.labels[image]
        assert found is not None, "a box without a file"
        place, said = f"line {number}", f"has the class {category}, {text}"
        columns.problem(kind, found[0] / found[1], place, said, mend, image=image, box=box)


def _report_missing(reading: _Reading, *, listed: bool) -> None:
    """Labels without a picture, pictures of which none has labels, and no pictures at all."""
    columns = reading.columns
    if not columns.names:
        text = f"split {columns.split!r} has no pictures"
        columns.problem("missing-image", columns.source, "", text, "put them there")
        return
    if not any(reading.labels):
        place = " or ".join(str(place) for place in list(reading.listings)[:2])
        text = f"no picture of split {columns.split!r} has a file of labels; they were looked for in {place}"
        columns.problem("malformed", columns.source, "", text, "put a text file of the same name there for each")
    if listed:  # a list may name some of the pictures
        return
    for folder, names in reading.lonely.items():
        for name in sorted(names):
            mend = "put the picture beside the others, or take the labels away"
            columns.problem("missing-image", folder / name, "", "no picture belongs to these labels", mend)
