"""Selection and suppression against a greedy loop over plain lists."""

from dataclasses import replace

import pytest
import torch

from varifocal.ops.nms import multiclass_nms
from varifocal.types import PostProcess

LOOSE = PostProcess(score_threshold=0.05, nms_pre=10**6, nms_iou=0.5, max_detections=10**6)


def iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return overlap / union if union else 0.0


def candidates(scores: list[list[float]], counts: list[int], post: PostProcess) -> list[tuple[float, int, int]]:
    """(score, point, label) of what is looked at, level by level."""
    chosen, start = [], 0
    for count in counts:
        points = range(start, start + count)
        start += count
        if post.topk_mode == "points":
            points = sorted(points, key=lambda point: -max(scores[point]))[: post.nms_pre]
        pairs = [(s, p, c) for p in points for c, s in enumerate(scores[p]) if s > post.score_threshold]
        if post.topk_mode == "pairs":
            pairs = sorted(pairs, reverse=True)[: post.nms_pre]
        chosen += pairs
    return chosen


def greedy(boxes: torch.Tensor, scores: torch.Tensor, counts: list[int], post: PostProcess):
    table, kept = boxes.tolist(), []
    for score, point, label in sorted(candidates(scores.tolist(), counts, post), reverse=True):
        rivals = [other for _, other, its in kept if its == label]
        if all(iou(table[point], table[other]) <= post.nms_iou for other in rivals):
            kept.append((score, point, label))
    kept = kept[: post.max_detections]
    return [(table[point], score, label) for score, point, label in kept]


def as_rows(found) -> list[tuple[list[float], float, int]]:
    return list(zip(*(part.tolist() for part in found), strict=True))


def scene(seed: int, counts: list[int], classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    corner = torch.rand(sum(counts), 2, generator=rng) * 40
    boxes = torch.cat([corner, corner + 5 + torch.rand(sum(counts), 2, generator=rng) * 30], dim=1)
    return boxes, torch.rand(sum(counts), classes, generator=rng) ** 2


@pytest.mark.parametrize("select", ["pairs", "points"])
@pytest.mark.parametrize(
    ("per_level", "threshold", "overlap", "most"),
    [
        (1000, 0.05, 0.6, 100),
        (7, 0.05, 0.5, 100),
        (20, 0.4, 0.3, 100),
        (1000, 0.05, 0.5, 5),
        (1, 0.0, 0.9, 100),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_the_greedy_loop(select, per_level, threshold, overlap, most, seed):
    counts = [40, 12, 3]
    boxes, scores = scene(seed, counts)
    post = PostProcess(threshold, per_level, overlap, most, select)
    found = as_rows(multiclass_nms(boxes, scores, counts, post))
    assert found == greedy(boxes, scores, counts, post)
    assert found


def test_the_two_ways_of_counting():
    """Two points with two good classes each, one look: a point brings both its classes, a pair only itself."""
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    scores = torch.tensor([[0.9, 0.3], [0.8, 0.7]])
    labels = {
        select: multiclass_nms(boxes, scores, [2], PostProcess(nms_pre=1, topk_mode=select))[2].tolist()
        for select in ("pairs", "points")
    }
    assert labels == {"pairs": [0], "points": [0, 1]}


def test_each_level_has_its_own_limit():
    boxes, scores = scene(0, [30, 30], classes=1)
    found = multiclass_nms(boxes, scores, [30, 30], PostProcess(nms_pre=4, nms_iou=1.0))
    assert sorted(found[1].tolist()) == sorted(scores[:30, 0].topk(4)[0].tolist() + scores[30:, 0].topk(4)[0].tolist())


@pytest.mark.parametrize("select", ["pairs", "points"])
@pytest.mark.parametrize("counts", [[0], [5], [4, 1], []])
def test_nothing_to_find(select, counts):
    post = PostProcess(topk_mode=select)
    if not counts:
        counts = [0, 0]
    boxes, scores = torch.rand(sum(counts), 4), torch.zeros(sum(counts), 3)
    found = multiclass_nms(boxes, scores, counts, post)
    assert [tuple(part.shape) for part in found] == [(0, 4), (0,), (0,)]
    assert found[2].dtype == torch.long


def test_the_threshold_itself_is_not_enough():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    scores = torch.tensor([[0.25], [0.26]])
    found = multiclass_nms(boxes, scores, [2], PostProcess(score_threshold=0.25))
    assert found[0].tolist() == [[20.0, 20.0, 30.0, 30.0]]


def test_equal_boxes_of_different_classes_stay():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 2)
    found = multiclass_nms(boxes, torch.tensor([[0.9, 0.8], [0.7, 0.6]]), [2], LOOSE)
    assert as_rows(found) == [
        (boxes[0].tolist(), pytest.approx(0.9), 0),
        (boxes[0].tolist(), pytest.approx(0.8), 1),
    ]


def test_overlap_at_the_threshold_stays():
    """IoU of exactly one half does not go, a little more does."""
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [0.0, 0.0, 10.0, 5.1]])
    scores = torch.tensor([[0.9], [0.8], [0.2]])
    assert len(multiclass_nms(boxes[:2], scores[:2], [2], LOOSE)[1]) == 2
    assert len(multiclass_nms(boxes[[0, 2]], scores[[0, 2]], [2], LOOSE)[1]) == 1


