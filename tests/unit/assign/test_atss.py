"""ATSS against the algorithm written out, one box and one point at a time."""

import statistics

import pytest
import torch

from varifocal.assign import atss
from varifocal.assign.atss import assign_atss
from varifocal.ops.boxes import crop_priors, grid_anchors, grid_priors
from varifocal.structures import Priors

SHAPES, STRIDES = [(12, 14), (6, 7), (3, 4)], [8, 16, 32]


def iou(a: list[float], b: list[float]) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def literal_nearest(priors: Priors, box: list[float], topk: int) -> list[int]:
    """All distances from the box's center; of equal ones the first point."""
    across, down = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    square = [(x - across) ** 2 + (y - down) ** 2 for x, y in priors.points.tolist()]
    near, start = [], 0
    for count in priors.counts:
        near += sorted(range(start, start + count), key=lambda n: (square[n], n))[:topk]
        start += count
    return near


def literal(priors: Priors, boxes: list[list[float]], topk: int, scale: float) -> list[int]:
    points, strides = priors.points.tolist(), priors.strides.tolist()
    half = [scale / 2 * stride for stride in strides]
    anchors = [[x - h, y - h, x + h, y + h] for (x, y), h in zip(points, half, strict=True)]
    best = [(0.0, -1)] * len(points)
    for i, box in enumerate(boxes):
        near = literal_nearest(priors, box, topk)
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
    """Boxes of many sizes, some of which leave the image of 96 x 112."""
    rng = torch.Generator().manual_seed(seed)
    center = torch.rand(count, 2, generator=rng, dtype=torch.float64) * torch.tensor([112.0, 96.0])
    half = 2 * 25 ** torch.rand(count, 2, generator=rng, dtype=torch.float64)
    return grid_priors(SHAPES, STRIDES, like=center), torch.cat([center - half, center + half], dim=1)


@pytest.mark.parametrize(("topk", "scale"), [(9, 8.0), (3, 4.0), (500, 8.0)])
@pytest.mark.parametrize("count", [1, 5, 30])
@pytest.mark.parametrize("seed", range(4))
def test_equal_to_the_literal_algorithm(seed, count, topk, scale):
    priors, boxes = scene(seed, count)
    found = assign_atss(priors, boxes, topk=topk, scale=scale).gt
    assert found.tolist() == literal(priors, boxes.tolist(), topk, scale)


def test_the_random_scenes_have_positives_and_disputes():
    priors, boxes = scene(0, 30)
    assert len(assign_atss(priors, boxes).gt.unique()) > 10


@pytest.mark.parametrize("size", [(60, 70), (60, 8), (5, 112), (33, 1)])
@pytest.mark.parametrize("seed", range(2))
def test_only_the_points_of_the_image_are_neighbors(seed, size):
    """Down to a single column or row; many boxes then have their center outside the grids."""
    priors, boxes = scene(seed, 10)
    own, _ = crop_priors(priors, *size)
    found = assign_atss(own, boxes).gt
    assert found.tolist() == literal(own, boxes.tolist(), 9, 8.0)
    assert size != (60, 70) or (found >= 0).any()


CENTERS = [-300.0, -4.0, 0.0, 3.25, 12.0, 20.125, 28.0, 48.0, 55.5, 111.0, 900.0]  # few bits: squares are exact


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("topk", [1, 2, 9, 10, 25])
@pytest.mark.parametrize(
    "shapes", [SHAPES, [(12, 1), (6, 1), (3, 1)], [(1, 9), (1, 5), (1, 1)], [(2, 3), (1, 2), (1, 1)]]
)
def test_candidates_are_those_of_the_whole_table_of_distances(shapes, topk, offset, dtype):
    """Centers on points, between two or four of them, near, and far outside: mostly ties, which go to the first point.

    Levels are large, a column, a row, smaller than the number of candidates, a single cell.
    """
    center = torch.cartesian_prod(torch.tensor(CENTERS, dtype=dtype), torch.tensor(CENTERS, dtype=dtype))
    half = torch.tensor([16.0, 8.0], dtype=dtype)
    boxes = torch.cat([center - half, center + half], dim=1)
    priors = grid_priors(shapes, STRIDES, offset=offset, like=center)
    found = atss._nearest(priors, boxes, topk).T.tolist()
    assert found == [literal_nearest(priors, box, topk) for box in boxes.tolist()]


