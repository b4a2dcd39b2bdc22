"""Detections and a data set to a diagnosis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from varifocal.diagnose.calibration import TAU, calibrate
from varifocal.diagnose.confusion import confuse
from varifocal.diagnose.match import everything, line_up, match
from varifocal.diagnose.precision import measure
from varifocal.diagnose.ranking import rank_quality
from varifocal.diagnose.report import Diagnosis, Settings
from varifocal.diagnose.scatter import scatter
from varifocal.diagnose.table import make_table
from varifocal.diagnose.thresholds import find_thresholds
from varifocal.diagnose.tide import find_errors
from varifocal.diagnose.worst import worst_pictures
from varifocal.records import DataSet, Detections


def diagnose(detections: Sequence[Detections], data: DataSet, settings: Settings | None = None) -> Diagnosis:
    """Say what separates ``detections[i]``, found in ``data.samples[i]``, from the boxes that are labelled.

    Boxes are xyxy in pixels of the original picture, labels of both index ``data.categories``
    (:func:`varifocal.evaluate.run.relabel` makes them so). Scores may be any finite numbers; only between 0 and 1 is
    their calibration told.

    Raises:
        ValueError: there is not one Detections per sample, or a label is no index of the categories.
    """
    settings = settings or Settings()
    table = make_table(data, detections)
    score, allowed = table.found.score, table.found.rank < settings.max_detections
    given = measure(table, score, allowed)
    ideal = measure(table, table.own.iou, allowed)
    counted = given.matches.right[0] | given.matches.wrong[0]
    errors = find_errors(table, given.matches, settings.max_detections)
    thresholds = find_thresholds(table, given.matches, settings.precision)
    least = settings.score
    if least is None:
        least = thresholds.f1.score if thresholds.f1 is not None else 0.5
    loose = match(table, line_up(table, score, allowed, TAU), everything(table), np.array([TAU]))
    costs, worst = worst_pictures(table, given.matches, errors, least, settings.worst)
    return Diagnosis(
        data,
        settings,
        table,
        given,
        ideal,
        rank_quality(table, given, ideal, counted),
        calibrate(table, loose),
        errors,
        confuse(table, allowed, least, settings.iou),
        thresholds,
        scatter(table, given.matches.right[0], counted),
        worst,
        costs,
    )
