"""Which image when: decided by seed and step, the same for any number of processes and after any interruption."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data._utils.pin_memory import pin_memory

from varifocal.data.augment import Augmentation
from varifocal.data.loader import BatchSampler, TrainDataset, collate, window_counts
from varifocal.data.sampler import Sampling
from varifocal.structures import Batch
from varifocal.types import Preprocess, Sample
from varifocal.utils.errors import DataError

PLAIN = Preprocess(scale=1.0, size_divisor=32)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Seven images of 40 x 30, each of its own gray."""
    folder = tmp_path_factory.mktemp("images")
    made = []
    for i in range(7):
        file = folder / f"{i}.png"
        Image.new("RGB", (40, 30), (30 * i,) * 3).save(file)
        boxes = np.array([[2, 3, 20, 25]], np.float32)
        made.append(Sample(file, i, 40, 30, boxes, np.zeros(1, np.int64), np.zeros(1, bool)))
    return made


def make_set(samples, cache=2**20, config=None, seed=0):
    return TrainDataset(samples, PLAIN, config or Augmentation(hflip=0.5, color_jitter=0.2), seed, cache_bytes=cache)


def test_every_sample_comes_once_an_epoch_and_the_last_batch_is_filled_from_the_beginning(samples):
    batches = BatchSampler(make_set(samples), 3)
    assert batches.per_epoch == 3
    keys = list(batches.keys(0, 6))
    for epoch in (0, 1):
        flat = [key for step in keys[3 * epoch : 3 * epoch + 3] for key in step]
        assert [key[:2] for key in flat] == [(epoch, place) for place in range(9)]
        order = [key[2] for key in flat]
        assert sorted(order[:7]) == list(range(7))
        assert order[7:] == order[:2]
    assert [k[2] for k in keys[0] + keys[1]] != [k[2] for k in keys[3] + keys[4]]


def test_a_batch_larger_than_the_data(samples):
    (keys,) = BatchSampler(make_set(samples[:2]), 5).keys(0, 1)
    assert Counter(index for _, _, index in keys).most_common(1)[0][1] == 3


@pytest.mark.parametrize("world", [2, 4])
def test_shares_of_several_processes_make_up_the_batches_of_one(samples, world):
    one = list(BatchSampler(make_set(samples), 8).keys(0, 5))
    shares = [list(BatchSampler(make_set(samples), 8, rank=rank, world=world).keys(0, 5)) for rank in range(world)]
    assert [[key for part in parts for key in part] for parts in zip(*shares, strict=True)] == one


@pytest.mark.parametrize("start", range(7))
def test_resuming_gives_the_keys_of_the_uninterrupted_run(samples, start):
    batches = BatchSampler(make_set(samples), 3)
    assert list(batches.keys(start, 7)) == list(batches.keys(0, 7))[start:]


def test_the_seed_changes_the_order(samples):
    assert len({tuple(make_set(samples, seed=seed).order(0)) for seed in range(5)}) > 1


def test_large_images_come_as_often_as_windows_cover_them(samples):
    data = make_set(samples, config=Augmentation(crop=20))
    assert Counter(data.order(0).tolist()) == dict.fromkeys(range(7), 3)  # 40 x 30 / 400
    bounded = Preprocess(scale=1.0, max_size=10)  # which is for whole images
    assert window_counts(samples, bounded, Augmentation(crop=20)).tolist() == [3] * 7


def test_the_order_is_the_permutation_that_it_always_was(samples):
    """Runs that were begun before there was any sampling go on with the same images."""
    data = make_set(samples, config=Augmentation(crop=20), seed=5)
    for epoch in range(3):
        wanted = np.random.default_rng([5, epoch]).permutation(np.repeat(np.arange(7), 3))
        assert data.order(epoch).tolist() == wanted.tolist()


def test_an_example_depends_on_its_key_alone(samples):
    data, other = make_set(samples), make_set(samples, cache=0)
    first, again, fresh = data[(1, 5, 2)], data[(1, 5, 2)], other[(1, 5, 2)]
    for one in (again, fresh):
        assert torch.equal(one[0], first[0])
        assert torch.equal(one[1].boxes, first[1].boxes)
    assert first[2].endswith("2.png")


@pytest.mark.parametrize(
    ("preprocess", "kept"),
    [
        (Preprocess(short_side=15, max_long_side=100), 15 * 20 * 3),  # smaller than it is, and always alike: kept small
        (Preprocess(short_side=60, max_long_side=100), 40 * 30 * 3),
    ],
)
def test_kept_images_give_the_same_bytes(samples, preprocess, kept):
    with_cache, without = (
        TrainDataset(samples, preprocess, Augmentation(), 0, cache_bytes=size) for size in (2**20, 0)
    )
    for _ in range(2):
        for place, index in enumerate((0, 1, 2, 1)):
            first, second = with_cache[(0, place, index)], without[(0, place, index)]
            assert torch.equal(first.image, second.image)
            assert torch.equal(first.targets.boxes, second.targets.boxes)
    assert with_cache.cache.used == 3 * kept


