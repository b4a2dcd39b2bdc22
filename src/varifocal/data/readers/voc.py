"""Pascal VOC: an XML file for each image (http://host.robots.ox.ac.uk/pascal/VOC, development kit).

Pixels count from 1 there and the last one belongs to the box: a box from xmin to xmax covers ``xmax - xmin + 1``
pixels, which is ``[xmin - 1, xmax]`` here. Floats follow the same rule. In a split where any xmin or ymin lies between
0 and 1 the program that wrote it counts from 0, and its numbers are taken as they are; a note says so.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from varifocal.data.annotations import NO_LABEL, Files, RawDataset, SourceLocation
from varifocal.data.archive import AnyPath, is_unsafe_path
from varifocal.data.find_images import FoundImage as Found
from varifocal.data.find_images import finder_of, parts_of
from varifocal.data.listing import passed_over
from varifocal.data.options import ReadOptions
from varifocal.data.paths import ImageFinder, TextDecoder, is_image, is_image_name, list_dir, read_many, walk
from varifocal.data.readers.columns import ColumnBuilder, to_number
from varifocal.data.readers.lookup import Words, record_of
from varifocal.data.readers.voc_layout import (
    base_of,
    entry_of,
    image_roots,
    read_lists,
    top_of,
    unsplit,
    without_flag,
    xml_folders,
    xml_path,
    xml_stems,
)
from varifocal.data.readers.voc_shapes import corners_of, text_of
from varifocal.data.readers.xml_text import line_of_element, parse_xml
from varifocal.data.sibling_folders import LabelFolders, Siblings, parts_between
from varifocal.data.splits import NAMED, normalize_split
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted, cut, short

_FLAGS = {"": False, "0": False, "false": False, "unspecified": False, "1": True, "true": True}
_MAX_SIDE = 2**31 - 1
_HINTS = ("put it there or take the XML away", "write the name of the image alone")

_Entry = tuple[AnyPath, int, str, str]  # a line of a list: file, number, text, and the XML file that it names or ""


@dataclass
class _Reading:
    """What is shared by all files of a split."""

    columns: ColumnBuilder
    data: AnyPath
    options: ReadOptions
    latin: list[str] = field(default_factory=list)
    files: list[tuple[AnyPath, str] | None] = field(default_factory=list)  # folder and name of each image's XML
    from_zero: int = -1  # the first box that begins below 1
    renamed: list[tuple[str, str]] = field(default_factory=list)  # XML files that name another image, and that
    bare: list[Found] = field(default_factory=list)  # images that a list names and that have no XML
    finders: dict[AnyPath, ImageFinder] = field(default_factory=dict)
    labeled: LabelFolders | None = None  # all that have XML files, once it is asked

    def finder(self, folder: AnyPath) -> ImageFinder:
        """Finds the images of the XML files of a folder."""
        if folder not in self.finders:
            roots, top = image_roots(folder, self.data), top_of(folder, self.data)
            split, options = self.columns.split, self.options
            self.finders[folder] = finder_of(roots, top, split, options, lambda: self._siblings(folder))
        return self.finders[folder]

    def _siblings(self, folder: AnyPath) -> Siblings:
        if self.labeled is None:
            self.labeled = LabelFolders(self.data, xml_folders(self.data))
        return Siblings(parts_between(self.data, folder), self.labeled) if self.data.is_dir() else Siblings()


def read_voc(source: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
    """One split; ``source`` is a list in ``ImageSets/Main``, a folder of XML files, or a single one.

    Raises:
        DataError: a folder cannot be read. Whatever is wrong with a file is a problem of the set.
    """
    columns = ColumnBuilder("voc", source, split)
    reading = _Reading(columns, data, options)
    locations = list(_files(source, reading))
    files = (folder / name for folder, name in locations)
    for (folder, name), (_, content) in zip(locations, read_many(files), strict=True):
        _read_file(reading, folder, name, content)
    columns.find_lost()
    _take_unlabeled(reading)
    if not columns.names and not columns.problems:
        columns.problem("missing-image", source, "", "there are no XML files in it", "put one there for each image")
    columns.no_classes()
    columns.notes += [*TextDecoder(reading.latin).notes(source), *_renamed(reading), *unsplit(source)]
    raw = columns.finish(Files.of(reading.files), _object_of)
    return _shifted(raw, reading.from_zero)


def _renamed(reading: _Reading) -> list[str]:
    """A note on XML files whose image was found by their own name."""
    if not reading.renamed:
        return []
    files = counted(len(reading.renamed), "XML (file names an image that is|files name images that are)")
    name, given = reading.renamed[0]
    first = f"first {name} with {short(given)}"
    return [f"{reading.columns.source.name}: {files} not there, {first}; the one called like the XML is taken."]


def _take_unlabeled(reading: _Reading) -> None:
    """Images without XML: without objects where the user says so, else counted, as VOC does not say what they are."""
    columns = reading.columns
    left = [*reading.bare, *_without_xml(reading)]
    if not left:
        return
    if reading.options.unlabeled == "background":
        for folder, name in left:
            columns.image(name, (folder, name))
            reading.files.append(None)
        return
    images = counted(len(left), "(image has no XML and is|images have no XML and are) left out")
    columns.notes.append(
        f"{columns.source.name}: {images}, first {left[0][1]}; "
        "--unlabeled background takes them as images without objects."
    )


def _without_xml(reading: _Reading) -> Iterator[Found]:
    """Images without XML in the folders of the split's images; a list says by itself what belongs to the split."""
    columns, source = reading.columns, reading.columns.source
    if not source.is_dir():
        return
    used: dict[AnyPath, set[str]] = {}
    for folder, name in columns.locations():
        used.setdefault(folder, set()).add(name)
    split = normalize_split(columns.split)
    stems: dict[str, str] | None = None
    for folder, names in used.items():
        beside = [name for name in list_dir(folder)[1] if name not in names]
        left = [name for name in beside if is_image(name)]
        # where splits are in one folder, what no XML of any of them names is counted once, with those to train on
        shared = split in NAMED and folder != source and not _is_of(split, folder, reading.data)
        if shared and split != "train":
            continue
        columns.notes += passed_over(beside, source.name)
        if not left:
            continue
        if shared and stems is None:
            stems = xml_stems(source.parent)
        yield from ((folder, name) for name in left if not shared or os.path.splitext(name)[0] not in (stems or {}))


