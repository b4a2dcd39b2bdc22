"""Small images of findings as inline SVG: a JPEG as a data URI, boxes as lines over it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
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


class Thumb(NamedTuple):
    """An SVG with what to call it."""

    svg: str
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
        place = _around([box for _, box in finding.boxes], image.size) if finding.boxes else (0, 0, *image.size)
        own, others = _marks(finding), _all_boxes(owner, index)
        if own and finding.level != "suspect":
            others = []
        marks = [*(("c" if own else "a", "", box) for box in others), *own]
        found.append(Thumb(_svg(image, place, marks, finding.text), owner.image_name(index)))
    return found


def _all_boxes(split: Split, image: int) -> list[Corners]:
    return [split.corners(int(place)) for place in split.boxes_of(image)[:MOST_BOXES]]


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


def _svg(image: Image.Image, place: tuple[int, int, int, int], marks: Sequence[BoxMark], text: str) -> str:
    left, top, right, bottom = place
    width, height = right - left, bottom - top
    factor = SIDE / max(width, height)
    small = (max(round(width * factor), 1), max(round(height * factor), 1))
    part = image.resize(small, Image.Resampling.BILINEAR, box=place, reducing_gap=2.0)
    uri = jpeg_uri(part, QUALITY)
    lines = []
    for kind, word, box in marks:
        shape, title = _shape(box, (left, top), factor), f"<title>{escape(word)}</title>" if word else ""
        lines.append((f'<rect class="halo {kind}" {shape}/>', f'<rect class="{kind}" {shape}>{title}</rect>'))
    # a halo of one box must not hide another
    drawn = "".join(halo for halo, _ in lines) + "".join(line for _, line in lines)
    return (
        f'<svg class="thumb" viewBox="0 0 {small[0]} {small[1]}" role="img" aria-label="{escape(text, quote=True)}">'
        f'<image href="{uri}" width="{small[0]}" height="{small[1]}"/>{drawn}</svg>'
    )


def _shape(box: Corners, corner: tuple[int, int], factor: float) -> str:
    """Attributes of a rectangle; one turned inside out is put in order."""
    x1, y1, x2, y2 = ((side - corner[axis % 2]) * factor for axis, side in enumerate(box))
    width, height = max(abs(x2 - x1), 1), max(abs(y2 - y1), 1)
    return f'x="{min(x1, x2):.1f}" y="{min(y1, y2):.1f}" width="{width:.1f}" height="{height:.1f}"'