def test_classes_far_apart_are_told_apart_exactly():
    """In float32 the shift that keeps 80 classes apart would round 705.003 to 705, an IoU of exactly one half."""
    boxes = torch.tensor([[1300.0, 700.0, 1310.0, 710.0], [1300.0, 700.0, 1310.0, 705.003]])
    scores = torch.zeros(2, 80)
    scores[0, 79], scores[1, 79] = 0.9, 0.8
    assert len(multiclass_nms(boxes, scores, [2], LOOSE)[1]) == 1


def test_degenerate_boxes():
    """Boxes without area, as clipping leaves them, are dropped with pairs and kept with points, as the authors do."""
    boxes = torch.tensor([[0.0, 0.0, 0.0, 10.0], [0.0, 5.0, 9.0, 5.0], [9.0, 9.0, 3.0, 3.0], [1.0, 1.0, 8.0, 8.0]])
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.6]])
    pairs = multiclass_nms(boxes, scores, [4], PostProcess())
    points = multiclass_nms(boxes, scores, [4], PostProcess(topk_mode="points"))
    assert as_rows(pairs) == [(boxes[3].tolist(), pytest.approx(0.6), 0)]
    assert len(points[1]) == 4


SOFT = PostProcess(score_threshold=0.0, nms_pre=10**6, nms_iou=0.65, max_detections=10**6, nms_type="soft-nms")


def soft(boxes: torch.Tensor, scores: torch.Tensor, post: PostProcess) -> list[tuple[list[float], float, int]]:
    """One class after the other: take the best, let its neighbors decay, forget those that fell too low."""
    found = []
    for label in range(scores.shape[1]):
        rest = [
            [score, box]
            for box, score in zip(boxes.tolist(), scores[:, label].tolist(), strict=True)
            if score > post.score_threshold
        ]
        while rest:
            rest.sort(key=lambda row: row[0])
            score, box = rest.pop()
            found.append((box, score, label))
            for row in rest:
                overlap = iou(box, row[1])
                if overlap >= post.nms_iou:
                    row[0] *= 1 - overlap
            rest = [row for row in rest if row[0] >= post.min_score]
    return sorted(found, key=lambda row: -row[1])[: post.max_detections]


@pytest.mark.parametrize(
    ("overlap", "lowest", "most"),
    [(0.65, 1e-3, 100), (0.3, 1e-3, 1000), (0.3, 0.2, 1000), (0.0, 1e-6, 7), (0.65, 0.0, 0)],
)
@pytest.mark.parametrize("seed", range(3))
def test_soft_suppression_is_equal_to_the_loop(overlap, lowest, most, seed):
    boxes, scores = scene(seed, [60])
    scores = scores.clamp(min=0.25)  # the best of a class stays, however low; these are never too low to begin with
    scores += torch.rand(scores.shape, generator=torch.Generator().manual_seed(seed)) / 100
    post = replace(SOFT, nms_iou=overlap, min_score=lowest, max_detections=most)
    found = as_rows(multiclass_nms(boxes, scores, [60], post))
    wanted = soft(boxes, scores, post)
    assert [(box, label) for box, _, label in found] == [(box, label) for box, _, label in wanted]
    assert [score for _, score, _ in found] == pytest.approx([score for _, score, _ in wanted], rel=1e-6)


