"""Boxes follow their pixels: the transformed box is compared with the rectangle found in the transformed image."""

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from error_codes import raises_code
from skimage.measure import label

from varifocal.data.augment import Augmentation, Window, augment, crop_resize, flip_rot90, sample_crop
from varifocal.data.photometric import cutout
from varifocal.structures import Targets
from varifocal.types import Preprocess, Sample
from varifocal.utils.config import from_dict
from varifocal.utils.errors import ConfigError

PLAIN = Preprocess(scale=1.0)


def make(boxes, width=200, height=150, crowd=None):
    """A black image with filled rectangles, the i-th in the gray level 255 - 60 i, and its sample."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        image[:, y1:y2, x1:x2] = 255 - 60 * i
    array = np.array(boxes, np.float32).reshape(-1, 4)
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd, bool)
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
    config = Augmentation(crop=crop, crop_on_box_prob=0.8, scale_jitter=(0.6, 1.6), rot90=True, min_visible=0.0)
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
    part, turned = flip_rot90(image, targets, flip=flip, upside_down=upside_down, transpose=transpose)
    assert torch.equal(turned.boxes[0], extent(part))
    assert tuple(part.shape[1:]) == turned.size == ((60, 100) if transpose else (100, 60))


def test_turning_a_image_without_boxes():
    targets = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool), (8, 6))
    image = torch.zeros(3, 8, 6, dtype=torch.uint8)
    _, turned = flip_rot90(image, targets, flip=True, upside_down=True, transpose=True)
    assert turned.boxes.shape == (0, 4)
    assert turned.size == (6, 8)


def test_the_visible_share_decides_between_object_and_crowd():
    """Of four boxes 20 wide the window from x = 50 on shows 100 %, 50 %, 25 % and nothing."""
    boxes = [(60, 10, 80, 20), (40, 30, 60, 40), (35, 50, 55, 60), (20, 70, 40, 80)]
    image, sample = make(boxes, crowd=[False, False, False, False])
    _, targets = crop_resize(image, sample, Window(50, 0, 100, 100, (200, 200)), Augmentation(min_visible=0.4))
    assert targets.labels.tolist() == [0, 1, 2]
    assert targets.crowd.tolist() == [False, False, True]
    assert targets.boxes.tolist() == [[20, 20, 60, 40], [0, 60, 20, 80], [0, 100, 10, 120]]


def test_slivers_can_be_background_but_crowd_regions_stay():
    boxes = [(60, 10, 80, 20), (35, 50, 55, 60), (35, 70, 55, 80)]
    image, sample = make(boxes, crowd=[False, False, True])
    _, targets = crop_resize(
        image, sample, Window(50, 0, 100, 100, (200, 200)), Augmentation(truncated_boxes="background")
    )
    assert targets.labels.tolist() == [0, 2]
    assert targets.crowd.tolist() == [False, True]


def test_windows_near_boxes_hold_one():
    boxes = [(10, 10, 30, 40), (150, 100, 190, 140)]
    _, sample = make(boxes, width=200, height=150)
    hits = 0
    for seed in range(200):
        window = sample_crop(
            sample, Preprocess(scale=1.0), Augmentation(crop=64, crop_on_box_prob=1.0), np.random.default_rng(seed)
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
    _, targets = crop_resize(image, sample, Window(0, 0, 200, 150, (150, 200)), Augmentation(min_visible=0.4))
    assert targets.crowd.tolist() == [True]


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_a_image_smaller_than_the_crop_is_taken_whole(factor):
    _, sample = make([(5, 5, 20, 20)], width=40, height=30)
    window = sample_crop(sample, Preprocess(scale=factor), Augmentation(crop=128), np.random.default_rng(0))
    assert window == Window(0, 0, 40, 30, (round(30 * factor), round(40 * factor)))


def test_windows_have_the_crops_size_and_reach_every_corner():
    _, sample = make([])
    config = Augmentation(crop=64, scale_jitter=(0.5, 2.0))
    corners = set()
    for seed in range(400):
        window = sample_crop(sample, Preprocess(scale=0.5), config, np.random.default_rng(seed))
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
    config = Augmentation(crop=48, crop_on_box_prob=1.0)
    for seed in range(100):
        window = sample_crop(sample, PLAIN, config, np.random.default_rng(seed))
        assert window.left <= 170
        assert window.left + window.width >= 195
        assert window.top <= 120
        assert window.top + window.height >= 148


def test_max_side_bounds_whole_images_and_no_crops():
    """A crop costs the same however large its image is; shrinking that would only lose its small boxes."""
    _, sample = make([], width=200, height=150)
    bounded = Preprocess(scale=1.0, max_size=50)
    crop = sample_crop(sample, bounded, Augmentation(crop=64), np.random.default_rng(0))
    assert (crop.width, crop.height, crop.size) == (64, 64, (64, 64))
    whole = sample_crop(sample, bounded, Augmentation(), np.random.default_rng(0))
    assert (whole.width, whole.height, whole.size) == (200, 150, (38, 50))


@pytest.mark.parametrize("jitter", [(0.5, 2.0), (2.0, 0.5)])
def test_jitter_is_a_range_in_any_order(jitter):
    _, sample = make([])
    windows = [
        sample_crop(sample, PLAIN, Augmentation(scale_jitter=jitter), np.random.default_rng(seed)).size[1]
        for seed in range(200)
    ]
    assert 100 <= min(windows) < 110
    assert 360 < max(windows) <= 400


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("crop", 0, -1),
        ("crop_on_box_prob", 1, 1.1),
        ("crop_on_box_prob", 0, -0.1),
        ("scale_jitter", [0.1, 1], [0, 1]),
        ("short_range", [0, 0], [-1, 5]),
        ("long_range", [5, 0], [5, -1]),
        ("short_choices", [], [-1]),
        ("random_crop", 1, 1.1),
        ("random_crop_scale", [0, 1], [0.5, 1.1]),
        ("cutout", 0, -0.1),
        ("cutout_holes", [0, 1], [-1, 1]),
        ("hflip", 1, 2),
        ("vflip", 1, 2),
        ("iou_crop", 1, 1.1),
        ("random_erasing", 1, -0.1),
        ("mosaic", 1, 1.1),
        ("mosaic_scale", [0.1, 2], [0, 1]),
        ("mixup", 1, 1.1),
        ("copy_paste", 1, 1.1),
        ("num_pastes", [0, 5], [-1, 5]),
        ("mixing_epochs", 0, -1),
        ("color_jitter", 0, -0.1),
        ("min_visible", 1, 1.01),
        ("truncated_boxes", "background", "drop"),
    ],
)
def test_bounds(key, good, bad):
    from_dict(Augmentation, {key: good}, "x")
    with pytest.raises(ConfigError, match=rf"^x: {key}.*\(got "):
        from_dict(Augmentation, {key: bad}, "x")


def test_short_side_is_drawn_from_its_range():
    _, sample = make([])
    for short in ((100, 120), (120, 100)):
        config = Augmentation(short_range=short)
        sizes = {sample_crop(sample, PLAIN, config, np.random.default_rng(seed)).size[0] for seed in range(200)}
        assert sizes == set(range(100, 121))


def test_the_seed_decides_everything():
    image, sample = make([(20, 20, 60, 60), (90, 70, 130, 110)])
    config = Augmentation(crop=80, crop_on_box_prob=0.5, scale_jitter=(0.7, 1.4), rot90=True, color_jitter=0.5)
    state = torch.random.get_rng_state()
    first, second, other = (augment(image, sample, PLAIN, config, seed) for seed in ([1, 2], [1, 2], [1, 3]))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1].boxes, second[1].boxes)
    assert first[0].shape != other[0].shape or not torch.equal(first[0], other[0])
    assert torch.equal(torch.random.get_rng_state(), state)  # the network's chance is left alone


def test_color_changes_pixels_and_no_boxes():
    image, sample = make([(20, 20, 60, 60)])
    image[1] //= 2
    plain = augment(image, sample, PLAIN, Augmentation(hflip=0.0), [0])
    colored = augment(image, sample, PLAIN, Augmentation(hflip=0.0, color_jitter=0.4), [0])
    assert torch.equal(plain[0], image)
    assert not torch.equal(colored[0], image)
    assert colored[0].dtype == torch.uint8
    assert torch.equal(plain[1].boxes, colored[1].boxes)


def draw_windows(sample, config, count, preprocess=PLAIN):
    return [sample_crop(sample, preprocess, config, np.random.default_rng([5, seed])) for seed in range(count)]


def assert_frequencies(found, wanted):
    """Counts are within five standard deviations of the binomial's; ``wanted`` maps each outcome to its chance."""
    counts, total = Counter(found), len(found)
    assert set(counts) <= set(wanted)
    for outcome, chance in wanted.items():
        assert abs(counts[outcome] - total * chance) <= 5 * math.sqrt(total * chance * (1 - chance)) + 1, outcome


