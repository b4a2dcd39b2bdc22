"""COCO metrics against pycocotools, as an independent implementation, and against hand calculations."""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console

from varifocal.evaluation.coco_ap import CocoMetrics, coco_ap
from varifocal.types import Category, Detections, Sample

NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
CATEGORIES = (Category(17, "cat"), Category(3, "dog"), Category(90, "brush"), Category(44, "never seen"))


def make_sample(image_id, boxes=(), labels=(), crowd=None, dtype=np.float32, areas=None):
    return Sample(
        file=Path(f"{image_id}.jpg"),
        image_id=image_id,
        width=400,
        height=300,
        boxes=np.asarray(boxes, dtype).reshape(-1, 4),
        labels=np.asarray(labels, np.int64),
        crowd=np.zeros(len(labels), bool) if crowd is None else np.asarray(crowd, bool),
        areas=None if areas is None else np.asarray(areas, np.float64),
    )


def make_detections(boxes=(), scores=(), labels=(), categories=CATEGORIES):
    return Detections(
        boxes=np.asarray(boxes, np.float32).reshape(-1, 4),
        scores=np.asarray(scores, np.float32),
        labels=np.asarray(labels, np.int64),
        categories=tuple(categories),
    )


def numbers(metrics, names):
    return [getattr(metrics, name) for name in names]


def random_boxes(rng, count):
    corner = rng.uniform(0, 200, (count, 2))
    return np.concatenate([corner, corner + np.exp(rng.uniform(1.5, 5, (count, 2)))], axis=1).astype(np.float32)


def random_case(seed, images=20):
    """Return random images with crowds, without boxes, without detections or with more than 100, and tied scores."""
    rng = np.random.default_rng(seed)
    samples, detections = [], []
    for image_id in rng.choice(10_000, images, replace=False):
        count = rng.integers(0, 12) * (rng.random() > 0.2)
        labels = rng.integers(0, 3, count)
        boxes = random_boxes(rng, count)
        samples.append(make_sample(int(image_id), boxes, labels, rng.random(count) < 0.15))
        near = np.repeat(boxes, 2, axis=0) + rng.normal(0, 4, (2 * count, 4)).astype(np.float32)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        far = random_boxes(rng, rng.integers(0, 130))
        found = np.concatenate([near, far]) if rng.random() > 0.15 else np.zeros((0, 4), np.float32)
        guess = np.concatenate([np.repeat(labels, 2), rng.integers(0, 3, len(far))])[: len(found)]
        scores = rng.random(len(found))
        scores[len(near) :] *= 0.5
        scores = scores.round(2).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        detections.append(make_detections(found[order], scores[order], guess[order]))
    return samples, detections


def pycocotools_evaluation(samples, categories, detections, limits=None):
    annotations = [
        {
            "image_id": sample.image_id,
            "category_id": categories[label].id,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1) if area is None else area,
            "iscrowd": int(crowd),
        }
        for sample in samples
        for (x1, y1, x2, y2), label, crowd, area in zip(
            sample.boxes.astype(float).tolist(),
            sample.labels,
            sample.crowd,
            [None] * len(sample.boxes) if sample.areas is None else sample.areas.tolist(),
            strict=True,
        )
    ]
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": sample.image_id} for sample in samples],
        "categories": [{"id": category.id, "name": category.name} for category in categories],
        "annotations": [{**annotation, "id": i + 1} for i, annotation in enumerate(annotations)],
    }
    truth.createIndex()
    results = [
        entry
        for sample, one in zip(samples, detections, strict=True)
        for entry in one.to_coco(sample.image_id, sample.file.name)
    ]
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    if limits:
        evaluation.params.maxDets = limits
    evaluation.evaluate()
    evaluation.accumulate()
    if not limits:  # its summary only supports 100
        evaluation.summarize()
    return evaluation


def pycocotools_per_class(evaluation, categories):
    result = {}
    for category in categories:
        k = evaluation.params.catIds.index(category.id)
        values = evaluation.eval["precision"][:, :, k, 0, 2]
        values = values[values > -1]
        result[category.name] = values.mean() if values.size else -1.0
    return result


@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools(seed):
    samples, detections = random_case(seed)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = pycocotools_evaluation(samples, CATEGORIES, detections)

    metrics = coco_ap(samples, CATEGORIES, detections)

    assert numbers(metrics, NAMES) == pytest.approx(truth.stats.tolist(), abs=1e-12)
    assert metrics.per_class == pytest.approx(pycocotools_per_class(truth, CATEGORIES), abs=1e-12)
    assert 0.02 < metrics.AP < 0.9
    assert any(len(one) > 100 for one in detections)
    assert any(sample.crowd.any() for sample in samples)


