"""Windows over a large picture, and their detections as those of the picture."""

from itertools import pairwise

import numpy as np
import pytest

from varifocal.errors import ConfigError
from varifocal.tiles import Tiling, merge, windows
from varifocal.types import Category, Detections

CATEGORIES = (Category(1, "a"), Category(2, "b"))


def found(boxes, scores=None, labels=None) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores if scores is not None else [0.9] * count, np.float32),
        np.array(labels if labels is not None else [0] * count, np.int64),
        CATEGORIES,
    )


def seen(boxes, place) -> Detections:
    """What a perfect detector finds in a window: every box that touches it, cut to it."""
    left, top, right, bottom = place
    parts = []
    for x1, y1, x2, y2 in boxes:
        cut = (max(x1, left) - left, max(y1, top) - top, min(x2, right) - left, min(y2, bottom) - top)
        if cut[2] > cut[0] and cut[3] > cut[1]:
            parts.append(cut)
    return found(parts)


@pytest.mark.parametrize("size", [(1035, 1249), (256, 256), (100, 3000), (257, 256), (1, 1)])
@pytest.mark.parametrize("overlap", [0, 1, 128, 255])
def test_windows_cover_the_picture_and_overlap_enough(size, overlap):
    height, width = size
    places = windows(height, width, Tiling(256, overlap))
    assert len(set(places)) == len(places)
    for axis, length in ((0, width), (1, height)):
        spans = sorted({(place[axis], place[axis + 2]) for place in places})
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        assert all(end - start == min(256, length) for start, end in spans)
        for (_, end), (start, _) in pairwise(spans):
            assert end - start >= overlap
    columns, rows = len({place[0] for place in places}), len({place[1] for place in places})
    assert len(places) == columns * rows


def test_without_a_size_the_picture_is_one_window():
    assert windows(700, 900, Tiling()) == [(0, 0, 900, 700)]


def test_no_window_is_more_than_needed():
    assert len(windows(256, 384, Tiling(256, 128))) == 2
    assert len(windows(256, 385, Tiling(256, 128))) == 3


@pytest.mark.parametrize("seed", range(5))
def test_a_perfect_detector_stays_perfect(seed):
    """Objects no longer than the overlap are found once each, whole, wherever the windows cut them."""
    rng = np.random.default_rng(seed)
    tiling, height, width = Tiling(100, 40), 333, 471
    corners = [(x, y) for x in range(0, width - 41, 43) for y in range(0, height - 41, 43)]
    truth = [(x, y, x + int(rng.integers(5, 41)), y + int(rng.integers(5, 41))) for x, y in corners]
    places = windows(height, width, tiling)
    result = merge([seen(truth, place) for place in places], places, height, width, tiling, 0.5, 10_000)
    assert sorted(map(tuple, result.boxes.astype(int).tolist())) == sorted(truth)


def test_an_object_longer_than_the_overlap_is_not_lost():
    tiling, truth = Tiling(100, 20), [(50, 30, 150, 60)]
    places = windows(100, 180, tiling)
    result = merge([seen(truth, place) for place in places], places, 100, 180, tiling, 0.5, 100)
    assert len(result) >= 1
    assert result.boxes[:, 0].min() == 50
    assert result.boxes[:, 2].max() == 150


def test_boxes_at_the_border_of_the_picture_stay():
    tiling = Tiling(100, 20)
    places = windows(100, 180, tiling)
    parts = [found([(0, 0, 10, 100)]), found([(90, 0, 100, 100)])]
    assert merge(parts, places, 100, 180, tiling, 0.5, 100).boxes.tolist() == [[0, 0, 10, 100], [170, 0, 180, 100]]


def test_the_same_object_of_two_windows_is_kept_once_per_class_best_first():
    tiling = Tiling(100, 50)
    places = windows(100, 150, tiling)
    parts = [found([(60, 10, 90, 40)], [0.4]), found([(10, 10, 40, 40), (10, 10, 40, 40)], [0.7, 0.6], [0, 1])]
    result = merge(parts, places, 100, 150, tiling, 0.5, 100)
    assert result.scores.tolist() == pytest.approx([0.7, 0.6])
    assert result.labels.tolist() == [0, 1]
    assert len(merge(parts, places, 100, 150, tiling, 0.5, 1)) == 1


def test_nothing_found_anywhere():
    tiling = Tiling(100, 50)
    places = windows(100, 150, tiling)
    assert len(merge([found([]), found([])], places, 100, 150, tiling, 0.5, 100)) == 0


@pytest.mark.parametrize("values", [(-1, 0), (100, 100), (100, -1), (0, 5)])
def test_impossible_tilings_are_refused(values):
    with pytest.raises(ConfigError, match="the overlap is less than the size"):
        Tiling(*values)