def test_both_limits_are_drawn_independently():
    """Against the sizes of all pairs of limits, each as likely as the others; each limit binds in some of them."""
    width, height, shorts, longs = 60, 20, range(40, 61), range(130, 151)
    _, sample = make([], width=width, height=height)
    wanted = Counter()
    for short, long in itertools.product(shorts, longs):
        factor = min(long / width, short / height)
        wanted[int(height * factor + 0.5), int(width * factor + 0.5)] += 1 / (len(shorts) * len(longs))
    for config in (
        Augmentation(short_range=(40, 60), long_range=(130, 150)),
        Augmentation(short_range=(60, 40), long_range=(150, 130)),
    ):
        assert_frequencies([w.size for w in draw_windows(sample, config, 3000)], wanted)


def test_vfnetx_limits():
    """An image of 4 x 3: the longer limit binds below 4/3 of the shorter one."""
    _, sample = make([], width=640, height=480)
    sizes = [w.size for w in draw_windows(sample, Augmentation(short_range=(500, 1400), long_range=(750, 2100)), 1000)]
    assert all(500 <= max(size) <= 1867 and 500 <= min(size) <= 1400 for size in sizes)
    assert all(max(size) >= 667 for size in sizes)
    # the shorter side is min(S, 3/4 L): its mean over S uniform in 500..1400 and L uniform in 750..2100
    shorts, longs = np.arange(500, 1401), np.arange(750, 2101)
    mean = np.minimum(shorts[:, None], 0.75 * longs).mean()
    deviation = np.minimum(shorts[:, None], 0.75 * longs).std()
    assert abs(np.mean([min(size) for size in sizes]) - mean) < 5 * deviation / math.sqrt(1000)


