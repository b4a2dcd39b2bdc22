"""Small images of findings: a JPEG as a data URI, and the boxes that ``thumbnail.html`` draws over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from varifocal.analysis.pages.jpeg import jpeg_uri
from varifocal.data.images import read_image
from varifocal.tools.check.findings import FOUND, Finding
from varifocal.tools.check.split import Split
from varifocal.utils.errors import DataError

SIDE = 256  # pixels of the longer side
QUALITY = 72
AROUND = 1.0  # of a box's longer side that is shown on each side of it
LEAST = 48  # pixels of the image that are shown at least
MOST_BOXES = 60  # of an image that are drawn where no one box is meant

Corners = tuple[float, float, float, float]
BoxMark = tuple[str, str, Corners]  # class of the line in the style, word, box


class ThumbBox(NamedTuple):
    """A box of a thumbnail, in its pixels; ``kind`` is the class of the line in the style, ``word`` is shown when it is
    pointed at."""

    kind: str
    word: str
    x: float
    y: float
    width: float
    height: float


class Thumb(NamedTuple):
    """An image as a data URI with its size in pixels, its boxes, what it shows in words, and the name of its file."""

    uri: str
    width: int
    height: int
    boxes: tuple[ThumbBox, ...]
    text: str
    caption: str


def thumbs_of(finding: Finding, splits: Sequence[Split]) -> list[Thumb]:
    """The image of a finding, around its boxes where it has some; and its partner's, where it has one.

    None where there is no image, or it cannot be read.
    """
    by_name = {split.name: split for split in splits}
    split = by_name.get(finding.split)
    if split is None or finding.image < 0:
        return []
    images = [(split, finding.image), *([(by_name[finding.other[0]], finding.other[1])] if finding.other else [])]
    found = []
    for owner, index in images:
        file = owner.image_file(index)
        try:
            image = None if file is None else read_image(file, "image", large=True)
        except DataError:
            image = None
        if image is None:
            continue
        area = _around([box for _, box in finding.boxes], image.size) if finding.boxes else (0, 0, *image.size)
        own, others = _marks(finding), _all_boxes(owner, index)
        if own and finding.level != "suspect":
            others = []
        marks = [*(("c" if own else "a", "", box) for box in others), *own]
        found.append(_thumb(image, area, marks, finding.text, owner.image_name(index)))
    return found


def _all_boxes(split: Split, image: int) -> list[Corners]:
    return [split.corners(int(index)) for index in split.boxes_of(image)[:MOST_BOXES]]


def _marks(finding: Finding) -> list[BoxMark]:
    """The label solid; what a model found, or the second of two labels, dashed."""
    return [
        ("b" if i == 1 or word.startswith(FOUND) else "a", word, box) for i, (word, box) in enumerate(finding.boxes)
    ]


def _around(boxes: Sequence[Corners], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """What to show of an image, so that these boxes are seen with what surrounds them: xyxy pixels inside it."""
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
    """The area (xyxy pixels) of the image with the marks in it."""
    left, top, right, bottom = area
    factor = SIDE / max(right - left, bottom - top)
    small = (max(round((right - left) * factor), 1), max(round((bottom - top) * factor), 1))
    part = image.resize(small, Image.Resampling.BILINEAR, box=area, reducing_gap=2.0)
    boxes = tuple(ThumbBox(kind, word, *_xywh(box, (left, top), factor)) for kind, word, box in marks)
    return Thumb(jpeg_uri(part, QUALITY), *small, boxes, text, caption)


def _xywh(box: Corners, corner: tuple[int, int], factor: float) -> tuple[float, float, float, float]:
    """A box in pixels of the thumbnail, at least 1 wide and high; one turned inside out is put in order."""
    x1, y1, x2, y2 = ((side - corner[axis % 2]) * factor for axis, side in enumerate(box))
    return min(x1, x2), min(y1, y2), max(abs(x2 - x1), 1.0), max(abs(y2 - y1), 1.0)
