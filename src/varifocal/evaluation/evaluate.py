"""Run a model over a data set and measure it with the COCO metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
from PIL import Image

from varifocal.data.classes import class_list, used_classes, with_classes
from varifocal.data.validate import check_size
from varifocal.evaluation.coco_ap import CocoMetrics, coco_ap
from varifocal.evaluation.processes import Processes
from varifocal.inference.pipeline import Predictor
from varifocal.inference.stream import StreamOptions, predict_files
from varifocal.types import Category, Dataset, Detections, Sample
from varifocal.utils.errors import DataError


def detect_all(
    model: Predictor,
    samples: Sequence[Sample],
    progress: Callable[[int], None] = lambda done: None,
    batch_size: int = 0,
) -> list[Detections]:
    """Return the detections of each sample; ``progress`` is called with the number of samples done.

    Few images are in memory at a time. ``batch_size`` is that of :class:`varifocal.inference.stream.StreamOptions`.
    """
    detections = []
    files = [sample.file for sample in samples]

    def check(position: int, image: Image.Image) -> None:
        check_size(samples[position], image)

    with closing(predict_files(model, files, StreamOptions(batch_size), check)) as results:
        for done, found in enumerate(results, start=1):
            if found.error is not None:
                raise found.error
            assert found.detections is not None
            detections.append(found.detections)
            progress(done)
    return detections


def evaluate(
    model: Predictor, data: Dataset, progress: Callable[[int], None] = lambda done: None, batch_size: int = 0
) -> tuple[CocoMetrics, list[Detections]]:
    """Return the COCO metrics of a model on a data set, and its detections in each image.

    Classes are matched by name, so neither their ids nor their order matter. Classes without boxes that the model does
    not know are left out.

    Raises:
        DataError: the model lacks a class that has boxes.
    """
    data = fit_classes(model, data)
    detections = detect_all(model, data.samples, progress, batch_size)
    return measure(model, data, detections), detections


def evaluate_in_processes(
    model: Predictor, data: Dataset, progress: Callable[[int], None] = lambda done: None, batch_size: int = 0
) -> CocoMetrics | None:
    """Return the metrics of :func:`evaluate`, for which every process of ``torchrun`` detects in a part of the images.

    Only the first process gets them, the others None; ``progress`` is that of the part of each.

    Raises:
        DataError: the model lacks a class that has boxes, or a process has died.
    """
    processes = Processes.of_environment()
    data = fit_classes(model, data)
    with processes.alive() as store:
        part = data.samples[processes.rank :: processes.world]
        detections = processes.collect(store, detect_all(model, part, progress, batch_size))
    return None if detections is None else measure(model, data, detections)


def fit_classes(model: Predictor, data: Dataset) -> Dataset:
    """Return the data set without the classes that have no box and that the model does not know; a note lists them.

    Raises:
        DataError: the model lacks a class that has boxes, or knows none of the classes.
    """
    if not data.categories:  # nothing is labeled
        return replace(data, categories=model.categories)
    classes = {category.name for category in model.categories}
    known = np.array([category.name in classes for category in data.categories], bool)
    if known.all():
        return data
    names = np.array([category.name for category in data.categories], object)
    used = used_classes(data) if known.any() else np.ones_like(known)
    missing = names[used & ~known]
    if len(missing):
        raise DataError(
            f"{data.source}: the model was not trained on {', '.join(missing[:5])} ({len(missing)} of {used.sum()} "
            f"classes); it knows {', '.join(list(dict.fromkeys(c.name for c in model.categories))[:10])}.",
            code="unknown-classes",
        )
    unused = class_list(list(names[~known]), "has no box and is not known to", "have no box and are not known to")
    note = f"{data.source.name}: {unused} the model; left out."
    return replace(with_classes(data, known), notes=(*data.notes, note))


def measure(
    model: Predictor, data: Dataset, detections: Sequence[Detections], *, without_false: bool = False
) -> CocoMetrics:
    """Return the COCO metrics of a model's detections, of as many boxes per image as it can return, at least 100.

    ``without_false`` is that of :func:`coco_ap`.
    """
    relabeled = [relabel(of_image, data.categories) for of_image in detections]
    limit = model.info.postprocess.max_detections
    return coco_ap(data.samples, data.categories, relabeled, limit, without_false=without_false)


def relabel(detections: Detections, categories: Sequence[Category]) -> Detections:
    """Return the detections with labels that index ``categories``, without those of other classes."""
    index_of = {category.name: index for index, category in enumerate(categories)}
    new_labels = np.array([index_of.get(category.name, -1) for category in detections.categories], np.int64)
    labels = new_labels[detections.labels]
    keep = labels >= 0
    return Detections(detections.boxes[keep], detections.scores[keep], labels[keep], tuple(categories))