def test_one_of_the_values():
    _, sample = make([], width=200, height=100)
    sizes = [
        w.size
        for w in draw_windows(sample, Augmentation(short_choices=(64, 70, 80)), 1500, Preprocess(max_long_side=150))
    ]
    assert_frequencies(sizes, {(64, 128): 1 / 3, (70, 140): 1 / 3, (75, 150): 1 / 3})
    with raises_code("short-side-drawn-twice"):
        Augmentation(short_range=(64, 80), short_choices=(64, 80))


def test_a_part_has_sides_and_place_by_chance():
    """Sides of 40 and 20 pixels at .75 to 1: 31 to 39 are nine whole steps of a fortieth, 30 and 40 half ones."""
    _, sample = make([], width=40, height=20)
    windows = draw_windows(sample, Augmentation(random_crop=1.0), 4000)
    steps = {width: (0.5 if width in (30, 40) else 1) / 10 for width in range(30, 41)}
    assert_frequencies([w.width for w in windows], steps)
    halves = {height: (0.5 if height in (15, 20) else 1) / 5 for height in range(15, 21)}
    assert_frequencies([w.height for w in windows], halves)
    assert_frequencies([w.left for w in windows if w.width == 34], dict.fromkeys(range(7), 1 / 7))
    assert_frequencies([w.top for w in windows if w.height == 17], dict.fromkeys(range(4), 1 / 4))
    assert all(w.size == (w.height, w.width) for w in windows)
    assert len({(w.width, w.height) for w in windows}) == 11 * 6


def test_how_often_a_part_is_taken():
    _, sample = make([], width=400, height=300)
    windows = draw_windows(sample, Augmentation(random_crop=0.5), 2000)
    whole = [w.width == 400 and w.height == 300 for w in windows]
    assert_frequencies(whole, {True: 0.5, False: 0.5})


def test_a_part_shows_an_object_or_is_the_whole_image():
    """A crowd region does not count; an object of the corner is shown by few parts, so that some are whole."""
    boxes = [(0, 0, 4, 3), (150, 100, 200, 150)]
    _, sample = make(boxes, crowd=[False, True])
    windows = draw_windows(sample, Augmentation(random_crop=1.0, min_visible=0.0), 300)
    assert all(w.left < 4 and w.top < 3 for w in windows)
    whole = sum((w.width, w.height) == (200, 150) for w in windows)
    assert 0 < whole < 300
    _, empty = make([(150, 100, 200, 150)], crowd=[True])
    assert all((w.width, w.height) != (200, 150) for w in draw_windows(empty, Augmentation(random_crop=1.0), 100))
    visible = [w for w in draw_windows(sample, Augmentation(random_crop=1.0, min_visible=1.0), 300)]
    assert all(w.left == 0 and w.top == 0 for w in visible)


