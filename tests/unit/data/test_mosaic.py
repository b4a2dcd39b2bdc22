"""Images put together: every pixel against a literal loop, every box found again in the pixels."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.measure import label

from varifocal.data.augment import Augmentation
from varifocal.data.loader import BatchSampler, TrainDataset
from varifocal.data.mosaic import average_images, copy_paste, mix_images, mixup, mosaic
from varifocal.structures import Targets
from varifocal.types import Preprocess, Sample

FILL = (7, 8, 9)
ALL = Augmentation(min_visible=0.0)


def make(width, height, boxes, first=1, ground=0, crowd=None):
    """An image of the gray level ``ground`` with filled rectangles of the levels 10 * first, 10 * (first + 1), ...;
    the label of a box is a tenth of its level."""
    image = torch.full((3, height, width), ground, dtype=torch.uint8)
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        image[:, y1:y2, x1:x2] = 10 * (first + i)
    return image, Targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.arange(first, first + len(boxes)),
        torch.zeros(len(boxes), dtype=torch.bool) if crowd is None else torch.tensor(crowd),
        (height, width),
    )


def extent(image, level):
    """xyxy of the pixels of a level; None where there are none."""
    y, x = (image[0] == level).nonzero(as_tuple=True)
    return [x.min().item(), y.min().item(), x.max().item() + 1, y.max().item() + 1] if len(x) else None


def check(image, levels):
    """Each level that can be seen has one box, around its pixels; nothing else has one."""
    pixels, targets = image
    found = dict(zip((10 * targets.labels).tolist(), targets.boxes.tolist(), strict=True))
    assert found == {level: box for level in levels if (box := extent(pixels, level)) is not None}
    assert tuple(pixels.shape[1:]) == targets.size
    assert pixels.dtype == torch.uint8


TILES = [
    ((60, 40), [(30, 20, 55, 38)]),
    ((50, 70), [(0, 50, 20, 65), (30, 10, 45, 30)]),
    ((20, 20), [(2, 3, 12, 17)]),
    ((90, 60), [(0, 0, 30, 10), (50, 40, 80, 55)]),
]


@pytest.mark.parametrize("center", [(40, 30), (20, 45), (60, 15)])
def test_mosaic(center):
    """A pixel at (dx, dy) from the center is that of the tile of its quarter, as far from the tile's inner corner."""
    tiles = [make(*size, boxes, first=2 * i + 1, ground=100 + i) for i, (size, boxes) in enumerate(TILES)]
    before = [image.clone() for image, _ in tiles]
    width, height = 80, 60
    image, targets = mosaic(tiles, (height, width), center, FILL, ALL)
    for y in range(height):
        for x in range(width):
            place = (x >= center[0]) + 2 * (y >= center[1])
            tile = tiles[place][0]
            column = x - center[0] + (0 if x >= center[0] else tile.shape[2])
            row = y - center[1] + (0 if y >= center[1] else tile.shape[1])
            inside = 0 <= column < tile.shape[2] and 0 <= row < tile.shape[1]
            assert image[:, y, x].tolist() == (tile[:, row, column].tolist() if inside else list(FILL)), (x, y)
    check((image, targets), range(10, 90, 10))
    assert all(torch.equal(image, kept) for (image, _), kept in zip(tiles, before, strict=True))


def test_what_is_cut_off_in_a_mosaic():
    """Of boxes 20 wide the left tile shows the right 20, 10 and 5 pixels, and nothing of the last."""
    left = make(100, 100, [(80, 0, 100, 10), (60, 20, 80, 30), (55, 40, 75, 50), (20, 60, 40, 70)])
    empty = make(100, 100, [])
    image, targets = mosaic([left, empty, empty, empty], (100, 60), (30, 100), FILL, Augmentation(min_visible=0.4))
    assert targets.labels.tolist() == [1, 2, 3]
    assert targets.crowd.tolist() == [False, False, True]
    check((image, targets), range(10, 50, 10))
    _, background = mosaic(
        [left, empty, empty, empty],
        (100, 60),
        (30, 100),
        FILL,
        Augmentation(min_visible=0.4, truncated_boxes="background"),
    )
    assert background.labels.tolist() == [1, 2]


