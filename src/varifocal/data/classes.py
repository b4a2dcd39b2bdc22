"""Classes of a data set that have boxes, and a data set restricted to some of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int64

from varifocal.data.annotations import LazySequence, region_numbers
from varifocal.types import Dataset, Sample
from varifocal.utils.errors import DataError
from varifocal.utils.text import short_list


def used_classes(data: Dataset) -> Bool[np.ndarray, "C"]:
    """Return which categories have a box, either an object or an ignored region of that class.

    A region that is ignored for several classes does not count for any of them.
    """
    used = np.zeros(len(data.categories), bool)
    for sample in data.samples:
        used[_own_labels(sample)] = True
        if used.all():
            break
    return used


def _own_labels(sample: Sample) -> Int64[np.ndarray, "K"]:
    """Return the labels without those of regions that are ignored for several classes."""
    if np.count_nonzero(sample.crowd) < 2:
        return sample.labels
    one_image = np.zeros(len(sample.labels), np.int64)
    return sample.labels[region_numbers(one_image, sample.labels, sample.boxes, sample.crowd) < 0]


def with_classes(data: Dataset, keep: Bool[np.ndarray, "C"]) -> Dataset:
    """Return the data set with the categories ``keep`` only.

    The other categories must have no box except regions that are ignored for several classes.
    """
    if keep.all():
        return data
    index = np.where(keep, np.cumsum(keep) - 1, -1)
    categories = tuple(category for category, kept in zip(data.categories, keep, strict=True) if kept)
    return replace(data, samples=_Relabeled(data.samples, index), categories=categories)


def learned_classes(training: Dataset, validation: Dataset | None, *, keep_all: bool) -> tuple[Dataset, Dataset | None]:
    """Return both data sets with the classes that the model is made for, and notes on that choice.

    These are the classes of the training data that have a box in it, and those that have a box in the validation data
    only: a class must not disappear from the metric because nothing was learned for it. All classes are kept with
    ``keep_all``, or if none has a box. The validation data loses classes without a box that the training data does not
    list.

    Raises:
        DataError: no box of the training data has a class.
    """
    _refuse_unlabeled(training)
    validated = set() if validation is None else set(_names(validation, used_classes(validation)))
    used = used_classes(training)
    only_validated = np.array([category.name in validated for category in training.categories], bool) & ~used
    keep = used | only_validated
    if keep_all or not keep.any():
        keep[:] = True
    source, notes = training.source.name, list(training.notes)
    if not keep.all():
        unused = class_list(_names(training, ~keep), "has no box and is no output", "have no box and are no outputs")
        notes.append(f"{source}: {unused} of the model; data.keep_unused_classes=true keeps all.")
    if only_validated.any():
        unlearned = class_list(_names(training, only_validated), "has boxes", "have boxes")
        notes.append(f"{source}: {unlearned} to validate on and none to learn from.")
    training = replace(with_classes(training, keep), notes=tuple(notes))
    return training, None if validation is None else _validated_classes(validation, training)


def _refuse_unlabeled(training: Dataset) -> None:
    if not training.categories:
        text = f"{training.source}: the split to train on has no box with a class; label its images first"
        raise DataError(text, code="no-classes-to-learn")


def _validated_classes(validation: Dataset, training: Dataset) -> Dataset:
    """Return the validation data without classes that have no box and that the training data does not list."""
    if not validation.categories:  # nothing is labeled there
        return replace(validation, categories=training.categories)
    known = {category.name for category in training.categories}
    listed = np.array([category.name in known for category in validation.categories], bool)
    return with_classes(validation, listed | used_classes(validation))


def _names(data: Dataset, which: Bool[np.ndarray, "C"]) -> list[str]:
    return [data.categories[index].name for index in np.flatnonzero(which).tolist()]


def class_list(names: Sequence[str], one: str, several: str) -> str:
    """Return the names of classes with the verb for one or for several: "the classes cup, box have no box"."""
    single = len(names) == 1
    return f"the class{'' if single else 'es'} {short_list(names)} {one if single else several}"


class _Relabeled(LazySequence[Sample]):
    """Samples with other labels; boxes of classes that were left out are left out."""

    def __init__(self, samples: Sequence[Sample], index: Int64[np.ndarray, "C"]) -> None:
        self._samples, self._index = samples, index

    def item(self, index: int) -> Sample:
        sample = self._samples[index]
        labels = self._index[sample.labels]
        kept = labels >= 0
        if kept.all():
            return replace(sample, labels=labels)
        areas = None if sample.areas is None else sample.areas[kept]
        return replace(sample, boxes=sample.boxes[kept], labels=labels[kept], crowd=sample.crowd[kept], areas=areas)

    def __len__(self) -> int:
        return len(self._samples)
