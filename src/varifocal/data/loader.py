"""Training batches: their content depends only on seed and step, so any step can be reproduced."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from varifocal.data.augment import Augmentation, augment, mean_color, sample_crop
from varifocal.data.cache import ImageCache
from varifocal.data.images import read_image
from varifocal.data.mosaic import MixedImage, mix_images
from varifocal.data.preprocess import pad_batch, pil_to_tensor, resize
from varifocal.data.sampler import EpochSampler, Sampling, aspect_groups, group_batches
from varifocal.data.validate import check_size
from varifocal.structures import Batch, Targets
from varifocal.types import Preprocess, Sample, resize_factor, resized_shape
from varifocal.utils.errors import VarifocalError

Key = tuple[int, int, int]  # epoch, position in the epoch, index of the sample

# Last numbers of the seeds [seed, epoch, position, number, ...] of further draws for an example; the seed of its first
# image's augmentation is [seed, epoch, position]. numpy takes a missing number for 0, so these begin at 1.
VARYING, CHOOSING, MIXING = 1, 2, 3
TRIES = 20  # unreadable images in a row before an example fails


class TrainExample(NamedTuple):
    """An image and its boxes, the files they are from, and the (index, reason) of each file that could not be read."""

    image: Tensor
    targets: Targets
    file: str
    bad: tuple[tuple[int, str], ...] = ()


def window_counts(samples: Sequence[Sample], preprocess: Preprocess, config: Augmentation) -> Int64[np.ndarray, "M"]:
    """Return how often each image comes in an epoch.

    Without crops each comes once. With crops an image comes as often as crops are needed to cover it, so that a large
    image counts more than a small one.
    """
    if not config.crop:
        return np.ones(len(samples), np.int64)
    return np.array([_windows(sample, preprocess, config) for sample in samples], np.int64)


def _windows(sample: Sample, preprocess: Preprocess, config: Augmentation) -> int:
    factor = resize_factor(sample.height, sample.width, preprocess)
    return max(math.ceil(factor**2 * sample.height * sample.width / config.crop**2), 1)


class TrainDataset(Dataset):
    """Augmented examples by (epoch, position, index); decoded images are kept while they fit into ``cache_bytes``.

    An image that cannot be read is replaced by another one of the epoch, drawn by the example's own seed: the same one
    in every run, whatever the number of processes. With ``strict``, or after many such images in a row, the error is
    returned instead. It is not raised, because in a worker process it would lose its type and gain a traceback.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocess: Preprocess,
        config: Augmentation,
        seed: int,
        *,
        cache_bytes: int = 0,
        sampling: Sampling | None = None,
        strict: bool = True,
    ) -> None:
        self.samples, self.preprocess, self.config, self.seed = samples, preprocess, config, seed
        self.strict = strict
        self.order = EpochSampler(samples, window_counts(samples, preprocess, config), sampling or Sampling(), seed)
        groups = sampling is not None and sampling.group_by_aspect_ratio and not config.crop
        self.groups = aspect_groups(samples) if groups else None
        self.cache = ImageCache(len(samples), cache_bytes) if cache_bytes else None
        self._epoch: tuple[int, Int64[np.ndarray, "N"]] | None = None

    def __getitem__(self, key: Key) -> TrainExample | VarifocalError:
        builder = _ExampleBuilder(self, key)
        try:
            image, targets = builder.example()
        except VarifocalError as error:
            return error
        return TrainExample(image, targets, " + ".join(builder.files), tuple(builder.bad.items()))

    def order_of(self, epoch: int) -> Int64[np.ndarray, "N"]:
        """Return the order of an epoch, computed once for all of its examples."""
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, self.order(epoch)
        return self._epoch[1]

    def read(self, index: int) -> Tensor:
        """Return the image [3, H, W] as bytes, which must not be modified.

        If all images are always resized in the same way, and that makes this one smaller, it is cached and returned at
        the smaller size, which :func:`resize` leaves unchanged.

        Raises:
            DataError: it cannot be read, or does not have the recorded size.
        """
        kept = self.cache.get(index) if self.cache is not None else None
        if kept is not None:
            return torch.from_numpy(kept).permute(2, 0, 1)
        sample = self.samples[index]
        decoded = read_image(sample.file, self.preprocess.range, large=self.config.crop > 0)
        check_size(sample, decoded)
        image = pil_to_tensor(decoded)
        if self.cache is not None:
            height, width = resized_shape(sample.height, sample.width, self.preprocess)
            if self.config.one_size and height * width < sample.height * sample.width:
                image = resize(image, height, width)
            self.cache.put(index, image.permute(1, 2, 0).numpy())
        return image


