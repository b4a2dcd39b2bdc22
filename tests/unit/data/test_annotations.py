"""Sequences made when they are read; ignored regions of several classes, against a literal loop over box pairs."""

import numpy as np
import pytest

from varifocal.data.annotations import LazySequence, each_region_once, region_numbers


def test_against_all_pairs():
    rng = np.random.default_rng(3)
    for count in (0, 1, 2, 40):
        images, labels = rng.integers(0, 2, count), rng.integers(0, 3, count)
        xyxy = rng.integers(0, 2, (count, 4)).astype(np.float64)
        xyxy[rng.random(count) < 0.1] = np.nan
        crowd = rng.random(count) < 0.7
        numbers = region_numbers(images, labels, xyxy, crowd)

        def alike(one: int, other: int, images=images, xyxy=xyxy, crowd=crowd) -> bool:
            return bool(
                crowd[one] and crowd[other] and images[one] == images[other] and (xyxy[one] == xyxy[other]).all()
            )

        copies = [[other for other in range(count) if alike(one, other)] for one in range(count)]
        regions = [len({labels[other] for other in others}) > 1 for others in copies]
        assert (numbers >= 0).tolist() == regions
        for one in range(count):
            if regions[one]:
                assert np.flatnonzero(numbers == numbers[one]).tolist() == copies[one]
        assert sorted(set(numbers[numbers >= 0].tolist())) == list(range(numbers.max(initial=-1) + 1))
        first = {number: place for place, number in reversed(list(enumerate(numbers.tolist()))) if number >= 0}
        told = np.flatnonzero(each_region_once(images, labels, xyxy, crowd)).tolist()
        assert told == sorted([*np.flatnonzero(numbers < 0).tolist(), *first.values()])


class Squares(LazySequence[int]):
    def item(self, index):
        return index * index

    def __len__(self):
        return 5


def test_a_lazy_sequence_is_read_like_a_list():
    squares, numbers = Squares(), [0, 1, 4, 9, 16]
    assert list(squares) == numbers
    assert [squares[i] for i in range(-5, 5)] == numbers * 2
    assert squares[1:4:2] == numbers[1:4:2]
    assert squares[-2:] == numbers[-2:]
    for index in (5, -6):
        with pytest.raises(IndexError):
            squares[index]
