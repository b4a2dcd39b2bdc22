"""Paired comparison of two methods over the same seeds: mean difference, confidence interval and p-value."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from varifocal.utils.errors import ConfigError

WIDEST = 1e6  # no quantile of Student's distribution that is needed lies beyond


@dataclass(frozen=True)
class Difference:
    """The second result minus the first over ``pairs`` of runs that differ only in what is compared.

    ``low`` and ``high`` are the bounds of the ``mean`` at the ``confidence`` (Student's t of the differences), ``p`` is
    the probability of a mean as far from zero if there were no difference. All three are None with a single pair.
    """

    pairs: int
    mean: float
    confidence: float
    low: float | None
    high: float | None
    p: float | None

    @property
    def verdict(self) -> str:
        """ "better", "worse" or "open", where the interval contains zero or there is none."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "open"
        return "better" if self.low > 0 else "worse"


def paired_difference(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Difference:
    """Return ``second`` minus ``first``, pair by pair: the i-th values of both have the same seed.

    Raises:
        ConfigError: there is no pair, or the two have different lengths.
    """
    if len(first) != len(second) or not first:
        raise ConfigError(
            f"{len(first)} and {len(second)} runs cannot be paired; compare runs of the same seeds.",
            code="runs-without-pairs",
        )
    changes = [b - a for a, b in zip(first, second, strict=True)]
    mean, count = statistics.mean(changes), len(changes)
    if count == 1:
        return Difference(1, mean, confidence, None, None, None)
    error = statistics.stdev(changes) / math.sqrt(count)
    reach = t_quantile(confidence, count - 1) * error
    if error == 0:
        return Difference(count, mean, confidence, mean, mean, 1.0 if mean == 0 else 0.0)
    return Difference(count, mean, confidence, mean - reach, mean + reach, 1 - t_within(abs(mean) / error, count - 1))


def t_within(t: float, freedom: int) -> float:
    """Return the probability that Student's t with ``freedom`` degrees of freedom lies between -t and t.

    Computed by the finite series for integer degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term, total = (math.cos(angle), 0.0) if odd else (1.0, 0.0)
    for i in range(1 + odd, freedom + odd, 2):
        total += term
        term *= i / (i + 1) * math.cos(angle) ** 2
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def t_quantile(within: float, freedom: int) -> float:
    """Return the t for which the fraction ``within`` of the distribution lies between -t and t."""
    low, high = 0.0, WIDEST
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, freedom) < within else (low, middle)
    return high
