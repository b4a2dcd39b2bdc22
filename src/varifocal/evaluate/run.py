"""Run a model over a data set and measure it with the COCO metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from varifocal.data.finish import check_size
from varifocal.errors import DataError
from varifocal.evaluate.coco_ap import CocoMetrics, coco_ap
from varifocal.pictures import Predictor, read_for
from varifocal.records import Category, DataSet, Detections, Sample


def detect_all(
    model: Predictor, samples: Sequence[Sample], progress: Callable[[int], None] = lambda done: None
) -> list[Detections]:
    """Detections of each sample; ``progress`` is called with the number done. One picture is in memory at a time."""
    found = []
    for done, sample in enumerate(samples, start=1):
        image = read_for(model.info, sample.file)
        check_size(sample, image)
        found.append(model.predict(image))
        progress(done)
    return found


def evaluate_model(
    model: Predictor, data: DataSet, progress: Callable[[int], None] = lambda done: None
) -> tuple[CocoMetrics, list[Detections]]:
    """The COCO metrics of a model on a data set, and what it found.

    Classes are matched by name, so that neither ids nor their order matter.

    Raises:
        DataError: the model lacks a class of the data set.
    """
    check_classes(model, data)
    found = detect_all(model, data.samples, progress)
    return measure(model, data, found), found


def check_classes(model: Predictor, data: DataSet) -> None:
    """Raises DataError: the model lacks a class of the data set."""
    known = {category.name: category for category in model.categories}
    missing = [category.name for category in data.categories if category.name not in known]
    if missing:
        raise DataError(
            f"{data.source}: the model was not trained on {', '.join(missing[:5])} ({len(missing)} of "
            f"{len(data.categories)} classes); it knows {', '.join(list(known)[:10])}."
        )


def measure(
    model: Predictor, data: DataSet, found: Sequence[Detections], *, without_false: bool = False
) -> CocoMetrics:
    """The COCO metrics of what a model found, with as many boxes a picture as the model gives, at least 100.

    ``without_false`` is that of :func:`coco_ap`.
    """
    relabelled = [relabel(one, data.categories) for one in found]
    most = model.info.postprocess.max_detections
    return coco_ap(data.samples, data.categories, relabelled, most, without_false=without_false)


def relabel(found: Detections, categories: Sequence[Category]) -> Detections:
    """The same detections with labels that index ``categories``; classes that are not there are left out."""
    place = {category.name: index for index, category in enumerate(categories)}
    labels = np.array([place.get(category.name, -1) for category in found.categories], np.int64)[found.labels]
    keep = labels >= 0
    return Detections(found.boxes[keep], found.scores[keep], labels[keep], tuple(categories))