def test_candidates_in_a_large_image():
    """Six hundred cells a row, in the precision of training."""
    rng = torch.Generator().manual_seed(0)
    priors = grid_priors([(3, 600), (2, 300)], [8, 16])
    center = torch.rand(15, 2, generator=rng) * torch.tensor([4800.0, 24.0])
    boxes = torch.cat([center - 9, center + 9], dim=1)
    found = atss._nearest(priors, boxes, 9).T.tolist()
    assert found == [literal_nearest(priors, box, 9) for box in boxes.tolist()]


def test_too_few_points():
    """None, and a single one, whose deviation is undefined."""
    _, boxes = scene(0, 3)
    for shapes in ([(0, 0)], [(0, 3)], [(1, 1)], [(1, 1), (0, 0)]):
        assert (assign_atss(grid_priors(shapes, STRIDES[: len(shapes)], like=boxes), boxes).gt == -1).all()


@pytest.mark.parametrize("gone", [0, 2])
def test_a_level_without_points_is_left_out(gone):
    _, boxes = scene(1, 10)
    shapes = [(0, 0) if i == gone else shape for i, shape in enumerate(SHAPES)]
    priors = grid_priors(shapes, STRIDES, like=boxes)
    assert assign_atss(priors, boxes).gt.tolist() == literal(priors, boxes.tolist(), 9, 8.0)


def test_no_boxes():
    priors, _ = scene(0, 1)
    gt = assign_atss(priors, torch.zeros(0, 4)).gt
    assert gt.tolist() == [-1] * len(priors.points)
    assert gt.dtype == torch.long


def test_of_equal_boxes_the_first_gets_all():
    priors, boxes = scene(2, 6)
    once = assign_atss(priors, boxes).gt
    twice = assign_atss(priors, torch.cat([boxes, boxes])).gt
    assert torch.equal(once, twice)


@pytest.mark.parametrize("side", [40.0, float("nan"), float("inf")])
def test_a_box_without_area_gets_nothing(side):
    priors, boxes = scene(0, 1)
    bad = torch.tensor([[50.0, 40.0, 50.0, side]], dtype=torch.float64)
    assert (assign_atss(priors, bad).gt == -1).all()
    assert (assign_atss(priors, torch.cat([bad, boxes])).gt == 1).any()


def test_several_anchors_a_cell_are_candidates_each_by_its_own_overlap():
    priors, boxes = scene(5, 12)
    many = grid_anchors(priors, scales=(4.0, 5.0), ratios=(0.5, 1.0, 2.0))
    assert many.anchors is not None
    anchors, points = many.anchors.tolist(), many.points.tolist()
    best = [(0.0, -1)] * len(anchors)
    for i, box in enumerate(boxes.tolist()):
        near = [6 * cell + k for cell in literal_nearest(priors, box, 4) for k in range(6)]
        overlaps = [iou(anchors[n], box) for n in near]
        threshold = statistics.mean(overlaps) + statistics.stdev(overlaps)
        for n, overlap in zip(near, overlaps, strict=True):
            (x, y), (left, top, right, bottom) = points[n], box
            if overlap >= threshold and min(x - left, y - top, right - x, bottom - y) > 0.01 and overlap > best[n][0]:
                best[n] = overlap, i
    expected = [owner for _, owner in best]
    assert assign_atss(many, boxes, topk=4).gt.tolist() == expected
    assert len(set(expected)) > 5
