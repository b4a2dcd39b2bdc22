"""Exact duplicates of images by a digest of their bytes, and near duplicates by a perceptual hash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8, UInt64

BITS = 7  # largest number of bits in which the hashes of near duplicates differ
CORRELATION = 0.9  # smallest correlation of their gray thumbnails
BRIGHTNESS = 24.0  # largest difference of the means of the thumbnails, in gray levels
STRUCTURE = 3.0  # smallest standard deviation in gray levels; flatter images all look alike
NEIGHBORS = 64  # images with the same part of a hash that an image is compared with
_PART, _PARTS = 16, 4  # bits of a part, parts of a hash
_BLOCK = 1 << 15  # pairs that are compared at a time
# the number of ones in each number of 16 bits
_BITS = np.unpackbits(np.arange(1 << _PART, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1)
_POPULATION = _BITS.sum(axis=1, dtype=np.uint8)


def exact_duplicates(digests: Sequence[bytes]) -> list[list[int]]:
    """Return groups of at least two indices with the same digest, in order; empty digests are left out."""
    by_digest: dict[bytes, list[int]] = {}
    for index, digest in enumerate(digests):
        if digest:
            by_digest.setdefault(digest, []).append(index)
    return [group for group in by_digest.values() if len(group) > 1]


def perceptual_hash(grays: UInt8[np.ndarray, "M s s"]) -> UInt64[np.ndarray, "M"]:
    """Return a 64-bit hash of each image: which of its 8 x 8 lowest cosine frequencies are above their median.

    It is the usual pHash (Zauner 2010) of a smaller image. Brightness, contrast, size and compression hardly change it.
    """
    side = grays.shape[1]
    wave = np.cos(np.pi / side * (np.arange(side) + 0.5) * np.arange(8)[:, None]).astype(np.float32)
    hashes = np.zeros(len(grays), np.uint64)
    weights = np.uint64(1) << np.arange(64, dtype=np.uint64)
    for start in range(0, len(grays), 1 << 14):  # bounds the memory
        part = grays[start : start + (1 << 14)].astype(np.float32)
        waves = (wave @ part @ wave.T).reshape(len(part), 64)
        waves[:, 0] = 0  # the brightness
        signs = waves > np.median(waves, axis=1, keepdims=True)
        hashes[start : start + len(part)] = (signs * weights).sum(axis=1, dtype=np.uint64)
    return hashes


def hamming_distance(a: UInt64[np.ndarray, "N"], b: UInt64[np.ndarray, "N"]) -> Int64[np.ndarray, "N"]:
    """Return the number of bits in which each pair of hashes differs."""
    differing = a ^ b
    total = np.zeros(len(differing), np.int64)
    for part in range(_PARTS):
        total += _POPULATION[_part(differing, part)]
    return total


def near_duplicate_groups(
    grays: UInt8[np.ndarray, "M s s"],
    usable: Bool[np.ndarray, "M"],
    hashes: UInt64[np.ndarray, "M"],
    same: Sequence[Sequence[int]] = (),
) -> list[list[int]]:
    """Return groups of indices of ``usable`` images that look nearly the same, directly or through others, in order.

    The groups in ``same`` are joined from the start.

    If two hashes differ in at most ``BITS`` = 7 bits, one of their four parts of 16 bits differs in at most one bit. So
    looking up each part as it is and with one bit flipped finds all pairs, except in parts that more than ``NEIGHBORS``
    images have in common.
    """
    if not len(grays):
        return []
    shades = grays.reshape(len(grays), -1).astype(np.float32)
    spread = shades.std(axis=1)
    indices = np.flatnonzero(usable & (spread >= STRUCTURE))
    root = np.arange(len(grays))
    for group in same:
        root[list(group)] = min(group)
    for a, b in _candidates(indices, hashes):
        # pairs that are joined already, such as frames of a video, are not compared again
        apart = root[a] != root[b]
        a, b = a[apart], b[apart]
        near = hamming_distance(hashes[a], hashes[b]) <= BITS
        a, b = a[near], b[near]
        alike = _alike(shades, spread, a, b)
        _join(root, a[alike], b[alike])
    return _groups(root)


def _candidates(
    indices: Int64[np.ndarray, "K"], hashes: UInt64[np.ndarray, "M"]
) -> Iterator[tuple[Int64[np.ndarray, "B"], Int64[np.ndarray, "B"]]]:
    """Yield blocks of pairs of indices whose hashes agree in a part except for at most one bit."""
    for part in range(_PARTS):
        keys = _part(hashes[indices], part)
        order = np.argsort(keys, kind="stable")
        sorted_keys = keys[order]
        for mask in (0, *(1 << bit for bit in range(_PART))):
            left, right = _neighbors(sorted_keys, mask)
            for start in range(0, len(left), _BLOCK):
                some = slice(start, start + _BLOCK)
                yield indices[order[left[some]]], indices[order[right[some]]]


def _join(root: Int64[np.ndarray, "M"], a: Int64[np.ndarray, "K"], b: Int64[np.ndarray, "K"]) -> None:
    """Join the groups of each pair: in ``root``, which is changed, all their indices get the lowest root."""
    while len(a):
        low, high = np.minimum(root[a], root[b]), np.maximum(root[a], root[b])
        np.minimum.at(root, high, low)
        while (root[root] != root).any():
            root[:] = root[root]
        apart = root[a] != root[b]
        a, b = a[apart], b[apart]


def _groups(root: Int64[np.ndarray, "M"]) -> list[list[int]]:
    """Return the indices of each group with at least two."""
    members: dict[int, list[int]] = {}
    for index in np.flatnonzero(root != np.arange(len(root))).tolist():
        members.setdefault(int(root[index]), [int(root[index])]).append(index)
    return [members[first] for first in sorted(members)]


def _part(hashes: UInt64[np.ndarray, "N"], part: int) -> Int64[np.ndarray, "N"]:
    return ((hashes >> np.uint64(_PART * part)) & np.uint64((1 << _PART) - 1)).astype(np.int64)


def _neighbors(keys: Int64[np.ndarray, "N"], mask: int) -> tuple[Int64[np.ndarray, "K"], Int64[np.ndarray, "K"]]:
    """Return indices (i, j), i != j, where key j is key i with the mask's bit flipped; ``keys`` must be sorted."""
    neighbors = keys ^ mask
    first, last = np.searchsorted(keys, neighbors, "left"), np.searchsorted(keys, neighbors, "right")
    if mask == 0:
        first = np.arange(len(keys)) + 1  # each pair once
    else:
        last = np.where(neighbors > keys, last, first)
    counts = np.clip(last - first, 0, NEIGHBORS)
    left = np.repeat(np.arange(len(keys)), counts)
    steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return left, np.repeat(first, counts) + steps


def _alike(
    shades: Float[np.ndarray, "M p"],
    spread: Float[np.ndarray, "M"],
    a: Int64[np.ndarray, "K"],
    b: Int64[np.ndarray, "K"],
) -> Bool[np.ndarray, "K"]:
    x, y = shades[a], shades[b]
    gap = np.abs(x.mean(axis=1) - y.mean(axis=1))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    product = (x * y).mean(axis=1) / (spread[a] * spread[b])
    return np.asarray((product >= CORRELATION) & (gap <= BRIGHTNESS))
