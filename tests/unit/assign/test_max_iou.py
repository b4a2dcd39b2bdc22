"""The assignment by overlap against the rule written out, anchor by anchor."""

from dataclasses import replace

import pytest
import torch

from varifocal.assign.max_iou import assign_max_iou
from varifocal.ops.boxes import crop_priors, grid_anchors, grid_priors
from varifocal.structures import Assignment, Priors

SHAPES, STRIDES = [(12, 14), (6, 7), (3, 4)], [8, 16, 32]


def iou(a: list[float], b: list[float]) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height)


def literal(anchors: list[list[float]], boxes: list[list[float]], match_apart: bool) -> tuple[list[int], list[bool]]:
    owners, ignored = [-1] * len(anchors), [False] * len(anchors)
    for n, anchor in enumerate(anchors):
        overlaps = [iou(anchor, box) for box in boxes]
        if max(overlaps) >= 0.5:
            owners[n] = overlaps.index(max(overlaps))
        elif max(overlaps) >= 0.4:
            ignored[n] = True
    for i, box in enumerate(boxes):
        overlaps = [iou(anchor, box) for anchor in anchors]
        for n, overlap in enumerate(overlaps):
            if overlap == max(overlaps) and (overlap > 0 or match_apart):
                owners[n], ignored[n] = i, False
    return owners, ignored


def scene(seed: int, count: int) -> tuple[Priors, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    center = torch.rand(count, 2, generator=rng, dtype=torch.float64) * torch.tensor([112.0, 96.0])
    half = 3 * 20 ** torch.rand(count, 2, generator=rng, dtype=torch.float64)
    points = grid_priors(SHAPES, STRIDES, like=center)
    priors = grid_anchors(points, scales=[2.0, 3.0], ratios=[0.5, 1.0])
    return priors, torch.cat([center - half, center + half], dim=1)


def lists(found: Assignment) -> tuple[list[int], list[bool]]:
    assert found.ignored is not None
    return found.gt.tolist(), found.ignored.tolist()


@pytest.mark.parametrize("match_apart", [False, True])
@pytest.mark.parametrize("count", [1, 4, 12])
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_the_literal_rule(seed, count, match_apart):
    """With a box far outside, which no anchor overlaps."""
    priors, boxes = scene(seed, count)
    boxes = torch.cat([boxes, boxes.new_tensor([[5000.0, 5000.0, 5010.0, 5010.0]])])
    priors, _ = crop_priors(priors, 70, 90)
    found = assign_max_iou(priors, boxes, match_apart=match_apart)
    wanted = literal(priors.anchors.tolist(), boxes.tolist(), match_apart)
    assert lists(found) == wanted
    assert (count in wanted[0]) == match_apart
    assert match_apart or len(set(wanted[0])) > count / 2
    assert any(wanted[1]) or match_apart or count < 12


def flat(anchors: list[list[float]]) -> Priors:
    values = torch.tensor(anchors)
    one = torch.ones(len(values))
    return Priors(values[:, :2], one, ((1, len(values)),), values)


def test_a_box_takes_all_of_its_best_and_the_last_box_wins():
    """The two left anchors hold the small box alike, below any threshold; the second box is the first anchor."""
    priors = flat([[0.0, 0.0, 16.0, 16.0], [4.0, 4.0, 20.0, 20.0], [100.0, 0.0, 116.0, 16.0]])
    small, whole = [8.0, 8.0, 12.0, 12.0], [0.0, 0.0, 16.0, 16.0]
    assert lists(assign_max_iou(priors, torch.tensor([small]))) == ([0, 0, -1], [False] * 3)
    assert assign_max_iou(priors, torch.tensor([small, whole])).gt.tolist() == [1, 0, -1]
    assert assign_max_iou(priors, torch.tensor([whole, small])).gt.tolist() == [1, 1, -1]


def test_between_the_thresholds_is_ignored():
    """Overlaps of 1/2, 4/10 and 39/100 with a box that has its own best anchor."""
    rows = [[0.0, 0.0, 10.0, 10.0 * share] for share in (0.5, 0.4, 0.39)]
    best = [0.0, 0.0, 10.0, 9.0]
    found = assign_max_iou(flat([*rows, best]), torch.tensor([[0.0, 0.0, 10.0, 10.0]]))
    assert lists(found) == ([0, -1, -1, 0], [False, True, False, False])


def test_no_boxes():
    priors, _ = scene(0, 1)
    found = assign_max_iou(priors, torch.zeros(0, 4, dtype=torch.float64))
    assert found.gt.tolist() == [-1] * len(priors.points)
    assert found.ignored is None


def test_anchors_may_be_any_boxes():
    """As the first boxes of RepPoints are."""
    priors, boxes = scene(1, 5)
    moved = replace(priors, anchors=boxes[torch.arange(len(priors.points)) % 5])
    found = assign_max_iou(moved, boxes)
    assert found.gt.tolist() == [n % 5 for n in range(len(priors.points))]