@pytest.mark.parametrize("seed", range(20))
def test_boxes_of_a_part_are_those_of_a_literal_loop(seed):
    boxes = [(10, 20, 60, 90), (120, 5, 195, 60), (80, 70, 140, 149), (0, 0, 8, 8)]
    image, sample = make(boxes)
    config = Augmentation(random_crop=1.0, short_range=(60, 100), long_range=(110, 150), hflip=1.0, min_visible=0.0)
    window = sample_crop(sample, PLAIN, config, np.random.default_rng([seed]))
    part, targets = augment(image, sample, PLAIN, config, [seed])
    height, width = window.size
    wanted = []
    for kind, (x1, y1, x2, y2) in enumerate(boxes):
        xs = [min(max(x - window.left, 0), window.width) * width / window.width for x in (x1, x2)]
        ys = [min(max(y - window.top, 0), window.height) * height / window.height for y in (y1, y2)]
        if xs[1] > xs[0] and ys[1] > ys[0]:
            wanted.append([width - xs[1], ys[0], width - xs[0], ys[1], kind])
    assert tuple(part.shape[1:]) == targets.size == window.size
    assert targets.labels.tolist() == [row[4] for row in wanted]
    assert np.abs(targets.boxes.numpy() - np.array([row[:4] for row in wanted])).max() < 1e-3
    assert not targets.crowd.any()


