"""Detections and a data set to a diagnosis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from varifocal.analysis.calibration import TAU, calibrate
from varifocal.analysis.confusion import confusion_matrix
from varifocal.analysis.detection_table import make_table
from varifocal.analysis.diagnosis import Diagnosis, Settings
from varifocal.analysis.matching import all_areas, build_queue, match
from varifocal.analysis.precision import measure
from varifocal.analysis.ranking import rank_quality
from varifocal.analysis.scatter import scatter
from varifocal.analysis.thresholds import operating_points
from varifocal.analysis.tide import tide_errors
from varifocal.analysis.worst_images import worst_images
from varifocal.types import Dataset, Detections


def diagnose(detections: Sequence[Detections], data: Dataset, settings: Settings | None = None) -> Diagnosis:
    """Say what separates ``detections[i]``, found in ``data.samples[i]``, from the boxes that are labeled.

    Boxes are xyxy in pixels of the original image, labels of both index ``data.categories``
    (:func:`varifocal.evaluation.evaluate.relabel` makes them so). Scores may be any finite numbers; their calibration
    is reported only if all lie between 0 and 1.

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
    loose = match(table, build_queue(table, score, allowed, TAU), all_areas(table), np.array([TAU]))
    costs, worst = worst_images(table, given.matches, errors, least, settings.worst)
    return Diagnosis(
        data,
        settings,
        table,
        given,
        ideal,
        rank_quality(table, given, ideal, counted),
        calibrate(table, loose),
        errors,
        confusion_matrix(table, allowed, least, settings.iou),
        thresholds,
        scatter(table, given.matches.right[0], counted),
        worst,
        costs,
    )