def _is_of(split: str, folder: AnyPath, data: AnyPath) -> bool:
    """Whether a folder or one above it in the data is called like the split."""
    while folder not in (data, folder.parent):
        if normalize_split(folder.name) == split:
            return True
        folder = folder.parent
    return False


def _object_of(file: AnyPath, number: int) -> str:
    """Return the location of an object; its line is searched for only when somebody asks."""
    line = line_of_element(file, "object", number)
    return f"line {line} (object {number})" if line else f"object {number}"


def _shifted(raw: RawDataset, from_zero: int) -> RawDataset:
    """Boxes whose pixels count from 1 as the edges of what they cover."""
    if from_zero < 0:
        return replace(raw, boxes=replace(raw.boxes, xyxy=raw.boxes.xyxy - np.array([1.0, 1.0, 0.0, 0.0]), origin=1))
    location = raw.boxes.where(from_zero)
    note = (
        f"{raw.source.name}: boxes are taken to count pixels from 0, not from 1 as VOC does, because of {location}, "
        f"which begins at {raw.boxes.show(from_zero)}."
    )
    return replace(raw, notes=(*raw.notes, note))


def _files(source: AnyPath, reading: _Reading) -> Iterator[tuple[AnyPath, str]]:
    """Folder and name of each XML file of a split."""
    if source.is_file() and source.suffix.lower() == ".xml":
        yield source.parent, source.name
    elif source.is_dir():
        for folder, _, names in walk(source):
            yield from ((folder, name) for name in names if name.lower().endswith(".xml"))
    else:
        yield from _listed(source, reading)


def _listed(source: AnyPath, reading: _Reading) -> Iterator[tuple[AnyPath, str]]:
    """The XML files that a list names; of a line without one the image, if it is there."""
    columns, base = reading.columns, base_of(source)
    folder = xml_path(base)
    stems = xml_stems(folder)
    lists = read_lists(source.parent, base)
    columns.notes += lists.notes()
    files = next((files for files in lists.files.values() if source in files), [source])
    entries = ((file, number, line, entry_of(line, stems)) for file, number, line in _lines(files))
    for file, number, line, name in _once(entries) if len(files) > 1 else entries:
        if name:
            path, _, name = name.rpartition("/")
            yield folder / path if path else folder, name
            continue
        stem, flagless = _stem_of(line), _stem_of(without_flag(line))
        found = (reading.finder(folder).find_stem(one) for one in (stem, flagless) if one not in stems)
        if image := next(filter(None, found), None):
            reading.bare.append(image)
            continue
        there, hint = f"there is no {cut(stem)}.xml in {folder}", "put it there or take the line out"
        if stem in stems:
            there, hint = (
                f"several folders of {folder} have a {cut(stem)}.xml",
                "write the folder of the one that is meant",
            )
        text = f"names {short(line)}, and {there}"
        columns.problem("missing-labels", file, f"line {number}", text, hint)