def test_holes_are_of_the_thirteen_sizes_and_anywhere():
    white = torch.full((3, 200, 300), 255, dtype=torch.uint8)
    sizes, corners = Counter(), []
    for seed in range(1500):
        part = cutout(white, (1, 1), np.random.default_rng(seed))
        assert set(part.unique().tolist()) == {0, 255}
        x1, y1, x2, y2 = (int(side) for side in extent(255 - part))
        assert not part[:, y1:y2, x1:x2].any()
        corners.append((x1, y1))
        if x2 < 300 and y2 < 200:
            sizes[x2 - x1, y2 - y1] += 1
    wanted = {(4, 4), (4, 8), (8, 4), (8, 8), (16, 8), (8, 16), (16, 16), (16, 32), (32, 16), (32, 32), (32, 48)}
    assert set(sizes) == wanted | {(48, 32), (48, 48)}
    assert_frequencies([x // 100 for x, _ in corners], dict.fromkeys(range(3), 1 / 3))
    assert_frequencies([y // 50 for _, y in corners], dict.fromkeys(range(4), 1 / 4))
    assert max(x for x, _ in corners) > 290
    assert (white == 255).all()  # the image may be kept in memory


def test_the_number_of_holes():
    """On a large image few meet, so that the black islands can be counted."""
    white = torch.full((3, 1500, 1500), 255, dtype=torch.uint8)
    counts = Counter(
        int(label((cutout(white, (5, 10), np.random.default_rng(seed))[0] == 0).numpy()).max()) for seed in range(60)
    )
    assert max(counts) == 10
    assert set(range(5, 11)) <= set(counts)
    assert sum(counts[n] for n in counts if n < 5) <= 2


def test_cutout_happens_by_chance_in_the_resized_image_and_moves_no_box():
    image, sample = make([(0, 0, 200, 150)])
    plain, holed = Augmentation(hflip=0.0), Augmentation(hflip=0.0, cutout=0.5)
    small = Preprocess(scale=0.5)
    hit = []
    for seed in range(400):
        part, targets = augment(image, sample, small, holed, [seed])
        assert tuple(part.shape[1:]) == (75, 100)
        assert targets.boxes.tolist() == [[0, 0, 100, 75]]
        hit.append(bool((part == 0).any()))
    assert_frequencies(hit, {True: 0.5, False: 0.5})
    assert augment(image, sample, small, plain, [0])[0].min() == 255


def test_the_seed_decides_part_limits_and_holes_too():
    image, sample = make([(20, 20, 60, 60), (90, 70, 130, 110)])
    config = Augmentation(random_crop=0.5, cutout=0.5, short_range=(60, 100), long_range=(90, 140))
    for seed in range(8):
        first, second = (augment(image, sample, PLAIN, config, [3, seed]) for _ in range(2))
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1].boxes, second[1].boxes)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_an_upside_down_flip_is_exact(flip):
    image, sample = make([(10, 20, 35, 90)], width=60, height=100)
    for seed in range(5):
        part, targets = augment(image, sample, PLAIN, Augmentation(hflip=flip, vflip=1.0), [seed])
        assert torch.equal(targets.boxes[0], extent(part))
        assert targets.boxes[0].tolist() == [25 if flip else 10, 10, 50 if flip else 35, 80]


def test_the_chance_of_each_flip():
    image, sample = make([(10, 20, 35, 90)], width=60, height=100)
    config = Augmentation(hflip=0.25, vflip=0.75)
    boxes = [augment(image, sample, PLAIN, config, [seed])[1].boxes[0].tolist() for seed in range(400)]
    assert_frequencies([box[0] for box in boxes], {10: 0.75, 25: 0.25})
    assert_frequencies([box[1] for box in boxes], {20: 0.25, 10: 0.75})


def test_iou_crops_are_those_of_ssd():
    """0.3 to 1 of each side, aspect within 1/2 to 2, the middle of an object inside; one in seven is left whole."""
    _, sample = make([(20, 20, 60, 60), (120, 80, 150, 140), (0, 0, 200, 150)], crowd=[False, False, True])
    windows = draw_windows(sample, Augmentation(iou_crop=1.0), 100)
    whole = 0
    for w in windows:
        if (w.left, w.top, w.width, w.height) == (0, 0, 200, 150):
            whole += 1
            continue
        assert 0.29 * 200 <= w.width <= 200
        assert 0.29 * 150 <= w.height <= 150
        assert 0.5 <= w.width / w.height <= 2
        assert w.left + w.width <= 200
        assert w.top + w.height <= 150
        middles = [(40, 40), (135, 110)]
        assert any(w.left < x < w.left + w.width and w.top < y < w.top + w.height for x, y in middles)
        assert w.size == (w.height, w.width)
    assert 1 <= whole < 60
    half = draw_windows(sample, Augmentation(iou_crop=0.5), 100)
    assert 50 < sum((w.width, w.height) == (200, 150) for w in half) < 90


@pytest.mark.parametrize("seed", range(10))
def test_boxes_of_an_iou_crop_follow_their_pixels(seed):
    image, sample = make([(50, 40, 110, 100)])
    config = Augmentation(iou_crop=1.0, min_visible=0.0, short_range=(100, 140), vflip=0.5)
    part, targets = augment(image, sample, Preprocess(short_side=120, max_long_side=400), config, [seed])
    assert (targets.boxes[0] - extent(part)).abs().max() <= 1.01


def test_no_iou_crop_without_an_object():
    for boxes, crowd in (([], []), ([(0, 0, 50, 50)], [True])):
        _, sample = make(boxes, crowd=crowd)
        assert {(w.width, w.height) for w in draw_windows(sample, Augmentation(iou_crop=1.0), 20)} == {(200, 150)}


@pytest.mark.parametrize("other", [{"crop": 64}, {"random_crop": 0.5}])
def test_one_way_to_choose_a_part(other):
    with raises_code("crops-combined"):
        Augmentation(iou_crop=0.5, **other)


@pytest.mark.parametrize("seed", range(30))
def test_what_is_erased_decides_what_becomes_of_a_box(seed):
    """The share of a box that is left is counted in the pixels."""
    boxes = [(10, 10, 90, 70), (110, 15, 190, 65), (20, 90, 120, 140), (150, 100, 160, 110)]
    image, sample = make(boxes)
    mean = Preprocess(scale=1.0, mean=(3.0, 2.0, 1.0), bgr=True)
    part, targets = augment(image, sample, mean, Augmentation(hflip=0.0, random_erasing=1.0, min_visible=0.413), [seed])
    left = {
        i: ((part[0] == 255 - 60 * i).sum() / ((x2 - x1) * (y2 - y1))).item()
        for i, (x1, y1, x2, y2) in enumerate(boxes)
    }
    found = dict(zip(targets.labels.tolist(), targets.crowd.tolist(), strict=True))
    assert found == {i: share < 0.413 for i, share in left.items() if share > 0}
    hole = (part != image).any(dim=0)
    assert hole.any()
    assert part[:, hole].unique(dim=1).flatten().tolist() == [1, 2, 3]


def test_only_what_is_always_resized_alike_has_one_size():
    same = {"hflip": 1.0, "rot90": True, "color_jitter": 0.4, "cutout": 0.5, "mixup": 0.5, "copy_paste": 0.5}
    assert Augmentation(**same, random_erasing=0.3, vflip=0.5, extra_transforms={"RandomInvert": {}}).one_size
    for varying in (
        {"crop": 9},
        {"scale_jitter": (0.9, 1.0)},
        {"short_range": (5, 9)},
        {"long_range": (5, 9)},
        {"short_choices": (3,)},
        {"random_crop": 0.1},
        {"iou_crop": 0.1},
        {"mosaic": 0.1},
    ):
        assert not Augmentation(**varying).one_size, varying
