"""Whether one row of results is better than another: paired differences over seeds, with an interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from varifocal.utils.errors import ConfigError

WIDEST = 1e6  # no quantile of Student's distribution that is asked for lies beyond


@dataclass(frozen=True)
class Difference:
    """Second minus first over ``pairs`` of runs that are the same except for what is compared.

    ``low`` and ``high`` bound the ``mean`` with the ``confidence`` (Student's t of the differences), ``p`` is the
    chance of a mean as far from zero if there were no difference. All three are None with a single pair.
    """

    pairs: int
    mean: float
    confidence: float
    low: float | None
    high: float | None
    p: float | None

    @property
    def verdict(self) -> str:
        """In a word: "better", "worse" or "open" (the interval holds zero, or there is none)."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "open"
        return "better" if self.low > 0 else "worse"


def paired_difference(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Difference:
    """What is gained from ``first`` to ``second``, run by run: the i-th of both have the same seed.

    Raises:
        ConfigError: there is no pair, or they are not as many.
    """
    if len(first) != len(second) or not first:
        raise ConfigError(f"{len(first)} and {len(second)} runs make no pairs; compare runs of the same seeds.")
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
    """The chance that Student's t with so many degrees of freedom lies within -t and t.

    The finite series for whole numbers (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term, total = (math.cos(angle), 0.0) if odd else (1.0, 0.0)
    for i in range(1 + odd, freedom + odd, 2):
        total += term
        term *= i / (i + 1) * math.cos(angle) ** 2
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def t_quantile(within: float, freedom: int) -> float:
    """The t that so much of the distribution lies within, on both sides of zero."""
    low, high = 0.0, WIDEST
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, freedom) < within else (low, middle)
    return high
