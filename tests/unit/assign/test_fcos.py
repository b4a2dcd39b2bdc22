"""The assignment of FCOS against the rule written out, point by point."""

import pytest
import torch

from varifocal.assign.fcos import assign_fcos
from varifocal.ops.boxes import grid_priors
from varifocal.structures import Priors

SHAPES, STRIDES = [(24, 28), (12, 14), (6, 7)], [8, 16, 32]
RANGES = [(-1.0, 64.0), (64.0, 128.0), (128.0, 1e8)]


def literal(priors: Priors, boxes: list[list[float]], radius: float | None) -> list[int]:
    levels = [level for level, count in enumerate(priors.counts) for _ in range(count)]
    owners = []
    for (x, y), level in zip(priors.points.tolist(), levels, strict=True):
        fitting = []
        for i, (x1, y1, x2, y2) in enumerate(boxes):
            sides = (x - x1, y - y1, x2 - x, y2 - y)
            low, high = RANGES[level]
            reach = STRIDES[level] * radius if radius is not None else float("inf")
            off_center = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
            if min(sides) > 0 and low <= max(sides) <= high and off_center < reach:
                fitting.append(((x2 - x1) * (y2 - y1), i))
        owners.append(min(fitting)[1] if fitting else -1)
    return owners


def scene(seed: int, count: int) -> tuple[Priors, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    center = torch.rand(count, 2, generator=rng, dtype=torch.float64) * torch.tensor([224.0, 192.0])
    half = 4 * 30 ** torch.rand(count, 2, generator=rng, dtype=torch.float64)
    priors = grid_priors(SHAPES, STRIDES, offset=0.5, like=center)
    return priors, torch.cat([center - half, center + half], dim=1)


@pytest.mark.parametrize("radius", [None, 1.5, 0.7])
@pytest.mark.parametrize("count", [1, 5, 30])
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_the_literal_rule(seed, count, radius):
    priors, boxes = scene(seed, count)
    found = assign_fcos(priors, boxes, radius=radius).gt
    assert found.tolist() == literal(priors, boxes.tolist(), radius)
    assert count == 1 or len(found.unique()) > 2


def test_a_level_takes_boxes_of_its_size():
    """Two boxes whose longest distance from their center is 60 and 70 pixels."""
    priors = grid_priors(SHAPES, STRIDES, offset=0.5)
    small = assign_fcos(priors, torch.tensor([[52.0, 52.0, 172.0, 172.0]]), radius=1.0).gt
    large = assign_fcos(priors, torch.tensor([[42.0, 22.0, 182.0, 162.0]]), radius=1.0).gt
    assert 8.0 in priors.strides[small >= 0]
    assert 8.0 not in priors.strides[large >= 0]
    assert 16.0 in priors.strides[large >= 0]


def test_the_smallest_box_wins_and_of_equal_ones_the_first():
    priors = grid_priors(SHAPES, STRIDES, offset=0.5)
    boxes = torch.tensor([[0.0, 0.0, 100.0, 100.0], [20.0, 20.0, 60.0, 60.0], [20.0, 20.0, 60.0, 60.0]])
    gt = assign_fcos(priors, boxes).gt
    point = (priors.points == torch.tensor([44.0, 44.0])).all(dim=1) & (priors.strides == 8)
    assert gt[point].tolist() == [1]
    assert 2 not in gt


@pytest.mark.parametrize("radius", [None, 1.5])
def test_no_boxes(radius):
    priors, _ = scene(0, 1)
    gt = assign_fcos(priors, torch.zeros(0, 4, dtype=torch.float64), radius=radius).gt
    assert gt.tolist() == [-1] * len(priors.points)
