"""Suppression by truth against a literal one, and by hand."""

import numpy as np
import pytest
from oracle_literal import iou

from varifocal.tools.oracle.ground_truth_nms import ground_truth_nms, owners
from varifocal.tools.oracle.positives import Truth
from varifocal.types import Category, Detections

CATEGORIES = (Category(1, "a"), Category(2, "b"))


def found(rows):
    """Of (x1, y1, x2, y2, score, label)."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64), CATEGORIES)


def truth(rows):
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Truth(table[:, :4], table[:, 4].astype(np.int64))


def rows_of(one):
    return [
        (*map(float, box), round(float(score), 6), int(label))
        for box, score, label in zip(one.boxes, one.scores, one.labels, strict=True)
    ]


def test_by_hand():
    objects = truth([(0, 0, 10, 10, 0), (4, 0, 14, 10, 0), (50, 50, 60, 60, 1)])
    near, nearer, other = (0, 0, 10, 12, 0.9, 0), (0, 0, 10, 11, 0.2, 0), (4, 0, 14, 11, 0.8, 0)
    wrong_class, background = (50, 50, 60, 60, 0.7, 0), (80, 80, 90, 90, 0.6, 1)
    candidates = found([near, nearer, other, wrong_class, background, (80, 80, 90, 91, 0.5, 1)])
    ordinary = found([near, wrong_class, background])  # the second object was suppressed by the first
    kept = ground_truth_nms(candidates, ordinary, objects, "overlap", 100)
    expected = [(*nearer[:4], 0.9, 0), other, wrong_class, background]
    assert rows_of(kept) == [pytest.approx(row) for row in expected]
    kept = ground_truth_nms(candidates, ordinary, objects, "score", 100)
    assert rows_of(kept) == [pytest.approx(row) for row in (near, other, wrong_class, background)]
    assert len(ground_truth_nms(candidates, ordinary, objects, "score", 2)) == 2


def test_nothing_to_suppress():
    nothing, objects = found([]), truth([(0, 0, 10, 10, 0)])
    assert len(ground_truth_nms(nothing, nothing, objects, "overlap", 100)) == 0
    some = found([(0, 0, 10, 10, 0.5, 0)])
    assert rows_of(ground_truth_nms(some, some, truth([]), "overlap", 100)) == rows_of(some)


@pytest.mark.parametrize("best", ["overlap", "score"])
@pytest.mark.parametrize("seed", range(5))
def test_as_a_literal_loop(seed, best):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (8, 2))
    objects = truth(np.column_stack([corner, corner + rng.uniform(8, 25, (8, 2)), rng.integers(0, 2, 8)]))
    owner = rng.integers(0, 8, 90)
    boxes = objects.boxes[owner] + rng.normal(0, 3, (90, 4))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    labels = np.where(rng.random(90) < 0.2, 1 - objects.labels[owner], objects.labels[owner])
    candidates = found(np.column_stack([boxes, rng.permutation(90) / 100, labels]))
    places = np.sort(rng.choice(90, 25, replace=False))
    ordinary = Detections(candidates.boxes[places], candidates.scores[places], candidates.labels[places], CATEGORIES)

    def owned(box, label):
        pairs = [
            (iou(box, list(map(float, one))), i) for i, one in enumerate(objects.boxes) if objects.labels[i] == label
        ]
        overlap, number = max(pairs, key=lambda pair: pair[0], default=(0.0, -1))
        return (number, overlap) if overlap >= 0.5 else (-1, 0.0)

    groups, expected = {}, []
    for x1, y1, x2, y2, score, label in rows_of(candidates):
        number, overlap = owned((x1, y1, x2, y2), label)
        groups.setdefault(number, []).append((overlap, score, (x1, y1, x2, y2), label))
    for number, members in groups.items():
        if number >= 0:
            chosen = max(members, key=lambda one: one[0] if best == "overlap" else one[1])
            expected.append((*chosen[2], max(one[1] for one in members), chosen[3]))
    expected += [row for row in rows_of(ordinary) if owned(row[:4], row[5])[0] < 0]
    kept = ground_truth_nms(candidates, ordinary, objects, best, 1000)
    assert rows_of(kept) == sorted(expected, key=lambda row: -row[4])
    assert (owners(candidates, objects)[0] >= 0).sum() > 30
