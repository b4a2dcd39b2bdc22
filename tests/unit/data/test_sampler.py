"""How often images come: against the formula of the paper in a literal loop, and by counting."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from error_codes import raises_code

from varifocal.data.sampler import (
    EpochSampler,
    Sampling,
    aspect_groups,
    group_batches,
    repeat_factors,
    stochastic_round,
)
from varifocal.types import Sample


def make(*labels, crowd=()):
    """A sample for each list of labels; of those whose number is in ``crowd`` all boxes are ignored."""
    return [
        Sample(Path(f"{i}.png"), i, 9, 9, np.ones((len(one), 4), np.float32), np.array(one, np.int64), ignored)
        for i, one in enumerate(labels)
        for ignored in [np.full(len(one), i in crowd)]
    ]


def order(samples, *, windows=None, seed=0, **sampling):
    times = np.ones(len(samples), np.int64) if windows is None else np.array(windows)
    return EpochSampler(samples, times, Sampling(**sampling), seed)


def literal_factors(samples, threshold):
    """The three steps of Gupta et al., appendix B, one after the other."""
    shows = [{int(label) for label, crowd in zip(s.labels, s.crowd, strict=True) if not crowd} for s in samples]
    share = {c: sum(c in one for one in shows) / len(samples) for one in shows for c in one}
    of_class = {c: max(1.0, math.sqrt(threshold / f)) for c, f in share.items()}
    return [max([of_class[c] for c in one], default=1.0) for one in shows]


@pytest.mark.parametrize("threshold", [0.001, 0.1, 0.5, 1.0])
def test_repeat_factors_are_those_of_the_paper(threshold):
    rng = np.random.default_rng(1)
    chances = 0.7 ** np.arange(9)
    labels = [[c for c in range(9) for _ in range(rng.poisson(chances[c]))] for _ in range(120)]
    samples = make(*labels, crowd=range(0, 120, 7))
    assert repeat_factors(samples, threshold).tolist() == pytest.approx(literal_factors(samples, threshold))
    assert 1.0 in repeat_factors(samples, 0.5)
    assert repeat_factors(samples, 0.5).max() > 2


def test_no_boxes_at_all():
    assert repeat_factors(make([], []), 0.5).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "times", [[1.0, 1.0], [1.5, 1.5], [2.3, 1.0, 1.9, 4.8], [1.99, 1.51], [1.1], [1.7], [0.2, 0.2]]
)
def test_rounding_keeps_the_mean_and_the_sum(times):
    times = np.array(times)
    drawn = np.array([stochastic_round(times, np.random.default_rng(seed)) for seed in range(4000)])
    assert len(set(drawn.sum(axis=1))) == 1
    assert abs(drawn[0].sum() - times.sum()) < 1
    assert ((drawn == np.floor(times)) | (drawn == np.floor(times) + 1)).all()
    # the sum has to be whole: what that costs is shared out in proportion to the fractions
    rest = times - np.floor(times)
    stretched = np.floor(times) + rest * ((drawn[0].sum() - np.floor(times).sum()) / max(rest.sum(), 1e-9))
    assert np.abs(drawn.mean(axis=0) - stretched).max() < 5 * 0.5 / math.sqrt(4000)


def test_which_are_rounded_up_together_is_chance_too():
    drawn = {tuple(stochastic_round(np.full(4, 1.5), np.random.default_rng(seed)).tolist()) for seed in range(200)}
    assert len(drawn) == 6  # all pairs


def test_rare_classes_come_more_often_in_every_epoch():
    samples = make(*[[0]] * 90, *[[0, 1]] * 9, [2])
    sampled = order(samples, repeat_factor_threshold=0.25)
    counts = np.zeros(100)
    lengths = set()
    for epoch in range(400):
        drawn = sampled(epoch)
        lengths.add(len(drawn))
        counts += np.bincount(drawn, minlength=100)
        assert np.bincount(drawn, minlength=100).min() >= 1
    assert lengths == {sampled.length}
    assert counts[:90].tolist() == [400] * 90
    assert counts[90:99].mean() / 400 == pytest.approx(math.sqrt(0.25 / 0.09), abs=0.1)
    assert counts[99] / 400 == pytest.approx(5.0)
    (note,) = sampled.notes
    assert (
        note
        == "data.repeat_factor_threshold=0.25: 10 of 100 images show a rare class and come up to 5.0 times an epoch"
    )


def test_repeats_multiply_the_windows_of_a_large_image():
    samples = make([0], [0], [0], [1])
    counts = Counter(order(samples, windows=[1, 2, 3, 2], repeat_factor_threshold=1.0)(0).tolist())
    # three of four show class 0, sqrt(4 / 3) = 1.15; one shows class 1, sqrt(4) = 2
    assert counts[3] == 4
    assert 6 <= counts[0] + counts[1] + counts[2] <= 8


def test_off_by_default():
    samples = make([0], [], [1], [])
    plain = order(samples, windows=[1, 1, 3, 1], seed=4)
    assert plain(7).tolist() == np.random.default_rng([4, 7]).permutation([0, 1, 2, 2, 2, 3]).tolist()
    assert plain.notes == ()


@pytest.mark.parametrize(("share", "taken"), [(0.1, 2), (0.5, 18), (0.0, 0), (0.52, 19), (0.75, 30), (1.0, 30)])
def test_background_is_at_most_a_share_of_the_epoch(share, taken):
    samples = make(*[[0]] * 18, *[[]] * 20, *[[0]] * 10, crowd=range(38, 48))
    drawn = order(samples, max_empty_fraction=share)
    assert drawn.length == 18 + taken
    for epoch in range(3):
        indices = drawn(epoch)
        assert sorted(i for i in indices if i < 18) == list(range(18))
        negatives = [i for i in indices if i >= 18]
        assert len(negatives) == len(set(negatives)) == taken
        assert len(negatives) / len(indices) <= share


def test_all_negatives_are_seen_before_any_comes_again():
    samples = make(*[[0]] * 18, *[[]] * 20)
    drawn = order(samples, max_empty_fraction=0.25)  # six an epoch
    laps = np.concatenate([[i for i in drawn(epoch) if i >= 18] for epoch in range(10)])
    assert Counter(laps.tolist()) == dict.fromkeys(range(18, 38), 3)
    assert len(set(laps[:18])) == 18
    assert drawn.notes == ("data.max_empty_fraction=0.25: 6 of 20 images without an object in each epoch, in turn",)


def test_an_epoch_depends_on_seed_and_number_alone():
    samples = make(*[[0]] * 30, *[[1]] * 2, *[[]] * 20)
    first, second = (order(samples, repeat_factor_threshold=0.3, max_empty_fraction=0.2, seed=3) for _ in range(2))
    wanted = [first(epoch).tolist() for epoch in range(4)]
    assert [second(epoch).tolist() for epoch in (3, 1, 2, 0)] == [wanted[epoch] for epoch in (3, 1, 2, 0)]
    assert len({tuple(one) for one in wanted}) == 4
    assert order(samples, repeat_factor_threshold=0.3, max_empty_fraction=0.2, seed=4)(0).tolist() != wanted[0]


def test_only_background_and_none_wanted():
    with raises_code("no-image-with-objects"):
        order(make([], [0], crowd=[1]), max_empty_fraction=0.5)
    assert order(make([], []), max_empty_fraction=1.0).length == 2


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_batches_are_of_one_group_as_far_as_they_fill(batch):
    rng = np.random.default_rng(batch)
    groups = rng.choice(4, 50, p=[0.5, 0.3, 0.15, 0.05])
    order = rng.permutation(np.repeat(np.arange(50), 2))
    changed = group_batches(order, groups, batch)
    assert sorted(changed) == sorted(order)
    full = sum((groups[order] == group).sum() // batch for group in range(4))
    batches = [changed[i * batch : (i + 1) * batch] for i in range(full)]
    assert all(len(set(groups[one])) == 1 for one in batches)
    for group in range(4):  # in each group the images keep their order
        assert [i for i in changed if groups[i] == group] == [i for i in order if groups[i] == group]


def test_one_group_keeps_its_order():
    order = np.random.default_rng(0).permutation(11)
    assert (group_batches(order, np.zeros(11, np.int64), 4) == order).all()


def test_groups_by_aspect_ratio():
    sizes = {(640, 480): 5, (480, 640): 2, (1280, 960): 5, (99, 100): 3, (100, 100): 4, (1000, 300): 7, (300, 1000): 0}
    samples = [replace(make([0])[0], width=width, height=height) for width, height in sizes]
    assert aspect_groups(samples).tolist() == list(sizes.values())
