"""Which classes of a data set have boxes, and the same data with some of its classes only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import overload

import numpy as np
from jaxtyping import Bool, Int64

from varifocal.data.annotations import short_list
from varifocal.data.regions import region_numbers
from varifocal.types import Dataset, Sample


def used_classes(data: Dataset) -> Bool[np.ndarray, "C"]:
    """Which of the categories have a box, be it an object or a region of that class to be ignored; regions of several
    classes say of none that it is there."""
    used = np.zeros(len(data.categories), bool)
    for sample in data.samples:
        used[_own_labels(sample)] = True
        if used.all():
            break
    return used


def _own_labels(sample: Sample) -> Int64[np.ndarray, "K"]:
    """The labels without those of regions of several classes."""
    if np.count_nonzero(sample.crowd) < 2:
        return sample.labels
    one_image = np.zeros(len(sample.labels), np.int64)
    return sample.labels[region_numbers(one_image, sample.labels, sample.boxes, sample.crowd) < 0]


def with_classes(data: Dataset, keep: Bool[np.ndarray, "C"]) -> Dataset:
    """The same data set with those of its categories alone; the others must have no box but regions of several
    classes."""
    if keep.all():
        return data
    index = np.where(keep, np.cumsum(keep) - 1, -1)
    categories = tuple(one for one, kept in zip(data.categories, keep, strict=True) if kept)
    return replace(data, samples=_Relabeled(data.samples, index), categories=categories)


def learned_classes(training: Dataset, validation: Dataset | None, *, keep_all: bool) -> tuple[Dataset, Dataset | None]:
    """Both data sets with the classes that a model is made for, and notes on what that means.

    These are the classes of the training set that have a box in it. Those that only the validation set shows stay,
    too: what is measured must not be easier because nothing was learned for it. With ``keep_all``, and where nothing
    has a box, all are kept. The validation set loses the classes without a box that the training set has not.
    """
    names = [category.name for category in training.categories]
    own = used_classes(training)
    shown = set() if validation is None else _names(validation, used_classes(validation))
    measured = np.array([name in shown for name in names], bool) & ~own
    keep = own | measured | (keep_all or not (own | measured).any())
    notes = list(training.notes)
    if not keep.all():
        left = [name for name, kept in zip(names, keep, strict=True) if not kept]
        done = "has no box and is no output" if len(left) == 1 else "have no box and are no outputs"
        notes.append(
            f"{training.source.name}: {class_list(left)} {done} of the model; data.keep_unused_classes=true keeps all."
        )
    if measured.any():
        strange = [name for name, one in zip(names, measured, strict=True) if one]
        done = "has boxes" if len(strange) == 1 else "have boxes"
        notes.append(f"{training.source.name}: {class_list(strange)} {done} to validate on and none to learn from.")
    training = replace(with_classes(training, keep), notes=tuple(notes))
    if validation is not None:
        known = {category.name for category in training.categories}
        listed = np.array([category.name in known for category in validation.categories], bool)
        validation = with_classes(validation, listed | used_classes(validation))
    return training, validation


def _names(data: Dataset, which: Bool[np.ndarray, "C"]) -> set[str]:
    return {category.name for category, one in zip(data.categories, which, strict=True) if one}


def class_list(names: Sequence[str]) -> str:
    """The names of classes as the subject of a sentence: "the class cup", "the classes cup, box"."""
    return f"the class{'' if len(names) == 1 else 'es'} {short_list(names)}"


class _Relabeled(Sequence[Sample]):
    """The samples with other labels, made when they are asked for."""

    def __init__(self, samples: Sequence[Sample], index: Int64[np.ndarray, "C"]) -> None:
        self._samples, self._index = samples, index

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return _Relabeled(self._samples[index], self._index)
        sample = self._samples[index]
        labels = self._index[sample.labels]
        if (labels >= 0).all():
            return replace(sample, labels=labels)
        kept = labels >= 0
        areas = None if sample.areas is None else sample.areas[kept]
        return replace(sample, boxes=sample.boxes[kept], labels=labels[kept], crowd=sample.crowd[kept], areas=areas)

    def __len__(self) -> int:
        return len(self._samples)
