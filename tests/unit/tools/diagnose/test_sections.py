"""Ranking, calibration, thresholds, confusion, scatter and worst images against literal loops and by hand."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from detection_cases import CATEGORIES, greedy, iou_of, make_data
from error_codes import raises_code
from scipy import stats

from varifocal.analysis.diagnosis import Settings, diagnose
from varifocal.analysis.scatter import POINTS
from varifocal.evaluation.coco_ap import coco_ap
from varifocal.types import Dataset, Detections, Sample
from varifocal.utils.errors import ConfigError


def best_iou(sample, box, label):
    near = zip(sample.boxes, sample.labels, sample.crowd, strict=True)
    return max((iou_of(box, other) for other, kind, crowd in near if kind == label and not crowd), default=0.0)


def with_ideal_scores(data, detections):
    found = []
    for sample, one in zip(data.samples, detections, strict=True):
        scores = np.array([best_iou(sample, box, label) for box, label in zip(one.boxes, one.labels, strict=True)])
        order = np.argsort(-scores, kind="stable")
        found.append(Detections(one.boxes[order], scores[order], one.labels[order], one.categories))
    return found


@pytest.mark.parametrize("seed", range(2))
def test_ap_lost_to_ranking_is_that_of_coco_with_other_scores(seed):
    data, detections = make_data(seed)
    worth = diagnose(detections, data).ranking.worth
    ideal = coco_ap(data.samples, CATEGORIES, with_ideal_scores(data, detections))
    given = coco_ap(data.samples, CATEGORIES, detections)
    assert worth.given == pytest.approx(given.AP, abs=1e-12)
    assert worth.ideal == pytest.approx(ideal.AP, abs=1e-12)
    assert worth.ranking == pytest.approx(ideal.AP - given.AP, abs=1e-12)
    assert worth.ranking > 0.1
    assert worth.given + worth.ranking + worth.duplicates + worth.boxes == pytest.approx(1)
    sizes = diagnose(detections, data).ranking.worth_by_size
    assert [sizes[name].ideal for name in sizes] == pytest.approx([ideal.APs, ideal.APm, ideal.APl], abs=1e-12)


def test_what_the_order_costs_by_hand():
    """A sloppy box (IoU 0.6) stands above the exact one of the same object, another object is not found."""
    sample = make_sample([[0, 0, 100, 100], [200, 200, 250, 250]], [0, 0])
    found = make_found([[0, 0, 100, 60], [0, 0, 100, 100]], [0.9, 0.8], [0, 0])
    worth = diagnose([found], make_set([sample])).ranking.worth
    half = 51 / 101  # recalls 0 ... 0.5
    # at 0.5, 0.55 and 0.6 the sloppy one is right; above, it is wrong and stands before the exact one
    assert worth.given == pytest.approx((3 * half + 7 * half / 2) / 10)
    assert worth.ideal == pytest.approx(half)
    assert worth.duplicates == pytest.approx(0)
    assert worth.boxes == pytest.approx(1 - half)


def test_second_boxes_cost_the_rest_by_hand():
    """Two exact boxes of one object, then an exact box of another: the order is ideal, the second box is in the way."""
    sample = make_sample([[0, 0, 100, 100], [200, 200, 250, 250]], [0, 0])
    found = make_found([[0, 0, 100, 100], [0, 0, 100, 100], [200, 200, 250, 240]], [0.9, 0.8, 0.7], [0, 0, 0])
    worth = diagnose([found], make_set([sample])).ranking.worth
    assert worth.ranking == pytest.approx(0)
    assert worth.duplicates == pytest.approx(7 / 10 * 50 / 101 * (1 - 2 / 3))
    assert worth.boxes == pytest.approx(3 / 10 * 50 / 101)


def test_a_recall_that_is_reached_with_little_precision_is_reached():
    """Six exact boxes of one object, then one of another, so that the precision there is 2 / 7."""
    sample = make_sample([[0, 0, 100, 100], [200, 200, 250, 250]], [0, 0])
    boxes = [*([[0, 0, 100, 100]] * 6), [200, 200, 250, 249]]
    worth = diagnose([make_found(boxes, np.linspace(0.9, 0.3, 7), [0] * 7)], make_set([sample])).ranking.worth
    assert worth.ceiling == pytest.approx(1)
    assert worth.duplicates == pytest.approx(50 / 101 * (1 - 2 / 7))


@pytest.mark.parametrize("seed", range(2))
def test_correlations_equal_scipy_over_a_literal_list(seed):
    data, detections = make_data(seed, crowd=0.3)
    ranking = diagnose(detections, data).ranking
    points = []
    for (rows, _), sample, one in zip(greedy(data, detections, 0.5), data.samples, detections, strict=True):
        for i, label, score, kind, *_ in rows:
            if kind == "ignored":
                continue
            near = [
                (iou_of(one.boxes[i], box), area)
                for box, other, crowd, area in zip(sample.boxes, sample.labels, sample.crowd, sample.areas, strict=True)
                if other == label and not crowd
            ]
            iou, area = max(near, default=(0.0, 0.0))
            points.append((label, score, iou, area))
    label, score, iou, area = map(np.array, zip(*points, strict=True))
    check(ranking.everywhere, score, iou)
    check(ranking.near, score[iou >= 0.1], iou[iou >= 0.1])
    large = (iou >= 0.1) & (area >= 96**2)
    check(ranking.by_size["large"], score[large], iou[large])
    second = (iou >= 0.1) & (label == 1)
    check(ranking.by_class[1], score[second], iou[second])
    assert ranking.near.count > 50


def check(found, score, iou):
    assert found.count == len(score)
    assert found.spearman == pytest.approx(stats.spearmanr(score, iou).statistic, abs=1e-12)
    assert found.kendall == pytest.approx(stats.kendalltau(score, iou).statistic, abs=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_laece_equals_a_literal_loop(seed):
    data, detections = make_data(seed)
    found = diagnose(detections, data).calibration
    rows = [row for image, _ in greedy(data, detections, 0.1) for row in image if row[3] != "ignored"]
    whole, cut = [], []
    for k in range(3):
        own = [(score, iou if kind == "right" else 0.0) for _, label, score, kind, iou, _ in rows if label == k]
        boxes = sum(int(((s.labels == k) & ~s.crowd).sum()) for s in data.samples)
        losses = {score: lrp([row for row in own if row[0] >= score], boxes) for score, _ in own}
        least = min(losses.values())
        assert losses[found.thresholds[k]] == pytest.approx(least, abs=1e-12)
        whole.append(literal_laece(own))
        cut.append(literal_laece([row for row in own if row[0] >= found.thresholds[k]]))
        assert found.laece_by_class[k] == pytest.approx(cut[-1], abs=1e-12)
        assert found.bins_by_class[k].error == pytest.approx(whole[-1], abs=1e-12)
    assert found.laece == pytest.approx(np.mean(cut), abs=1e-12)
    assert found.laece_all == pytest.approx(np.mean(whole), abs=1e-12)
    assert found.bins.count.sum() == len(rows)
    assert 0.05 < found.laece < 0.8


def literal_laece(rows):
    total = 0.0
    for j in range(25):
        inside = [row for row in rows if j / 25 <= row[0] and (row[0] < (j + 1) / 25 or j == 24)]
        if inside:
            total += (
                len(inside) / len(rows) * abs(np.mean([row[0] for row in inside]) - np.mean([r[1] for r in inside]))
            )
    return total


def lrp(rows, boxes):
    right = [iou for _, iou in rows if iou]
    missed, wrong = boxes - len(right), len(rows) - len(right)
    return (sum((1 - iou) / 0.9 for iou in right) + wrong + missed) / (len(right) + wrong + missed)


def test_calibration_by_hand():
    """Scores that are the IoU are calibrated; a score of 1 is in the last bin."""
    sample = make_sample([[0, 0, 100, 100], [200, 200, 300, 300]], [0, 0])
    exact = make_found([[0, 0, 100, 100], [200, 200, 300, 250]], [1.0, 0.5], [0, 0])
    calibration = diagnose([exact], make_set([sample])).calibration
    assert calibration.laece_all == pytest.approx(0)
    assert calibration.bins.count[24] == 1
    assert calibration.bins.count[12] == 1
    sure = replace(exact, scores=np.array([1.0, 0.9]))
    assert diagnose([sure], make_set([sample])).calibration.laece_all == pytest.approx(0.2)  # half of them by 0.4


def test_scores_that_are_no_probabilities_have_no_calibration():
    data, detections = make_data(0)
    loud = [replace(one, scores=one.scores * 10 - 5) for one in detections]
    found, plain = diagnose(loud, data), diagnose(detections, data)
    assert found.calibration is None
    assert found.ap["AP"] == pytest.approx(plain.ap["AP"])
    assert found.ranking.near.kendall == pytest.approx(plain.ranking.near.kendall)
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("wanted", [0.5, 0.9])
def test_thresholds_are_the_best_of_all(wanted):
    data, detections = make_data(1)
    thresholds = diagnose(detections, data, Settings(precision=wanted)).thresholds
    rows = [row for image, _ in greedy(data, detections, 0.5) for row in image if row[3] != "ignored"]
    for k in range(3):
        boxes = sum(int(((s.labels == k) & ~s.crowd).sum()) for s in data.samples)
        own = [row for row in rows if row[1] == k]
        tried = {}
        for score in {row[2] for row in own}:
            kinds = Counter(row[3] for row in own if row[2] >= score)
            precision, recall = kinds["right"] / kinds.total(), kinds["right"] / boxes
            tried[score] = (precision, recall, 2 * kinds["right"] / (kinds.total() + boxes))
        f1 = thresholds.f1_by_class[k]
        assert f1.f1 == pytest.approx(max(values[2] for values in tried.values()))
        assert (f1.precision, f1.recall, f1.f1) == pytest.approx(tried[f1.score])
        enough = [values[1] for values in tried.values() if values[0] >= wanted and values[1] > 0]
        found = thresholds.target_by_class[k]
        assert (found is None) == (not enough)
        if enough:
            assert found.precision >= wanted
            assert found.recall == pytest.approx(max(enough))
            assert (found.precision, found.recall, found.f1) == pytest.approx(tried[found.score])


def test_confusion_equals_a_literal_loop():
    data, detections = make_data(2, crowd=0.2)
    confusion = diagnose(detections, data, Settings(score=0.3)).confusion
    counts = np.zeros((4, 4), int)
    for (rows, taken), sample, one in zip(greedy(data, detections, 0.5, 0.3), data.samples, detections, strict=True):
        for i, label, _, kind, _, _ in rows:
            if kind == "right":
                counts[label, label] += 1
            if kind != "wrong":
                continue
            near = [
                (iou_of(one.boxes[i], sample.boxes[j]), -j)
                for j in range(len(sample.labels))
                if j not in taken and not sample.crowd[j]
            ]
            iou, place = max(near, default=(0.0, 0))
            if iou >= 0.5:
                taken.add(-place)
            counts[sample.labels[-place] if iou >= 0.5 else 3, label] += 1
        for j in range(len(sample.labels)):
            if j not in taken and not sample.crowd[j]:
                counts[sample.labels[j], 3] += 1
    assert np.array_equal(confusion.counts, counts)
    assert (counts[:3].sum(axis=1) == diagnose(detections, data).table.objects).all()
    assert counts[:3, :3].sum() > counts.diagonal()[:3].sum() > 0


def test_of_two_boxes_of_other_classes_the_one_overlapped_most_is_confused():
    sample = make_sample([[0, 0, 100, 60], [0, 0, 100, 90], [0, 0, 100, 55]], [0, 1, 0])
    confusion = diagnose([make_found([[0, 0, 100, 100]], [0.9], [2])], make_set([sample])).confusion
    assert confusion.counts.tolist() == [[0, 0, 0, 2], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_the_usual_score_is_that_of_the_best_f1():
    data, detections = make_data(2)
    found = diagnose(detections, data)
    assert found.confusion.score == found.thresholds.f1.score
    trace = found.confusion.counts.diagonal()[:3].sum()
    assert trace == pytest.approx(found.thresholds.f1.recall * found.table.objects.sum())


def test_scatter_is_the_same_each_time_and_bounded():
    data, detections = make_data(0, images=130)
    first, second = diagnose(detections, data).scatter, diagnose(detections, data).scatter
    assert first.total > POINTS == first.shown
    assert np.array_equal(first.score, second.score)
    assert first.cells.sum() == first.total
    assert abs(first.score.mean() - np.concatenate([one.scores for one in detections]).mean()) < 0.02
    few = diagnose(detections[:5], replace(data, samples=data.samples[:5])).scatter
    assert few.shown == few.total


def test_worst_images_equal_a_literal_loop():
    data, detections = make_data(3)
    found = diagnose(detections, data, Settings(score=0.4, worst=4))
    costs = []
    for (rows, taken), sample in zip(greedy(data, detections, 0.5, 0.4), data.samples, strict=True):
        missed = sum(j not in taken and not sample.crowd[j] for j in range(len(sample.labels)))
        costs.append(missed + sum(row[2] for row in rows if row[3] == "wrong"))
    assert found.costs == pytest.approx(costs)
    assert [one.cost for one in found.worst] == pytest.approx(sorted(costs, reverse=True)[:4])
    for one in found.worst:
        seen, missed = Counter(seen.kind for seen in one.detections), len(one.missed)
        assert one.wrong == seen.total() - seen["right"] - seen["ignored"]
        assert one.objects == seen["right"] + missed
        assert one.cost == pytest.approx(
            missed + sum(seen.score for seen in one.detections if seen.kind not in ("right", "ignored"))
        )
        assert all(seen.score >= 0.4 for seen in one.detections)


NOTHING = Detections(np.empty((0, 4)), np.empty(0), np.empty(0, np.int64), CATEGORIES)


def make_sample(boxes=(), labels=(), crowd=None, image_id=1):
    crowd = np.zeros(len(labels), bool) if crowd is None else np.array(crowd)
    boxes = np.array(boxes, float).reshape(-1, 4)
    return Sample(Path("a.jpg"), image_id, 400, 400, boxes, np.array(labels, np.int64), crowd)


def make_found(boxes, scores, labels):
    return Detections(np.array(boxes, float), np.array(scores, float), np.array(labels), CATEGORIES)


def make_set(samples):
    return Dataset(samples, CATEGORIES, Path("made"))


@pytest.mark.parametrize(
    ("samples", "detections"),
    [
        ([], []),
        ([make_sample()], [NOTHING]),
        ([make_sample([[0, 0, 50, 50]], [0])], [NOTHING]),
        ([make_sample()], [make_found([[0, 0, 9, 9]], [0.5], [1])]),
        ([make_sample([[0, 0, 50, 50]], [0], [True])], [make_found([[0, 0, 9, 9]], [0.5], [0])]),
        ([make_sample([[0, 0, 50, 50]], [0])], [make_found([[0, 0, 0, 0], [5, 5, 5, 90]], [0.5, 0.4], [0, 0])]),
    ],
    ids=["no image", "an empty image", "no detections", "no boxes", "nothing but a crowd", "boxes without area"],
)
def test_of_nothing_there_are_no_numbers_and_no_nan(samples, detections):
    found = diagnose(detections, make_set(samples))
    text = json.dumps(found.to_json(), allow_nan=False)
    assert json.loads(text)["version"] == 1
    if not any((~sample.crowd).any() for sample in samples):
        assert found.ap["AP"] is None
        assert found.ranking.worth.given is None
        assert found.errors.ap50 is None
        assert found.classes == []


def test_all_missed_costs_all():
    found = diagnose([NOTHING], make_set([make_sample([[0, 0, 50, 50]], [0])]))
    assert found.ap["AP"] == 0
    assert found.ranking.worth.boxes == 1
    assert found.errors.counts["missed"] == 1
    assert found.confusion.counts[0, 3] == 1
    assert found.thresholds.f1 is None


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"precision": 0}, "target-precision-range"),
        ({"precision": 90}, "target-precision-range"),
        ({"score": float("nan")}, "score-not-finite"),
        ({"iou": 0.05}, "iou-range"),
        ({"max_detections": 0}, "counts-too-small"),
        ({"worst": -1}, "counts-too-small"),
    ],
)
def test_settings_that_cannot_be(values, code):
    with raises_code(code, ConfigError):
        Settings(**values)