@pytest.mark.parametrize("seed", range(40))
def test_copy_paste(seed):
    """Pasted boxes are around their pixels; of the image's own, what is left is counted."""
    own = [(5, 5, 45, 35), (50, 40, 70, 75), (60, 5, 95, 15)]
    base = make(100, 80, own, ground=200)
    donor = make(70, 90, [(10, 10, 30, 40), (40, 50, 65, 80), (0, 60, 12, 90)], first=11, ground=201)
    kept = base[0].clone(), donor[0].clone()
    image, targets = copy_paste(
        base, donor, Augmentation(num_pastes=(1, 3), min_visible=0.413), np.random.default_rng(seed)
    )
    rows = zip(targets.labels.tolist(), targets.boxes.tolist(), targets.crowd.tolist(), strict=True)
    found = {number: (box, ignored) for number, box, ignored in rows}
    for level, (x1, y1, x2, y2) in zip((10, 20, 30), own, strict=True):
        share = (image[0] == level).sum().item() / ((x2 - x1) * (y2 - y1))
        assert (level // 10 in found) == (share > 0)
        if share > 0:
            assert found[level // 10] == ([x1, y1, x2, y2], share < 0.413)
    pasted = [level for level in (110, 120, 130) if (image[0] == level).any()]
    assert 1 <= len(pasted) <= 3
    assert len(found) == len(pasted) + sum(number < 10 for number in found)
    for level in pasted:
        box, crowd = found[level // 10]
        assert box == extent(image, level)
        assert not crowd
        i = level // 10 - 11
        assert [box[2] - box[0], box[3] - box[1]] == [[20, 30], [25, 30], [12, 30]][i]
    assert torch.equal(base[0], kept[0])
    assert torch.equal(donor[0], kept[1])


def test_what_else_a_pasted_rectangle_shows_has_its_box():
    """The large box holds the small one whole and a tenth of another."""
    base = make(60, 60, [], ground=200)
    donor = make(60, 60, [(10, 10, 50, 50), (20, 20, 30, 30), (46, 15, 86 - 27, 25)], first=11)
    shown = Counter()
    for seed in range(30):
        image, targets = copy_paste(
            base, donor, Augmentation(num_pastes=(1, 1), min_visible=0.5), np.random.default_rng(seed)
        )
        shown[tuple(zip(targets.labels.tolist(), targets.crowd.tolist(), strict=True))] += 1
        for number, box in zip(targets.labels.tolist(), targets.boxes.tolist(), strict=True):
            x1, y1, x2, y2 = (int(side) for side in box)
            assert number == 11 or (image[0, y1:y2, x1:x2] == 10 * number).all()
    assert ((11, False), (12, False), (13, True)) in shown
    assert ((11, True), (12, False)) in shown  # pasted by itself, the small one shows a sixteenth of the large one


def test_fractional_boxes_keep_their_place_on_the_pasted_pixels():
    base = make(60, 60, [], ground=200)
    image, targets = make(40, 40, [(10, 10, 30, 30)], first=11)
    donor = image, replace(targets, boxes=torch.tensor([[9.75, 10.25, 30.5, 29.5]]))
    found, pasted = copy_paste(base, donor, Augmentation(num_pastes=(1, 1)), np.random.default_rng(0))
    x1, y1, _, _ = extent(found, 110)
    assert pasted.boxes[0].tolist() == pytest.approx([x1 - 0.25, y1 + 0.25, x1 + 20.5, y1 + 19.5])


def test_what_does_not_fit_is_not_pasted():
    base = make(20, 20, [(0, 0, 10, 10)])
    donor = make(60, 60, [(0, 0, 21, 5), (30, 30, 55, 55), (0, 30, 20, 50)], first=11, crowd=[False, False, True])
    image, targets = copy_paste(base, donor, Augmentation(num_pastes=(9, 9)), np.random.default_rng(0))
    assert torch.equal(image, base[0])
    assert targets.labels.tolist() == [1]


@pytest.mark.parametrize("size", [(40, 50), (90, 30), (30, 90), (100, 120)])
def test_mixup(size):
    base = make(60, 70, [(5, 5, 25, 35)], ground=101)
    corner = size[0] // 2 - 10, size[1] // 2 - 7
    donor = make(*size, [(*corner, corner[0] + 20, corner[1] + 15)], first=2, ground=70)
    kept = base[0].clone(), donor[0].clone()
    places = set()
    for seed in range(10):
        image, targets = mixup(base, donor, ALL, np.random.default_rng(seed))
        assert tuple(image.shape[1:]) == targets.size == (70, 60)
        other = dict(zip(targets.labels.tolist(), targets.boxes.tolist(), strict=True))
        assert other.pop(1) == [5, 5, 25, 35]
        # its box, always whole, tells where the donor lies
        left, top = int(other[2][0]) - corner[0], int(other[2][1]) - corner[1]
        assert other == {2: [left + corner[0], top + corner[1], left + corner[0] + 20, top + corner[1] + 15]}
        places.add((left, top))
        for y in range(70):
            for x in range(60):
                inside = 0 <= x - left < size[0] and 0 <= y - top < size[1]
                own = base[0][0, y, x].item()
                assert image[0, y, x].item() == ((own + donor[0][0, y - top, x - left].item()) // 2 if inside else own)
    assert len(places) > 2
    assert torch.equal(base[0], kept[0])
    assert torch.equal(donor[0], kept[1])


def test_the_mean_of_all_pairs_of_bytes():
    a, b = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    wanted = (a + b) // 2
    found = average_images(a[None].expand(3, -1, -1).byte(), b[None].expand(3, -1, -1).byte())
    assert torch.equal(found[0].long(), wanted)


def test_without_chance_there_is_one_image():
    one = make(30, 20, [(1, 1, 9, 9)])
    asked = []

    def take(number, zoom):
        asked.append((number, zoom))
        return one

    def unknown():
        raise AssertionError

    assert mix_images(take, unknown, Augmentation(), FILL, np.random.default_rng(0)) is one
    assert asked == [(0, 1.0)]


def test_what_is_asked_for():
    asked = []

    def take(number, zoom):
        asked.append((number, zoom))
        return make(30, 20, [(1, 1, 9, 9)], first=number + 1)

    config = Augmentation(mosaic=1.0, mosaic_scale=(0.75, 0.5), copy_paste=1.0, mixup=1.0, min_visible=0.0)
    image, targets = mix_images(take, lambda: (40, 60), config, FILL, np.random.default_rng(0))
    assert [number for number, _ in asked] == [0, 1, 2, 3, 4, 5]
    assert len({zoom for _, zoom in asked[:4]}) == 1
    assert 0.5 <= asked[0][1] <= 0.75
    assert [zoom for _, zoom in asked[4:]] == [1.0, 1.0]
    assert tuple(image.shape[1:]) == targets.size == (40, 60)


def test_the_first_image_may_be_in_each_quarter():
    """Gray levels tell the tiles; zoom 1 around a point in the middle half shows all four."""
    places = Counter()
    for seed in range(80):
        image, _ = mix_images(
            lambda number, zoom: make(40, 40, [], ground=50 + number),
            lambda: (40, 40),
            Augmentation(mosaic=1.0, mosaic_scale=(1.0, 1.0)),
            FILL,
            np.random.default_rng(seed),
        )
        corners = [image[0, y, x].item() for y in (0, 39) for x in (0, 39)]
        assert sorted(corners) == [50, 51, 52, 53]
        places[corners.index(50)] += 1
    assert len(places) == 4
    assert min(places.values()) > 5


def test_images_that_are_put_together_are_varied_each_by_itself(samples):
    data = TrainDataset(samples[:1], Preprocess(scale=1.0), Augmentation(hflip=0.5, mixup=1.0), 0)
    pairs = {len({tuple(box) for box in data[(0, place, 0)].targets.boxes.tolist()}) for place in range(20)}
    assert pairs == {1, 2}


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Eight black images of 120 x 90 with one rectangle each, away from the border."""
    folder, made = tmp_path_factory.mktemp("mixed"), []
    for i in range(8):
        rng = np.random.default_rng(i)
        x, y = (int(rng.integers(4, side)) for side in (60, 40))
        w, h = (int(rng.integers(20, 40)) for _ in range(2))
        pixels = np.zeros((90, 120, 3), np.uint8)
        pixels[y : y + h, x : x + w] = 120 + 15 * i
        Image.fromarray(pixels).save(folder / f"{i}.png")
        boxes = np.array([[x, y, x + w, y + h]], np.float32)
        made.append(Sample(folder / f"{i}.png", i, 120, 90, boxes, np.array([i]), np.zeros(1, bool)))
    return made


BLACK = Preprocess(scale=1.0, mean=(0.0, 0.0, 0.0))
MIXED = Augmentation(
    mosaic=0.6, copy_paste=0.5, mixup=0.4, hflip=0.5, vflip=0.5, scale_jitter=(0.8, 1.2), min_visible=0.0
)


def regions(image):
    """xyxy of what is connected and brighter than black, at half of its brightness."""
    islands = label((image[0] > 8).numpy())
    found = []
    for number in range(1, islands.max() + 1):
        island = torch.from_numpy(islands == number)
        y, x = (island & (image[0] > image[0][island].max() // 2)).nonzero(as_tuple=True)
        found.append([x.min().item(), y.min().item(), x.max().item() + 1, y.max().item() + 1])
    return torch.tensor(found).float().reshape(-1, 4)


@pytest.mark.parametrize("crop", [0, 100])
def test_boxes_of_a_mosaic_follow_their_pixels_through_everything(samples, crop):
    data = TrainDataset(samples, BLACK, replace(MIXED, copy_paste=0.0, mixup=0.0, mosaic=1.0, crop=crop), 0)
    apart = 0
    for place in range(40):
        image, targets, file, _ = data[(0, place, place % 8)]
        assert file.count(" + ") == 3
        found = regions(image)
        if len(found) == len(targets.boxes):  # else two meet at the border of their tiles
            assert (targets.boxes[:, None] - found).abs().amax(dim=2).amin(dim=1).max() <= 1.51, place
            apart += len(found)
    assert apart > 60


def test_an_example_depends_on_its_key_alone_when_mixed(samples):
    first, second = (TrainDataset(samples, BLACK, MIXED, 0, cache_bytes=size) for size in (2**20, 0))
    keys = [(epoch, place, (3 * place + epoch) % 8) for epoch in (0, 2) for place in range(12)]
    wanted = {key: first[key] for key in keys}
    for key in reversed(keys):
        found = second[key]
        assert torch.equal(found.image, wanted[key].image)
        assert torch.equal(found.targets.boxes, wanted[key].targets.boxes)
        assert found.file == wanted[key].file
    assert len({one.file for one in wanted.values()}) > 12


def test_workers_mix_the_same(samples):
    one, two = (
        list(BatchSampler(TrainDataset(samples, BLACK, MIXED, 0), 4).loader(1, 4, workers)) for workers in (0, 2)
    )
    for first, second in zip(one, two, strict=True):
        assert torch.equal(first.images, second.images)
        assert first.files == second.files


def test_the_last_epochs_are_not_mixed(samples):
    plain = TrainDataset(samples, BLACK, replace(MIXED, mosaic=0.0, copy_paste=0.0, mixup=0.0), 0)
    data = TrainDataset(samples, BLACK, replace(MIXED, mixing_epochs=2), 0)
    for place in range(8):
        assert torch.equal(data[(2, place, place)].image, plain[(2, place, place)].image)
    assert any(" + " in data[(1, place, place)].file for place in range(8))


def test_a_bad_image_is_no_part_of_a_mosaic(samples, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    spoilt = [*samples[:7], replace(samples[7], file=tmp_path / "bad.png")]
    data = TrainDataset(spoilt, BLACK, replace(MIXED, mosaic=1.0), 0, strict=False)
    told = set()
    for place in range(20):
        example = data[(0, place, place % 8)]
        assert "bad.png" not in example.file
        told |= dict(example.bad).keys()
    assert told == {7}
