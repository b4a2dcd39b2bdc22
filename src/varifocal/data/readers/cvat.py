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
from varifocal.data.readers.columns import NAN, UNSIZED, ColumnBuilder, enclosing_box, rotate_box, to_number
from varifocal.data.readers.items import ELLIPSE, MASK, OUTLINE, TURNED
from varifocal.data.readers.lookup import Words
from varifocal.data.readers.xml_text import root_tag, scan_xml
from varifocal.data.splits import normalize_split
from varifocal.utils.errors import DataError
from varifocal.utils.text import cut, short, short_list

_LEFT_OUT = ("polyline", "points", "cuboid", "skeleton", "tag")
_MAX_SIDE = 2**31 - 1
_NAMES = Words("has the image", "put it there or take it out of the XML", "write its name relative to that folder")

Box = tuple[float, float, float, float]


class _Reading:
    """Follows the elements of a file; the images of other splits are passed over."""

    def __init__(self, columns: ColumnBuilder, finder: ImageFinder, file: AnyPath) -> None:
        self.columns, self.finder, self.file = columns, finder, file
        self.image = -1  # the image that the element lies in
        self.labels: list[str] = []
        self.path: list[str] = []
        self.splits: set[str] = set()

    def start(self, tag: str, attributes: dict[str, str], line: int) -> None:
        """An element begins."""
        self.path.append(tag)
        if tag == "track":
            hint = 'export as "CVAT for images 1.1"'
            raise DataError(f"{self.file}: line {line} has a track, this is an export for videos; {hint}")
        if tag == "image":
            self.image = self.begin_image(attributes, line)
        elif self.image >= 0 and self.path[-2:-1] == ["image"]:
            self.shape(tag, attributes, line)

    def end(self, tag: str, text: str) -> None:
        """An element ends."""
        if tag == "image":
            self.image = -1
        elif tag == "name" and self.path[-3:] == ["labels", "label", "name"] and text not in self.labels:
            self.labels.append(text)
        elif tag == "labels":
            self.columns.declare(self.labels)
        self.path.pop()

    def begin_image(self, attributes: Mapping[str, str], line: int) -> int:
        subset = split_of(attributes)
        self.splits.add(subset)
        columns = self.columns
        if columns.split not in (subset, "all"):
            return -1
        name = attributes.get("name", "")
        return self.find(name, attributes, line)

    def find(self, name: str, attributes: Mapping[str, str], line: int) -> int:
        columns = self.columns
        sides = [to_number(attributes.get(side, "")) for side in ("width", "height")]
        valid = all(1 <= side <= _MAX_SIDE and side == int(side) for side in sides)
        size = (int(sides[0]), int(sides[1])) if valid else (0, 0)
        location = SourceLocation(self.file, f"line {line}")
        image = columns.named(self.finder, name, location, _NAMES, size=size, record=location.text)
        if not valid and "width" in attributes:
            columns.changed[UNSIZED] += 1
        return image

    def shape(self, tag: str, attributes: Mapping[str, str], line: int) -> None:
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
        label = columns.known(name) if self.labels else columns.label(name)
        box, odd = _SHAPES[tag](columns, attributes)
        index = columns.box(self.image, label, box, line, odd=odd)
        if label < 0 or not name:
            known = short_list(self.labels) or "none"
            text = f"has the label {short(name)}, which is not among the labels of the file ({known})"
            self.report("unknown-class", line, text, "add it there or fix it", self.image, index)

    def report(self, kind: str, line: int, text: str, hint: str, image: int, box: int = -1) -> None:
        self.columns.problem(kind, self.file, f"line {line}", text, hint, image=image, box=box)


def _numbers(attributes: Mapping[str, str], keys: Sequence[str]) -> tuple[list[float], str]:
    """The numbers of some attributes, and all of them as written where any is none."""
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


def ellipse_box(x: float, y: float, rx: float, ry: float, degrees: float) -> Box:
    """The upright box around a turned ellipse: its half sides are those of the sum of two turned half axes."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    width, height = math.hypot(rx * cosine, ry * sine), math.hypot(rx * sine, ry * cosine)
    return x - width, y - height, x + width, y + height


def _mask(columns: ColumnBuilder, attributes: Mapping[str, str]) -> tuple[Sequence[float], str]:
    columns.changed[MASK] += 1
    numbers, odd = _numbers(attributes, ("left", "top", "width", "height"))
    if odd:
        return [NAN] * 4, odd
    left, top, width, height = numbers
    return (left, top, left + width, top + height), ""


_SHAPES = {"box": _box, "polygon": _polygon, "ellipse": _ellipse, "mask": _mask}


def read_cvat(source: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
    """The images of one subset of an export; "all" has those of every subset.

    Raises:
        DataError: no XML, or an export for videos.
    """
    columns = ColumnBuilder("cvat", source, split)
    base = data if data.is_dir() else source.parent
    roots = [base / "images" / split, base / "images", source.parent / "images", source.parent, base]
    reading = _Reading(columns, finder_of(roots, base, split, options), source)
    latin = scan_xml(source, reading.start, reading.end)
    for name in reading.labels:
        if not name:
            columns.problem("bad-category", source, "", "a label has no name", "give each label a name")
    columns.no_classes()
    columns.notes += TextDecoder([source.name] if latin else []).notes(source)
    return columns.finish([source])


def split_of(attributes: Mapping[str, str]) -> str:
    """The split of an image: its subset, or "all" where it has none."""
    subset = attributes.get("subset", "").strip()
    return normalize_split(subset) if subset and subset.lower() != "default" else "all"


def find_cvat(path: AnyPath) -> dict[str, AnyPath]:
    """The subsets of an export: of the images that have any, else "all".

    Raises:
        DataError: there is no such XML file, or several.
    """
    file = path if path.is_file() else cvat_file(path)
    if file is None:
        raise DataError(f"{path}: there is no annotations.xml of CVAT in it; name the folder or the file of an export")
    found: dict[str, None] = {}

    def start(tag: str, attributes: dict[str, str], _: int) -> None:
        if tag == "image":
            found[split_of(attributes)] = None

    scan_xml(file, start, lambda tag, text: None)
    return dict.fromkeys(found or ["all"], file)


def cvat_file(folder: AnyPath) -> AnyPath | None:
    """The XML file of an export in a folder.

    Raises:
        DataError: there are several.
    """
    files = [folder / name for name in list_dir(folder)[1] if name.lower().endswith(".xml")]
    usual = [file for file in files if file.name == "annotations.xml"]
    found = [file for file in usual or files[:1000] if root_tag(file) == "annotations"]
    if len(found) > 1:
        raise DataError(f"{folder}: there are several exports, {', '.join(file.name for file in found)}; name one")
    return found[0] if found else None
