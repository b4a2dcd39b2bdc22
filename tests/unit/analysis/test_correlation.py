"""Rank correlations against SciPy's."""

import time

import numpy as np
import pytest
from scipy import stats

from varifocal.analysis.correlation import kendall, spearman


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("steps", [3, 40, 10_000_000], ids=["many ties", "ties", "no ties"])
def test_equal_scipy(seed, steps):
    rng = np.random.default_rng(seed)
    x = (rng.random(157) * steps).round() / steps
    y = ((0.5 * x + 0.5 * rng.random(157)) * steps).round() / steps
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)
    assert kendall(x, -y) == pytest.approx(-kendall(x, y), abs=1e-12)


def test_extremes():
    x = np.arange(5.0)
    assert (spearman(x, x), kendall(x, x)) == pytest.approx((1, 1))
    assert (spearman(x, -x), kendall(x, -x)) == pytest.approx((-1, -1))


@pytest.mark.parametrize("x", [[], [0.5], [0.5, 0.5, 0.5]], ids=["nothing", "one", "constant"])
def test_there_is_no_correlation_of_constants(x):
    x = np.array(x)
    for y in (x, np.linspace(0, 1, len(x))):
        assert spearman(x, y) is None
        assert kendall(y, x) is None


def test_many_take_little_time():
    """A square of 300,000 pairs of numbers would take hours."""
    x = np.random.default_rng(0).random((2, 300_000))
    begun = time.perf_counter()
    assert abs(kendall(*x)) < 0.01
    assert time.perf_counter() - begun < 10
