"""Curves and AP against pycocotools, the independent truth, bit by bit."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from detection_cases import CATEGORIES, iou_of, make_data, xywh
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from varifocal.analysis.diagnosis import Settings, diagnose
from varifocal.types import Category, Detections


def pycocotools_curves(data, detections, limit=100):
    """precision [T, R, K, A] and recall [T, K, A]."""
    truth = COCO()
    truth.dataset = {
        "images": [{"id": sample.image_id} for sample in data.samples],
        "categories": [{"id": category.id, "name": category.name} for category in data.categories],
        "annotations": [
            {
                "image_id": sample.image_id,
                "category_id": data.categories[label].id,
                "bbox": xywh(box),
                "area": float(area),
                "iscrowd": int(crowd),
            }
            for sample in data.samples
            for box, label, area, crowd in zip(sample.boxes, sample.labels, sample.areas, sample.crowd, strict=True)
        ],
    }
    for number, annotation in enumerate(truth.dataset["annotations"], start=1):
        annotation["id"] = number
    results = [
        entry
        for sample, one in zip(data.samples, detections, strict=True)
        for entry in one.to_coco(sample.image_id, "")
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.maxDets = [limit]
        evaluation.evaluate()
        evaluation.accumulate()
    order = [evaluation.params.catIds.index(category.id) for category in data.categories]
    return evaluation.eval["precision"][..., 0][:, :, order], evaluation.eval["recall"][..., 0][:, order]


@pytest.mark.parametrize(("seed", "limit"), [(0, 100), (1, 100), (2, 3)])
def test_curves_equal_pycocotools(seed, limit):
    data, detections = make_data(seed)
    precision, recall = pycocotools_curves(data, detections, limit)

    found = diagnose(detections, data, Settings(max_detections=limit)).given

    for place, curves in enumerate([found.whole, *(found.parts[name] for name in ("small", "medium", "large"))]):
        assert np.array_equal(curves.precision, precision[..., place])
        assert np.array_equal(curves.recall, recall[..., place])
    assert 0.05 < found.whole.ap.mean() < 0.9
    assert any(sample.crowd.any() for sample in data.samples)


def test_shapes_equal_a_literal_loop():
    data, detections = make_data(5, crowd=0.0)
    quotient = {name: [] for name in ("tall", "square", "wide")}
    found = diagnose(detections, data).given.parts
    for name, (low, high) in {"tall": (0, 0.75), "square": (0.75, 1.33), "wide": (1.33, np.inf)}.items():
        quotient[name] = literal_ap(data, detections, low, high)
        assert found[name].ap[0].tolist() == pytest.approx(quotient[name], abs=1e-12)
    assert len({tuple(values) for values in quotient.values()}) == 3


def literal_ap(data, detections, low, high):
    """AP50 of each class, by loops; boxes of other shapes take detections and count for nothing."""

    def inside(box):
        _, _, w, h = xywh(box)
        return low < w / h <= high

    values = []
    for k in range(len(data.categories)):
        points, boxes = [], 0
        images = sorted(zip(data.samples, detections, strict=True), key=lambda pair: pair[0].image_id)
        for sample, found in images:
            own = [box for box, label in zip(sample.boxes, sample.labels, strict=True) if label == k]
            counts = [inside(box) for box in own]
            boxes += sum(counts)
            taken = set()
            for box, score in zip(found.boxes[found.labels == k], found.scores[found.labels == k], strict=True):
                for wanted in (True, False):
                    near = [(iou_of(box, other), j) for j, other in enumerate(own) if counts[j] is wanted]
                    near = [pair for pair in near if pair[0] >= 0.5 and pair[1] not in taken]
                    if near:
                        taken.add(max(near)[1])
                        points += [(score, True)] if wanted else []
                        break
                else:
                    points += [(score, False)] if inside(box) else []
        points.sort(key=lambda point: -point[0])
        right = np.cumsum([point[1] for point in points])
        precision = right / np.arange(1, len(points) + 1)
        recall = right / boxes
        values.append(np.mean([max(precision[recall >= level], default=0) for level in np.linspace(0, 1, 101)]))
    return values


def test_equal_scores_keep_the_order_of_pycocotools():
    data, detections = make_data(3)
    flat = [replace(one, scores=np.full(len(one), 0.5)) for one in detections]
    precision, _ = pycocotools_curves(data, flat)
    assert np.array_equal(diagnose(flat, data).given.whole.precision, precision[..., 0])


def test_boxes_upon_each_other_equal_pycocotools():
    """Copies of boxes and whole coordinates: equal overlaps everywhere."""
    data, detections = make_data(4)
    samples = [
        replace(
            sample,
            boxes=np.repeat(sample.boxes.round(), 2, axis=0),
            labels=np.repeat(sample.labels, 2),
            crowd=np.tile([True, False], len(sample.labels)) & np.repeat(sample.crowd, 2),
            areas=np.repeat(sample.areas, 2),
        )
        for sample in data.samples
    ]
    data = replace(data, samples=samples)
    found = [replace(one, boxes=one.boxes.round()) for one in detections]
    precision, recall = pycocotools_curves(data, found)
    given = diagnose(found, data).given.whole
    assert np.array_equal(given.precision, precision[..., 0])
    assert np.array_equal(given.recall, recall[..., 0])


def test_a_class_without_boxes_has_no_curve():
    data, detections = make_data(0, categories=(*CATEGORIES, Category(5, "never labeled")))
    found = diagnose(detections, data)
    assert (found.given.whole.precision[..., 3] == -1).all()
    assert found.classes == [0, 1, 2]
    assert found.ap["AP"] == pytest.approx(found.given.whole.per_class[:3].mean())
    assert any((one.labels == 3).any() for one in detections)


def test_wrong_labels_and_counts_are_refused():
    data, detections = make_data(0)
    with pytest.raises(ValueError, match="20 samples, but detections of 19"):
        diagnose(detections[:-1], data)
    bad = Detections(np.array([[0.0, 0, 9, 9]]), np.array([0.5]), np.array([3]), CATEGORIES)
    with pytest.raises(ValueError, match="label 3 is no index"):
        diagnose([bad, *detections[1:]], data)


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_boxes_overlapped_alike_the_later_is_taken_as_in_pycocotools(turned):
    """Which one is taken shows in the second detection, which overlaps only one of them."""
    data, _ = make_data(0)
    boxes = np.array([[0.0, 0, 100, 100], [40, 0, 140, 100]])[:: -1 if turned else 1]
    truth = replace(
        data.samples[0],
        boxes=boxes,
        labels=np.zeros(2, np.int64),
        crowd=np.zeros(2, bool),
        areas=np.full(2, 1e4),
    )
    between = Detections(
        np.array([[20.0, 0, 120, 100], [-30, 0, 95, 100]]), np.array([0.9, 0.8]), np.zeros(2, int), CATEGORIES
    )
    data = replace(data, samples=[truth])
    precision, recall = pycocotools_curves(data, [between])
    found = diagnose([between], data).given.whole
    assert recall[0, 0, 0] == (0.5 if turned else 1)
    assert np.array_equal(found.recall, recall[..., 0])
    assert np.array_equal(found.precision, precision[..., 0])
