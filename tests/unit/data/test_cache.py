"""Images come back as they were put, in every process, and the bound holds."""

import multiprocessing
import os

import numpy as np
import pytest
from error_codes import raises_code

import varifocal.data.cache as cache_module
from varifocal.data.cache import ImageCache


def image(seed, height=5, width=7):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_what_is_put_comes_back():
    cache = ImageCache(4, 1000)
    cache.put(2, image(2))
    cache.put(0, image(0, 3, 4))
    assert (cache.get(2) == image(2)).all()
    assert (cache.get(0) == image(0, 3, 4)).all()
    assert cache.get(1) is None
    assert cache.get(3) is None
    assert cache.used == 5 * 7 * 3 + 3 * 4 * 3


def test_the_bound_holds_and_the_first_stay():
    cache = ImageCache(5, 2 * 105 + 36)
    for index in range(3):
        cache.put(index, image(index))
    assert cache.get(2) is None
    cache.put(3, image(3, 3, 4))  # a smaller one still fits
    cache.put(4, image(4, 1, 1))
    assert (cache.get(3) == image(3, 3, 4)).all()
    assert cache.get(4) is None
    assert cache.used == cache.limit
    assert all((cache.get(index) == image(index)).all() for index in (0, 1))


def test_a_image_is_kept_once():
    cache = ImageCache(2, 1000)
    for _ in range(3):
        cache.put(1, image(1))
    assert cache.used == 105


def fill(cache, index):
    cache.put(index, image(index))


@pytest.mark.parametrize("method", sorted(set(multiprocessing.get_all_start_methods()) & {"fork", "spawn"}))
def test_other_processes_share_it(method):
    if method == "spawn" and not hasattr(os, "memfd_create"):
        pytest.skip("shared with spawned processes on Linux only")
    cache = ImageCache(3, 1000)
    cache.put(0, image(0))
    context = multiprocessing.get_context(method)
    cache._lock = context.Lock()
    child = context.Process(target=fill, args=(cache, 2))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert (cache.get(2) == image(2)).all()
    assert cache.used == 210


def test_where_memory_cannot_be_shared_each_process_has_its_part(monkeypatch):
    monkeypatch.delattr(cache_module.os, "memfd_create", raising=False)
    cache = ImageCache(3, 1000)
    cache.put(0, image(0))
    cache.divide(4)
    assert cache.limit == 1000  # this one has it whole
    other = ImageCache.__new__(ImageCache)
    other.__setstate__(cache.__getstate__())
    other.divide(4)
    assert other.get(0) is None
    for index in range(3):
        other.put(index, image(index))
    assert other.used == 210  # of 250


def test_more_than_there_can_be():
    with raises_code("cache-too-large"):
        ImageCache(1, 2**70)


def test_two_processes_that_put_the_same_image_take_its_room_once():
    cache = ImageCache(2, 1000)
    pixels, meanwhile = cache._pixels, []

    class Slow:
        """Memory that is written to only after another process has put the same image, too."""

        def __getitem__(self, part):
            if not meanwhile:
                meanwhile.append(cache.get(1))
                cache.put(1, image(1))
            return pixels[part]

    cache._pixels = Slow()
    cache.put(1, image(1))
    cache._pixels = pixels
    assert meanwhile == [None]  # it cannot be seen before it is whole
    assert cache.used == 105
    assert (cache.get(1) == image(1)).all()
