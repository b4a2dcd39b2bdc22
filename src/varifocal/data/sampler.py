"""Order and frequency of images in an epoch, which depend only on the samples, the seed and the epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float64, Int64
from pydantic import Field

from varifocal.types import Sample
from varifocal.utils.errors import ConfigError

# Last numbers of the seeds, so that no two draws of a run are equal; [seed, epoch, position] is an example's seed.
ROUNDING, NEGATIVES = 4, 5

# Width / height between the groups of images of similar shape, as in torchvision's reference training.
ASPECT_BOUNDARIES = 2.0 ** np.linspace(-1, 1, 7)


@dataclass(frozen=True)
class Sampling:
    """How often images come in an epoch, and which of them share a batch.

    ``repeat_factor_threshold`` is the t of repeat-factor sampling (Gupta et al., LVIS, CVPR 2019): an image comes
    max(1, sqrt(t / f)) times, where f is the fraction of images that show its rarest class; 0 is off.
    ``max_empty_fraction`` is the largest fraction of images without objects in an epoch; 1 takes all, 0 none.
    ``group_by_aspect_ratio`` puts images of similar shape into the same batches, which need less padding; crops, which
    are square, need none.
    """

    repeat_factor_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_empty_fraction: Annotated[float, Field(ge=0, le=1)] = 1.0
    group_by_aspect_ratio: bool = False


def aspect_groups(samples: Sequence[Sample]) -> Int64[np.ndarray, "M"]:
    """Return the group of each image by width / height: eight groups, of which six are between 1:2 and 2:1."""
    ratios = np.array([sample.width / sample.height for sample in samples])
    return np.digitize(ratios, ASPECT_BOUNDARIES)


def group_batches(order: Int64[np.ndarray, "N"], groups: Int64[np.ndarray, "M"], batch: int) -> Int64[np.ndarray, "N"]:
    """Return the order changed so that batches of ``batch`` images are of one group, as long as it fills whole ones.

    The batches come in the order in which their last images came. What is left over in each group follows at the end.
    """
    waiting: dict[int, list[int]] = {}
    batches: list[list[int]] = []
    for index in order.tolist():
        group = waiting.setdefault(int(groups[index]), [])
        group.append(index)
        if len(group) == batch:
            batches.append(group.copy())
            group.clear()
    left = (waiting[group] for group in sorted(waiting))
    return np.fromiter(chain.from_iterable([*batches, *left]), np.int64, len(order))


def repeat_factors(samples: Sequence[Sample], threshold: float) -> Float64[np.ndarray, "M"]:
    """Return how often each image is to come: max over its classes of max(1, sqrt(threshold / fraction of images)).

    Ignored regions do not count as objects of their class.
    """
    shown = [np.unique(sample.labels[~sample.crowd]) for sample in samples]
    images = np.bincount(np.concatenate([np.zeros(0, np.int64), *shown]))
    factors = np.maximum(1.0, np.sqrt(threshold * len(samples) / np.maximum(images, 1)))
    return np.array([factors[labels].max(initial=1.0) for labels in shown])


def stochastic_round(times: Float64[np.ndarray, "M"], rng: np.random.Generator) -> Int64[np.ndarray, "M"]:
    """Return each number randomly rounded up or down so that its mean over many draws is kept.

    The sum is the same for every ``rng`` (systematic sampling of the fractions in a random order), so that all epochs
    have the same length; it is the sum of the numbers rounded to the nearest integer, or down.
    """
    whole = np.floor(times)
    rest = times - whole
    total = rest.sum()
    count = round(total)
    if count * rest.max(initial=0.0) > total:  # scaled to that count the largest fraction would exceed 1
        count = math.floor(total)
    if count == 0:
        return whole.astype(np.int64)
    order = rng.permutation(len(times))
    ends = np.cumsum(rest[order]) * (count / total)
    ends[-1] = count
    extra = np.empty(len(times))
    extra[order] = np.diff(np.floor(ends + rng.random()), prepend=0.0)
    return (whole + extra).astype(np.int64)


class EpochSampler:
    """The indices of the samples of each epoch, ``length`` in random order.

    ``windows`` says how often an image comes because of its size. ``notes`` describe the effect of the sampling.

    Raises:
        ConfigError: nothing is left to train on.
    """

    def __init__(
        self, samples: Sequence[Sample], windows: Int64[np.ndarray, "M"], sampling: Sampling, seed: int
    ) -> None:
        self.seed, self._windows = seed, windows
        self._factors = (
            repeat_factors(samples, sampling.repeat_factor_threshold) if sampling.repeat_factor_threshold else None
        )
        self._negatives: Int64[np.ndarray, "K"] | None = None
        self._taken = 0  # negatives in each epoch
        self._empty = np.zeros(len(samples), bool)
        if sampling.max_empty_fraction < 1:
            self._bound_background(samples, sampling.max_empty_fraction)
        self.length = int(self._times(0).sum())
        self.notes = self._describe(sampling)

    def __call__(self, epoch: int) -> Int64[np.ndarray, "length"]:
        """Return the order of an epoch."""
        draws = np.repeat(np.arange(len(self._windows)), self._times(epoch))
        return np.random.default_rng([self.seed, epoch]).permutation(draws)

    def _times(self, epoch: int) -> Int64[np.ndarray, "M"]:
        times = self._windows
        if self._factors is not None:
            rng = np.random.default_rng([self.seed, epoch, 0, 0, ROUNDING])
            times = stochastic_round(self._windows * self._factors, rng)
        if self._negatives is not None:
            # repeated passes through the same order: each image is seen once before any comes again
            indices = np.arange(epoch * self._taken, (epoch + 1) * self._taken)
            chosen = np.bincount(self._negatives.take(indices, mode="wrap"), minlength=len(times))
            times = np.where(self._empty, chosen, times)
        return times

    def _bound_background(self, samples: Sequence[Sample], fraction: float) -> None:
        self._empty = images_without_objects(samples)
        objects = int(self._times(0)[~self._empty].sum())
        if not objects:
            raise ConfigError(
                f"data.max_empty_fraction={fraction:g}: no image shows an object, so nothing is left; "
                "use data.max_empty_fraction=1.",
                code="no-image-with-objects",
            )
        negatives = np.repeat(np.flatnonzero(self._empty), self._windows[self._empty])
        most = math.floor(fraction * objects / (1 - fraction) + 1e-9)
        if most < len(negatives):
            rng = np.random.default_rng([self.seed, 0, 0, 0, NEGATIVES])
            self._negatives, self._taken = rng.permutation(negatives), most

    def _describe(self, sampling: Sampling) -> tuple[str, ...]:
        notes = []
        if self._factors is not None:
            more = int((self._factors > 1).sum())
            notes.append(
                f"data.repeat_factor_threshold={sampling.repeat_factor_threshold:g}: {more} of {len(self._factors)} "
                f"images show a rare class and come up to {self._factors.max(initial=1.0):.1f} times an epoch"
            )
        if self._negatives is not None:
            notes.append(
                f"data.max_empty_fraction={sampling.max_empty_fraction:g}: {self._taken} of {len(self._negatives)} "
                "images without an object in each epoch, in turn"
            )
        return tuple(notes)


def images_without_objects(samples: Sequence[Sample]) -> Bool[np.ndarray, "M"]:
    """Return which images have no box except ignored ones."""
    return np.array([bool(sample.crowd.all()) for sample in samples], bool)
