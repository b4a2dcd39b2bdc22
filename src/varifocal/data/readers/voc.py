"""Pascal VOC: an XML file for each picture (http://host.robots.ox.ac.uk/pascal/VOC, development kit).

Pixels count from 1 there and the last one belongs to the box: a box from xmin to xmax covers ``xmax - xmin + 1``
pixels, which is ``[xmin - 1, xmax]`` here. Floats follow the same rule. In a split where any xmin or ymin lies between
0 and 1 the program that wrote it counts from 0, and its numbers are taken as they are; a note says so.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from varifocal.data.archive import Tree
from varifocal.data.listing import passed_over
from varifocal.data.names import canonical, leaves_folder
from varifocal.data.raw import Files, RawSet, cut, short
from varifocal.data.readers.columns import NAN, Columns, to_number
from varifocal.data.readers.xml_text import line_of_element, parse_xml, root_tag
from varifocal.data.tree import PictureFinder, Texts, is_image_name, is_picture, names_in, read_many, walk
from varifocal.errors import DataError

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_FOLDERS = ("Annotations", "annotations", "xmls", "labels")
_MAX_SIDE = 2**31 - 1


@dataclass
class _Reading:
    """What is shared by all files of a split."""

    columns: Columns
    latin: list[str] = field(default_factory=list)
    files: list[tuple[Tree, str] | None] = field(default_factory=list)  # folder and name of each picture's XML
    from_zero: int = -1  # the first box that begins below 1
    taken: dict[tuple[Tree, str], str] = field(default_factory=dict)  # picture -> the XML that names it


def read_voc(source: Tree, data: Tree, split: str) -> RawSet:
    """One split; ``source`` is a list in ``ImageSets/Main``, a folder of XML files, or a single one.

    Raises:
        DataError: a folder cannot be read. Whatever is wrong with a file is a problem of the set.
    """
    columns = Columns("voc", source, split)
    reading = _Reading(columns)
    finders: dict[Tree, PictureFinder] = {}
    places = list(_files(source, columns))
    files = (folder / name for folder, name in places)
    for (folder, name), (_, content) in zip(places, read_many(files), strict=True):
        if folder not in finders:
            finders[folder] = PictureFinder(_roots(folder, data))
        _read_file(reading, folder, name, content, finders[folder])
    if not columns.names and not columns.problems:
        columns.problem("missing-image", source, "", "there are no XML files in it", "put one there for each picture")
    columns.no_classes()
    columns.notes += Texts(reading.latin).notes(source)
    if split == "all":
        columns.notes += _without_xml(reading)
    raw = columns.finish(Files.of(reading.files), _object_of)
    return _shifted(raw, reading.from_zero)


def _without_xml(reading: _Reading) -> list[str]:
    """A note on pictures beside those that are named: VOC does not say that nothing is on them."""
    used = {folder: set[str]() for folder, _ in reading.taken}
    for folder, name in reading.taken:
        used[folder].add(name)
    free = [name for folder, names in used.items() for name in names_in(folder)[1] if name not in names]
    left = [name for name in free if is_picture(name)]
    notes = passed_over(free, reading.columns.source.name)
    if not left:
        return notes
    pictures = "1 picture has" if len(left) == 1 else f"{len(left)} pictures have"
    return [f"{reading.columns.source.name}: {pictures} no XML and are left out, first {left[0]}.", *notes]


def _object_of(file: Tree, number: int) -> str:
    """The place of an object; the line is looked for only when somebody asks."""
    line = line_of_element(file, "object", number)
    return f"line {line} (object {number})" if line else f"object {number}"


def _shifted(raw: RawSet, from_zero: int) -> RawSet:
    """Boxes whose pixels count from 1 as the edges of what they cover."""
    if from_zero < 0:
        return replace(raw, boxes=replace(raw.boxes, xyxy=raw.boxes.xyxy - np.array([1.0, 1.0, 0.0, 0.0]), origin=1))
    place = raw.boxes.where(from_zero)
    note = (
        f"{raw.source.name}: boxes are taken to count pixels from 0, not from 1 as VOC does, because of {place}, "
        f"which begins at {raw.boxes.show(from_zero)}."
    )
    return replace(raw, notes=(*raw.notes, note))


def _files(source: Tree, columns: Columns) -> Iterator[tuple[Tree, str]]:
    """Folder and name of each XML file of a split."""
    if source.is_file() and source.suffix.lower() == ".xml":
        yield source.parent, source.name
    elif source.is_dir():
        for folder, _, names in walk(source):
            yield from ((folder, name) for name in names if name.lower().endswith(".xml"))
    else:
        folder = source.parent.parent.parent / "Annotations"
        listed = frozenset(names_in(folder)[1])
        for number, line in enumerate(Texts().read(source).split("\n"), start=1):
            words = line.split()
            if not words:
                continue
            name = f"{words[0]}.xml"
            if name in listed:
                yield folder, name
            else:
                text = f"names {short(words[0])}, and there is no {name} in {folder}"
                columns.problem("missing-labels", source, f"line {number}", text, "put it there or take the line out")


def _roots(folder: Tree, data: Tree) -> list[Tree]:
    """Where the pictures of a folder of XML files may lie."""
    above = folder.parent
    roots = [above / "JPEGImages", above / "images", folder]
    if folder.name not in _FOLDERS and above.name in _FOLDERS:  # Annotations/train beside JPEGImages/train
        beside = above.parent
        roots = [beside / name / folder.name for name in ("JPEGImages", "images")] + [beside / "JPEGImages"] + roots
    return [*roots, above, data if data.is_dir() else data.parent]


def _read_file(reading: _Reading, folder: Tree, name: str, content: bytes | DataError, finder: PictureFinder) -> None:
    columns, file = reading.columns, folder / name
    try:
        if isinstance(content, DataError):
            raise content
        root, latin = parse_xml(content, file)
    except DataError as error:
        columns.failure("malformed", file, error)
        return
    if latin:
        reading.latin.append(name)
    if root.tag != "annotation":
        columns.problem("malformed", file, "", f"this is <{cut(root.tag)}> and not VOC's <annotation>", "take it away")
        return
    image = _read_picture(reading, root, file, finder)
    reading.files.append((folder, name))
    for number, node in enumerate(root.iterfind("object"), start=1):
        _read_object(reading, image, node, file, number)


def _read_picture(reading: _Reading, root: ET.Element, file: Tree, finder: PictureFinder) -> int:
    columns = reading.columns
    given = _text(root, "filename")
    stem = os.path.splitext(file.name)[0]
    found, wrong = None, None
    if given and leaves_folder(given):
        text = f"has the filename {short(given)}, which is not a file inside the data folder"
        wrong = ("outside-folder", text, "write the name of the picture alone")
    else:
        # some programs leave the suffix out, or the name of another picture in
        found = (finder.find(given) if given and is_image_name(given) else None) or finder.find_stem(stem)
        if found is None:
            text = f"the picture {short(given or stem)} is not found in {', '.join(map(str, finder.roots))}"
            wrong = ("missing-image", text, "put it there or take the XML away")
    image = columns.picture(given or stem, found, _size(root))
    if wrong is not None:
        kind, text, mend = wrong
        columns.problem(kind, file, "", text, mend, image=image)
    elif found is not None and reading.taken.setdefault(found, file.name) != file.name:
        text = f"is of the picture {found[1]}, of which {reading.taken[found]} is, too"
        columns.problem("twice", file, "", text, "take one of the two away", image=image)
    return image


def _size(root: ET.Element) -> tuple[int, int]:
    """As recorded; many files have zeros there, which leaves it to the picture."""
    node = root.find("size")
    sides = [to_number(_text(node, side)) for side in ("width", "height")] if node is not None else []
    if len(sides) == 2 and all(1 <= side <= _MAX_SIDE and side == int(side) for side in sides):
        return int(sides[0]), int(sides[1])
    return 0, 0


def _read_object(reading: _Reading, image: int, node: ET.Element, file: Tree, number: int) -> None:
    columns = reading.columns

    def report(kind: str, text: str, mend: str) -> None:
        columns.problem(kind, file, _object_of(file, number), text, mend, image=image)

    name, corners = _text(node, "name"), node.find("bndbox")
    words = None if corners is None else [_text(corners, side) for side in _SIDES]
    if words is None or not name or "" in words:
        report(*_missing(name, words))
        return
    difficult = _text(node, "difficult") or "0"
    if difficult not in ("0", "1", "Unspecified"):
        report("malformed", f"has the difficult {short(difficult)}", "it is 0 or 1")
    values, odd = _corners(words)
    crowd = _text(node, "crowd") == "1"  # as data that was converted to VOC has it
    flags = {"crowd": crowd, "difficult": difficult == "1" and not crowd}
    box = columns.box(image, columns.label(name), values, number, odd=odd, **flags)
    if reading.from_zero < 0 and (0 <= values[0] < 1 or 0 <= values[1] < 1):
        reading.from_zero = box


def _corners(words: list[str]) -> tuple[list[float], str]:
    """Four numbers, or four times NaN and what stands there instead."""
    values = [to_number(word) for word in words]
    if all(value == value for value in values):
        return values, ""
    return [NAN] * 4, " ".join(words)


def _text(node: ET.Element, name: str) -> str:
    """What stands in a child, empty where there is none."""
    return (node.findtext(name) or "").strip()


def _missing(name: str, words: list[str] | None) -> tuple[str, str, str]:
    """What an object lacks: kind, text and mend of the problem."""
    if not name:
        return "unknown-class", "has no name", "give it the name of its class"
    if words is None:
        return "malformed", "has no bndbox", "add it, or take the object out"
    return "malformed", f"has a bndbox without {_SIDES[words.index('')]}", "add it, or take the object out"


def find_voc(path: Tree) -> dict[str, Tree]:
    """The splits: the lists in ``ImageSets/Main``, or folders of XML files called train, val and so on, or all.

    Raises:
        DataError: there are no XML files, or several data sets.
    """
    if path.is_file():
        return {"all": path}
    folder = _descend(path)
    found = _lists(folder / "ImageSets" / "Main")
    if found:
        return found
    base = next((folder / name for name in _FOLDERS if (folder / name).is_dir()), folder)
    for place in (base, folder):
        splits = {canonical(name): place / name for name in names_in(place)[0]}
        splits = {name: inner for name, inner in splits.items() if name in ("train", "val", "test") and has_xml(inner)}
        if splits:
            return splits
    if not has_xml(base):
        raise DataError(f"{path}: there are no XML files of VOC in it; expected Annotations/ with one for each picture")
    return {"all": base}


def _descend(path: Tree) -> Tree:
    """From VOCdevkit to the only data set in it."""
    inner = [path / name for name in names_in(path)[0] if (path / name / "Annotations").is_dir()]
    if not inner or (path / "Annotations").is_dir():
        return path
    if len(inner) > 1 and not any(canonical(place.name) in ("train", "val", "test") for place in inner):
        raise DataError(f"{path}: there are several data sets, {', '.join(place.name for place in inner)}; name one")
    return inner[0] if len(inner) == 1 else path


def _lists(folder: Tree) -> dict[str, Tree]:
    """Lists of all pictures of a split; those of single classes have a second column and are left out."""
    found = {}
    for name in names_in(folder)[1]:
        if name.endswith(".txt"):
            lines = Texts().read(folder / name).split("\n", 1)
            if len(lines[0].split()) == 1:
                found[os.path.splitext(name)[0]] = folder / name
    return found


def has_xml(folder: Tree) -> bool:
    """Whether the first XML file below a folder is one of VOC."""
    for place, _, names in walk(folder):
        for name in names:
            if name.lower().endswith(".xml"):
                return root_tag(place / name) == "annotation"
    return False


def has_voc(folder: Tree) -> str:
    """What speaks for VOC in a folder: its first XML file, or those of the folder that the annotations have."""
    place = next((folder / name for name in _FOLDERS[:3] if (folder / name).is_dir()), None)
    if place is not None:
        return place.name if has_xml(place) else ""
    if any((folder / name / "Annotations").is_dir() for name in names_in(folder)[0]):
        return "Annotations"
    return "XML files" if has_xml(folder) else ""