class _ExampleBuilder:
    """Builds one example, and records the files it is from and those that could not be read."""

    def __init__(self, data: TrainDataset, key: Key) -> None:
        self.data = data
        self.epoch, self.position, self.index = key
        self.files: list[str] = []
        self.bad: dict[int, str] = {}
        self._failures = 0
        self._size = (0, 0)

    def example(self) -> MixedImage:
        config = self.data.config
        if not config.mixes(self.epoch):
            return self.take(0, 1.0)
        return mix_images(self.take, lambda: self._size, config, mean_color(self.data.preprocess), self._rng(0, MIXING))

    def take(self, number: int, zoom: float) -> MixedImage:
        """Return the example's own image, number 0, or another one of the epoch, augmented."""
        data, rng = self.data, self._rng(number, CHOOSING)
        index = self.index if number == 0 else self._another(rng)
        while (image := self._read(index)) is None:
            index = self._another(rng)
        sample = data.samples[index]
        self.files.append(str(sample.file))
        seed = [data.seed, self.epoch, self.position, *([number, VARYING] if number else [])]
        if number == 0 and data.config.mosaic:
            self._size = sample_crop(sample, data.preprocess, data.config, np.random.default_rng(seed)).size
        return augment(image, sample, data.preprocess, data.config, seed, zoom)

    def _read(self, index: int) -> Tensor | None:
        try:
            return self.data.read(index)
        except VarifocalError as error:
            self.bad[index] = str(error)
            self._failures += 1
            if self.data.strict or self._failures == TRIES:
                raise
            return None

    def _another(self, rng: np.random.Generator) -> int:
        order = self.data.order_of(self.epoch)
        return int(order[rng.integers(len(order))])

    def _rng(self, number: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.data.seed, self.epoch, self.position, number, purpose])


def collate(examples: list[TrainExample | VarifocalError], divisor: int) -> Batch | VarifocalError:
    """Return one padded batch, or the first error among its examples."""
    good: list[TrainExample] = []
    for example in examples:
        if isinstance(example, VarifocalError):
            return example
        good.append(example)
    images, targets, files, bad = zip(*good, strict=True)
    found = dict(chain.from_iterable(bad))
    return Batch(pad_batch(list(images), divisor), tuple(targets), tuple(files), tuple(found.items()))


class BatchSampler:
    """The batches of one process out of ``world``.

    The batch of a step is cut out of the epoch's order as if there were one process, then divided: the images of a step
    do not depend on the number of processes. The last batch of an epoch is filled up from its beginning.
    """

    def __init__(self, data: TrainDataset, batch: int, *, rank: int = 0, world: int = 1) -> None:
        self.data, self.batch, self.rank, self.world = data, batch, rank, world
        self.per_epoch = math.ceil(data.order.length / batch)

    def keys(self, start: int, steps: int) -> Iterator[list[Key]]:
        """Yield for each step from ``start`` to ``steps`` the keys of this process's part of the batch."""
        per_process = self.batch // self.world
        epoch, order = -1, list[int]()
        for step in range(start, steps):
            if step // self.per_epoch != epoch:
                epoch = step // self.per_epoch
                order = self._order(epoch).tolist()
            first = (step % self.per_epoch) * self.batch + self.rank * per_process
            yield [(epoch, index, order[index % len(order)]) for index in range(first, first + per_process)]

    def _order(self, epoch: int) -> Int64[np.ndarray, "N"]:
        order = self.data.order(epoch)
        return order if self.data.groups is None else group_batches(order, self.data.groups, self.batch)

    def loader(self, start: int, steps: int, workers: int) -> DataLoader:
        """Return an iterable of :class:`Batch`, or of errors instead."""
        divisor = self.data.preprocess.size_divisor
        return DataLoader(
            self.data,
            batch_sampler=_Keys(self, start, steps),
            collate_fn=partial(collate, divisor=divisor),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_start_worker,
        )


class _Keys:
    """The keys as an iterable that is not computed up front: a long run on a large data set has millions."""

    def __init__(self, batches: BatchSampler, start: int, steps: int) -> None:
        self.batches, self.start, self.steps = batches, start, steps

    def __iter__(self) -> Iterator[list[Key]]:
        return self.batches.keys(self.start, self.steps)


def _start_worker(_: int) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C in a terminal reaches all processes; the training process decides when to stop
    torch.set_num_threads(1)
    worker = get_worker_info()
    data = worker.dataset if worker is not None else None
    if worker is not None and isinstance(data, TrainDataset) and data.cache is not None:
        data.cache.divide(worker.num_workers)
