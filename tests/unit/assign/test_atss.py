"""ATSS against the algorithm written out, one box and one point at a time."""

import math
import statistics

import pytest
import torch

from varifocal.assign.atss import assign_atss
from varifocal.priors import grid_points
from varifocal.types import Priors

SHAPES, STRIDES = [(12, 14), (6, 7), (3, 4)], [8, 16, 32]


def iou(a: list[float], b: list[float]) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def literal(priors: Priors, boxes: list[list[float]], valid: list[bool], topk: int, scale: float) -> list[int]:
    points, strides = priors.points.tolist(), priors.strides.tolist()
    half = [scale / 2 * stride for stride in strides]
    anchors = [[x - h, y - h, x + h, y + h] for (x, y), h in zip(points, half, strict=True)]
    best = [(0.0, -1)] * len(points)
    for i, box in enumerate(boxes):
        centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        near, start = [], 0
        for count in priors.counts:
            level = [n for n in range(start, start + count) if valid[n]]
            near += sorted(level, key=lambda n: math.dist(points[n], centre))[:topk]
            start += count
        if len(near) < 2:
            continue
        overlaps = [iou(anchors[n], box) for n in near]
        threshold = statistics.mean(overlaps) + statistics.stdev(overlaps)
        for n, overlap in zip(near, overlaps, strict=True):
            x, y = points[n]
            inside = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if overlap >= threshold and inside and overlap > best[n][0]:
                best[n] = (overlap, i)
    return [owner for _, owner in best]


def scene(seed: int, count: int) -> tuple[Priors, torch.Tensor]:
    """Boxes of many sizes, some of which leave the picture of 96 x 112."""
    rng = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, generator=rng, dtype=torch.float64) * torch.tensor([112.0, 96.0])
    half = 2 * 25 ** torch.rand(count, 2, generator=rng, dtype=torch.float64)
    return grid_points(SHAPES, STRIDES, like=centre), torch.cat([centre - half, centre + half], dim=1)


@pytest.mark.parametrize(("topk", "scale"), [(9, 8.0), (3, 4.0), (500, 8.0)])
@pytest.mark.parametrize("count", [1, 5, 30])
@pytest.mark.parametrize("seed", range(4))
def test_equal_to_the_literal_algorithm(seed, count, topk, scale):
    priors, boxes = scene(seed, count)
    valid = torch.ones(len(priors.points), dtype=torch.bool)
    found = assign_atss(priors, boxes, valid, topk=topk, scale=scale).gt
    assert found.tolist() == literal(priors, boxes.tolist(), valid.tolist(), topk, scale)


def test_the_random_scenes_have_positives_and_disputes():
    priors, boxes = scene(0, 30)
    gt = assign_atss(priors, boxes, torch.ones(len(priors.points), dtype=torch.bool)).gt
    assert len(gt.unique()) > 10


@pytest.mark.parametrize("seed", range(4))
def test_points_of_the_padding_are_no_neighbours(seed):
    priors, boxes = scene(seed, 10)
    valid = (priors.points < torch.tensor([70.0, 60.0])).all(dim=1)
    found = assign_atss(priors, boxes, valid).gt
    assert found.tolist() == literal(priors, boxes.tolist(), valid.tolist(), 9, 8.0)
    assert (found[~valid] == -1).all()
    assert (found[valid] >= 0).any()


@pytest.mark.parametrize("points", [0, 1])
def test_too_few_valid_points(points):
    priors, boxes = scene(0, 3)
    valid = torch.arange(len(priors.points)) < points
    assert (assign_atss(priors, boxes, valid).gt == -1).all()


def test_a_level_without_valid_points_is_left_out():
    priors, boxes = scene(1, 10)
    valid = torch.arange(len(priors.points)) < sum(priors.counts[:2])
    found = assign_atss(priors, boxes, valid).gt
    assert found.tolist() == literal(priors, boxes.tolist(), valid.tolist(), 9, 8.0)


def test_no_boxes():
    priors, _ = scene(0, 1)
    gt = assign_atss(priors, torch.zeros(0, 4), torch.ones(len(priors.points), dtype=torch.bool)).gt
    assert gt.tolist() == [-1] * len(priors.points)
    assert gt.dtype == torch.long


def test_of_equal_boxes_the_first_gets_all():
    priors, boxes = scene(2, 6)
    valid = torch.ones(len(priors.points), dtype=torch.bool)
    once = assign_atss(priors, boxes, valid).gt
    twice = assign_atss(priors, torch.cat([boxes, boxes]), valid).gt
    assert torch.equal(once, twice)


def test_a_box_without_area_gets_nothing():
    priors, _ = scene(0, 1)
    boxes = torch.tensor([[50.0, 40.0, 50.0, 40.0]], dtype=torch.float64)
    assert (assign_atss(priors, boxes, torch.ones(len(priors.points), dtype=torch.bool)).gt == -1).all()
