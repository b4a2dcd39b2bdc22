"""CVAT XML 1.1 for images (https://docs.cvat.ai, "Formats"): one file for all images.

Boxes may be turned about their middle, clockwise in degrees; polygons, ellipses and masks are reduced, as turned boxes
are, to the upright boxes around them. Shapes without an area (points, lines, skeletons, tags) are left out and counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from varifocal.data.annotations import RawDataset, SourceLocation
from varifocal.data.archive import AnyPath
from varifocal.data.find_images import finder_of
from varifocal.data.options import ReadOptions
from varifocal.data.paths import ImageFinder, TextDecoder, list_dir
from varifocal.data.readers.columns import UNSIZED, ColumnBuilder
from varifocal.data.readers.items import ELLIPSE, MASK, OUTLINE, TURNED
from varifocal.data.readers.lookup import Words
from varifocal.data.readers.record_files import exports_by_split, files_of_exports
from varifocal.data.readers.shapes import ellipse_box, enclosing_box, rotate_box
from varifocal.data.readers.values import NAN, to_number, whole_size
from varifocal.data.readers.xml_text import root_tag, scan_xml
from varifocal.data.splits import normalize_split
from varifocal.utils.errors import DataError
from varifocal.utils.text import cut, short, short_list

_LEFT_OUT = ("polyline", "points", "cuboid", "skeleton", "tag")
_NAMES = Words("has the image", "add it, or remove it from the XML", "write its name relative to that folder")


class _Reading:
    """A handler of the elements of a file, which skips the images of other subsets than one, or none for "all"."""

    def __init__(self, columns: ColumnBuilder, finder: ImageFinder, file: AnyPath, subset: str) -> None:
        self.columns, self.finder, self.file, self.subset = columns, finder, file, subset
        self.image = -1  # the image that the element lies in
        self.labels: list[str] = []
        self.path: list[str] = []

    def start(self, tag: str, attributes: dict[str, str], line: int) -> None:
        """Handle the begin of an element."""
        self.path.append(tag)
        if tag == "track":
            text = f'line {line} has a track, this is an export for videos; export as "CVAT for images 1.1"'
            raise DataError(f"{self.file}: {text}", code="cvat-track")
        if tag == "image":
            self.image = self.add_image(attributes, line)
        elif self.image >= 0 and self.path[-2:-1] == ["image"]:
            self.add_shape(tag, attributes, line)

    def end(self, tag: str, text: str) -> None:
        """Handle the end of an element."""
        if tag == "image":
            self.image = -1
        elif tag == "name" and self.path[-3:] == ["labels", "label", "name"] and text not in ("", *self.labels):
            self.labels.append(text)
        elif tag == "labels":
            self.columns.declare_classes(self.labels)
        self.path.pop()

    def add_image(self, attributes: Mapping[str, str], line: int) -> int:
        """Add an image and return its index, -1 for one of another split."""
        columns = self.columns
        if self.subset not in (split_of(attributes), "all"):
            return -1
        size = whole_size(attributes.get("width", ""), attributes.get("height", ""))
        name, location = attributes.get("name", ""), SourceLocation(self.file, f"line {line}")
        image = columns.add_named_image(self.finder, name, location, _NAMES, size=size, record=location.text)
        if size == (0, 0) and "width" in attributes:
            columns.changed[UNSIZED] += 1
        return image

    def add_shape(self, tag: str, attributes: Mapping[str, str], line: int) -> None:
        """Add the box of a shape to the current image."""
        columns = self.columns
        if tag in _LEFT_OUT:
            columns.changed[f"(shape|shapes) without an area ({tag}) (was|were) left out"] += 1
            return
        if tag not in _SHAPES:
            self.report("malformed", line, f"has a shape <{cut(tag)}>, which is not known", "take it out", self.image)
            return
        if attributes.get("outside") == "1":
            columns.changed["(box|boxes) marked as outside (was|were) left out"] += 1
            return
        name = attributes.get("label", "")
        label = columns.known_label(name) if self.labels else columns.add_label(name)
        box, odd = _SHAPES[tag](columns, attributes)
        index = columns.add_box(self.image, label, box, line, odd=odd)
        if label < 0 or not name:
            known = short_list(self.labels) or "none"
            text = f"has the label {short(name)}, which is not among the labels of the file ({known})"
            self.report("unknown-class", line, text, "add it there or fix it", self.image, index)

    def report(self, kind: str, line: int, text: str, hint: str, image: int, box: int = -1) -> None:
        self.columns.report(kind, self.file, f"line {line}", text, hint, image=image, box=box)


def _numbers(attributes: Mapping[str, str], keys: Sequence[str]) -> tuple[list[float], str]:
    """Return some attributes as numbers, and "" or, where one is no finite number, all of them as written."""
    words = [attributes.get(key, "nothing") for key in keys]
    numbers = [to_number(word) for word in words]
    return numbers, "" if all(map(math.isfinite, numbers)) else " ".join(words)


def _box(columns: ColumnBuilder, attributes: Mapping[str, str]) -> tuple[Sequence[float], str]:
    numbers, odd = _numbers({"rotation": "0", **attributes}, ("xtl", "ytl", "xbr", "ybr", "rotation"))
    if odd:
        return [NAN] * 4, odd
    x1, y1, x2, y2, degrees = numbers
    if not degrees:
        return (x1, y1, x2, y2), ""
    columns.changed[TURNED] += 1
    return rotate_box((x1, y1, x2, y2), degrees, ((x1 + x2) / 2, (y1 + y2) / 2)), ""


def _polygon(columns: ColumnBuilder, attributes: Mapping[str, str]) -> tuple[Sequence[float], str]:
    columns.changed[OUTLINE] += 1
    words = attributes.get("points", "nothing")
    points = [tuple(map(to_number, pair.split(","))) for pair in words.split(";")]
    if not all(len(pair) == 2 and all(map(math.isfinite, pair)) for pair in points):
        return [NAN] * 4, short(words)
    return enclosing_box([(x, y) for x, y in points]), ""


def _ellipse(columns: ColumnBuilder, attributes: Mapping[str, str]) -> tuple[Sequence[float], str]:
    columns.changed[ELLIPSE] += 1
    numbers, odd = _numbers({"rotation": "0", **attributes}, ("cx", "cy", "rx", "ry", "rotation"))
    return ([NAN] * 4, odd) if odd else (ellipse_box(*numbers), "")


def _mask(columns: ColumnBuilder, attributes: Mapping[str, str]) -> tuple[Sequence[float], str]:
    columns.changed[MASK] += 1
    numbers, odd = _numbers(attributes, ("left", "top", "width", "height"))
    if odd:
        return [NAN] * 4, odd
    left, top, width, height = numbers
    return (left, top, left + width, top + height), ""


_SHAPES = {"box": _box, "polygon": _polygon, "ellipse": _ellipse, "mask": _mask}


def read_cvat(source: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
    """Read the images of one subset of an export, or all where it is "all", or where the split is a file of its own.

    Raises:
        DataError: no XML, or an export for videos.
    """
    columns = ColumnBuilder("cvat", source, split)
    base = data if data.is_dir() else source.parent
    roots = [base / "images" / split, base / "images", source.parent / "images", source.parent, base]
    subset = "all" if data.is_dir() and len(cvat_files(data)) > 1 else split
    reading = _Reading(columns, finder_of(roots, base, split, options), source, subset)
    latin = scan_xml(source, reading.start, reading.end)
    columns.report_no_classes()
    columns.notes += TextDecoder([source.name] if latin else []).notes(source)
    return columns.finish([source])


def split_of(attributes: Mapping[str, str]) -> str:
    """Return the split of an image: its subset, or "all" where it has none."""
    subset = attributes.get("subset", "").strip()
    return normalize_split(subset) if subset and subset.lower() != "default" else "all"


def find_cvat(path: AnyPath) -> dict[str, AnyPath]:
    """Return the subsets of an export, "all" where its images have none; or several exports, one for each split.

    Raises:
        DataError: there is no such XML file, or there are several whose names or folders do not say their splits.
    """
    files = [path] if path.is_file() else cvat_files(path)
    if not files:
        text = "there is no annotations.xml of CVAT in it; name the folder or the file of an export"
        raise DataError(f"{path}: {text}", code="cvat-no-export")
    if len(files) > 1:
        return _by_split(path, files)
    found: dict[str, None] = {}

    def start(tag: str, attributes: dict[str, str], _: int) -> None:
        if tag == "image":
            found[split_of(attributes)] = None

    scan_xml(files[0], start, lambda tag, text: None)
    return dict.fromkeys(found or ["all"], files[0])


def _by_split(folder: AnyPath, files: list[AnyPath]) -> dict[str, AnyPath]:
    """Return several exports by their splits.

    Raises:
        DataError: their names or folders do not say their splits.
    """
    found = exports_by_split(folder, files)
    if not found:
        text = f"there are several exports, {', '.join(file.name for file in files)}; name one"
        hint = "or give each file or its folder the name of a split (train, val, test)"
        raise DataError(f"{folder}: {text}, {hint}", code="cvat-several-exports")
    return found


def cvat_files(folder: AnyPath) -> list[AnyPath]:
    """Return the XML files of exports in a folder, or else in the folders in it that are called like splits."""
    return files_of_exports(folder, _exports_in)


def _exports_in(folder: AnyPath) -> list[AnyPath]:
    files = [folder / name for name in list_dir(folder)[1] if name.lower().endswith(".xml")]
    usual = [file for file in files if file.name == "annotations.xml"]
    return [file for file in usual or files[:1000] if root_tag(file) == "annotations"]
