"""Drawings of positive points on an image: all levels together, and each level by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from varifocal.inference.draw import INK, PAPER, Color
from varifocal.tools.show_assignment.positive_points import Assigned
from varifocal.types import Category
from varifocal.utils.fonts import font_for, shown_name
from varifocal.utils.text import count_of

SIDE, MOST = 1400, 2600  # range of the large panel's longer side in pixels
LEVELS: tuple[Color, ...] = ((86, 180, 233), (230, 159, 0), (0, 200, 140), (240, 228, 66), (220, 130, 190))
LOST: Color = (255, 45, 45)
MATCHED: Color = (255, 255, 255)
SOFT: Color = (110, 110, 110)
MARGIN, TITLE, TEXT = 16, 22, 15  # pixels
LISTED = 8  # objects without a point that are named on the page
COLUMNS = 3
NARROWEST = 1000  # least width of a page in pixels, for the text


def draw_assigned(image: Image.Image, assigned: Assigned, categories: Sequence[Category], geometry: str) -> Image.Image:
    """Return a page with the image, its objects and their points; ``geometry`` names the recipe or the checkpoint.

    White boxes have points, red ones have none, gray ones have none on the levels of a panel or are crowd regions.
    """
    longest = max(assigned.size)
    scale = min(max(longest, SIDE), MOST) / longest
    used = [level for level in range(len(assigned.strides)) if (assigned.level == level).any()]
    main = _panel(image, assigned, scale, used, frame=3)
    display_scale = _scale(main.width)
    small = (
        [_panel(image, assigned, scale * display_scale, [level], frame=1) for level in used] if len(used) > 1 else []
    )
    captions = [_caption(assigned, level) for level in used]
    head = _head(assigned, categories, geometry, max(main.width, NARROWEST))
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
    """Return the scale of small panels, ``COLUMNS`` of which are as wide as the large one of this width."""
    return (width - (COLUMNS - 1) * MARGIN) / COLUMNS / width


def _panel(image: Image.Image, assigned: Assigned, scale: float, levels: Sequence[int], *, frame: int) -> Image.Image:
    """Return the image in dim gray with its boxes and the points of these levels; red lines have width ``frame``."""
    size = max(round(assigned.size[0] * scale), 1), max(round(assigned.size[1] * scale), 1)
    gray = image.convert("L").resize(size, Image.Resampling.LANCZOS)
    canvas = gray.point([int(30 + 0.5 * value) for value in range(256)]).convert("RGB")
    pen = ImageDraw.Draw(canvas)
    for box in assigned.crowd * scale:
        pen.rectangle(_corners(box), outline=SOFT)
    matched = np.zeros(len(assigned.boxes), bool)
    matched[assigned.owner[np.isin(assigned.level, levels)]] = True
    never = np.zeros(len(assigned.boxes), bool)
    never[assigned.unmatched] = True
    for box, has_points, lost in zip(assigned.boxes * scale, matched, never, strict=True):
        if lost:
            _strike(pen, _corners(box), frame)
        else:
            pen.rectangle(_corners(box), outline=MATCHED if has_points else SOFT)
    for level in levels:
        radius = min(max(0.2 * assigned.strides[level] * scale, 2.0), 14.0)
        for x, y in assigned.points[assigned.level == level] * scale:
            circle = (x - radius, y - radius, x + radius, y + radius)
            pen.ellipse(circle, fill=LEVELS[level % len(LEVELS)], outline=(0, 0, 0))
    return canvas


def _strike(pen: ImageDraw.ImageDraw, corners: tuple[int, int, int, int], frame: int) -> None:
    """Draw a red box, crossed out, with a frame that makes even a tiny box visible."""
    x1, y1, x2, y2 = corners
    pen.rectangle((x1 - frame - 1, y1 - frame - 1, x2 + frame + 1, y2 + frame + 1), outline=LOST, width=frame)
    pen.line((x1, y1, x2, y2), LOST, (frame + 1) // 2)
    pen.line((x1, y2, x2, y1), LOST, (frame + 1) // 2)


def _corners(box: np.ndarray) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (round(float(side)) for side in box)
    return x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)


def _head(assigned: Assigned, categories: Sequence[Category], geometry: str, width: int) -> Image.Image:
    """Return the title, the legend, and the list of objects without points."""
    shown = " x ".join(map(str, assigned.size))
    size = f"{shown} after the resize of {geometry}; {count_of(len(assigned.boxes), 'object')}"
    lost = assigned.unmatched.tolist()
    names = [_describe(assigned, number, categories) for number in lost[:LISTED]]
    if len(lost) > LISTED:
        names.append(f"and {len(lost) - LISTED} more")
    lines = -(-len(names) // COLUMNS) + bool(names)
    legend = _wrapped([_caption(assigned, level) for level in range(len(assigned.strides))], width)
    top = MARGIN + TITLE + TEXT + 16
    height = top + (legend[-1][1] + 1 + lines) * (TEXT + 6) + MARGIN
    head = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(head)
    pen.text((0, MARGIN), assigned.sample.file.name, INK, font_for(assigned.sample.file.name, TITLE), anchor="lt")
    pen.text((0, MARGIN + TITLE + 6), size, SOFT, font_for(size, TEXT), anchor="lt")
    for level, (left, row, caption) in enumerate(legend):
        _key(pen, left, top + row * (TEXT + 6), LEVELS[level % len(LEVELS)], caption)
    top += (legend[-1][1] + 1) * (TEXT + 6)
    if names:
        text = f"{count_of(len(lost), 'object')} without a point, in red:"
        pen.text((0, top), text, LOST, font_for(text, TEXT), anchor="lt")
    for number, name in enumerate(names):
        corner = number % COLUMNS * width // COLUMNS, top + (number // COLUMNS + 1) * (TEXT + 6)
        pen.text(corner, name, INK, font_for(name, TEXT), anchor="lt")
    return head


def _caption(assigned: Assigned, level: int) -> str:
    here = assigned.level == level
    if not here.any():
        return f"stride {assigned.strides[level]}: none"
    objects = len(np.unique(assigned.owner[here]))
    return f"stride {assigned.strides[level]}: {count_of(int(here.sum()), 'point')} of {count_of(objects, 'object')}"


def _describe(assigned: Assigned, number: int, categories: Sequence[Category]) -> str:
    x1, y1, x2, y2 = assigned.boxes[number].tolist()
    category = categories[assigned.sample.labels[assigned.indices[number]]]
    name = shown_name(category.name, category.id)
    return f"{name}, {x2 - x1:.3g} x {y2 - y1:.3g} pixels at ({x1:.0f}, {y1:.0f})"


def _wrapped(captions: Sequence[str], width: int) -> list[tuple[int, int, str]]:
    """Return (x, row, text) of the keys of the legend, wrapped into rows of this width."""
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
    """Draw a dot and its meaning."""
    pen.ellipse((left, top + 1, left + TEXT - 3, top + TEXT - 2), fill=color, outline=(0, 0, 0))
    pen.text((left + TEXT + 2, top), text, INK, font_for(text, TEXT), anchor="lt")