def test_soft_suppression_lets_scores_decay():
    """From the IoU of 0.5 on, itself included: 0.8 becomes 0.8 x 0.5, and of an equal box nothing is left."""
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [0.0, 0.0, 10.0, 10.0]])
    scores = torch.tensor([[0.9], [0.8], [0.7]])
    post = replace(SOFT, nms_iou=0.5)
    assert multiclass_nms(boxes, scores, [3], post)[1].tolist() == pytest.approx([0.9, 0.4])
    assert multiclass_nms(boxes, scores, [3], replace(post, nms_iou=0.51))[1].tolist() == pytest.approx([0.9, 0.8])


def test_soft_suppression_that_never_touches_is_no_suppression():
    boxes, scores = scene(0, [50])
    found = multiclass_nms(boxes, scores, [50], replace(SOFT, nms_iou=1.1, min_score=0.0))
    assert found[1].tolist() == sorted(scores.flatten().tolist(), reverse=True)


def test_soft_suppression_of_classes_apart():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 2)
    found = multiclass_nms(boxes, torch.tensor([[0.9, 0.0], [0.0, 0.8]]), [2], SOFT)
    assert found[1].tolist() == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize("count", [0, 4])
def test_soft_suppression_of_nothing(count):
    found = multiclass_nms(torch.rand(count, 4), torch.zeros(count, 3), [count], SOFT)
    assert [tuple(part.shape) for part in found] == [(0, 4), (0,), (0,)]
    assert found[2].dtype == torch.long


def test_soft_suppression_takes_the_quality_into_the_score():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    found = multiclass_nms(boxes, torch.tensor([[0.9], [0.8]]), [2], SOFT, torch.tensor([0.5, 1.0]))
    assert found[1].tolist() == pytest.approx([0.8, 0.45])


def test_soft_suppression_takes_a_box_once():
    """Of equal boxes the second is left with nothing, and with no bound of the scores that is enough to stay."""
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 3)
    found = multiclass_nms(boxes, torch.tensor([[0.9], [0.8], [0.7]]), [3], replace(SOFT, min_score=0.0))
    assert found[1].tolist() == pytest.approx([0.9, 0.0, 0.0])


@pytest.mark.parametrize("most", [1, 7, 60])
@pytest.mark.parametrize("seed", range(3))
def test_enough_detections_however_many_are_suppressed(seed, most):
    """Many copies of the best boxes: the first look finds too few."""
    boxes, scores = scene(seed, [40])
    boxes, scores = boxes.repeat(60, 1), (scores.repeat(60, 1) - torch.arange(2400)[:, None] * 1e-6).clamp(min=0)
    post = replace(LOOSE, max_detections=most)
    found = as_rows(multiclass_nms(boxes, scores, [2400], post))
    assert found == greedy(boxes, scores, [2400], post)
    assert len(found) == most


def test_of_equal_scores_the_first_box_leads():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [50.0, 50.0, 60.0, 60.0]])
    found = multiclass_nms(boxes, torch.full((3, 1), 0.5), [3], LOOSE)
    assert found[0].tolist() == boxes[[0, 2]].tolist()


def test_boxes_outside_the_image_do_not_meet_the_class_before():
    """The shift that keeps classes apart is wider than all boxes together, with those below zero."""
    boxes = torch.tensor([[90.0, 90.0, 100.0, 100.0], [-11.0, -11.0, -1.0, -1.0]])
    found = multiclass_nms(boxes, torch.tensor([[0.9, 0.0], [0.0, 0.8]]), [2], LOOSE)
    assert len(found[1]) == 2