@pytest.mark.parametrize(
    "change", [{"scale_jitter": (0.5, 1.5)}, {"random_crop": 0.5}, {"short_range": (10, 20)}, {"mosaic": 0.5}]
)
def test_images_of_varying_size_are_kept_as_they_are(samples, change):
    config = Augmentation(**change)
    sets = [
        TrainDataset(samples, Preprocess(short_side=15, max_long_side=100), config, 0, cache_bytes=size)
        for size in (2**20, 0)
    ]
    for place in range(20):
        first, second = (data[(0, place, place % 7)] for data in sets)
        assert torch.equal(first.image, second.image)
    assert sets[0].cache.used == 7 * 40 * 30 * 3


def test_workers_share_what_they_keep(samples):
    """Two processes and this one look into the same memory, so that each image is kept, and decoded, once."""
    data = make_set(samples)
    alone = [batch.images for batch in BatchSampler(make_set(samples, cache=0), 2).loader(0, 8, 0)]
    together = [batch.images for batch in BatchSampler(data, 2).loader(0, 8, 2)]
    assert data.cache.used >= 7 * 40 * 30 * 3
    assert all(data.cache.get(index) is not None for index in range(7))
    for first, second in zip(alone, together, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_batches_in_order(samples, workers):
    data = make_set(samples, config=Augmentation(hflip=0.0))
    batches = BatchSampler(data, 2)
    found = list(batches.loader(1, 4, workers))
    assert [batch.files for batch in found] == [
        tuple(str(samples[index].file) for _, _, index in keys) for keys in batches.keys(1, 4)
    ]
    assert all(batch.images.shape == (2, 3, 32, 64) for batch in found)
    gray = [30 * batches.data.samples.index(samples[k[2]]) for k in next(batches.keys(1, 2))]
    assert found[0].images.dtype == torch.uint8
    assert found[0].images[:, 0, 5, 5].tolist() == gray


def test_images_of_a_batch_can_be_pinned(samples, monkeypatch):
    """The loader's pinning thread asks for the method; the pinning itself needs a CUDA device."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    batch = collate([make_set(samples)[(0, 0, 0)]], 32)
    pinned = pin_memory(batch)
    assert torch.equal(pinned.images, batch.images + 1)
    assert (pinned.targets, pinned.files) == (batch.targets, batch.files)


def test_a_bad_image_becomes_an_error_of_the_main_process(samples, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    bad = Sample(tmp_path / "bad.png", 9, 40, 30, samples[0].boxes, samples[0].labels, samples[0].crowd)
    data = make_set([bad, bad])
    (error,) = BatchSampler(data, 2).loader(0, 1, workers=2)
    assert isinstance(error, DataError)
    assert str(error).startswith(f"{bad.file}: this is not an image")
    assert "Traceback" not in str(error)
    assert "\n" not in str(error)


def test_a_image_of_another_size_than_recorded_is_an_error(samples):
    wrong = Sample(samples[0].file, 0, 41, 30, samples[0].boxes, samples[0].labels, samples[0].crowd)
    assert isinstance(make_set([wrong])[(0, 0, 0)], DataError)


@pytest.fixture
def with_bad(samples, tmp_path):
    """Of seven images the second is none, and the fifth has another size than is recorded."""
    (tmp_path / "bad.png").write_bytes(b"no image")
    return [
        replace(s, file=tmp_path / "bad.png") if i == 1 else replace(s, width=41) if i == 4 else s
        for i, s in enumerate(samples)
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_replaced_by_another_and_told_of(samples, with_bad, workers):
    lenient = TrainDataset(with_bad, PLAIN, Augmentation(), 0, strict=False)
    batches = BatchSampler(lenient, 3)
    keys = list(batches.keys(0, 6))
    found = list(batches.loader(0, 6, workers))
    assert all(len(batch.files) == 3 for batch in found)
    for batch, step in zip(found, keys, strict=True):
        told = dict(batch.bad)
        # a drawn replacement may be bad itself, so more can be told of than were due
        assert {index for _, _, index in step} & {1, 4} <= set(told) <= {1, 4}
        for file, (_, _, index) in zip(batch.files, step, strict=True):
            if index in (1, 4):
                assert file in {str(s.file) for i, s in enumerate(samples) if i not in (1, 4)}
            else:
                assert file == str(samples[index].file)
    reasons = {index: reason for batch in found for index, reason in batch.bad}
    assert reasons[1].startswith(f"{with_bad[1].file}: this is not an image")
    assert "41 x 30" in reasons[4]


def test_the_replacement_is_decided_by_the_place_in_the_run_alone(with_bad):
    first, second = (TrainDataset(with_bad, PLAIN, Augmentation(), 0, strict=False) for _ in range(2))
    second[(0, 5, 1)]
    for epoch, place in ((1, 3), (0, 0), (1, 4)):
        assert first[(epoch, place, 1)].file == second[(epoch, place, 1)].file
    files = {first[(0, place, 1)].file for place in range(40)}
    assert len(files) == 5  # any good one


def test_the_replacement_is_of_the_epoch(with_bad):
    """With the background bounded to nothing, no image without an object comes in by this door."""
    empty = [replace(s, crowd=np.ones(1, bool)) if i in (0, 2, 3) else s for i, s in enumerate(with_bad)]
    data = TrainDataset(empty, PLAIN, Augmentation(), 0, strict=False, sampling=Sampling(max_empty_fraction=0.0))
    assert {data[(0, place, 1)].file for place in range(40)} == {str(empty[i].file) for i in (5, 6)}


def test_a_strict_set_gives_the_error(with_bad):
    data = TrainDataset(with_bad, PLAIN, Augmentation(), 0, strict=True)
    assert isinstance(data[(0, 0, 1)], DataError)
    assert data[(0, 0, 2)].bad == ()


def test_nothing_but_unreadable_images_is_an_error(with_bad):
    data = TrainDataset([with_bad[1]] * 3, PLAIN, Augmentation(), 0, strict=False)
    assert isinstance(data[(0, 0, 0)], DataError)


def test_collate_joins_what_is_told_of_unreadable_images(samples):
    one = make_set(samples)[(0, 0, 0)]
    batch = collate([one._replace(bad=((3, "c"), (1, "a"))), one, one._replace(bad=((3, "c"),))], 32)
    assert batch.bad == ((3, "c"), (1, "a"))


def test_collate_takes_the_first_error(samples):
    data = make_set(samples)
    good, first, second = data[(0, 0, 0)], DataError("first"), DataError("second")
    assert collate([good, first, second], 32) is first
    batch = collate([good, good], 32)
    assert isinstance(batch, Batch)
    assert len(batch.targets) == len(batch.files) == len(batch.images) == 2


def deep_sample(folder):
    """Gray of 12 bits in a file of 16, with one bright pixel of 16 bits: 1000 of 4095 are 62."""
    values = np.full((30, 40), 1000, np.uint16)
    values[0, 0] = 60000
    Image.fromarray(values).save(folder / "deep.png")
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    return Sample(folder / "deep.png", 1, 40, 30, *none)


@pytest.mark.parametrize(("levels", "gray"), [(None, 4), ((0.0, 4095.0), 62), ((1000.0, 3000.0), 0)])
def test_the_range_of_the_preprocessing_reaches_training_and_its_cache(tmp_path, levels, gray):
    plain = Augmentation(hflip=0.0)
    data = TrainDataset([deep_sample(tmp_path)], replace(PLAIN, range=levels), plain, 0, cache_bytes=2**20)
    for _ in range(2):  # read, and kept
        assert data[0, 0, 0].image[:, 5, 5].tolist() == [gray] * 3
    assert data.cache.used


def test_large_images_may_be_cut_into_crops(tmp_path, samples, monkeypatch):
    monkeypatch.setattr("varifocal.data.images.MAX_PIXELS", 1000)
    whole, cropped = make_set(samples, config=Augmentation()), make_set(samples, config=Augmentation(crop=16))
    error = whole[0, 0, 0]
    assert isinstance(error, DataError)
    assert "in training with data.augment.crop" in str(error)
    assert cropped[0, 0, 0].image.shape == (3, 16, 16)


@pytest.fixture(scope="module")
def both_shapes(tmp_path_factory):
    """Twelve images, in turn of 40 x 30 and of 30 x 40."""
    folder = tmp_path_factory.mktemp("shapes")
    made = []
    for i in range(12):
        width, height = ((40, 30), (30, 40))[i % 2]
        file = folder / f"{i}.png"
        Image.new("RGB", (width, height)).save(file)
        boxes = np.array([[2, 3, 20, 25]], np.float32)
        made.append(Sample(file, i, width, height, boxes, np.zeros(1, np.int64), np.zeros(1, bool)))
    return made


def test_images_of_one_shape_share_a_batch(both_shapes):
    preprocess = replace(PLAIN, size_divisor=2)
    config = Augmentation(hflip=0.5)
    mixed = TrainDataset(both_shapes, preprocess, config, 0)
    grouped = TrainDataset(both_shapes, preprocess, config, 0, sampling=Sampling(group_by_aspect_ratio=True))
    shapes = [
        {tuple(batch.images.shape[2:]) for batch in BatchSampler(data, 3).loader(0, 4, 0)} for data in (mixed, grouped)
    ]
    assert (40, 40) in shapes[0]
    assert shapes[1] == {(30, 40), (40, 30)}
    batches = BatchSampler(grouped, 3)
    assert list(batches.keys(3, 9)) == list(batches.keys(0, 9))[3:]
    assert sorted(index for step in batches.keys(4, 8) for _, _, index in step) == list(range(12))


def test_crops_are_not_grouped(both_shapes):
    sampling = Sampling(group_by_aspect_ratio=True)
    assert TrainDataset(both_shapes, PLAIN, Augmentation(crop=20), 0, sampling=sampling).groups is None