@pytest.mark.parametrize("seed", range(4))
def test_equals_pycocotools_with_areas_of_outlines(seed):
    """An outline fills a part of its box, so that some boxes count as medium or small."""
    samples, detections = random_case(seed)
    rng = np.random.default_rng(seed)
    sides = [sample.boxes[:, 2:].astype(float) - sample.boxes[:, :2] for sample in samples]
    outlined = [
        replace(sample, areas=side.prod(axis=1) * rng.uniform(0.05, 1.0, len(side)))
        for sample, side in zip(samples, sides, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = pycocotools_evaluation(outlined, CATEGORIES, detections)

    metrics = coco_ap(outlined, CATEGORIES, detections)

    assert numbers(metrics, NAMES) == pytest.approx(truth.stats.tolist(), abs=1e-12)
    plain = coco_ap(samples, CATEGORIES, detections)
    assert metrics.AP == plain.AP
    assert all(getattr(metrics, name) != getattr(plain, name) for name in ("APs", "APm", "APl"))


def test_the_area_of_the_outline_decides_the_size_by_hand():
    """The box is 50 x 50, medium, but its outline covers 900 pixels, fewer than 32 x 32."""
    boxes, found = [[0, 0, 50, 50]], make_detections([[0, 0, 50, 50]], [0.9], [0])
    for areas, sizes in ((None, [-1, 1, -1]), ([900], [1, -1, -1]), ([9217], [-1, -1, 1])):
        metrics = coco_ap([make_sample(1, boxes, [0], areas=areas)], CATEGORIES, [found])
        assert numbers(metrics, ["APs", "APm", "APl"]) == pytest.approx(sizes, abs=1e-12)


def test_by_hand():
    """Two objects, one found exactly, one missed, no false positive: precision 1 at recalls 0, 0.01, ... 0.5."""
    sample = make_sample(1, [[10, 10, 60, 60], [100, 100, 300, 250]], [0, 0])
    found = make_detections([[10, 10, 60, 60]], [0.9], [0])
    metrics = coco_ap([sample], CATEGORIES, [found])
    half = 51 / 101
    assert numbers(metrics, ["AP", "AP50", "AP75"]) == pytest.approx([half] * 3, abs=1e-12)
    assert numbers(metrics, ["APs", "APm", "APl"]) == pytest.approx([-1, 1, 0], abs=1e-12)
    assert numbers(metrics, ["AR1", "AR10", "AR100"]) == pytest.approx([0.5] * 3, abs=1e-12)
    assert metrics.per_class == pytest.approx({"cat": half, "dog": -1, "brush": -1, "never seen": -1}, abs=1e-12)


def test_iou_between_thresholds_by_hand():
    """A box with IoU 0.8 is correct at the thresholds 0.5 ... 0.75 and 0.8: seven of ten."""
    sample = make_sample(1, [[0, 0, 100, 100]], [1])
    found = make_detections([[0, 0, 100, 80]], [0.5], [1])
    metrics = coco_ap([sample], CATEGORIES, [found])
    assert numbers(metrics, ["AP", "AP50", "AP75"]) == pytest.approx([0.7, 1, 1], abs=1e-12)


def test_detections_in_a_crowd_are_neither_right_nor_wrong():
    sample = make_sample(1, [[0, 0, 50, 50], [100, 0, 300, 200]], [0, 0], [False, True])
    found = make_detections([[110, 10, 150, 60], [200, 10, 250, 60], [0, 0, 50, 50]], [0.9, 0.8, 0.7], [0, 0, 0])
    assert numbers(coco_ap([sample], CATEGORIES, [found]), ["AP"]) == pytest.approx([1], abs=1e-12)


def test_no_detections_at_all():
    metrics = coco_ap([make_sample(5, [[0, 0, 9, 9]], [2])], CATEGORIES, [make_detections()])
    assert numbers(metrics, ["AP", "AR100", "APs", "APl"]) == [0, 0, 0, -1]
    assert metrics.per_class == {"cat": -1, "dog": -1, "brush": 0, "never seen": -1}


@pytest.mark.parametrize(
    ("samples", "detections"),
    [
        ([], []),
        ([make_sample(5)], [make_detections()]),
        ([make_sample(5)], [make_detections([[0, 0, 9, 9]], [0.5], [0])]),
    ],
    ids=["no image", "nothing labeled or found", "nothing labeled"],
)
def test_nothing_to_find(samples, detections):
    metrics = coco_ap(samples, CATEGORIES, detections)
    assert numbers(metrics, NAMES) == [-1] * 12
    assert set(metrics.per_class.values()) == {-1}


def test_image_ids_that_are_negative_or_equal_stay_apart():
    samples = [make_sample(-4, [[0, 0, 50, 50]], [0]), make_sample(-4, [[0, 0, 50, 50]], [0])]
    found = make_detections([[0, 0, 50, 50]], [0.9], [0])
    assert numbers(coco_ap(samples, CATEGORIES, [found, found]), ["AP"]) == pytest.approx([1], abs=1e-12)


def test_classes_of_one_name_are_told_apart():
    categories = (Category(1, "cat"), Category(2, "cat"))
    found = make_detections([[0, 0, 50, 50]], [0.9], [0], categories)
    metrics = coco_ap([make_sample(1, [[0, 0, 50, 50]], [0])], categories, [found])
    assert metrics.per_class == pytest.approx({"cat (1)": 1, "cat (2)": -1}, abs=1e-12)


def test_prints_nothing(capfd):
    coco_ap(*random_case(0)[:1], CATEGORIES, random_case(0)[1])
    assert capfd.readouterr() == ("", "")


def test_json_and_table():
    samples, detections = random_case(1)
    metrics = coco_ap(samples, CATEGORIES, detections)
    assert CocoMetrics(**json.loads(json.dumps(metrics.to_json()))) == metrics

    text = io.StringIO()
    Console(file=text, width=80).print(metrics.table())
    for name in [*NAMES, "AP cat", "AP never seen"]:
        assert name in text.getvalue()
    assert f"{100 * metrics.AP75:.1f}" in text.getvalue()


def test_samples_without_detections_are_refused():
    with pytest.raises(ValueError, match="1 samples but detections of 0"):
        coco_ap([make_sample(1)], CATEGORIES, [])


@pytest.mark.parametrize("label", [-1, 4])
def test_unknown_label_is_refused(label):
    with pytest.raises(ValueError, match=f"label {label} does not index the 4 categories"):
        coco_ap([make_sample(1)], CATEGORIES, [make_detections([[0, 0, 9, 9]], [0.5], [label])])


def crowded_scene(objects=180):
    """Return an image with more objects than COCO's 100 detections, each found with a lower score than the last."""
    rng = np.random.default_rng(5)
    corner = np.array([(20 * (i % 20), 20 * (i // 20)) for i in range(objects)], np.float32)
    boxes = np.concatenate([corner, corner + 18], axis=1)
    shift = rng.uniform(0, 4, (objects, 1)).astype(np.float32) * np.linspace(0, 1, objects, dtype=np.float32)[:, None]
    found = make_detections(boxes + shift, np.linspace(0.99, 0.1, objects), [0] * objects, CATEGORIES[:1])
    return [make_sample(1, boxes, [0] * objects)], [found]


def test_more_than_100_detections_a_image_equal_pycocotools():
    samples, detections = crowded_scene()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = pycocotools_evaluation(samples, CATEGORIES[:1], detections, [1, 10, 100, 1000]).eval
    precision, recall = truth["precision"], truth["recall"]
    metrics = coco_ap(samples, CATEGORIES[:1], detections, 1000)
    wanted = {
        "AP": precision[:, :, 0, 0, 3].mean(),
        "AP75": precision[5, :, 0, 0, 3].mean(),
        "APs": precision[:, :, 0, 1, 3].mean(),
        "AR100": recall[:, 0, 0, 2].mean(),
        "ARs": recall[:, 0, 1, 3].mean(),
    }
    assert numbers(metrics, wanted) == pytest.approx(list(wanted.values()), abs=1e-12)
    assert metrics.AP > coco_ap(samples, CATEGORIES[:1], detections).AP + 0.2
    assert metrics.AR100 < 0.56


def test_a_limit_below_100_stays_coco_s():
    samples, detections = random_case(0)
    assert coco_ap(samples, CATEGORIES, detections, 5) == coco_ap(samples, CATEGORIES, detections)


@pytest.mark.parametrize("seed", range(3))
def test_without_false_is_what_pycocotools_says_when_they_are_taken_away(seed):
    """At each IoU, detections without a match that are not ignored are removed, and the others evaluated there."""
    samples, detections = random_case(seed)
    everything = pycocotools_evaluation(samples, CATEGORIES, detections)
    owner = [(i, j) for i, one in enumerate(detections) for j in range(len(one))]  # of detection id - 1
    whole = [entry for entry in everything.evalImgs if entry and entry["aRng"] == everything.params.areaRng[0]]
    expected = []
    for t in range(10):
        kept = [[] for _ in detections]
        for entry in whole:
            good = (entry["dtMatches"][t] > 0) | (entry["dtIgnore"][t] > 0)
            for number in np.array(entry["dtIds"])[good]:
                image, place = owner[number - 1]
                kept[image].append(place)
        left = []
        for one, places in zip(detections, kept, strict=True):
            chosen = np.sort(np.array(places, int))
            left.append(make_detections(one.boxes[chosen], one.scores[chosen], one.labels[chosen]))
        precision = pycocotools_evaluation(samples, CATEGORIES, left).eval["precision"][t, :, :, 0, -1]
        expected.append(precision[precision > -1].mean())
    found = coco_ap(samples, CATEGORIES, detections, without_false=True)
    three = numbers(found, ["AP", "AP50", "AP75"])
    assert three == pytest.approx([np.mean(expected), expected[0], expected[5]], abs=1e-9)
    assert coco_ap(samples, CATEGORIES, detections).AP < found.AP < 1
