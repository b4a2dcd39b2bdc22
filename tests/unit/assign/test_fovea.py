"""The assignment of FoveaBox against the rule painted cell by cell, large boxes first."""

import math

import pytest
import torch

from varifocal.assign.fovea import assign_fovea
from varifocal.ops.boxes import crop_priors, grid_priors
from varifocal.structures import Priors

SHAPES, STRIDES = [(24, 28), (12, 14), (6, 7)], [8, 16, 32]
RANGES = [(0.0, 64.0), (32.0, 128.0), (64.0, math.inf)]


def literal(boxes: list[list[float]], size: tuple[int, int], sigma: float) -> list[int]:
    painted: list[int] = []
    for (height, width), stride, (low, high) in zip(SHAPES, STRIDES, RANGES, strict=True):
        level = [[-1] * width for _ in range(height)]
        rows, columns = math.ceil(size[0] / stride), math.ceil(size[1] / stride)
        sides = [math.sqrt((x2 - x1) * (y2 - y1)) for x1, y1, x2, y2 in boxes]
        for i in sorted(range(len(boxes)), key=lambda i: -sides[i]):
            if not low <= sides[i] <= high:
                continue
            x1, y1, x2, y2 = (side / stride for side in boxes[i])
            spans = []
            for start, end, count in ((x1, x2, columns), (y1, y2, rows)):
                half = (end - start) / 2
                first = math.ceil(start + (1 - sigma) * half - 0.5)
                last = math.floor(start + (1 + sigma) * half - 0.5)
                spans.append(range(min(max(first, 0), count - 1), min(max(last, 0), count - 1) + 1))
            for row in spans[1]:
                for column in spans[0]:
                    level[row][column] = i
        painted += [owner for row in level[:rows] for owner in row[:columns]]
    return painted


def scene(seed: int, count: int) -> tuple[Priors, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    center = torch.rand(count, 2, generator=rng, dtype=torch.float64) * torch.tensor([224.0, 192.0])
    half = 4 * 30 ** torch.rand(count, 2, generator=rng, dtype=torch.float64)
    priors = grid_priors(SHAPES, STRIDES, offset=0.5, like=center)
    return priors, torch.cat([center - half, center + half], dim=1)


@pytest.mark.parametrize("size", [(192, 224), (150, 201)])
@pytest.mark.parametrize("sigma", [0.4, 0.7])
@pytest.mark.parametrize("count", [1, 6, 40])
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_the_literal_rule(seed, count, sigma, size):
    priors, boxes = scene(seed, count)
    found = assign_fovea(crop_priors(priors, *size)[0], boxes, sigma=sigma).gt
    assert found.tolist() == literal(boxes.tolist(), size, sigma)
    assert count == 1 or len(found.unique()) > 2


def test_a_box_may_have_cells_on_two_levels():
    priors = grid_priors(SHAPES, STRIDES, offset=0.5)
    for side, levels in ((30, [8.0]), (40, [8.0, 16.0]), (100, [16.0, 32.0]), (140, [32.0])):
        box = torch.tensor([[112.0 - side / 2, 96.0 - side / 2, 112.0 + side / 2, 96.0 + side / 2]])
        gt = assign_fovea(priors, box, sigma=1.0).gt
        assert priors.strides[gt >= 0].unique().tolist() == levels


def test_at_the_rim_the_last_cell_counts():
    """A box whose middle lies beyond the last center; without the image's end in between it has no cell."""
    priors = grid_priors([(4, 4)], [8], offset=0.5)
    box = torch.tensor([[29.0, 10.0, 32.0, 14.0]])
    gt = assign_fovea(priors, box).gt
    assert (gt >= 0).nonzero().tolist() == [[4 + 3]]
    wider = grid_priors([(4, 5)], [8], offset=0.5)
    assert (assign_fovea(wider, box).gt == -1).all()


def test_of_equal_boxes_the_last_wins():
    priors, boxes = scene(0, 1)
    found = assign_fovea(priors, boxes.expand(3, -1)).gt
    assert set(found.tolist()) == {-1, 2}


def test_no_boxes():
    priors, boxes = scene(0, 4)
    found = assign_fovea(priors, boxes[:0]).gt
    assert found.tolist() == [-1] * len(priors.points)
