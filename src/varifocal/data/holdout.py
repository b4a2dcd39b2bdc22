"""A data set that was never split, in two: each class in both parts, and images that look alike in one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, overload

import numpy as np
from jaxtyping import Bool, Int64

from varifocal.data.annotations import counted
from varifocal.data.images import THUMB, ImageScan, scan_images
from varifocal.data.load import load_dataset
from varifocal.data.near_duplicates import exact_duplicates, near_duplicate_groups, perceptual_hash
from varifocal.data.options import Unlabeled
from varifocal.types import Dataset, Sample
from varifocal.utils.errors import ConfigError, DataError

MOST = 0.9  # fraction that may be held out
_THREADS = 4


class Picked(Sequence[Sample]):
    """Some of the samples, in the order of their indices."""

    def __init__(self, samples: Sequence[Sample], indices: Int64[np.ndarray, "K"]) -> None:
        self._samples, self._indices = samples, indices

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return Picked(self._samples, self._indices[index])
        return self._samples[int(self._indices[index])]

    def __len__(self) -> int:
        return len(self._indices)


def load_train_val(
    path: Path | str,
    fraction: float,
    seed: int = 0,
    *,
    split: str | None = None,
    format: str | None = None,
    images: str = "",
    unlabeled: Unlabeled = "",
    invalid_boxes: Literal["error", "drop"] = "error",
    difficult: Literal["ignore", "train"] = "ignore",
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Dataset, Dataset]:
    """A split of a data set in two: to train on, and about that ``fraction`` of the images to validate on.

    The other options are those of ``load_dataset``; ``difficult`` is for the first part, in the second they are always
    ignored. Errors are those of ``load_dataset`` and :func:`hold_out`.
    """
    load = partial(
        load_dataset, path, split, format=format, images=images, unlabeled=unlabeled, invalid_boxes=invalid_boxes
    )
    data = load()
    held, note = holdout_mask(data, fraction, seed, progress)
    whole = data if difficult == "ignore" else load(difficult=difficult)
    training = Picked(whole.samples, np.flatnonzero(~held))
    validation = Picked(data.samples, np.flatnonzero(held))
    return replace(whole, samples=training, notes=(*whole.notes, note)), replace(data, samples=validation, notes=())


def holdout_mask(
    data: Dataset, fraction: float, seed: int = 0, progress: Callable[[int], None] = lambda done: None
) -> tuple[Bool[np.ndarray, "M"], str]:
    """Which images are held out, about that ``fraction`` of each class, and a sentence that says so.

    Every image is decoded once, to keep those together that are the same or nearly so; ``progress`` is called with
    the number done. The same data and ``seed`` give the same parts, whatever the machine. An image that cannot be
    read is never held out: it cannot be measured on, and training counts it.

    Raises:
        ConfigError: the fraction is not above 0 and at most ``MOST``.
        DataError: no image can be read, or all look alike.
    """
    if not 0 < fraction <= MOST:
        raise ConfigError(
            f"--val-fraction {fraction:g}: the fraction of the images to hold out must be above 0 and at most {MOST}."
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
            f"{data.source}: its {total} images are one, or look alike, and cannot be split; "
            "give it images of other scenes, or leave --val-fraction out"
        )
    held = np.zeros(total, bool)
    held[good] = assign(class_counts(data)[good], groups, fraction, seed)
    count = int(held.sum())
    stay = counted(joined, "of them (looks like another and stays|look like another and stay) with it")
    unread = counted(len(bad), "cannot be read and (is|are) among those to train on")
    trained = counted(total - count, "(image|images)")
    kept = (f"; {stay}" if joined else "") + (f"; {unread}" if bad else "")
    note = (
        f"{data.source.name}: split by seed {seed} into {trained} to train on and {count} to validate "
        f"on ({count / total:.1%}){kept}."
    )
    return held, note


def similarity_groups(
    samples: Sequence[Sample], progress: Callable[[int], None] = lambda done: None
) -> tuple[Int64[np.ndarray, "M"], int, dict[int, DataError]]:
    """Return a group for each image, counted from 0, the same for those that look nearly the same; how many are not
    alone in theirs; and, by index, why some cannot be read, which are groups of their own."""
    grays = np.zeros((len(samples), THUMB, THUMB), np.uint8)
    digests = [b""] * len(samples)
    bad: dict[int, DataError] = {}

    def take(index: int, look: ImageScan) -> None:
        if look.error is not None or look.gray is None:
            bad[index] = look.error or DataError(f"{samples[index].file}: the image cannot be read; replace it")
        else:
            grays[index], digests[index] = look.gray, look.digest
        progress(index + 1)

    scan_images(_FilesOf(samples), take, _THREADS)
    usable = np.ones(len(samples), bool)
    usable[list(bad)] = False
    members = near_duplicate_groups(grays, usable, perceptual_hash(grays), exact_duplicates(digests))
    first = np.arange(len(samples))
    for group in members:
        first[group] = group[0]
    return np.unique(first, return_inverse=True)[1].reshape(-1), sum(map(len, members)), bad


class _FilesOf(Sequence):
    """The file of each sample, made when asked for."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        found = self._samples[index]
        return [sample.file for sample in found] if isinstance(index, slice) else found.file

    def __len__(self) -> int:
        return len(self._samples)


def class_counts(data: Dataset) -> Bool[np.ndarray, "M K"]:
    """Which classes each image shows; the last column marks those that show none."""
    shows = np.zeros((len(data.samples), len(data.categories) + 1), bool)
    for index, sample in enumerate(data.samples):
        shows[index, sample.labels if len(sample.labels) else -1] = True
    return shows


def assign(
    shows: Bool[np.ndarray, "M C"], group_of: Int64[np.ndarray, "M"], fraction: float, seed: int
) -> Bool[np.ndarray, "M"]:
    """Return which images are held out: about that fraction of the images of each class, all or none of each group.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): the class that is left in the fewest groups is
    dealt out first, each group to the side that still wants more of it, since with common classes there is always
    room to make good. Large groups come first, equal ones in an order that the seed draws. A class of a single group
    is trained on; of two groups or more neither side stays empty.
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
    """The side that wants more of a class, or else of images; the training side where they want the same."""
    if not np.isclose(expected[0], expected[1]):
        return int(expected[1] > expected[0])
    return int(room[1] > room[0] and not np.isclose(room[0], room[1]))
