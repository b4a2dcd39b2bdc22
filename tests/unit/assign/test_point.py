"""The assignment of RepPoints' first points against the rule written out, box by box."""

import math

import pytest
import torch

from varifocal.assign.point import assign_nearest_point
from varifocal.ops.boxes import crop_priors, grid_priors
from varifocal.structures import Priors

SHAPES, STRIDES = [(24, 28), (12, 14), (6, 7)], [8, 16, 32]


def literal(priors: Priors, boxes: list[list[float]], scale: float) -> list[int]:
    owners, nearest = [-1] * len(priors.points), [math.inf] * len(priors.points)
    points, strides = priors.points.tolist(), priors.strides.tolist()
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        stride = 8.0
        while stride * 2 <= math.sqrt((x2 - x1) * (y2 - y1)) / scale and stride < 32:
            stride *= 2
        choice = []
        for n, (x, y) in enumerate(points):
            if strides[n] == stride:
                right, down = (x - (x1 + x2) / 2) / (x2 - x1), (y - (y1 + y2) / 2) / (y2 - y1)
                choice.append((math.hypot(right, down), n))
        distance, n = min(choice)
        if distance < nearest[n]:
            owners[n], nearest[n] = i, distance
    return owners


def scene(seed: int, count: int) -> tuple[Priors, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    center = torch.rand(count, 2, generator=rng, dtype=torch.float64) * torch.tensor([224.0, 192.0])
    half = 4 * 30 ** torch.rand(count, 2, generator=rng, dtype=torch.float64)
    priors = grid_priors(SHAPES, STRIDES, like=center)
    return priors, torch.cat([center - half, center + half], dim=1)


@pytest.mark.parametrize("scale", [4.0, 2.0])
@pytest.mark.parametrize("count", [1, 10, 60])
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_the_literal_rule(seed, count, scale):
    priors, boxes = scene(seed, count)
    priors, _ = crop_priors(priors, 150, 200)
    found = assign_nearest_point(priors, boxes, scale=scale).gt
    wanted = literal(priors, boxes.tolist(), scale)
    assert found.tolist() == wanted
    # with so many boxes some share a point
    assert (len(set(wanted) - {-1}) < count) == (count == 60)


@pytest.mark.parametrize(("side", "stride"), [(1, 8), (63.9, 8), (64, 16), (127.9, 16), (128, 32), (4000, 32)])
def test_the_level_of_a_square(side, stride):
    priors = grid_priors(SHAPES, STRIDES)
    box = torch.tensor([[100.0 - side / 2, 90.0 - side / 2, 100.0 + side / 2, 90.0 + side / 2]])
    gt = assign_nearest_point(priors, box).gt
    assert priors.strides[gt == 0].tolist() == [stride]


def test_the_nearer_box_keeps_the_point_and_of_equal_ones_the_first():
    priors = grid_priors([(2, 2)], [8])
    near, far = [4.0, 4.0, 14.0, 14.0], [4.0, 4.0, 15.0, 15.0]
    for boxes, owner in (([near, far], 0), ([far, near], 1), ([near, near], 0)):
        assert assign_nearest_point(priors, torch.tensor(boxes)).gt.tolist() == [-1, -1, -1, owner]


def test_no_boxes():
    priors, boxes = scene(0, 4)
    found = assign_nearest_point(priors, boxes[:0]).gt
    assert found.tolist() == [-1] * len(priors.points)