def _stem_of(line: str) -> str:
    """The stem of the image that a line of a list names."""
    name = (parts_of(line) or (line,))[-1]
    return os.path.splitext(name)[0] if is_image(name) else name


def _lines(files: Sequence[AnyPath]) -> Iterator[tuple[AnyPath, int, str]]:
    """File, number and text of each line of lists that is not empty."""
    for file in files:
        for number, line in enumerate(TextDecoder().read(file).split("\n"), start=1):
            if line := line.strip():
                yield file, number, line


def _once(entries: Iterable[_Entry]) -> Iterator[_Entry]:
    """Lines without those that name what an earlier one does, as the lists of several classes do."""
    seen: set[str] = set()
    for entry in entries:
        called = entry[3] or without_flag(entry[2])
        if called not in seen:
            seen.add(called)
            yield entry


def _read_file(reading: _Reading, folder: AnyPath, name: str, content: bytes | DataError) -> None:
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
    image = _read_image(reading, root, file, reading.finder(folder))
    reading.files.append((folder, name))
    for number, node in enumerate(root.iterfind("object"), start=1):
        _read_object(reading, image, node, file, number)


def _read_image(reading: _Reading, root: ET.Element, file: AnyPath, finder: ImageFinder) -> int:
    """Add the image of an XML file: the one that it names, or the one that is called like the XML.

    Some programs leave the suffix out, or the name of another image in.
    """
    columns, given = reading.columns, text_of(root, "filename")
    stem = os.path.splitext(file.name)[0]
    found = finder.find(given) if given and is_image_name(given) and not is_unsafe_path(given) else None
    if found is None and len(parts_of(given)) <= 1 and not is_unsafe_path(given or stem):
        found = finder.find_stem(stem)
        if found is not None:
            _note_renamed(reading, file, given, stem)
            _doubt_twins(columns, finder, found, file)
    words = Words("has the filename" if given else "is of the image", *_HINTS)
    return columns.named(
        finder,
        given or stem,
        SourceLocation(file, ""),
        words,
        size=_size(root),
        found=found,
        also=(stem,),
        record=record_of(file, columns.source),
    )


def _note_renamed(reading: _Reading, file: AnyPath, given: str, stem: str) -> None:
    if given and given not in (stem, file.name) and os.path.splitext(given)[0] != stem:
        reading.renamed.append((file.name, given))


def _doubt_twins(columns: ColumnBuilder, finder: ImageFinder, found: Found, file: AnyPath) -> None:
    """An XML file that names none of two images may be of either."""
    twins = finder.same_stem(*found)
    if twins:
        columns.shared_labels(file, found[1], twins[0], len(columns.names))


def _size(root: ET.Element) -> tuple[int, int]:
    """As recorded; many files have zeros there, which leaves it to the image."""
    node = root.find("size")
    sides = [to_number(text_of(node, side)) for side in ("width", "height")] if node is not None else []
    if len(sides) == 2 and all(1 <= side <= _MAX_SIDE and side == int(side) for side in sides):
        return int(sides[0]), int(sides[1])
    return 0, 0


def _read_object(reading: _Reading, image: int, node: ET.Element, file: AnyPath, number: int) -> None:
    columns = reading.columns

    def report(kind: str, text: str, hint: str) -> None:
        columns.problem(kind, file, _object_of(file, number), text, hint, image=image)

    name, difficult = text_of(node, "name"), text_of(node, "difficult")
    if difficult.lower() not in _FLAGS:
        report("malformed", f"has the difficult {short(difficult)}", "it is 0 or 1")
    values, odd, note = corners_of(node)
    if note:
        columns.changed[note] += 1
    crowd = text_of(node, "crowd") == "1"  # as data that was converted to VOC has it
    flags = {"crowd": crowd, "difficult": _FLAGS.get(difficult.lower(), False) and not crowd}
    label = columns.label(name) if name else NO_LABEL
    box = columns.box(image, label, values, number, odd=odd, **flags)
    if reading.from_zero < 0 and any(0 <= min(pair) < 1 for pair in (values[::2], values[1::2])):
        reading.from_zero = box
