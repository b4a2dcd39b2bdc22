"""Which picture when: decided by seed and step, the same for any number of processes and after any interruption."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data._utils.pin_memory import pin_memory

from varifocal.data.augment import Augment
from varifocal.data.loader import Batches, TrainingSet, collate, epoch_order
from varifocal.data.preprocess import Preprocess
from varifocal.errors import DataError
from varifocal.types import Batch, Sample

PLAIN = Preprocess(scale=1.0, divisor=32)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Seven pictures of 40 x 30, each of its own grey."""
    folder = tmp_path_factory.mktemp("pictures")
    made = []
    for i in range(7):
        file = folder / f"{i}.png"
        Image.new("RGB", (40, 30), (30 * i,) * 3).save(file)
        boxes = np.array([[2, 3, 20, 25]], np.float32)
        made.append(Sample(file, i, 40, 30, boxes, np.zeros(1, np.int64), np.zeros(1, bool)))
    return made


def make_set(samples, cache=2**20, config=None, seed=0):
    return TrainingSet(samples, PLAIN, config or Augment(flip=0.5, colour=0.2), seed, cache)


def test_every_sample_comes_once_an_epoch_and_the_last_batch_is_filled_from_the_beginning(samples):
    batches = Batches(make_set(samples), 3)
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
    (keys,) = Batches(make_set(samples[:2]), 5).keys(0, 1)
    assert Counter(index for _, _, index in keys).most_common(1)[0][1] == 3


@pytest.mark.parametrize("world", [2, 4])
def test_shares_of_several_processes_make_up_the_batches_of_one(samples, world):
    one = list(Batches(make_set(samples), 8).keys(0, 5))
    shares = [list(Batches(make_set(samples), 8, rank=rank, world=world).keys(0, 5)) for rank in range(world)]
    assert [[key for part in parts for key in part] for parts in zip(*shares, strict=True)] == one


@pytest.mark.parametrize("start", range(7))
def test_resuming_gives_the_keys_of_the_uninterrupted_run(samples, start):
    batches = Batches(make_set(samples), 3)
    assert list(batches.keys(start, 7)) == list(batches.keys(0, 7))[start:]


def test_the_seed_changes_the_order(samples):
    orders = {tuple(epoch_order(samples, PLAIN, Augment(), [seed, 0])) for seed in range(5)}
    assert len(orders) > 1


def test_large_pictures_come_as_often_as_windows_cover_them(samples):
    order = epoch_order(samples, PLAIN, Augment(crop=20), [0, 0])
    assert Counter(order) == dict.fromkeys(range(7), 3)  # 40 x 30 / 400
    bounded = Preprocess(scale=1.0, max_side=10)  # which is for whole pictures
    assert Counter(epoch_order(samples, bounded, Augment(crop=20), [0, 0])) == dict.fromkeys(range(7), 3)


def test_an_example_depends_on_its_key_alone(samples):
    data, other = make_set(samples), make_set(samples, cache=0)
    first, again, fresh = data[(1, 5, 2)], data[(1, 5, 2)], other[(1, 5, 2)]
    for one in (again, fresh):
        assert torch.equal(one[0], first[0])
        assert torch.equal(one[1].boxes, first[1].boxes)
    assert first[2].endswith("2.png")


def test_the_cache_stays_in_its_bound_and_drops_the_longest_unused(samples):
    size = 40 * 30 * 3
    data = make_set(samples, cache=2 * size + 1)
    for index in (0, 1, 0, 2):
        data[(0, 0, index)]
    assert list(data._cache) == [samples[0].file, samples[2].file]
    small = make_set(samples, cache=size - 1)
    small[(0, 0, 0)]
    assert not small._cache


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_batches_in_order(samples, workers):
    data = make_set(samples, config=Augment(flip=0.0))
    batches = Batches(data, 2)
    found = list(batches.loader(1, 4, workers))
    assert [batch.files for batch in found] == [
        tuple(str(samples[index].file) for _, _, index in keys) for keys in batches.keys(1, 4)
    ]
    assert all(batch.images.shape == (2, 3, 32, 64) for batch in found)
    grey = [30 * batches.data.samples.index(samples[k[2]]) for k in next(batches.keys(1, 2))]
    assert found[0].images.dtype == torch.uint8
    assert found[0].images[:, 0, 5, 5].tolist() == grey


def test_pictures_of_a_batch_can_be_pinned(samples, monkeypatch):
    """The loader's pinning thread asks for the method; the pinning itself needs a CUDA device."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    batch = collate([make_set(samples)[(0, 0, 0)]], 32)
    pinned = pin_memory(batch)
    assert torch.equal(pinned.images, batch.images + 1)
    assert (pinned.targets, pinned.files) == (batch.targets, batch.files)


def test_a_bad_picture_becomes_an_error_of_the_main_process(samples, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    bad = Sample(tmp_path / "bad.png", 9, 40, 30, samples[0].boxes, samples[0].labels, samples[0].crowd)
    data = make_set([bad, bad])
    (error,) = Batches(data, 2).loader(0, 1, workers=2)
    assert isinstance(error, DataError)
    assert str(error).startswith(f"{bad.file}: this is not an image")
    assert "Traceback" not in str(error)
    assert "\n" not in str(error)


def test_a_picture_of_another_size_than_recorded_is_an_error(samples):
    wrong = Sample(samples[0].file, 0, 41, 30, samples[0].boxes, samples[0].labels, samples[0].crowd)
    assert isinstance(make_set([wrong])[(0, 0, 0)], DataError)


def test_collate_takes_the_first_error(samples):
    data = make_set(samples)
    good, first, second = data[(0, 0, 0)], DataError("first"), DataError("second")
    assert collate([good, first, second], 32) is first
    batch = collate([good, good], 32)
    assert isinstance(batch, Batch)
    assert len(batch.targets) == len(batch.files) == len(batch.images) == 2
