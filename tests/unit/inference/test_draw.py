"""Drawing: what changes, what does not, and that texts stay in the image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from varifocal.inference import draw
from varifocal.inference.draw import MOST_TEXTS, class_color, draw_comparison, draw_detections
from varifocal.types import Category, Detections, Sample

CATEGORIES = (
    Category(5, "cat"),
    Category(9, "dog [/bold]"),
    Category(1, "a name that no image has room for, ever"),
)
GRAY = (120, 130, 140)


def make_detections(boxes=(), scores=(), labels=()):
    return Detections(
        boxes=np.asarray(boxes, np.float32).reshape(-1, 4),
        scores=np.asarray(scores, np.float32),
        labels=np.asarray(labels, np.int64),
        categories=CATEGORIES,
    )


def make_sample(boxes=(), labels=(), crowd=()):
    return Sample(
        file=Path("a.jpg"),
        image_id=1,
        width=200,
        height=150,
        boxes=np.asarray(boxes, np.float32).reshape(-1, 4),
        labels=np.asarray(labels, np.int64),
        crowd=np.asarray(crowd, bool),
    )


def plain(size=(200, 150)):
    return Image.new("RGB", size, GRAY)


def changed(image):
    """Mask [H, W] of the pixels that are not the plain gray."""
    return (np.asarray(image) != GRAY).any(axis=2)


def test_edges_are_drawn_and_the_rest_is_left():
    image = plain()
    drawn = draw_detections(image, make_detections([[40, 60, 100, 120]], [0.9], [0]))
    edge = (
        [(40, y) for y in range(60, 120)]
        + [(99, y) for y in range(60, 120)]
        + [(x, 60) for x in range(40, 100)]
        + [(x, 119) for x in range(40, 100)]
    )
    assert {drawn.getpixel(point) for point in edge} == {class_color(0)}
    mask = changed(drawn)
    assert not mask[64:116, 44:96].any(), "the inside"
    assert not mask[:, 130:].any()
    assert not mask[121:].any()
    assert not mask[:30].any()
    assert mask[45:60, 40:60].any(), "the text over the box"
    assert not changed(image).any(), "the input was changed"


def test_no_detections_give_an_equal_image():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
    drawn = draw_detections(image, make_detections())
    assert drawn is not image
    assert np.array_equal(np.asarray(drawn), np.asarray(image))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    drawn = draw_detections(plain().convert(mode), make_detections([[40, 60, 100, 120]], [0.9], [0]))
    assert (drawn.mode, drawn.size) == ("RGB", (200, 150))
    assert drawn.getpixel((40, 100)) == class_color(0)


def test_threshold_is_inclusive():
    detections = make_detections([[10, 50, 60, 100], [110, 50, 160, 100]], [0.75, 0.5], [0, 1])
    mask = changed(draw_detections(plain(), detections, threshold=0.75))
    assert mask[:, :100].any()
    assert not mask[:, 100:].any()


def test_boxes_are_cut_to_the_image():
    boxes = [
        [-50, -50, 500, 500],
        [300, 10, 400, 60],
        [10, -90, 60, -10],
        [199.6, 10, 260, 60],
        [20, 20, 20, 20],
    ]
    drawn = draw_detections(plain(), make_detections(boxes, [0.9] * 5, [0] * 5))
    assert drawn.size == (200, 150)
    assert drawn.getpixel((0, 75)) == drawn.getpixel((199, 75)) == class_color(0)


@pytest.mark.parametrize("box", [[300, 10, 400, 60], [10, -90, 60, -10], [10, 150, 60, 200], [-60, 10, 0, 60]])
def test_boxes_outside_leave_no_mark(box):
    assert not changed(draw_detections(plain(), make_detections([box], [0.9], [0]))).any()


@pytest.fixture
def places(monkeypatch):
    """The places of the texts that are drawn, as left, top, right, bottom pixels."""
    found = []
    true_place = draw._free_rectangle

    def spy(*args):
        found.append(true_place(*args))
        return found[-1]

    monkeypatch.setattr(draw, "_free_rectangle", spy)
    return found


@pytest.mark.parametrize("box", [[150, 0, 200, 50], [0, 0, 50, 50], [150, 100, 200, 150], [0, 0, 200, 150]])
def test_text_is_whole_at_the_borders(box, places):
    drawn = draw_detections(plain(), make_detections([[80, 60, 130, 110], box], [0.9, 0.9], [0, 0]))
    free, (x1, y1, x2, y2) = places
    assert (x2 - x1, y2 - y1) == (free[2] - free[0], free[3] - free[1])
    assert 0 <= x1 < x2 < 200
    assert 0 <= y1 < y2 < 150
    assert drawn.getpixel((x1, y1)) == drawn.getpixel((x2, y2)) == class_color(0)
    letters = (np.asarray(drawn)[y1 : y2 + 1, x1 : x2 + 1] != class_color(0)).any(axis=2)
    assert 50 < letters.sum() < letters.size / 2


def test_a_text_without_room_is_left_out(places):
    drawn = draw_detections(plain((60, 60)), make_detections([[0, 0, 60, 60]], [0.9], [2]))
    assert places == [None]
    assert not changed(drawn)[3:-3, 3:-3].any()


def test_tiny_boxes_have_no_text():
    mask = changed(draw_detections(plain(), make_detections([[100, 70, 108, 78]], [0.9], [0])))
    assert mask.sum() == mask[70:78, 100:108].sum() > 0


def test_texts_never_overlap_and_have_a_limit(places):
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 1900, (400, 2))
    boxes = np.concatenate([corner, corner + 90], axis=1)
    draw_detections(plain((2000, 2000)), make_detections(boxes, np.ones(400), rng.integers(0, 2, 400)))
    texts = [one for one in places if one is not None]
    assert len(texts) == MOST_TEXTS
    cover = np.zeros((2000, 2000), int)
    for x1, y1, x2, y2 in texts:
        assert 0 <= x1 <= x2 < 2000
        assert 0 <= y1 <= y2 < 2000
        cover[y1 : y2 + 1, x1 : x2 + 1] += 1
    assert cover.max() == 1


def test_the_best_detection_is_on_top():
    detections = make_detections([[40, 60, 100, 120], [40, 60, 100, 120]], [0.9, 0.2], [0, 1])
    assert draw_detections(plain(), detections).getpixel((40, 100)) == class_color(0)


def test_lines_grow_with_the_image():
    def width(size):
        box = [0.25 * size, 0.25 * size, 0.75 * size, 0.75 * size]
        return changed(draw_detections(plain((size, size)), make_detections([box], [1], [0])))[size // 2].sum() // 2

    assert width(200) == 2
    assert width(3200) == 10


def test_colors_are_distinct():
    colors = np.array([class_color(label) for label in range(20)])
    apart = np.abs(colors[:, None] - colors[None]).max(axis=2)
    assert apart[~np.eye(20, dtype=bool)].min() > 25
    assert (np.abs(np.diff(colors, axis=0)).max(axis=1) > 80).all()


@pytest.mark.parametrize(
    ("size", "panel"),
    [((200, 150), (512, 384)), ((64, 32), (512, 256)), ((800, 600), (800, 600)), ((1, 900), (1, 900))],
)
def test_comparison_size(size, panel):
    image = plain(size)
    both = draw_comparison(image, make_sample(), CATEGORIES, make_detections(), threshold=0.3)
    assert both.mode == "RGB"
    assert both.width >= 2 * panel[0]
    assert panel[1] < both.height < panel[1] + 80
    assert image.size == size
    assert not changed(image).any()


def test_comparison_has_labels_left_and_detections_right():
    sample = make_sample([[20, 40, 60, 100], [80, 40, 120, 100]], [0, 1], [False, True])
    found = make_detections([[120, 40, 180, 100], [10, 10, 100, 100]], [0.9, 0.1], [2, 0])
    both = draw_comparison(plain(), sample, CATEGORIES, found, threshold=0.5)
    strip, scale = both.height - 384, 2.56
    right = both.width - 512

    def color(x, y, left=0):
        return both.getpixel((left + round(x * scale), strip + round(y * scale)))

    assert color(20, 80) == class_color(0)
    assert color(80, 80) == class_color(1)
    assert color(120, 80, right) == class_color(2)
    assert color(20, 80, right) == color(10, 80, right) == color(150, 80) == GRAY
    assert (np.asarray(both)[:strip, :512] < 100).any(), "a caption at the left"
    assert (np.asarray(both)[:strip, right:] < 100).any(), "a caption at the right"
