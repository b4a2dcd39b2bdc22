"""Images with boxes drawn on them. No function changes its input image."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64
from PIL import Image, ImageDraw

from varifocal.types import Category, Detections, Sample
from varifocal.utils.fonts import Font, font_for, shown_name

MOST_TEXTS = 60  # more would hide the image; the best boxes get theirs
PANEL_SIDE = 512  # pixels; comparisons enlarge smaller images to this
LONGEST_NAME = 20
HATCH = 8  # pixels from one stripe to the next
PAPER, INK = (250, 250, 250), (20, 20, 20)

Color = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Mark:
    """One box to draw: its left, top, right and bottom pixels, all inside the box."""

    corners: Rectangle
    color: Color
    text: str


def draw_detections(image: Image.Image, detections: Detections, *, threshold: float = 0.0) -> Image.Image:
    """Return an RGB copy of the image with the detections of at least ``threshold`` on it.

    Boxes are xyxy in pixels of ``image``. The color belongs to the label. Name and score are written where
    the box is large enough and the area is free, best boxes first.
    """
    return _draw(image, _detection_marks(detections.filter(threshold), image.size, 1.0))


def draw_comparison(
    image: Image.Image,
    sample: Sample,
    categories: Sequence[Category],
    detections: Detections,
    *,
    threshold: float = 0.0,
) -> Image.Image:
    """Return two panels with captions: the labels of ``sample`` left, the detections right.

    Boxes are xyxy in pixels of ``image``; an image whose longer side is below 512 pixels is enlarged.
    """
    scale = max(1.0, PANEL_SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    large = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    kept = detections.filter(threshold)
    found = f"detections: {len(kept)}" + (f" (score at least {threshold:.2f})" if threshold > 0 else "")
    left = _draw(large, _label_marks(sample, categories, size, scale))
    right = _draw(large, _detection_marks(kept, size, scale))
    return _beside([(f"labels: {len(sample.labels)}", left), (found, right)])


def draw_labels(
    image: Image.Image,
    boxes: Float[np.ndarray, "N 4"],
    labels: Int64[np.ndarray, "N"],
    ignored: Bool[np.ndarray, "N"],
    categories: Sequence[Category],
) -> Image.Image:
    """Return an RGB copy of the image with labels and their class names on it; ignored regions are hatched.

    Boxes are xyxy in pixels of ``image`` and need not be whole numbers.
    """
    canvas = image.convert("RGB") if image.mode != "RGB" else image.copy()
    names = [_name(categories[label]) for label in labels]
    for mark in _marks(boxes[ignored], labels[ignored], [""] * int(ignored.sum()), image.size, 1.0):
        _hatch(canvas, mark)
    return _draw(canvas, _marks(boxes, labels, names, image.size, 1.0))


def class_color(label: int) -> Color:
    """Return the color of a label, always the same; neighboring labels differ in hue and brightness."""
    hue = (0.02 + label * 0.618034) % 1.0
    saturation, value = ((0.85, 1.0), (0.6, 1.0), (0.9, 0.75))[label % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _detection_marks(detections: Detections, size: tuple[int, int], scale: float) -> list[_Mark]:
    names = [_name(detections.categories[label]) for label in detections.labels]
    texts = [f"{name} {score:.2f}" for name, score in zip(names, detections.scores, strict=True)]
    return _marks(detections.boxes, detections.labels, texts, size, scale)


def _label_marks(sample: Sample, categories: Sequence[Category], size: tuple[int, int], scale: float) -> list[_Mark]:
    texts = [
        _name(categories[label]) + (" (crowd)" if crowd else "")
        for label, crowd in zip(sample.labels, sample.crowd, strict=True)
    ]
    return _marks(sample.boxes, sample.labels, texts, size, scale)


def _marks(
    boxes: Float[np.ndarray, "N 4"],
    labels: np.ndarray,
    texts: Sequence[str],
    size: tuple[int, int],
    scale: float,
) -> list[_Mark]:
    """Return marks of the boxes that touch the image, cut to it."""
    width, height = size
    low = np.rint(boxes.astype(np.float64) * scale)
    low[:, 2:] = np.maximum(low[:, 2:] - 1, low[:, :2])  # x2 is the first pixel outside
    inside = (low[:, 0] < width) & (low[:, 1] < height) & (low[:, 2] >= 0) & (low[:, 3] >= 0)
    cut = np.clip(np.where(inside[:, None], low, 0), 0, [width - 1, height - 1] * 2).astype(int).tolist()
    return [
        _Mark((x1, y1, x2, y2), class_color(int(label)), text)
        for (x1, y1, x2, y2), label, text, seen in zip(cut, labels, texts, inside, strict=True)
        if seen
    ]


def _hatch(canvas: Image.Image, mark: _Mark) -> None:
    """Draw thin stripes over the inside of a box, between which the image is visible."""
    x1, y1, x2, y2 = mark.corners
    width, height = x2 - x1 + 1, y2 - y1 + 1
    rows, columns = np.mgrid[0:height, 0:width]
    stripes = np.where((rows + columns) % HATCH < 2, 220, 0).astype(np.uint8)
    canvas.paste(mark.color, (x1, y1, x2 + 1, y2 + 1), Image.fromarray(stripes))


def _name(category: Category) -> str:
    name = shown_name(category.name, category.id)
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _draw(image: Image.Image, marks: Sequence[_Mark]) -> Image.Image:
    """Return an RGB copy with the marks, first ones on top and named first."""
    canvas = image.convert("RGB") if image.mode != "RGB" else image.copy()
    pen = ImageDraw.Draw(canvas)
    line = max(2, round(max(image.size) / 320))
    for mark in reversed(marks):
        x1, y1, x2, y2 = mark.corners
        thin = max(1, min(x2 - x1, y2 - y1) // 6)  # a small box is not to be filled by its edges
        pen.rectangle(mark.corners, outline=mark.color, width=min(line, thin))
    letters = _letters(image.size)
    taken: list[Rectangle] = []
    for mark in marks:
        if len(taken) == MOST_TEXTS:
            break
        font = font_for(mark.text, letters)
        rectangle = _free_rectangle(pen, font, mark, image.size, taken)
        if rectangle is not None:
            taken.append(rectangle)
            pen.rectangle(rectangle, fill=mark.color)
            middle = (rectangle[1] + rectangle[3] + 1) / 2
            pen.text((rectangle[0] + _margin(font), middle), mark.text, _readable_on(mark.color), font, anchor="lm")
    return canvas


def _letters(size: tuple[int, int]) -> int:
    """Return the height of the letters in pixels on an image of that size."""
    return min(40, max(11, round(max(size) / 42)))


def _margin(font: Font) -> int:
    return max(2, round(_line_height(font) / 5))


def _line_height(font: Font) -> int:
    """Return the height of the tallest letters in pixels, the same for all texts of a script so that labels line up."""
    _, top, _, bottom = font.getbbox("Ág")
    return round(bottom - top)


def _free_rectangle(
    pen: ImageDraw.ImageDraw, font: Font, mark: _Mark, size: tuple[int, int], taken: Sequence[Rectangle]
) -> Rectangle | None:
    """Return where the text of a mark goes, inside the image and over no other text; None if there is no room."""
    x1, y1, x2, y2 = mark.corners
    width = round(pen.textlength(mark.text, font)) + 2 * _margin(font)
    height = _line_height(font) + 2
    large_enough = max(x2 - x1, y2 - y1) >= 2 * height and min(x2 - x1, y2 - y1) >= height
    if not large_enough or width > size[0] or height > size[1]:
        return None
    for x, y in _candidates(mark.corners, width, height):
        x = min(max(x, 0), size[0] - width)
        rectangle = (x, y, x + width - 1, y + height - 1)
        if y >= 0 and y + height <= size[1] and not any(_overlap(rectangle, other) for other in taken):
            return rectangle
    return None


def _candidates(corners: Rectangle, width: int, height: int) -> Iterator[tuple[int, int]]:
    """Yield corners (x, y) for a text: over the box, inside at its top or bottom, under it; left, then right."""
    x1, y1, x2, y2 = corners
    for y in (y1 - height, y1, y2 - height + 1, y2 + 1):
        yield x1, y
        yield x2 - width + 1, y


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _readable_on(color: Color) -> Color:
    red, green, blue = color
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else (255, 255, 255)


def _beside(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Return the images side by side, each under its caption; a cell is as wide as the wider of the two."""
    tallest = max(image.height for _, image in panels)
    font = font_for("".join(text for text, _ in panels), _letters(max((image.size for _, image in panels), key=max)))
    margin = 2 * _margin(font)
    strip = _line_height(font) + 2 * margin
    cells = [max(image.width, round(font.getlength(text)) + 2 * margin) for text, image in panels]
    canvas = Image.new("RGB", (sum(cells) + margin * (len(cells) - 1), strip + tallest), PAPER)
    pen = ImageDraw.Draw(canvas)
    x = 0
    for cell, (text, image) in zip(cells, panels, strict=True):
        pen.text((x + margin, strip / 2), text, INK, font, anchor="lm")
        canvas.paste(image, (x, strip))
        x += cell + margin
    return canvas
