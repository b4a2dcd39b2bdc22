"""Pascal VOC: an XML file for each image (http://host.robots.ox.ac.uk/pascal/VOC, development kit).

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

from varifocal.data.annotations import NO_LABEL, Files, RawDataset, SourceLocation
from varifocal.data.archive import AnyPath, is_unsafe_path
from varifocal.data.find_images import FoundImage, finder_of, parts_of
from varifocal.data.listing import passed_over
from varifocal.data.options import ReadOptions
from varifocal.data.paths import ImageFinder, TextDecoder, is_image, is_image_name, list_dir, read_many, walk
from varifocal.data.readers.columns import ColumnBuilder
from varifocal.data.readers.image_sets import ImageSets
from varifocal.data.readers.items import add_unlabeled
from varifocal.data.readers.lookup import Words, record_of
from varifocal.data.readers.values import whole_size
from varifocal.data.readers.voc_layout import (
    base_of,
    image_roots,
    lists_of,
    top_of,
    unused_notes,
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
_HINTS = ("add it, or remove the XML file", "write the name of the image alone")


@dataclass
class _Reading:
    """The state that all files of a split have in common."""

    columns: ColumnBuilder
    data: AnyPath
    options: ReadOptions
    latin: list[str] = field(default_factory=list)
    files: list[tuple[AnyPath, str] | None] = field(default_factory=list)  # folder and name of each image's XML
    from_zero: int = -1  # the first box that begins below 1
    renamed: list[tuple[str, str]] = field(default_factory=list)  # XML files that name another image, and that
    bare: list[FoundImage] = field(default_factory=list)  # images that a list names and that have no XML
    finders: dict[AnyPath, ImageFinder] = field(default_factory=dict)
    labeled: LabelFolders | None = None  # all folders with XML files, once they are needed

    def finder(self, folder: AnyPath) -> ImageFinder:
        """Return the finder for the images of the XML files in a folder."""
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
    """Read one split; ``source`` is a list in ``ImageSets/Main``, a folder of XML files, or a single one.

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
    add_unlabeled(columns, [*reading.bare, *_without_xml(reading)], "XML", options, reading.files)
    if not columns.names and not columns.problems:
        columns.report("missing-image", source, "", "there are no XML files in it", "put one there for each image")
    columns.report_no_classes()
    columns.notes += [*TextDecoder(reading.latin).notes(source), *_renamed(reading), *unused_notes(source)]
    raw = columns.finish(Files.of(reading.files), _object_of)
    return _shifted(raw, reading.from_zero)


def _renamed(reading: _Reading) -> list[str]:
    """Return a note on XML files whose image was found by their own name."""
    if not reading.renamed:
        return []
    files = counted(len(reading.renamed), "XML (file names an image that is|files name images that are)")
    name, filename = reading.renamed[0]
    first = f"first {name} with {short(filename)}"
    return [f"{reading.columns.source.name}: {files} not there, {first}; the one called like the XML is taken."]


def _without_xml(reading: _Reading) -> Iterator[FoundImage]:
    """Yield images without XML in the folders of the split's images; a list says by itself what its split has."""
    columns, source = reading.columns, reading.columns.source
    if not source.is_dir():
        return
    split = normalize_split(columns.split)
    for folder, names in columns.names_by_folder().items():
        # where splits are in one folder, what no XML of any of them names is counted once, with those to train on
        common = folder != source and _is_common(split, folder, reading.data)
        if common and split != "train":
            continue
        beside = [name for name in list_dir(folder)[1] if name not in names]
        columns.notes += passed_over(beside, source.name)
        left = list(filter(is_image, beside))
        labeled = xml_stems(source.parent) if common and left else {}
        yield from ((folder, name) for name in left if os.path.splitext(name)[0] not in labeled)


def _is_common(split: str, folder: AnyPath, data: AnyPath) -> bool:
    """Return whether images of other splits may lie in a folder: neither it nor one above is called like the split."""
    if split not in NAMED:
        return False
    while folder not in (data, folder.parent):
        if normalize_split(folder.name) == split:
            return False
        folder = folder.parent
    return True


def _object_of(file: AnyPath, number: int) -> str:
    """Return the location of an object; its line is searched for only when somebody asks."""
    line = line_of_element(file, "object", number)
    return f"line {line} (object {number})" if line else f"object {number}"


def _shifted(raw: RawDataset, from_zero: int) -> RawDataset:
    """Return the set with boxes as the edges of what they cover; ``from_zero`` is -1 where pixels count from 1."""
    if from_zero < 0:
        return replace(raw, boxes=replace(raw.boxes, xyxy=raw.boxes.xyxy - np.array([1.0, 1.0, 0.0, 0.0]), origin=1))
    location = raw.boxes.where(from_zero)
    note = (
        f"{raw.source.name}: boxes are taken to count pixels from 0, not from 1 as VOC does, because of {location}, "
        f"which begins at {raw.boxes.show(from_zero)}."
    )
    return replace(raw, notes=(*raw.notes, note))


