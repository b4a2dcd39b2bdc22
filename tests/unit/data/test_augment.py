"""Boxes follow their pixels: the transformed box is compared with the rectangle found in the transformed picture."""

from pathlib import Path

import numpy as np
import pytest
import torch

from varifocal.config import from_dict
from varifocal.data.augment import Augment, Window, augment, choose_window, cut, turn
from varifocal.data.preprocess import Preprocess
from varifocal.errors import ConfigError
from varifocal.types import Sample, Targets

PLAIN = Preprocess(scale=1.0)


def make(boxes, width=200, height=150, crowd=None):
    """A black picture with filled rectangles, the i-th in the grey level 255 - 60 i, and its sample."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        image[:, y1:y2, x1:x2] = 255 - 60 * i
    array = np.array(boxes, np.float32).reshape(-1, 4)
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd)
    return image, Sample(Path("x.png"), 0, width, height, array, np.arange(len(boxes)), crowd)


def extent(image, level=255):
    """xyxy of the pixels at more than half of the level."""
    y, x = (image[0] > level // 2).nonzero(as_tuple=True)
    return torch.tensor([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()


@pytest.mark.parametrize("seed", range(40))
def test_box_follows_its_pixels_through_everything(seed):
    rng = np.random.default_rng(seed)
    x, y = (int(rng.integers(0, side)) for side in (150, 110))
    w, h = (int(side) for side in rng.integers(15, 40, 2))
    image, sample = make([(x, y, x + w, y + h)])
    crop = 0 if seed % 4 == 0 else 96
    config = Augment(crop=crop, near_box=0.8, jitter=(0.6, 1.6), quarter_turns=True, min_visible=0.0)
    part, targets = augment(image, sample, PLAIN, config, [seed])
    assert tuple(part.shape[1:]) == targets.size
    if len(targets.boxes) == 0:
        assert part.max() < 128
        return
    assert (targets.boxes[0] - extent(part)).abs().max() <= 1.01
    assert targets.boxes.min() >= 0
    assert (targets.boxes[:, 2:] <= torch.tensor(targets.size[::-1]) + 1e-3).all()


@pytest.mark.parametrize("bits", range(8))
def test_each_of_the_eight_orientations_is_exact(bits):
    image, sample = make([(10, 20, 35, 90)], width=60, height=100)
    targets = Targets(torch.from_numpy(sample.boxes), torch.tensor([0]), torch.tensor([False]), (100, 60))
    flip, upside_down, transpose = (bool(bits & bit) for bit in (1, 2, 4))
    part, turned = turn(image, targets, flip=flip, upside_down=upside_down, transpose=transpose)
    assert torch.equal(turned.boxes[0], extent(part))
    assert tuple(part.shape[1:]) == turned.size == ((60, 100) if transpose else (100, 60))


def test_turning_a_picture_without_boxes():
    targets = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool), (8, 6))
    image = torch.zeros(3, 8, 6, dtype=torch.uint8)
    _, turned = turn(image, targets, flip=True, upside_down=True, transpose=True)
    assert turned.boxes.shape == (0, 4)
    assert turned.size == (6, 8)


def test_the_visible_share_decides_between_object_and_crowd():
    """Of four boxes 20 wide the window from x = 50 on shows 100 %, 50 %, 25 % and nothing."""
    boxes = [(60, 10, 80, 20), (40, 30, 60, 40), (35, 50, 55, 60), (20, 70, 40, 80)]
    image, sample = make(boxes, crowd=[False, False, False, False])
    _, targets = cut(image, sample, Window(50, 0, 100, 100, (200, 200)), Augment(min_visible=0.4))
    assert targets.labels.tolist() == [0, 1, 2]
    assert targets.crowd.tolist() == [False, False, True]
    assert targets.boxes.tolist() == [[20, 20, 60, 40], [0, 60, 20, 80], [0, 100, 10, 120]]


def test_slivers_can_be_background_but_crowd_regions_stay():
    boxes = [(60, 10, 80, 20), (35, 50, 55, 60), (35, 70, 55, 80)]
    image, sample = make(boxes, crowd=[False, False, True])
    _, targets = cut(image, sample, Window(50, 0, 100, 100, (200, 200)), Augment(slivers="background"))
    assert targets.labels.tolist() == [0, 2]
    assert targets.crowd.tolist() == [False, True]


def test_windows_near_boxes_hold_one():
    boxes = [(10, 10, 30, 40), (150, 100, 190, 140)]
    _, sample = make(boxes, width=200, height=150)
    hits = 0
    for seed in range(200):
        window = choose_window(
            sample, Preprocess(scale=1.0), Augment(crop=64, near_box=1.0), np.random.default_rng(seed)
        )
        right, bottom = window.left + window.width, window.top + window.height
        assert window.left >= 0
        assert window.top >= 0
        assert right <= 200
        assert bottom <= 150
        hits += any(window.left <= x1 and window.top <= y1 and x2 <= right and y2 <= bottom for x1, y1, x2, y2 in boxes)
    assert hits == 200


def test_a_crowd_region_stays_one():
    image, sample = make([(60, 10, 80, 20)], crowd=[True])
    _, targets = cut(image, sample, Window(0, 0, 200, 150, (150, 200)), Augment(min_visible=0.4))
    assert targets.crowd.tolist() == [True]


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_a_picture_smaller_than_the_crop_is_taken_whole(factor):
    _, sample = make([(5, 5, 20, 20)], width=40, height=30)
    window = choose_window(sample, Preprocess(scale=factor), Augment(crop=128), np.random.default_rng(0))
    assert window == Window(0, 0, 40, 30, (round(30 * factor), round(40 * factor)))


def test_windows_have_the_crops_size_and_reach_every_corner():
    _, sample = make([])
    config = Augment(crop=64, jitter=(0.5, 2.0))
    corners = set()
    for seed in range(400):
        window = choose_window(sample, Preprocess(scale=0.5), config, np.random.default_rng(seed))
        assert 0 <= window.left <= 200 - window.width
        assert 0 <= window.top <= 150 - window.height
        assert max(window.size) <= 64
        if window.height < 150:
            assert window.size == (64, 64)
        if window.width < 100:
            corners.add((window.left < 30, window.top < 30))
    assert len(corners) == 4


def test_windows_near_a_box_hold_it():
    _, sample = make([(170, 120, 195, 148)])
    config = Augment(crop=48, near_box=1.0)
    for seed in range(100):
        window = choose_window(sample, PLAIN, config, np.random.default_rng(seed))
        assert window.left <= 170
        assert window.left + window.width >= 195
        assert window.top <= 120
        assert window.top + window.height >= 148


def test_max_side_bounds_whole_pictures_and_no_crops():
    """A crop costs the same however large its picture is; shrinking that would only lose its small boxes."""
    _, sample = make([], width=200, height=150)
    bounded = Preprocess(scale=1.0, max_side=50)
    crop = choose_window(sample, bounded, Augment(crop=64), np.random.default_rng(0))
    assert (crop.width, crop.height, crop.size) == (64, 64, (64, 64))
    whole = choose_window(sample, bounded, Augment(), np.random.default_rng(0))
    assert (whole.width, whole.height, whole.size) == (200, 150, (38, 50))


@pytest.mark.parametrize("jitter", [(0.5, 2.0), (2.0, 0.5)])
def test_jitter_is_a_range_in_any_order(jitter):
    _, sample = make([])
    windows = [
        choose_window(sample, PLAIN, Augment(jitter=jitter), np.random.default_rng(seed)).size[1] for seed in range(200)
    ]
    assert 100 <= min(windows) < 110
    assert 360 < max(windows) <= 400


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("crop", 0, -1),
        ("near_box", 1, 1.1),
        ("near_box", 0, -0.1),
        ("jitter", [0.1, 1], [0, 1]),
        ("short", [0, 0], [-1, 5]),
        ("flip", 1, 2),
        ("colour", 0, -0.1),
        ("min_visible", 1, 1.01),
        ("slivers", "background", "drop"),
    ],
)
def test_bounds(key, good, bad):
    from_dict(Augment, {key: good}, "x")
    with pytest.raises(ConfigError, match=rf"^x: {key}.*\(got "):
        from_dict(Augment, {key: bad}, "x")


def test_short_side_is_drawn_from_its_range():
    _, sample = make([])
    for short in ((100, 120), (120, 100)):
        config = Augment(short=short)
        sizes = {choose_window(sample, PLAIN, config, np.random.default_rng(seed)).size[0] for seed in range(200)}
        assert sizes == set(range(100, 121))


def test_the_seed_decides_everything():
    image, sample = make([(20, 20, 60, 60), (90, 70, 130, 110)])
    config = Augment(crop=80, near_box=0.5, jitter=(0.7, 1.4), quarter_turns=True, colour=0.5)
    state = torch.random.get_rng_state()
    first, second, other = (augment(image, sample, PLAIN, config, seed) for seed in ([1, 2], [1, 2], [1, 3]))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1].boxes, second[1].boxes)
    assert first[0].shape != other[0].shape or not torch.equal(first[0], other[0])
    assert torch.equal(torch.random.get_rng_state(), state)  # the network's chance is left alone


def test_colour_changes_pixels_and_no_boxes():
    image, sample = make([(20, 20, 60, 60)])
    image[1] //= 2
    plain = augment(image, sample, PLAIN, Augment(flip=0.0), [0])
    coloured = augment(image, sample, PLAIN, Augment(flip=0.0, colour=0.4), [0])
    assert torch.equal(plain[0], image)
    assert not torch.equal(coloured[0], image)
    assert coloured[0].dtype == torch.uint8
    assert torch.equal(plain[1].boxes, coloured[1].boxes)
