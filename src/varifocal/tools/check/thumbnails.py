"""Thumbnails of findings: a JPEG as a data URI, and the boxes that ``thumbnail.html`` draws over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from varifocal.analysis.pages.render import jpeg_uri
from varifocal.data.images import read_image
from varifocal.tools.check.findings import FOUND, Finding
from varifocal.tools.check.split import Split
from varifocal.utils.errors import DataError

SIDE = 256  # pixels of the longer side
QUALITY = 72
AROUND = 1.0  # margin around a box, as a fraction of its longer side
LEAST = 48  # pixels of the image that are shown at least
MOST_BOXES = 60  # other labels of an image that are drawn

Corners = tuple[float, float, float, float]
BoxMark = tuple[str, str, Corners]  # CSS class of the line, words, box


class ThumbBox(NamedTuple):
    """A box in pixels of a thumbnail; ``kind`` is its CSS class, ``words`` are shown when the pointer is on it."""

    kind: str
    words: str
    x: float
    y: float
    width: float
    height: float


class Thumb(NamedTuple):
    """An image as a data URI with its size in pixels, its boxes, a description and its file name."""

    uri: str
    width: int
    height: int
    boxes: tuple[ThumbBox, ...]
    text: str
    caption: str


def make_thumbnails(finding: Finding, splits: Sequence[Split]) -> list[Thumb]:
    """Return the image of a finding, cropped around its boxes if it has some, and that of its partner if it has one.

    Images that do not exist or cannot be read are left out.
    """
    by_name = {split.name: split for split in splits}
    images = [(finding.split, finding.image), *([finding.other] if finding.other else [])]
    found = []
    for name, index in images if finding.image >= 0 and finding.split in by_name else []:
        split = by_name[name]
        image = _read(split, index)
        if image is not None:
            area = _around([box for _, box in finding.boxes], image.size) if finding.boxes else (0, 0, *image.size)
            marks = _marks(finding, split, index)
            found.append(_thumb(image, area, marks, finding.text, split.image_name(index)))
    return found


def _read(split: Split, index: int) -> Image.Image | None:
    file = split.image_file(index)
    try:
        return None if file is None else read_image(file, "image", large=True)
    except DataError:
        return None


def _marks(finding: Finding, split: Split, image: int) -> list[BoxMark]:
    """Return the boxes to draw: labels solid, detections and the second of two labels dashed, other labels thin.

    Other labels are drawn for suspects and for findings that have no box of their own.
    """
    own: list[BoxMark] = [
        ("b" if i == 1 or words.startswith(FOUND) else "a", words, box) for i, (words, box) in enumerate(finding.boxes)
    ]
    if own and finding.level != "suspect":
        return own
    kind = "c" if own else "a"
    others = [(kind, "", split.corners(int(box))) for box in split.boxes_of(image)[:MOST_BOXES]]
    return [*others, *own]


def _around(boxes: Sequence[Corners], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the part of an image that shows these boxes and their surroundings: xyxy pixels inside it."""
    corners = np.clip(np.array(boxes), 0, [*size, *size])
    first, last = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    half = max(float((last - first).max()) * (0.5 + AROUND), LEAST / 2)
    middle = ((first + last) / 2).tolist()
    left, right = _span(middle[0], half, size[0])
    top, bottom = _span(middle[1], half, size[1])
    return left, top, right, bottom


def _span(middle: float, half: float, length: int) -> tuple[int, int]:
    first = int(min(max(middle - half, 0), max(length - 2 * half, 0)))
    return first, min(max(int(first + 2 * half), first + 1), length)


def _thumb(
    image: Image.Image, area: tuple[int, int, int, int], marks: Sequence[BoxMark], text: str, caption: str
) -> Thumb:
    """Return a thumbnail of the area (xyxy pixels) of the image with the marks in it."""
    left, top, right, bottom = area
    factor = SIDE / max(right - left, bottom - top)
    small = (max(round((right - left) * factor), 1), max(round((bottom - top) * factor), 1))
    part = image.resize(small, Image.Resampling.BILINEAR, box=area, reducing_gap=2.0)
    boxes = tuple(ThumbBox(kind, words, *_xywh(box, (left, top), factor)) for kind, words, box in marks)
    return Thumb(jpeg_uri(part, QUALITY), *small, boxes, text, caption)


def _xywh(box: Corners, corner: tuple[int, int], factor: float) -> tuple[float, float, float, float]:
    """Return a box as x, y, width, height of the thumbnail, in order and at least 1 wide and high."""
    x1, y1, x2, y2 = ((side - corner[axis % 2]) * factor for axis, side in enumerate(box))
    return min(x1, x2), min(y1, y2), max(abs(x2 - x1), 1.0), max(abs(y2 - y1), 1.0)
