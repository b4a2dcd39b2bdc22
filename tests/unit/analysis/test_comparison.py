"""Paired differences: Student's distribution against printed tables and by integration, intervals by hand."""

import math

import pytest
from error_codes import raises_code

from varifocal.analysis.comparison import paired_difference, t_quantile, t_within
from varifocal.utils.errors import ConfigError

# two-sided quantiles as statistics books print them
TABLE = {
    0.95: {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 9: 2.262, 10: 2.228, 30: 2.042},
    0.99: {1: 63.657, 2: 9.925, 3: 5.841, 4: 4.604, 7: 3.499, 20: 2.845},
}


@pytest.mark.parametrize("within", TABLE)
def test_quantiles_of_the_tables(within):
    for freedom, wanted in TABLE[within].items():
        assert t_quantile(within, freedom) == pytest.approx(wanted, abs=6e-4)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("t", [0.3, 1.0, 4.2])
def test_the_chance_is_the_integral_of_the_density(freedom, t):
    factor = math.gamma((freedom + 1) / 2) / math.sqrt(freedom * math.pi) / math.gamma(freedom / 2)
    steps = 20000
    width = 2 * t / steps
    total = sum((1 + (-t + (i + 0.5) * width) ** 2 / freedom) ** (-(freedom + 1) / 2) for i in range(steps))
    assert t_within(t, freedom) == pytest.approx(factor * total * width, abs=1e-7)


def test_three_pairs_by_hand():
    """Changes of 1, 2 and 3: mean 2, deviation 1, error 1/sqrt(3)."""
    found = paired_difference([10, 20, 30], [11, 22, 33])
    reach = 4.30265 / math.sqrt(3)
    assert (found.pairs, found.mean) == (3, 2)
    assert (found.low, found.high) == (pytest.approx(2 - reach, abs=1e-4), pytest.approx(2 + reach, abs=1e-4))
    assert found.verdict == "open"
    # of two degrees of freedom the chance beyond t is 1 - t / sqrt(2 + t^2)
    t = 2 * math.sqrt(3)
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t), abs=1e-12)


@pytest.mark.parametrize(
    ("second", "verdict"), [([11.0, 21.1, 30.9], "better"), ([9.0, 19.1, 28.9], "worse"), ([12, 19, 31], "open")]
)
def test_verdicts(second, verdict):
    assert paired_difference([10, 20, 30], second).verdict == verdict


def test_one_pair_says_nothing():
    found = paired_difference([10], [12])
    assert (found.mean, found.low, found.high, found.p, found.verdict) == (2, None, None, None, "open")


def test_equal_changes():
    assert paired_difference([1, 2], [2, 3]).verdict == "better"
    same = paired_difference([1, 2], [1, 2])
    assert (same.verdict, same.p) == ("open", 1.0)


@pytest.mark.parametrize(("first", "second"), [([], []), ([1], [1, 2])])
def test_no_pairs(first, second):
    with raises_code("runs-without-pairs", ConfigError):
        paired_difference(first, second)
