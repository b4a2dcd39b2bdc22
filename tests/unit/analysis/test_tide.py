"""TIDE's errors against tidecv, the authors' package."""

import contextlib
import io
import sys
from dataclasses import replace
from unittest.mock import MagicMock

import numpy as np
import pytest
from detection_cases import CATEGORIES, make_data, xywh

from varifocal.analysis.diagnosis import Settings, diagnose
from varifocal.analysis.tide import KINDS
from varifocal.types import Category, Detections

NAMES = {
    "class": "Cls",
    "localization": "Loc",
    "both": "Both",
    "duplicate": "Dupe",
    "background": "Bkg",
    "missed": "Miss",
}


def run_tidecv(data, detections, limit=100):
    """The run of tidecv; its images in the order of their ids, as COCO reads them."""
    # it draws with OpenCV, which needs libraries of a desktop; nothing is drawn here
    sys.modules.setdefault("cv2", MagicMock())
    import tidecv

    truth, found = tidecv.Data("truth", max_dets=limit), tidecv.Data("found")
    for sample, one in sorted(zip(data.samples, detections, strict=True), key=lambda pair: pair[0].image_id):
        truth.add_image(sample.image_id, "image")
        for box, label, crowd in zip(sample.boxes, sample.labels, sample.crowd, strict=True):
            add = truth.add_ignore_region if crowd else truth.add_ground_truth
            add(sample.image_id, int(label), xywh(box))
        for box, score, label in zip(one.boxes, one.scores, one.labels, strict=True):
            found.add_detection(sample.image_id, int(label), float(score), xywh(box))
    with contextlib.redirect_stdout(io.StringIO()):
        run = tidecv.TIDE().evaluate(truth, found, mode=tidecv.TIDE.BOX)
        main = {error.short_name: value / 100 for error, value in run.fix_main_errors().items()}
        special = {error.short_name: value / 100 for error, value in run.fix_special_errors().items()}
        counts = {error.short_name: count for error, count in run.count_errors().items()}
    return run, main, special, counts


@pytest.mark.parametrize("ties", [False, True], ids=["", "tied scores"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_tidecv(seed, ties):
    data, detections = make_data(seed, crowd=0.0, ties=ties)
    run, main, special, counts = run_tidecv(data, detections)

    errors = diagnose(detections, data).errors

    assert errors.ap50 == pytest.approx(run.ap / 100, abs=1e-12)
    assert errors.costs == pytest.approx({kind: main[NAMES[kind]] for kind in KINDS}, abs=1e-12)
    assert errors.counts == {kind: counts[NAMES[kind]] for kind in KINDS}
    assert errors.false_positives == pytest.approx(special["FalsePos"], abs=1e-12)
    assert errors.false_negatives == pytest.approx(special["FalseNeg"], abs=1e-12)
    assert sum(count > 0 for count in errors.counts.values()) >= 5
    assert sum(cost > 0.001 for cost in errors.costs.values()) >= 4


def test_equals_tidecv_with_a_limit_of_each_image():
    data, detections = make_data(1, crowd=0.0)
    run, main, special, _ = run_tidecv(data, detections, limit=7)
    errors = diagnose(detections, data, Settings(max_detections=7)).errors
    assert errors.ap50 == pytest.approx(run.ap / 100, abs=1e-12)
    assert errors.costs == pytest.approx({kind: main[NAMES[kind]] for kind in KINDS}, abs=1e-12)
    assert errors.false_positives == pytest.approx(special["FalsePos"], abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_detections_in_crowds_are_as_if_they_were_not_there(seed):
    data, detections = make_data(seed, crowd=0.3)
    found = diagnose(detections, data)
    table, matches = found.table, found.given.matches
    ignored = ~(matches.right[0] | matches.wrong[0])
    assert ignored.sum() > 10
    kept = [
        Detections(one.boxes[keep], one.scores[keep], one.labels[keep], one.categories)
        for i, one in enumerate(detections)
        for keep in [
            np.isin(np.arange(len(one)), table.found.index[(table.samples[table.found.image] == i) & ~ignored])
        ]
    ]
    run, main, special, counts = run_tidecv(data, kept)
    assert found.errors.ap50 == pytest.approx(run.ap / 100, abs=1e-12)
    assert found.errors.costs == pytest.approx({kind: main[NAMES[kind]] for kind in KINDS}, abs=1e-12)
    assert found.errors.counts == {kind: counts[NAMES[kind]] for kind in KINDS}
    assert found.errors.false_negatives == pytest.approx(special["FalseNeg"], abs=1e-12)


def test_classes_without_boxes_are_not_in_the_mean():
    """tidecv counts them as AP 0; class by class the numbers are the same."""
    data, detections = make_data(2, crowd=0.0, categories=(*CATEGORIES, Category(5, "never labeled")))
    run, *_ = run_tidecv(data, detections)
    errors = diagnose(detections, data).errors
    assert run.ap_data.objs[3].get_ap() == 0
    assert errors.ap50 == pytest.approx(np.mean([run.ap_data.objs[k].get_ap() for k in range(3)]) / 100, abs=1e-12)
    assert errors.by_class[3]["background"] + errors.by_class[3]["class"] > 0


def test_kinds_by_hand():
    """One detection of each kind beside one box, and a second box that nothing comes near."""
    data, _ = make_data(0)
    first = replace(
        data.samples[0],
        boxes=np.array([[0.0, 0, 100, 100], [200, 200, 260, 260]]),
        labels=np.array([0, 1]),
        crowd=np.zeros(2, bool),
        areas=None,
    )
    boxes = [
        [0, 0, 100, 100],  # right
        [0, 0, 100, 90],  # duplicate
        [0, 0, 100, 30],  # localization: IoU 0.3
        [0, 0, 90, 100],  # class
        [0, 0, 100, 40],  # both: another class, IoU 0.4
        [150, 0, 160, 10],  # background
    ]
    found = Detections(np.array(boxes, float), np.linspace(0.9, 0.4, 6), np.array([0, 0, 0, 1, 1, 0]), CATEGORIES)
    errors = diagnose([found], replace(data, samples=[first])).errors
    kinds = [KINDS[kind] if kind >= 0 else kind for kind in errors.kinds.tolist()]
    assert kinds == [-1, "duplicate", "localization", "class", "both", "background"]
    assert errors.missed.tolist() == [False, True]
    assert errors.counts == dict.fromkeys(KINDS, 1)
