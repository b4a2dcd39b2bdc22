"""Boxes in blocks: every box once, no block too large, and the assigners do not notice."""

import pytest
import torch

from varifocal.assign import chunks as blocks
from varifocal.assign.chunks import chunk_boxes
from varifocal.assign.fcos import assign_fcos
from varifocal.assign.fovea import assign_fovea
from varifocal.assign.max_iou import assign_max_iou
from varifocal.assign.point import assign_nearest_point
from varifocal.ops.boxes import grid_anchors, grid_priors
from varifocal.structures import Assignment, Priors


@pytest.mark.parametrize(
    ("points", "boxes", "lengths"),
    [(100, 7, [3, 3, 1]), (100, 3, [3]), (300, 2, [1, 1]), (5000, 2, [1, 1]), (100, 0, []), (0, 2, [2])],
)
def test_every_box_is_in_one_block(monkeypatch, points, boxes, lengths):
    monkeypatch.setattr(blocks, "PAIRS", 300)
    found = list(chunk_boxes(points, boxes))
    assert [len(range(boxes)[block]) for block in found] == lengths
    assert [i for block in found for i in range(boxes)[block]] == list(range(boxes))


def scene(seed: int) -> tuple[Priors, torch.Tensor]:
    """Sixteen boxes, each three times, so that all ties there can be are between blocks too."""
    rng = torch.Generator().manual_seed(seed)
    center = torch.rand(16, 2, generator=rng) * torch.tensor([224.0, 192.0])
    half = 4 * 30 ** torch.rand(16, 2, generator=rng)
    points = grid_priors([(24, 28), (12, 14), (6, 7)], [8, 16, 32], offset=0.5)
    return points, torch.cat([center - half, center + half], dim=1).repeat(3, 1)


def with_anchors(priors: Priors, boxes: torch.Tensor) -> Assignment:
    return assign_max_iou(grid_anchors(priors, scales=[4.0], ratios=[0.5, 2.0]), boxes)


@pytest.mark.parametrize("size", [1, 5, 16])
@pytest.mark.parametrize("assign", [assign_fcos, assign_fovea, assign_nearest_point, with_anchors])
@pytest.mark.parametrize("seed", range(2))
def test_blocks_change_nothing(monkeypatch, assign, size, seed):
    priors, boxes = scene(seed)
    anchors = 2 if assign is with_anchors else 1
    whole = assign(priors, boxes)
    monkeypatch.setattr(blocks, "PAIRS", size * anchors * len(priors.points))
    parts = assign(priors, boxes)
    assert torch.equal(parts.gt, whole.gt)
    assert len(whole.gt.unique()) > 5
    if whole.ignored is not None:
        assert torch.equal(parts.ignored, whole.ignored)
