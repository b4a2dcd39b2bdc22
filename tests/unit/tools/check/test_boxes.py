"""Odd boxes, against loops over all pairs and hand calculations."""

import itertools

import numpy as np
import pytest

from varifocal.tools.check.boxes import NEARLY, class_medians, find_copies, find_unusual_sizes, overlapping


def iou(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def crowd(seed: int, count: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in few places, slightly moved, in images that are not in order."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0, 60, (12, 2))
    size = rng.uniform(5, 60, (12, 2))
    which = rng.integers(12, size=count)
    shift = rng.normal(0, 0.04, (count, 4)) * np.tile(size[which], 2)
    boxes = np.concatenate([base[which], base[which] + size[which]], axis=1) + shift
    return rng.integers(3, size=count), boxes.astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_all_overlapping_pairs_are_found(seed):
    images, boxes = crowd(seed)
    expected = {
        (a, b)
        for a, b in itertools.combinations(range(len(boxes)), 2)
        if images[a] == images[b] and iou(boxes[a].tolist(), boxes[b].tolist()) >= NEARLY
    }
    found = overlapping(images, boxes)
    assert set(zip(found.first.tolist(), found.later.tolist(), strict=True)) == expected
    assert len(found) == len(expected) > 20
    for a, b, value in zip(found.first, found.later, found.iou, strict=True):
        assert value == pytest.approx(iou(boxes[a].tolist(), boxes[b].tolist()))


def test_copies_are_told_apart():
    box = [10, 10, 50, 40]
    rows = [  # image, label, box
        (0, 0, box),
        (0, 0, box),  # the same as 0
        (0, 0, box),  # the same as 0, not as 1
        (0, 0, [10.005, 10, 50, 40]),  # within the tolerance
        (0, 0, [11, 10, 50, 40]),  # nearly
        (0, 1, box),  # another class
        (1, 0, box),  # another image
        (0, 0, [10, 10, 30, 40]),  # far from the same
    ]
    images, labels, boxes = (np.array(column) for column in zip(*rows, strict=True))
    found = find_copies(images, labels, boxes.astype(np.float32))
    assert list(zip(found.same.first, found.same.later, strict=True)) == [(0, 1), (0, 2), (0, 3)]
    assert list(zip(found.nearly.first, found.nearly.later, strict=True)) == [(0, 4)]
    assert found.nearly.iou[0] == pytest.approx(39 / 40)
    assert list(zip(found.two_classes.first, found.two_classes.later, strict=True)) == [(0, 5)]


def test_odd_sizes():
    normal = [[0, 0, 20, 20]] * 19 + [[0, 0, 22, 18]]
    odd = {
        "a side below two pixels": [5, 5, 40, 6.9],
        "a sixteenth of the usual": [5, 5, 5 + 2.4, 5 + 0.6 + 1.5],
        "most of the image": [0, 0, 98, 97],
        "thin": [0, 0, 90, 4],
    }
    boxes = np.array([*normal, *odd.values()], np.float32)
    labels = np.zeros(len(boxes), np.int64)
    areas = np.full(len(boxes), 100.0 * 100)
    found = find_unusual_sizes(labels, boxes, areas, 1)
    assert found["tiny-box"][0].tolist() == [20]  # 2.4 x 2.1 is large enough: a sixteenth of 20 is 1.25
    assert found["tiny-box"][1][0] == pytest.approx(2 / 1.9)
    assert found["huge-box"][0].tolist() == [22]
    assert found["huge-box"][1][0] == pytest.approx(0.98 * 0.97 / 0.04)
    assert found["thin-box"][0].tolist() == [23]
    assert found["thin-box"][1][0] == pytest.approx(22.5)


def test_far_below_the_class():
    boxes = np.array([[0, 0, 160, 160]] * 20 + [[0, 0, 9, 9], [0, 0, 11, 11]], np.float32)
    found = find_unusual_sizes(np.zeros(22, np.int64), boxes, np.full(22, 1e6), 1)
    assert found["tiny-box"][0].tolist() == [20]
    assert found["tiny-box"][1][0] == pytest.approx(10 / 9)


def test_a_small_class_has_no_usual_size():
    boxes = np.array([[0, 0, 160, 160]] * 5 + [[0, 0, 9, 9], [0, 0, 990, 990]], np.float32)
    found = find_unusual_sizes(np.zeros(7, np.int64), boxes, np.full(7, 1e6), 1)
    assert len(found["tiny-box"][0]) == len(found["huge-box"][0]) == len(found["thin-box"][0]) == 0
    boxes[5] = [0, 0, 9, 1]  # but a side of a pixel is tiny in any
    assert find_unusual_sizes(np.zeros(7, np.int64), boxes, np.full(7, 1e6), 1)["tiny-box"][0].tolist() == [5]


def test_medians_of_classes():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=100)
    labels[labels == 1] = 0
    labels[:5], labels[5:25] = 1, 3
    values = rng.normal(size=100)
    found = class_medians(values, labels, 5)
    assert found[0] == np.median(values[labels == 0])
    assert found[2] == np.median(values[labels == 2])
    assert found[3] == np.median(values[5:25])  # twenty are enough
    assert np.isnan(found[[1, 4]]).all()


def test_no_boxes():
    none, boxes = np.empty(0, np.int64), np.empty((0, 4), np.float32)
    copies = find_copies(none, none, boxes)
    assert len(copies.same) == len(copies.nearly) == len(copies.two_classes) == 0
    odd = find_unusual_sizes(none, boxes, np.empty(0), 0)
    assert len(odd["tiny-box"][0]) == len(odd["huge-box"][0]) == len(odd["thin-box"][0]) == 0
