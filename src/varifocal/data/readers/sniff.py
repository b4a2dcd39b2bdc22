"""The format of a JSON, CSV or text file, recognized from its beginning and its end.

These are the formats that are read and some that are not (``unread``), so that a message can name them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from varifocal.data.archive import AnyPath
from varifocal.data.paths import decode
from varifocal.data.readers.values import to_number
from varifocal.utils.errors import DataError

_READ_BYTES = 1 << 16
_READ_LINES = 20
_KEY = re.compile(r'"([^"\\\n]{1,64})"\s*:')


class _Rule(NamedTuple):
    """The rule by which a JSON file is of ``kind``.

    It begins with ``opening`` (with either bracket where that is empty) and has, at whatever depth, all keys of
    ``every`` and, if there are any, one of ``some``.
    """

    kind: str
    opening: str
    every: frozenset[str]
    some: frozenset[str] = frozenset()


def _rule(kind: str, opening: str, every: str, some: str = "") -> _Rule:
    return _Rule(kind, opening, frozenset(every.split()), frozenset(some.split()))


# The first rule that fits counts.
_RULES = (
    _rule("coco-panoptic", "{", "segments_info"),
    _rule("labelbox", "", "data_row"),
    _rule("openlabel", "{", "openlabel"),
    _rule("unity", "{", "captures annotations"),
    _rule("label-studio", "[", "data", "annotations completions predictions"),
    _rule("label-studio", "[", "", "annotation_id rectanglelabels polygonlabels original_width"),
    _rule("label-studio-task", "{", "data result", "annotations task completed_by"),
    _rule("fiftyone", "{", "labels bounding_box classes"),
    _rule("fiftyone", "{", "samples filepath"),
    _rule("labelme", "{", "shapes", "imagePath imageHeight shape_type"),
    _rule("via", "{", "", "_via_img_metadata shape_attributes region_attributes"),
    _rule("via", "{", "filename regions size"),
    _rule("via-3", "{", "project view metadata attribute"),
    _rule("createml", "[", "", "imagefilename coordinates imageURL"),
    _rule("createml", "[", "image annotations"),
    _rule("bdd100k-image", "{", "frames objects"),
    _rule("bdd100k", "{", "frames labels"),
    _rule("bdd100k", "[", "", "box2d poly2d"),
    _rule("bdd100k", "[", "name labels"),
    _rule("supervisely", "{", "objects size", "classTitle tags description"),
    _rule("cityscapes", "{", "imgHeight imgWidth objects"),
    _rule("darwin", "", "annotations", "bounding_box slots"),
    _rule("scale", "", "response", "params task_id callback_url"),
    _rule("datumaro", "{", "items categories"),
    _rule("mmdet3", "{", "metainfo data_list"),
    _rule("odvg", "{", "filename detection instances"),
    _rule("vott", "{", "asset regions"),
    _rule("superannotate", "{", "instances metadata"),
    _rule("sagemaker", "{", "source-ref"),
    _rule("cloud-annotations", "{", "annotations labels type version"),
    _rule("captions", "{", "prefix suffix image"),
)


# Names in the first line of a CSV.
_HEADERS = {
    "via": ("filename", "region_shape_attributes"),
    "label-studio": ("annotation_id", "annotator"),
    "prediction-string": ("PredictionString",),
}


def ends_of(file: AnyPath) -> bytes:
    """Return the first and the last bytes of a file, all of a short one; nothing of one that cannot be read."""
    try:
        with file.open("rb") as stream:
            start = stream.read(_READ_BYTES)
            if len(start) < _READ_BYTES:
                return start
            stream.seek(max(stream.seek(0, 2) - _READ_BYTES, _READ_BYTES))
            return start + b"\n" + stream.read()
    except (OSError, ValueError):
        return b""


def json_kind(file: AnyPath) -> str:
    """Return the format that the keys of a JSON file show, "" for none."""
    text = ends_of(file).decode("utf-8-sig", "ignore").replace("\x00", "").lstrip()
    keys = frozenset(_KEY.findall(text))
    for rule in _RULES:
        if text[:1] in (rule.opening or "[{") and rule.every <= keys and (not rule.some or rule.some & keys):
            return rule.kind
    return ""


def table_kind(file: AnyPath) -> str:
    """Return the format that the header of a CSV file shows; "" for none, and for a table of boxes."""
    line = ends_of(file)[: 1 << 12].decode("utf-8-sig", "ignore").split("\n")[0]
    for kind, columns in _HEADERS.items():
        if all(column in line for column in columns):
            return kind
    return "automl" if re.match(r"(TRAIN|VALIDATION|TEST|UNASSIGNED|TRAINING),", line) else ""


def text_kind(file: AnyPath) -> str:
    """Return the format that the first lines of a text file show, "" for none."""
    try:
        text, _ = decode(ends_of(file)[:_READ_BYTES], file)
    except DataError:
        return ""
    lines = [line.strip() for line in text.split("\n")[:_READ_LINES] if line.strip()]
    if not lines:
        return ""
    if lines[0].startswith(("imagesource:", "gsd:")):
        return "dota"
    kinds = {_line_kind(line) for line in lines} - {""}
    if "icdar" in kinds:  # some of its texts are numbers
        return "icdar"
    return kinds.pop() if len(kinds) == 1 else ""


def _line_kind(line: str) -> str:
    """Return the format that a line of a text file shows, "" for none."""
    cells = line.rstrip(",").split(",")
    if len(cells) >= 8 and all(map(_is_number, cells[:8])):
        return _kind_of_cells(cells)
    kind = _kind_of_words("".join("9" if _is_number(word) else "a" for word in line.split()))
    if not kind and re.search(r"\s-?[\d.]+(,-?[\d.]+){3},\d+$", line):
        return "yolo-keras"
    return kind


def _kind_of_cells(cells: list[str]) -> str:
    """Return the format of a line that begins with eight numbers, with commas between."""
    if not all(map(_is_number, cells)):
        return "icdar"
    return "visdrone" if len(cells) == 8 and _is_visdrone(cells) else "mot"


# Lines with one letter for each word, "9" for a number and "a" for anything else; the first pattern that fits counts.
_WORDS = {
    "dota": r"9{8}a.*",
    "kitti": r"a+9{14,15}",
    "kitti-tracking": r"99a9{14,15}",
    "class-and-box": r"a.*9{4}",
}


def _kind_of_words(letters: str) -> str:
    return next((kind for kind, pattern in _WORDS.items() if re.fullmatch(pattern, letters)), "")


def _is_visdrone(cells: list[str]) -> bool:
    *_, score, category, truncation, occlusion = map(to_number, cells)
    return score in (0, 1) and 0 <= category <= 11 and truncation in (0, 1) and occlusion in (0, 1, 2)


def _is_number(word: str) -> bool:
    value = to_number(word)
    return value == value
