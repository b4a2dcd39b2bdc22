"""The diagnosis of detections against a data set, and its JSON; docs/diagnose.md explains each number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from varifocal.analysis.calibration import BINS, TAU, Bins, Calibration, calibrate
from varifocal.analysis.confusion import Confusion, confusion_matrix
from varifocal.analysis.detection_table import DetectionTable, make_table
from varifocal.analysis.matching import all_areas, build_queue, match
from varifocal.analysis.precision import RECALLS, ClassPrecision, Curves, mean_of, measure
from varifocal.analysis.ranking import APBreakdown, Correlation, Ranking, rank_quality
from varifocal.analysis.scatter import Scatter, scatter
from varifocal.analysis.thresholds import OperatingPoint, Thresholds, operating_points
from varifocal.analysis.tide import TideErrors, tide_errors
from varifocal.analysis.worst_images import ImageErrors, worst_images
from varifocal.types import Dataset, Detections
from varifocal.utils.errors import ConfigError

VERSION = 1  # of the JSON: increased when a key changes its meaning or is removed
DIGITS = 6


@dataclass(frozen=True)
class Settings:
    """The settings of a diagnosis.

    ``precision`` is the target of the score thresholds. ``score`` and ``iou`` are the least values in the confusion
    matrix; ``score`` also applies to the worst images, and None is the score of the best F1. ``max_detections`` are
    read per class and image (by TIDE per image). ``worst`` images are listed.

    Raises:
        ConfigError: a value is out of range.
    """

    precision: float = 0.9
    score: float | None = None
    iou: float = 0.5
    max_detections: int = 100
    worst: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.precision <= 1:
            raise ConfigError(
                f"target precision {self.precision:g}: must be above 0 and at most 1.", code="target-precision-range"
            )
        if self.score is not None and not math.isfinite(self.score):
            raise ConfigError(f"score threshold {self.score:g}: must be a finite number.", code="score-not-finite")
        if not 0.1 <= self.iou < 1:
            raise ConfigError(f"IoU threshold {self.iou:g}: must be at least 0.1 and below 1.", code="iou-range")
        if self.max_detections < 1 or self.worst < 0:
            raise ConfigError(
                f"{self.max_detections} detections per class and {self.worst} worst images: the first must be at least "
                "1, the second at least 0.",
                code="counts-too-small",
            )


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """All results of a diagnosis. They share one table and, except for LaECE and the confusion matrix, one matching.

    ``given`` is COCO's evaluation with the detector's scores, ``ideal`` with each box scored by its IoU.
    ``calibration`` is None if scores are not between 0 and 1. ``costs`` has one number for each sample of ``data``,
    that of :class:`varifocal.analysis.worst_images.ImageErrors`.
    """

    data: Dataset
    settings: Settings
    table: DetectionTable
    given: ClassPrecision
    ideal: ClassPrecision
    ranking: Ranking
    calibration: Calibration | None
    errors: TideErrors
    confusion: Confusion
    thresholds: Thresholds
    scatter: Scatter
    worst: tuple[ImageErrors, ...]
    costs: Float[np.ndarray, "M"]

    @property
    def ap(self) -> dict[str, float | None]:
        """AP, AP50, AP75 and AP by size and shape in 0..1, each the mean over the classes; None if there is no box."""
        whole, parts = self.given.whole, self.given.parts
        named = {"AP": mean_of(whole.ap), "AP50": mean_of(whole.ap[0]), "AP75": mean_of(whole.ap[5])}
        return named | {name: mean_of(curves.ap) for name, curves in parts.items()}

    @property
    def classes(self) -> list[int]:
        """The labels of the classes that have boxes, in rising order."""
        return np.flatnonzero(self.table.objects).tolist()

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values; numbers have six decimals, None stands for a value that does not exist."""
        found = np.bincount(self.table.found.label, minlength=self.table.classes)
        return {
            "version": VERSION,
            "data": str(self.data.source),
            "images": len(self.table.samples),
            "objects": int(self.table.objects.sum()),
            "detections": int(found.sum()),
            "settings": asdict(self.settings),
            "notes": list(self.data.notes),
            "ap": _rounded(self.ap),
            "ranking": _ranking(self.ranking),
            "calibration": None if self.calibration is None else _calibration(self.calibration),
            "errors": _errors(self.errors),
            "confusion": {**_rounded(vars(self.confusion)), "counts": self.confusion.counts.tolist()},
            "thresholds": _operating(self.thresholds.f1, self.thresholds.target),
            "curves": {"recall": RECALLS.round(2).tolist(), **_curves(self.given.whole, self.classes)},
            "scatter": {
                "total": self.scatter.total,
                "score": _list(self.scatter.score),
                "iou": _list(self.scatter.iou),
                "right": self.scatter.right.tolist(),
                "cells": self.scatter.cells.tolist(),
            },
            "classes": [self._class(k, int(found[k])) for k in range(self.table.classes)],
            "worst": [self._image(errors) for errors in self.worst],
        }

    def _class(self, k: int, found: int) -> dict[str, Any]:
        category = self.data.categories[k]
        known: dict[str, Any] = {
            "id": category.id,
            "name": category.name,
            "objects": int(self.table.objects[k]),
            "detections": found,
            "errors": self.errors.by_class.get(k),
        }
        if not known["objects"]:
            return known
        whole, parts = self.given.whole, self.given.parts
        named = {"AP": whole.ap[:, k], "AP50": whole.ap[:1, k], "AP75": whole.ap[5:6, k]}
        named |= {name: curves.ap[:, k] for name, curves in parts.items()}
        known["ap"] = _rounded({name: mean_of(values) for name, values in named.items()})
        known["curves"] = _curves(whole, [k])
        known["correlation"] = _rounded(asdict(self.ranking.by_class[k]))
        known["worth"] = _worth(self.ranking.worth_by_class[k])
        known["thresholds"] = _operating(self.thresholds.f1_by_class[k], self.thresholds.target_by_class[k])
        if self.calibration is not None and k in self.calibration.bins_by_class:
            known["calibration"] = {
                "laece": _round(self.calibration.laece_by_class[k]),
                "laece_all": _round(self.calibration.bins_by_class[k].error),
                "threshold": _round(self.calibration.thresholds[k]),
                "bins": _bins(self.calibration.bins_by_class[k]),
            }
        return known

    def _image(self, errors: ImageErrors) -> dict[str, Any]:
        sample = self.data.samples[errors.sample]
        names = self.data.categories
        return {
            "file": str(sample.file),
            "image_id": sample.image_id,
            "width": sample.width,
            "height": sample.height,
            "cost": _round(errors.cost),
            "wrong": errors.wrong,
            "objects": errors.objects,
            "detections": [
                {
                    "box": _list(detection.box),
                    "class": names[detection.label].name,
                    "score": _round(detection.score),
                    "iou": _round(detection.iou),
                    "kind": detection.kind,
                }
                for detection in errors.detections
            ],
            "missed": [{"box": _list(box.box), "class": names[box.label].name} for box in errors.missed],
        }


