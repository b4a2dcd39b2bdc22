"""Images that are the same, or nearly so: by bytes, and by a hash of what is seen on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8, UInt64

BITS = 7  # that may differ between the hashes of two images that are nearly the same
CORRELATION = 0.9  # least, of their small gray images
BRIGHTNESS = 24.0  # most, of the mean difference of these in gray levels
STRUCTURE = 3.0  # least standard deviation in gray levels; what is flatter looks like everything flat
NEIGHBORS = 64  # images of one part of a hash that an image is compared with
_PART, _PARTS = 16, 4  # bits of a part, parts of a hash
_BLOCK = 1 << 15  # pairs that are looked at together
_POPULATION = np.array([bin(value).count("1") for value in range(1 << _PART)], np.uint8)


def exact_duplicates(digests: Sequence[bytes]) -> list[list[int]]:
    """Return groups of at least two indices with the same digest, in order; empty digests are left out."""
    by_digest: dict[bytes, list[int]] = {}
    for index, digest in enumerate(digests):
        if digest:
            by_digest.setdefault(digest, []).append(index)
    return [group for group in by_digest.values() if len(group) > 1]


def perceptual_hash(grays: UInt8[np.ndarray, "M s s"]) -> UInt64[np.ndarray, "M"]:
    """64 signs of the slow waves of each image: a cosine transform's 8 x 8 lowest, above or below their median.

    The usual pHash (Zauner 2010) on a smaller image. Brightness, contrast, size and compression hardly move it.
    """
    side = grays.shape[1]
    wave = np.cos(np.pi / side * (np.arange(side) + 0.5) * np.arange(8)[:, None]).astype(np.float32)
    hashes = np.zeros(len(grays), np.uint64)
    weights = np.uint64(1) << np.arange(64, dtype=np.uint64)
    for start in range(0, len(grays), 1 << 14):  # what is made on the way stays small
        part = grays[start : start + (1 << 14)].astype(np.float32)
        waves = (wave @ part @ wave.T).reshape(len(part), 64)
        waves[:, 0] = 0  # the brightness
        signs = waves > np.median(waves, axis=1, keepdims=True)
        hashes[start : start + len(part)] = (signs * weights).sum(axis=1, dtype=np.uint64)
    return hashes


def hamming_distance(a: UInt64[np.ndarray, "N"], b: UInt64[np.ndarray, "N"]) -> Int64[np.ndarray, "N"]:
    """In how many bits pairs of hashes differ."""
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

    Each group of ``same`` is together from the beginning.

    Two hashes that differ in at most ``BITS`` = 7 bits have a part of 16 bits that differs in at most one (four such
    parts, seven differences), so looking up each part as it is and with one bit flipped finds all of them, except in
    parts that more than ``NEIGHBORS`` images have in common.
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
        # what is joined already, as are the frames of a video after a while, need not be looked at again
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
    """Yield pairs of indices whose hashes agree in a part but for a bit, a block at a time."""
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
    """Give the indices of each pair, and all that have their roots, the lowest of these roots; ``root`` is changed."""
    while len(a):
        low, high = np.minimum(root[a], root[b]), np.maximum(root[a], root[b])
        np.minimum.at(root, high, low)
        while (root[root] != root).any():
            root[:] = root[root]
        apart = root[a] != root[b]
        a, b = a[apart], b[apart]


def _groups(root: Int64[np.ndarray, "M"]) -> list[list[int]]:
    """Return the indices of each root that has at least two."""
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
