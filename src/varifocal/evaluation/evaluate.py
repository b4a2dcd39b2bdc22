"""Run a model over a data set and measure it with the COCO metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from varifocal.data.classes import class_list, used_classes, with_classes
from varifocal.data.validate import check_size
from varifocal.evaluation.coco_ap import CocoMetrics, coco_ap
from varifocal.inference.pipeline import Predictor, read_for
from varifocal.types import Category, Dataset, Detections, Sample
from varifocal.utils.errors import DataError


def detect_all(
    model: Predictor, samples: Sequence[Sample], progress: Callable[[int], None] = lambda done: None
) -> list[Detections]:
    """Detections of each sample; ``progress`` is called with the number done. One image is in memory at a time."""
    found = []
    for done, sample in enumerate(samples, start=1):
        image = read_for(model.info, sample.file)
        check_size(sample, image)
        found.append(model.predict(image))
        progress(done)
    return found


def evaluate(
    model: Predictor, data: Dataset, progress: Callable[[int], None] = lambda done: None
) -> tuple[CocoMetrics, list[Detections]]:
    """The COCO metrics of a model on a data set, and what it found.

    Classes are matched by name, so that neither ids nor their order matter; those that have no box and that the model
    does not know are left out.

    Raises:
        DataError: the model lacks a class that has boxes.
    """
    data = fit_classes(model, data)
    found = detect_all(model, data.samples, progress)
    return measure(model, data, found), found


def fit_classes(model: Predictor, data: Dataset) -> Dataset:
    """The data set without the classes that have no box and that the model does not know; a note names them.

    Raises:
        DataError: the model lacks a class that has boxes, or knows none of the classes.
    """
    known = {category.name for category in model.categories}
    keep = np.array([category.name in known for category in data.categories], bool)
    if keep.all():
        return data
    used = used_classes(data)
    missing = used & ~keep if keep.any() else ~keep
    if missing.any():
        names = [category.name for category, one in zip(data.categories, missing, strict=True) if one]
        total = int(used.sum()) if keep.any() else len(data.categories)
        raise DataError(
            f"{data.source}: the model was not trained on {', '.join(names[:5])} ({len(names)} of {total} classes); "
            f"it knows {', '.join(list(dict.fromkeys(c.name for c in model.categories))[:10])}."
        )
    names = [category.name for category, one in zip(data.categories, keep, strict=True) if not one]
    unknown = class_list(names, "has no box and is not known to", "have no box and are not known to")
    note = f"{data.source.name}: {unknown} the model; left out."
    return replace(with_classes(data, keep), notes=(*data.notes, note))


def measure(
    model: Predictor, data: Dataset, found: Sequence[Detections], *, without_false: bool = False
) -> CocoMetrics:
    """The COCO metrics of what a model found, with as many boxes an image as the model gives, at least 100.

    ``without_false`` is that of :func:`coco_ap`.
    """
    relabelled = [relabel(one, data.categories) for one in found]
    most = model.info.postprocess.max_detections
    return coco_ap(data.samples, data.categories, relabelled, most, without_false=without_false)


def relabel(found: Detections, categories: Sequence[Category]) -> Detections:
    """The same detections with labels that index ``categories``; classes that are not there are left out."""
    index_of = {category.name: index for index, category in enumerate(categories)}
    labels = np.array([index_of.get(category.name, -1) for category in found.categories], np.int64)[found.labels]
    keep = labels >= 0
    return Detections(found.boxes[keep], found.scores[keep], labels[keep], tuple(categories))
