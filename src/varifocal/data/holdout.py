"""A data set that was never split, divided in two: each class in both parts, images that look alike in one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Int64

from varifocal.data.annotations import LazySequence
from varifocal.data.image_scan import THUMB, ImageScan, scan_images
from varifocal.data.near_duplicates import exact_duplicates, near_duplicate_groups, perceptual_hash
from varifocal.types import Dataset, FileLike, Sample
from varifocal.utils.errors import ConfigError, DataError
from varifocal.utils.text import counted

MOST = 0.9  # largest fraction that may be held out
_THREADS = 4


class Subset(LazySequence[Sample]):
    """Some of the samples, in the order of their indices."""

    def __init__(self, samples: Sequence[Sample], indices: Int64[np.ndarray, "K"]) -> None:
        self._samples, self._indices = samples, indices

    def item(self, index: int) -> Sample:
        """Return the sample at a position among the indices."""
        return self._samples[int(self._indices[index])]

    def __len__(self) -> int:
        return len(self._indices)


def holdout_mask(
    data: Dataset, fraction: float, seed: int = 0, progress: Callable[[int], None] = lambda done: None
) -> tuple[Bool[np.ndarray, "M"], str]:
    """Return which images are held out, about that ``fraction`` of each class, and a sentence that says so.

    Every image is decoded once, so that images which are the same or nearly so stay together; ``progress`` is called
    with the number done. The same data and ``seed`` give the same parts on every machine. An image that cannot be read
    is never held out: nothing can be evaluated on it, and training counts it.

    Raises:
        ConfigError: the fraction is not above 0 and at most ``MOST``.
        DataError: no image can be read, or all look alike.
    """
    if not 0 < fraction <= MOST:
        raise ConfigError(
            f"--val-fraction {fraction:g}: the fraction of the images to hold out must be above 0 and at most {MOST}.",
            code="fraction-out-of-range",
        )
    group_of, joined, bad = similarity_groups(data.samples, progress)
    total = len(data.samples)
    good = np.ones(total, bool)
    good[list(bad)] = False
    groups = np.unique(group_of[good], return_inverse=True)[1].reshape(-1)
    if bad and not len(groups):
        raise next(iter(bad.values()))
    if groups.max(initial=0) == 0:
        raise DataError(
            f"{data.source}: its {total} images are the same or look alike and cannot be divided; add images of other "
            "scenes, or leave --val-fraction out",
            code="images-all-alike",
        )
    held = np.zeros(total, bool)
    held[good] = stratified_assign(class_counts(data)[good], groups, fraction, seed)
    count = int(held.sum())
    parts = f"{counted(total - count, '(image|images)')} to train on and {count} to validate on ({count / total:.1%})"
    if joined:
        parts += f"; {counted(joined, 'of them (looks like another and stays|look like another and stay) with it')}"
    if bad:
        parts += f"; {counted(len(bad), 'cannot be read and (is|are) among those to train on')}"
    return held, f"{data.source.name}: split by seed {seed} into {parts}."


def similarity_groups(
    samples: Sequence[Sample], progress: Callable[[int], None] = lambda done: None
) -> tuple[Int64[np.ndarray, "M"], int, dict[int, DataError]]:
    """Return the group of each image, counted from 0, how many images share a group, and the errors by index.

    Images that look nearly the same are in one group; one that cannot be read is a group of its own.
    """
    grays = np.zeros((len(samples), THUMB, THUMB), np.uint8)
    digests = [b""] * len(samples)
    bad: dict[int, DataError] = {}

    def take(index: int, scan: ImageScan) -> None:
        if scan.error is not None or scan.gray is None:
            bad[index] = scan.error or DataError(
                f"{samples[index].file}: the image cannot be read; replace it", code="image-unreadable"
            )
        else:
            grays[index], digests[index] = scan.gray, scan.digest
        progress(index + 1)

    scan_images(_SampleFiles(samples), take, _THREADS)
    usable = np.ones(len(samples), bool)
    usable[list(bad)] = False
    members = near_duplicate_groups(grays, usable, perceptual_hash(grays), exact_duplicates(digests))
    first = np.arange(len(samples))
    for group in members:
        first[group] = group[0]
    return np.unique(first, return_inverse=True)[1].reshape(-1), sum(map(len, members)), bad


class _SampleFiles(LazySequence[FileLike]):
    """The image file of each sample."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def item(self, index: int) -> FileLike:
        return self._samples[index].file

    def __len__(self) -> int:
        return len(self._samples)


def class_counts(data: Dataset) -> Bool[np.ndarray, "M K"]:
    """Return which classes each image shows; the last column marks images that show none."""
    shows = np.zeros((len(data.samples), len(data.categories) + 1), bool)
    for index, sample in enumerate(data.samples):
        shows[index, sample.labels if len(sample.labels) else -1] = True
    return shows


def stratified_assign(
    shows: Bool[np.ndarray, "M C"], group_of: Int64[np.ndarray, "M"], fraction: float, seed: int
) -> Bool[np.ndarray, "M"]:
    """Return which images are held out: about that fraction of the images of each class, all or none of each group.

    This is iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): the class left in the fewest groups is
    dealt out first, each group to the side that still needs more of it; common classes can be balanced later. Large
    groups come first, equal ones in an order drawn by the seed. A class of a single group is trained on. With two
    groups or more neither side stays empty.
    """
    total = int(group_of.max()) + 1
    sizes = np.bincount(group_of, minlength=total)
    counts = np.zeros((total, shows.shape[1]), np.int64)
    np.add.at(counts, group_of, shows)
    order = np.random.default_rng(seed).permutation(total)
    order = order[np.argsort(-sizes[order], kind="stable")]
    expected = np.array([[1 - fraction], [fraction]]) * counts.sum(axis=0)
    room = np.array([1 - fraction, fraction]) * sizes.sum()
    side = np.full(total, -1)
    left = (counts > 0).sum(axis=0)
    alone = left == 1
    while (left > 0).any():
        chosen = int(np.argmin(np.where(left > 0, left, total + 1)))
        for group in order[(counts[order, chosen] > 0) & (side[order] < 0)]:
            to = 0 if alone[chosen] else _needs_more(expected[:, chosen], room)
            side[group] = to
            expected[to] -= counts[group]
            room[to] -= sizes[group]
            left -= counts[group] > 0
    if not (side == 1).any():
        side[order[-1]] = 1
    if not (side == 0).any():
        side[order[0]] = 0
    return (side == 1)[group_of]


def _needs_more(expected: np.ndarray, room: np.ndarray) -> int:
    """Return the side that needs more of a class, or else of images; 0, the training side, if both need the same."""
    if not np.isclose(expected[0], expected[1]):
        return int(expected[1] > expected[0])
    return int(room[1] > room[0] and not np.isclose(room[0], room[1]))