def diagnose(detections: Sequence[Detections], data: Dataset, settings: Settings | None = None) -> Diagnosis:
    """Diagnose what separates ``detections[i]``, those in ``data.samples[i]``, from the labeled boxes.

    Boxes are xyxy in pixels of the original image; labels of both index ``data.categories``
    (see :func:`varifocal.evaluation.evaluate.relabel`). Scores may be any finite numbers; their calibration is computed
    only if all lie between 0 and 1.

    Raises:
        ValueError: there is not one Detections per sample, or a label is no index of the categories.
    """
    settings = settings or Settings()
    table = make_table(data, detections)
    score, allowed = table.found.score, table.found.rank < settings.max_detections
    given = measure(table, score, allowed)
    ideal = measure(table, table.own.iou, allowed)
    counted = given.matches.right[0] | given.matches.wrong[0]
    errors = tide_errors(table, given.matches, settings.max_detections)
    thresholds = operating_points(table, given.matches, settings.precision)
    least = settings.score
    if least is None:
        least = thresholds.f1.score if thresholds.f1 is not None else 0.5
    at_tau = match(table, build_queue(table, score, allowed, TAU), all_areas(table), np.array([TAU]))
    costs, worst = worst_images(table, given.matches, errors, least, settings.worst)
    return Diagnosis(
        data,
        settings,
        table,
        given,
        ideal,
        rank_quality(table, given, ideal, counted),
        calibrate(table, at_tau),
        errors,
        confusion_matrix(table, allowed, least, settings.iou),
        thresholds,
        scatter(table, given.matches.right[0], counted),
        worst,
        costs,
    )


def _ranking(ranking: Ranking) -> dict[str, Any]:
    def summary(correlation: Correlation) -> dict[str, Any]:
        return _rounded(asdict(correlation))

    return {
        "near": summary(ranking.near),
        "all": summary(ranking.everywhere),
        "sizes": {name: summary(part) for name, part in ranking.by_size.items()},
        "worth": _worth(ranking.worth),
        "worth_sizes": {name: _worth(part) for name, part in ranking.worth_by_size.items()},
    }


def _worth(breakdown: APBreakdown) -> dict[str, Any]:
    names = ("given", "ideal", "ceiling", "ranking", "duplicates", "boxes")
    return _rounded({name: getattr(breakdown, name) for name in names})


def _calibration(calibration: Calibration) -> dict[str, Any]:
    return {
        "laece": _round(calibration.laece),
        "laece_all": _round(calibration.laece_all),
        "bins": _bins(calibration.bins),
    }


def _bins(bins: Bins) -> dict[str, Any]:
    return {
        "from": [_round(i / BINS) for i in range(BINS)],
        "count": bins.count.tolist(),
        "score": _list(bins.score),
        "precision": _list(bins.precision),
        "quality": _list(bins.quality),
    }


def _errors(errors: TideErrors) -> dict[str, Any]:
    special = {"false_positives": errors.false_positives, "false_negatives": errors.false_negatives}
    return {
        "ap50": _round(errors.ap50),
        "counts": errors.counts,
        "costs": _rounded(errors.costs),
        **_rounded(special),
    }


def _curves(curves: Curves, classes: list[int]) -> dict[str, Any]:
    """Return the mean precision over the classes at IoU 0.5, at 0.75 and over all thresholds; None without classes."""
    names = {"iou50": slice(0, 1), "iou75": slice(5, 6), "mean": slice(None)}
    if not classes:
        return dict.fromkeys(names)
    return {name: _list(curves.precision[part][:, :, classes].mean(axis=(0, 2))) for name, part in names.items()}


def _operating(f1: OperatingPoint | None, target: OperatingPoint | None) -> dict[str, Any]:
    return {
        "f1": None if f1 is None else _rounded(asdict(f1)),
        "target": None if target is None else _rounded(asdict(target)),
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _round(value) if isinstance(value, float) else value for name, value in values.items()}


def _list(values: np.ndarray) -> list[Any]:
    rounded: list[Any] = values.astype(np.float64).round(DIGITS).tolist()
    return rounded