def _files(source: AnyPath, reading: _Reading) -> Iterator[tuple[AnyPath, str]]:
    """Yield folder and name of each XML file of a split."""
    if source.is_file() and source.suffix.lower() == ".xml":
        yield source.parent, source.name
    elif source.is_dir():
        for folder, _, names in walk(source):
            yield from ((folder, name) for name in names if name.lower().endswith(".xml"))
    else:
        yield from _listed(source, reading)


def _listed(source: AnyPath, reading: _Reading) -> Iterator[tuple[AnyPath, str]]:
    """Yield the XML files that the lists of a split name; images without one are noted in ``bare``."""
    base = base_of(source)
    folder = xml_path(base)
    lists = lists_of(base) or ImageSets(source.parent, xml_stems(folder), "XML")
    reading.columns.notes += lists.notes()
    paths, reading.bare = lists.read(source, reading.columns, reading.finder(folder), f"in {folder}")
    for path in paths:
        above, _, name = path.rpartition("/")
        yield folder / above if above else folder, name


def _read_file(reading: _Reading, folder: AnyPath, name: str, content: bytes | DataError) -> None:
    columns, file = reading.columns, folder / name
    try:
        if isinstance(content, DataError):
            raise content
        root, latin = parse_xml(content, file)
    except DataError as error:
        columns.report_error("malformed", file, error)
        return
    if latin:
        reading.latin.append(name)
    if root.tag != "annotation":
        columns.report("malformed", file, "", f"this is <{cut(root.tag)}> and not VOC's <annotation>", "remove it")
        return
    image = _read_image(reading, root, file, reading.finder(folder))
    reading.files.append((folder, name))
    for number, node in enumerate(root.iterfind("object"), start=1):
        if text_of(node, "deleted") == "1":  # of the first LabelMe, as CVAT exports it, too
            columns.changed["(object|objects) marked as deleted (was|were) left out"] += 1
        else:
            _read_object(reading, image, node, file, number)


def _read_image(reading: _Reading, root: ET.Element, file: AnyPath, finder: ImageFinder) -> int:
    """Add the image of an XML file, the one that it names or the one called like the XML, and return its index.

    Some programs leave the suffix out, or the name of another image in.
    """
    columns, filename = reading.columns, text_of(root, "filename")
    stem = os.path.splitext(file.name)[0]
    name = filename or stem
    is_safe = not is_unsafe_path(name)
    found = finder.find(filename) if is_safe and is_image_name(filename) else None
    if found is None and is_safe and len(parts_of(filename)) <= 1:
        found = finder.find_stem(stem)
        if found is not None:
            _note_renamed(reading, file, filename, stem)
            _doubt_twins(columns, finder, found, file)
    words = Words("has the filename" if filename else "is of the image", *_HINTS)
    location, record, size = SourceLocation(file, ""), record_of(file, columns.source), _size(root)
    return columns.add_named_image(finder, name, location, words, size=size, found=found, also=(stem,), record=record)


def _note_renamed(reading: _Reading, file: AnyPath, filename: str, stem: str) -> None:
    if filename and filename not in (stem, file.name) and os.path.splitext(filename)[0] != stem:
        reading.renamed.append((file.name, filename))


def _doubt_twins(columns: ColumnBuilder, finder: ImageFinder, found: FoundImage, file: AnyPath) -> None:
    """Doubt the labels of an XML file that may be of either of two images, as it names none."""
    twins = finder.same_stem(*found)
    if twins:
        columns.doubt_shared_labels(file, found[1], twins[0], len(columns.names))


def _size(root: ET.Element) -> tuple[int, int]:
    """Return width and height as recorded; 0, 0 where the image has to be asked, as many files have zeros there."""
    node = root.find("size")
    return (0, 0) if node is None else whole_size(text_of(node, "width"), text_of(node, "height"))


def _read_object(reading: _Reading, image: int, node: ET.Element, file: AnyPath, number: int) -> None:
    columns = reading.columns

    def report(kind: str, text: str, hint: str) -> None:
        columns.report(kind, file, _object_of(file, number), text, hint, image=image)

    name, difficult = text_of(node, "name"), text_of(node, "difficult")
    if difficult.lower() not in _FLAGS:
        report("malformed", f"has the difficult {short(difficult)}", "it must be 0 or 1")
    values, odd, note = corners_of(node)
    if note:
        columns.changed[note] += 1
    crowd = text_of(node, "crowd") == "1"  # as data that was converted to VOC has it
    flags = {"crowd": crowd, "difficult": _FLAGS.get(difficult.lower(), False) and not crowd}
    label = columns.add_label(name) if name else NO_LABEL
    box = columns.add_box(image, label, values, number, odd=odd, **flags)
    if reading.from_zero < 0 and any(0 <= min(pair) < 1 for pair in (values[::2], values[1::2])):
        reading.from_zero = box
