"""What a diagnosis holds, and its JSON; docs/diagnose.md says what each number means."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from varifocal.analysis.calibration import BINS, Bins, Calibration
from varifocal.analysis.confusion import Confusion
from varifocal.analysis.detection_table import DetectionTable
from varifocal.analysis.precision import RECALLS, ClassPrecision, Curves, mean_of
from varifocal.analysis.ranking import APBreakdown, Correlation, Ranking
from varifocal.analysis.scatter import Scatter
from varifocal.analysis.thresholds import OperatingPoint, Thresholds
from varifocal.analysis.tide import TideErrors
from varifocal.analysis.worst_images import ImageErrors
from varifocal.types import Dataset
from varifocal.utils.errors import ConfigError

VERSION = 1  # of the JSON: grows when a key changes its meaning or goes
DIGITS = 6


@dataclass(frozen=True)
class Settings:
    """What can be chosen.

    ``precision`` is the one that thresholds are sought for. ``score`` and ``iou`` are the least of both in the
    confusion matrix, ``score`` also that of the worst images; None is the score of the best F1. ``max_detections``
    are read of each class in each image (by TIDE of each image). ``worst`` images are listed.

    Raises:
        ConfigError: a value that is not possible.
    """

    precision: float = 0.9
    score: float | None = None
    iou: float = 0.5
    max_detections: int = 100
    worst: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.precision <= 1:
            raise ConfigError(f"target precision {self.precision:g}: must be above 0 and at most 1.")
        if self.score is not None and not math.isfinite(self.score):
            raise ConfigError(f"score {self.score:g}: must be a finite number.")
        if not 0.1 <= self.iou < 1:
            raise ConfigError(f"iou {self.iou:g}: must be at least 0.1 and below 1.")
        if self.max_detections < 1 or self.worst < 0:
            raise ConfigError("at least one detection an image is read, and no number of images is below 0.")


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """All sections; they read one table and, but for LaECE and the confusion matrix, one matching.

    ``given`` is COCO's evaluation as it is, ``ideal`` the same with each box scored by its IoU. ``calibration`` is None
    where scores are not between 0 and 1. ``costs`` has one number for each sample of ``data``, see ``worst``.
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
        """AP, AP50, AP75 and AP by size and shape, 0..1, the mean over the classes; None where there is no box."""
        whole, parts = self.given.whole, self.given.parts
        named = {"AP": mean_of(whole.ap), "AP50": mean_of(whole.ap[0]), "AP75": mean_of(whole.ap[5])}
        return named | {name: mean_of(curves.ap) for name, curves in parts.items()}

    @property
    def classes(self) -> list[int]:
        """The labels of the classes that have boxes, in the order of the data set."""
        return np.flatnonzero(self.table.objects).tolist()

    def to_json(self) -> dict[str, Any]:
        """Everything, as ``json.dump`` takes it; numbers with six decimals, None where there is no number."""
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
            "worst": [self._image(one) for one in self.worst],
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

    def _image(self, one: ImageErrors) -> dict[str, Any]:
        sample = self.data.samples[one.sample]
        names = self.data.categories
        return {
            "file": str(sample.file),
            "image_id": sample.image_id,
            "width": sample.width,
            "height": sample.height,
            "cost": _round(one.cost),
            "wrong": one.wrong,
            "objects": one.objects,
            "detections": [
                {
                    "box": _list(seen.box),
                    "class": names[seen.label].name,
                    "score": _round(seen.score),
                    "iou": _round(seen.iou),
                    "kind": seen.kind,
                }
                for seen in one.seen
            ],
            "missed": [{"box": _list(box.box), "class": names[box.label].name} for box in one.missed],
        }


def _ranking(ranking: Ranking) -> dict[str, Any]:
    def summary(one: Correlation) -> dict[str, Any]:
        return _rounded(asdict(one))

    return {
        "near": summary(ranking.near),
        "all": summary(ranking.everywhere),
        "sizes": {name: summary(one) for name, one in ranking.by_size.items()},
        "worth": _worth(ranking.worth),
        "worth_sizes": {name: _worth(one) for name, one in ranking.worth_by_size.items()},
    }


def _worth(one: APBreakdown) -> dict[str, Any]:
    names = ("given", "ideal", "ceiling", "ranking", "duplicates", "boxes")
    return _rounded({name: getattr(one, name) for name in names})


def _calibration(one: Calibration) -> dict[str, Any]:
    return {"laece": _round(one.laece), "laece_all": _round(one.laece_all), "bins": _bins(one.bins)}


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
    """At IoU 0.5, at 0.75 and the mean over the thresholds, each the mean over the classes; None without classes."""
    names = {"iou50": slice(0, 1), "iou75": slice(5, 6), "mean": slice(None)}
    if not classes:
        return dict.fromkeys(names)
    return {name: _list(curves.precision[part][:, :, classes].mean(axis=(0, 2))) for name, part in names.items()}


def _operating(f1: OperatingPoint | None, target: OperatingPoint | None) -> dict[str, Any]:
    return {
        "f1": None if f1 is None else _rounded(asdict(f1)),
        "wanted": None if target is None else _rounded(asdict(target)),
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _round(value) if isinstance(value, float) else value for name, value in values.items()}


def _list(values: np.ndarray) -> list[Any]:
    rounded: list[Any] = values.astype(np.float64).round(DIGITS).tolist()
    return rounded
