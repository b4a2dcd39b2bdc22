"""Rank correlations of large arrays without SciPy: Spearman's and Kendall's tau-b, both with ties."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64


def spearman(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> float | None:
    """Return Spearman's correlation, in which equal values share their mean rank; None if x or y is constant."""
    a, b = _mean_ranks(x), _mean_ranks(y)
    a, b = a - a.mean() if len(a) else a, b - b.mean() if len(b) else b
    spread = float(np.sqrt((a * a).sum()) * np.sqrt((b * b).sum()))
    return float(np.clip((a * b).sum() / spread, -1, 1)) if spread > 0 else None


def kendall(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> float | None:
    """Return Kendall's tau-b; None if x or y is constant.

    It is (concordant - discordant pairs) / sqrt(pairs untied in x * pairs untied in y) and takes n log n time: sorted
    by x, the discordant pairs are the inversions of y (Knight 1966).
    """
    _, a = np.unique(x, return_inverse=True)
    _, b = np.unique(y, return_inverse=True)
    pairs = len(a) * (len(a) - 1) // 2
    tied_a, tied_b = _tied(a), _tied(b)
    tied_both = _tied(a * (int(b.max(initial=0)) + 1) + b)
    if pairs in (tied_a, tied_b):
        return None
    discordant = _inversions(b[np.lexsort((b, a))])
    concordant = pairs - tied_a - tied_b + tied_both - discordant
    # two roots: the product of the counts can be too large for an exact float
    value = (concordant - discordant) / np.sqrt(float(pairs - tied_a)) / np.sqrt(float(pairs - tied_b))
    return float(np.clip(value, -1, 1))


def _mean_ranks(values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[index])


def _tied(values: Int64[np.ndarray, "n"]) -> int:
    """Return the number of pairs of equal values."""
    _, counts = np.unique(values, return_counts=True)
    return int((counts * (counts - 1) // 2).sum())


def _inversions(values: Int64[np.ndarray, "n"]) -> int:
    """Return the number of pairs in which the greater of two values (0 or above) comes first.

    A radix sort from the highest bit: in each group of values that are equal so far, each 0 counts the 1s before it;
    then the zeros go before the ones.
    """
    total = 0
    for bit in reversed(range(int(values.max(initial=0)).bit_length())):
        ones = (values >> bit) & 1
        group = values >> (bit + 1)
        seen = np.cumsum(ones) - ones
        starts = np.flatnonzero(np.append(True, group[1:] != group[:-1])[: len(group)])
        sizes = np.diff(np.append(starts, len(group)))
        before = seen - np.repeat(seen[starts], sizes)
        total += int(before[ones == 0].sum())
        values = values[np.argsort(values >> bit, kind="stable")]
    return total
