"""Batches for training: which picture when, decided by seed and step alone, so that any step can be made again."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from varifocal.data.augment import Augment, augment
from varifocal.data.finish import check_size
from varifocal.data.images import read_image
from varifocal.data.preprocess import Preprocess, image_to_tensor, pad_together, resize_factor
from varifocal.errors import VarifocalError
from varifocal.records import StoredFile
from varifocal.types import Batch, Sample, Targets

Key = tuple[int, int, int]  # epoch, place in the epoch, index of the sample
Example = tuple[Tensor, Targets, str] | VarifocalError


def epoch_order(samples: Sequence[Sample], preprocess: Preprocess, config: Augment, seed: list[int]) -> list[int]:
    """The samples of one epoch in a random order.

    Without crops each picture comes once. With crops a picture comes as often as windows are needed to cover it, so
    that a large one does not count as one small one.
    """
    times = [_windows(sample, preprocess, config) for sample in samples]
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(samples)), times)).tolist()


def _windows(sample: Sample, preprocess: Preprocess, config: Augment) -> int:
    if not config.crop:
        return 1
    factor = resize_factor(sample.height, sample.width, preprocess)
    return max(math.ceil(factor**2 * sample.height * sample.width / config.crop**2), 1)


class TrainingSet(Dataset):
    """Augmented examples by (epoch, place, index); decoded pictures are kept while they fit into ``cache_bytes``.

    A picture that cannot be read is returned as the error it gave: raised in a worker process it would lose its
    type and gain a traceback.
    """

    def __init__(
        self, samples: Sequence[Sample], preprocess: Preprocess, config: Augment, seed: int, cache_bytes: int
    ) -> None:
        self.samples, self.preprocess, self.config, self.seed = samples, preprocess, config, seed
        self.cache_bytes = cache_bytes
        self._cache: OrderedDict[StoredFile, Tensor] = OrderedDict()
        self._cached = 0  # bytes

    def __getitem__(self, key: Key) -> Example:
        epoch, place, index = key
        sample = self.samples[index]
        try:
            image = self._read(sample)
        except VarifocalError as error:
            return error
        part, targets = augment(image, sample, self.preprocess, self.config, [self.seed, epoch, place])
        return part, targets, str(sample.file)

    def _read(self, sample: Sample) -> Tensor:
        if sample.file in self._cache:
            self._cache.move_to_end(sample.file)
            return self._cache[sample.file]
        picture = read_image(sample.file)
        check_size(sample, picture)
        image = image_to_tensor(picture)
        if image.nbytes <= self.cache_bytes:
            self._cache[sample.file] = image
            self._cached += image.nbytes
        while self._cached > self.cache_bytes:
            self._cached -= self._cache.popitem(last=False)[1].nbytes
        return image


def collate(examples: list[Example], divisor: int) -> Batch | VarifocalError:
    """One padded batch, or the first error among its pictures."""
    good: list[tuple[Tensor, Targets, str]] = []
    for example in examples:
        if isinstance(example, VarifocalError):
            return example
        good.append(example)
    images, targets, files = zip(*good, strict=True)
    return Batch(pad_together(list(images), divisor), tuple(targets), tuple(files))


class Batches:
    """The batches of steps ``start`` to ``steps`` of one process out of ``world``.

    The batch of a step is cut out of the epoch's order as if there were one process, then shared out: the pictures
    of a step do not depend on the number of processes. An epoch's last batch is filled from its beginning.
    """

    def __init__(self, data: TrainingSet, batch: int, *, rank: int = 0, world: int = 1) -> None:
        self.data, self.batch, self.rank, self.world = data, batch, rank, world
        self.per_epoch = math.ceil(len(self._order(0)) / batch)

    def _order(self, epoch: int) -> list[int]:
        data = self.data
        return epoch_order(data.samples, data.preprocess, data.config, [data.seed, epoch])

    def keys(self, start: int, steps: int) -> Iterator[list[Key]]:
        """For each step the keys of this process's share."""
        share = self.batch // self.world
        epoch, order = -1, []
        for step in range(start, steps):
            if step // self.per_epoch != epoch:
                epoch = step // self.per_epoch
                order = self._order(epoch)
            first = (step % self.per_epoch) * self.batch + self.rank * share
            yield [(epoch, place, order[place % len(order)]) for place in range(first, first + share)]

    def loader(self, start: int, steps: int, workers: int) -> DataLoader:
        """An iterable of :class:`Batch`, or of an error in place of one."""
        divisor = self.data.preprocess.divisor
        return DataLoader(
            self.data,
            batch_sampler=_Keys(self, start, steps),
            collate_fn=_Collate(divisor),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_one_thread,
        )


class _Keys:
    """The keys as an iterable that is not made up front: a long run on a large set has millions."""

    def __init__(self, batches: Batches, start: int, steps: int) -> None:
        self.batches, self.start, self.steps = batches, start, steps

    def __iter__(self) -> Iterator[list[Key]]:
        return self.batches.keys(self.start, self.steps)


class _Collate:
    """``collate`` with its divisor; a class, because workers started by spawn must be able to copy it."""

    def __init__(self, divisor: int) -> None:
        self.divisor = divisor

    def __call__(self, examples: list[Example]) -> Batch | VarifocalError:
        return collate(examples, self.divisor)


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
