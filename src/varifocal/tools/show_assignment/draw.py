"""Positive points on an image: all levels together, and each by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from varifocal.inference.draw import INK, PAPER, Color
from varifocal.tools.show_assignment.positive_points import Assigned
from varifocal.types import Category
from varifocal.utils.fonts import font_for, shown_name

SIDE, MOST = 1400, 2600  # pixels of the large panel's longer side: smaller images are enlarged, larger ones shrunk
LEVELS: tuple[Color, ...] = ((86, 180, 233), (230, 159, 0), (0, 200, 140), (240, 228, 66), (220, 130, 190))
LOST: Color = (255, 45, 45)
MATCHED: Color = (255, 255, 255)
SOFT: Color = (110, 110, 110)
MARGIN, TITLE, TEXT = 16, 22, 15  # pixels
LISTED = 8  # objects without a point that are named on the page
COLUMNS = 3
NARROWEST = 1000  # pixels of a page of a tall image, for the words


def draw_assigned(image: Image.Image, one: Assigned, categories: Sequence[Category], eye: str) -> Image.Image:
    """A page with the image, its objects and their points; ``eye`` names the recipe or the model.

    White boxes have points, red ones have none, gray ones have none on the levels of a panel or are crowd regions.
    """
    longest = max(one.size)
    scale = min(max(longest, SIDE), MOST) / longest
    used = [level for level in range(len(one.strides)) if (one.level == level).any()]
    main = _panel(image, one, scale, used, frame=3)
    display_scale = _scale(main.width)
    small = [_panel(image, one, scale * display_scale, [level], frame=1) for level in used] if len(used) > 1 else []
    captions = [_caption(one, level) for level in used]
    head = _head(one, categories, eye, max(main.width, NARROWEST))
    rows = [small[i : i + COLUMNS] for i in range(0, len(small), COLUMNS)]
    line = TEXT + MARGIN
    height = head.height + main.height + MARGIN + sum(row[0].height + line for row in rows)
    page = Image.new("RGB", (head.width + 2 * MARGIN, height), PAPER)
    page.paste(head, (MARGIN, 0))
    page.paste(main, (MARGIN, head.height))
    top = head.height + main.height + MARGIN
    for number, row in enumerate(rows):
        left = MARGIN
        for level, caption, panel in zip(used[number * COLUMNS :], captions[number * COLUMNS :], row, strict=False):
            _key(ImageDraw.Draw(page), left, top, LEVELS[level % len(LEVELS)], caption)
            page.paste(panel, (left, top + TEXT + 6))
            left += panel.width + MARGIN
        top += row[0].height + line
    return page


def _scale(width: int) -> float:
    """Of the large panel, so that ``COLUMNS`` of them are as wide."""
    return (width - (COLUMNS - 1) * MARGIN) / COLUMNS / width


def _panel(image: Image.Image, one: Assigned, scale: float, levels: Sequence[int], *, frame: int) -> Image.Image:
    """The image in dim gray, its boxes, and the points of these levels; ``frame`` pixels are lines in red."""
    size = max(round(one.size[0] * scale), 1), max(round(one.size[1] * scale), 1)
    gray = image.convert("L").resize(size, Image.Resampling.LANCZOS)
    canvas = gray.point([int(30 + 0.5 * value) for value in range(256)]).convert("RGB")
    pen = ImageDraw.Draw(canvas)
    for box in one.crowd * scale:
        pen.rectangle(_corners(box), outline=SOFT)
    matched = np.zeros(len(one.boxes), bool)
    matched[one.owner[np.isin(one.level, levels)]] = True
    never = np.zeros(len(one.boxes), bool)
    never[one.unmatched] = True
    for box, has, lost in zip(one.boxes * scale, matched, never, strict=True):
        if lost:
            _strike(pen, _corners(box), frame)
        else:
            pen.rectangle(_corners(box), outline=MATCHED if has else SOFT)
    for level in levels:
        radius = min(max(0.2 * one.strides[level] * scale, 2.0), 14.0)
        for x, y in one.points[one.level == level] * scale:
            circle = (x - radius, y - radius, x + radius, y + radius)
            pen.ellipse(circle, fill=LEVELS[level % len(LEVELS)], outline=(0, 0, 0))
    return canvas


def _strike(pen: ImageDraw.ImageDraw, corners: tuple[int, int, int, int], frame: int) -> None:
    """A red box, crossed out, with a frame around it that is seen also where the box is tiny."""
    x1, y1, x2, y2 = corners
    pen.rectangle((x1 - frame - 1, y1 - frame - 1, x2 + frame + 1, y2 + frame + 1), outline=LOST, width=frame)
    pen.line((x1, y1, x2, y2), LOST, (frame + 1) // 2)
    pen.line((x1, y2, x2, y1), LOST, (frame + 1) // 2)


def _corners(box: np.ndarray) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (round(float(side)) for side in box)
    return x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)


def _head(one: Assigned, categories: Sequence[Category], eye: str, width: int) -> Image.Image:
    """Title, legend, and the objects that get nothing."""
    seen = f"{one.size[0]} x {one.size[1]} as {eye} sees it; {_many(len(one.boxes), 'object')}"
    lost = one.unmatched.tolist()
    names = [_describe(one, number, categories) for number in lost[:LISTED]]
    if len(lost) > LISTED:
        names.append(f"and {len(lost) - LISTED} more")
    lines = -(-len(names) // COLUMNS) + bool(names)
    legend = _wrapped([_caption(one, level) for level in range(len(one.strides))], width)
    top = MARGIN + TITLE + TEXT + 16
    height = top + (legend[-1][1] + 1 + lines) * (TEXT + 6) + MARGIN
    head = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(head)
    pen.text((0, MARGIN), one.sample.file.name, INK, font_for(one.sample.file.name, TITLE), anchor="lt")
    pen.text((0, MARGIN + TITLE + 6), seen, SOFT, font_for(seen, TEXT), anchor="lt")
    for level, (left, row, caption) in enumerate(legend):
        _key(pen, left, top + row * (TEXT + 6), LEVELS[level % len(LEVELS)], caption)
    top += (legend[-1][1] + 1) * (TEXT + 6)
    if names:
        text = f"{_many(len(lost), 'object')} without any point, red:"
        pen.text((0, top), text, LOST, font_for(text, TEXT), anchor="lt")
    for number, name in enumerate(names):
        corner = number % COLUMNS * width // COLUMNS, top + (number // COLUMNS + 1) * (TEXT + 6)
        pen.text(corner, name, INK, font_for(name, TEXT), anchor="lt")
    return head


def _caption(one: Assigned, level: int) -> str:
    here = one.level == level
    if not here.any():
        return f"stride {one.strides[level]}: none"
    objects = len(np.unique(one.owner[here]))
    return f"stride {one.strides[level]}: {_many(int(here.sum()), 'point')} of {_many(objects, 'object')}"


def _describe(one: Assigned, number: int, categories: Sequence[Category]) -> str:
    x1, y1, x2, y2 = one.boxes[number].tolist()
    category = categories[one.sample.labels[one.indices[number]]]
    name = shown_name(category.name, category.id)
    return f"{name}, seen as {x2 - x1:.3g} x {y2 - y1:.3g} pixels at ({x1:.0f}, {y1:.0f})"


def _wrapped(captions: Sequence[str], width: int) -> list[tuple[int, int, str]]:
    """(x, row, text) of keys that follow each other, in as many rows as it takes."""
    found: list[tuple[int, int, str]] = []
    left, row = 0, 0
    for caption in captions:
        length = round(TEXT + 2 + font_for(caption, TEXT).getlength(caption))
        if left and left + length > width:
            left, row = 0, row + 1
        found.append((left, row, caption))
        left += length + 2 * MARGIN
    return found


def _key(pen: ImageDraw.ImageDraw, left: int, top: int, color: Color, text: str) -> None:
    """A dot and its meaning."""
    pen.ellipse((left, top + 1, left + TEXT - 3, top + TEXT - 2), fill=color, outline=(0, 0, 0))
    pen.text((left + TEXT + 2, top), text, INK, font_for(text, TEXT), anchor="lt")


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
