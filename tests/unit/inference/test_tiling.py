"""Windows over a large image, and their detections as those of the image."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from error_codes import raises_code

from varifocal.inference.tiling import make_tiles, merge_tiles, tiling_from_options
from varifocal.types import Category, Detections, PostProcess, Tiling

CATEGORIES = (Category(1, "a"), Category(2, "b"))


def found(boxes, scores=None, labels=None) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores if scores is not None else [0.9] * count, np.float32),
        np.array(labels if labels is not None else [0] * count, np.int64),
        CATEGORIES,
    )


def seen(boxes, tile) -> Detections:
    """What a perfect detector finds in a window: every box that touches it, cut to it."""
    left, top, right, bottom = tile
    parts = []
    for x1, y1, x2, y2 in boxes:
        cut = (max(x1, left) - left, max(y1, top) - top, min(x2, right) - left, min(y2, bottom) - top)
        if cut[2] > cut[0] and cut[3] > cut[1]:
            parts.append(cut)
    return found(parts)


def merged(parts, size, tiling, max_detections=100) -> Detections:
    settings = PostProcess(nms_iou=0.5, max_detections=max_detections)
    return merge_tiles(parts, size, tiling, settings)[0]


@pytest.mark.parametrize("size", [(1035, 1249), (256, 256), (100, 3000), (257, 256), (1, 1)])
@pytest.mark.parametrize("overlap", [0, 1, 128, 255])
def test_windows_cover_the_image_and_overlap_enough(size, overlap):
    height, width = size
    tiles = make_tiles(height, width, Tiling(256, overlap))
    assert len(set(tiles)) == len(tiles)
    for axis, length in ((0, width), (1, height)):
        spans = sorted({(tile[axis], tile[axis + 2]) for tile in tiles})
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        assert all(end - start == min(256, length) for start, end in spans)
        for (_, end), (start, _) in pairwise(spans):
            assert end - start >= overlap
    columns, rows = len({tile[0] for tile in tiles}), len({tile[1] for tile in tiles})
    assert len(tiles) == columns * rows


def test_without_a_size_the_image_is_one_window():
    assert make_tiles(700, 900, Tiling()) == [(0, 0, 900, 700)]


def test_no_window_is_more_than_needed():
    assert len(make_tiles(256, 384, Tiling(256, 128))) == 2
    assert len(make_tiles(256, 385, Tiling(256, 128))) == 3


@pytest.mark.parametrize("start", np.linspace(60, 81, 43))
@pytest.mark.parametrize("length", [18.9, 19.0, 19.5, 20.0])
def test_what_fills_the_overlap_is_found_by_one_window_at_least(start, length):
    """Two windows that overlap by no more than they must; the object lies across or within the strip."""
    tiling, truth = Tiling(100, 20), [(start, 30.0, start + length, 60.0)]
    tiles = make_tiles(100, 180, tiling)
    assert tiles == [(0, 0, 100, 100), (80, 0, 180, 100)]
    result = merged([seen(truth, tile) for tile in tiles], (100, 180), tiling)
    assert np.abs(result.boxes - np.array(truth)).max(axis=1).min() <= 1.0


def test_a_box_without_area_stays_as_it_is():
    part = found([(10, 10, 10, 30), (60, 60, 90, 90)], [0.5, 0.4])
    result = merged([part], (100, 100), Tiling(100, 50, vote=0.6), 10)
    assert result.boxes.tolist() == part.boxes.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_a_perfect_detector_stays_perfect(seed):
    """Objects no longer than the overlap are found once each, whole, wherever the windows cut them."""
    rng = np.random.default_rng(seed)
    tiling, height, width = Tiling(100, 40), 333, 471
    corners = [(x, y) for x in range(0, width - 41, 43) for y in range(0, height - 41, 43)]
    truth = [(x, y, x + int(rng.integers(5, 41)), y + int(rng.integers(5, 41))) for x, y in corners]
    tiles = make_tiles(height, width, tiling)
    result = merged([seen(truth, tile) for tile in tiles], (height, width), tiling, 10_000)
    assert sorted(map(tuple, result.boxes.astype(int).tolist())) == sorted(truth)


def test_an_object_longer_than_the_overlap_is_not_lost():
    tiling, truth = Tiling(100, 20), [(50, 30, 150, 60)]
    tiles = make_tiles(100, 180, tiling)
    result = merged([seen(truth, tile) for tile in tiles], (100, 180), tiling)
    assert len(result) >= 1
    assert result.boxes[:, 0].min() == 50
    assert result.boxes[:, 2].max() == 150


def test_boxes_at_the_border_of_the_image_stay():
    tiling = Tiling(100, 20)
    parts = [found([(0, 0, 10, 100)]), found([(90, 0, 100, 100)])]
    assert merged(parts, (100, 180), tiling).boxes.tolist() == [
        [0, 0, 10, 100],
        [170, 0, 180, 100],
    ]


def test_the_same_object_of_two_windows_is_kept_once_per_class_best_first():
    tiling = Tiling(100, 50)
    parts = [found([(60, 10, 90, 40)], [0.4]), found([(10, 10, 40, 40), (10, 10, 40, 40)], [0.7, 0.6], [0, 1])]
    result = merged(parts, (100, 150), tiling)
    assert result.scores.tolist() == pytest.approx([0.7, 0.6])
    assert result.labels.tolist() == [0, 1]
    assert len(merged(parts, (100, 150), tiling, 1)) == 1


def test_nothing_found_anywhere():
    tiling = Tiling(100, 50)
    assert len(merged([found([]), found([])], (100, 150), tiling)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_votes_are_the_literal_weighted_means(seed):
    rng = np.random.default_rng(seed)
    centers = rng.uniform(20, 80, (4, 2))
    middle = centers[rng.integers(0, 4, 60)] + rng.normal(0, 2, (60, 2))
    boxes = np.concatenate([middle - 10, middle + 10], axis=1)
    part = found(boxes, rng.uniform(0.1, 1, 60), rng.integers(0, 2, 60))
    tiling = Tiling(100, 50, vote=0.6)
    plain = merged([part, found([])], (100, 150), replace(tiling, vote=0.0), 10)
    voted = merged([part, found([])], (100, 150), tiling, 10)
    assert voted.scores.tolist() == plain.scores.tolist()
    assert np.abs(voted.boxes - plain.boxes).max() > 0.1
    for best, label, mean in zip(plain.boxes, plain.labels, voted.boxes, strict=True):
        weight, total = 0.0, np.zeros(4)
        for box, score, other in zip(part.boxes, part.scores, part.labels, strict=True):
            overlap = np.prod(np.maximum(np.minimum(box[2:], best[2:]) - np.maximum(box[:2], best[:2]), 0))
            areas = np.prod(box[2:] - box[:2]) + np.prod(best[2:] - best[:2])
            if other == label and overlap / (areas - overlap) >= 0.6:
                weight, total = weight + score, total + score * box
        assert mean == pytest.approx(total / weight, abs=1e-4)


def test_a_box_alone_stays_where_it_is():
    part = found([(10, 10, 30, 30), (60, 60, 90, 90)], [0.5, 0.4])
    result = merged([part], (100, 100), Tiling(100, 50, vote=1.0), 10)
    assert result.boxes.tolist() == part.boxes.tolist()


@pytest.mark.parametrize("values", [(-1, 0), (100, 100), (100, -1), (0, -5)])
def test_impossible_tilings_are_refused(values):
    with raises_code("tiling-overlap"):
        Tiling(*values)
    with raises_code("tiling-vote"):
        Tiling(100, 50, 1.5)


@pytest.mark.parametrize(
    ("size", "overlap", "wanted"),
    [
        (None, None, Tiling(256, 128, 0.6)),
        (0, None, Tiling(0, 0, 0.6)),
        (800, None, Tiling(800, 160, 0.6)),
        (800, 0.25, Tiling(800, 200, 0.6)),
        (100, 0.07, Tiling(100, 7, 0.6)),  # 0.07 * 100 is 7.000000000000001
        (7, 0.2, Tiling(7, 2, 0.6)),  # at least a fifth
        (3, 0.99, Tiling(3, 2, 0.6)),
        (800, 0.0, Tiling(800, 0, 0.6)),
        (800, 0, Tiling(800, 0, 0.6)),
        (800, 1, Tiling(800, 1, 0.6)),
        (800, 799, Tiling(800, 799, 0.6)),
    ],
)
def test_what_the_options_ask_for(size, overlap, wanted):
    assert tiling_from_options(Tiling(256, 128, 0.6), size, overlap) == wanted


@pytest.mark.parametrize(
    ("size", "overlap", "code"),
    [
        (-1, None, "tile-size"),
        (None, 0.2, "overlap-without-tile"),
        (0, 0.2, "overlap-without-tile"),
        (800, 1.0, "overlap-fraction"),
        (800, -0.1, "overlap-fraction"),
        (800, float("nan"), "overlap-fraction"),
        (800, 800, "overlap-pixels"),
        (800, -1, "overlap-pixels"),
    ],
)
def test_options_that_cannot_be(size, overlap, code):
    with raises_code(code) as error:
        tiling_from_options(Tiling(), size, overlap)
    assert str(error.value).startswith(f"--tile {size}: " if size == -1 else f"--overlap {overlap}: ")
