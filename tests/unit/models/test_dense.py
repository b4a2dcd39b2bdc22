"""Between levels and lists: order, padding, crowd regions, normalizers."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from varifocal.models import dense
from varifocal.models.dense import assign_batch, avg_factors, centerness, dense_classification_loss, num_positives
from varifocal.models.fcos import FCOSConfig
from varifocal.models.layers import at_least_float32, flatten_levels, level_shapes
from varifocal.ops.boxes import grid_priors
from varifocal.structures import Assignment, Priors, Targets

SHAPES, STRIDES = [(8, 8), (4, 4)], [8, 16]


def targets(boxes, labels, crowd, size=(64, 64)) -> Targets:
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.long),
        torch.tensor(crowd, dtype=torch.bool),
        size,
    )


def inside(priors: Priors, boxes: torch.Tensor) -> Assignment:
    """The simplest assigner: a point strictly inside a box gets the first such box."""
    gt = torch.full((len(priors.points),), -1)
    for i in range(len(boxes) - 1, -1, -1):
        hit = ((priors.points > boxes[i, :2]) & (priors.points < boxes[i, 2:])).all(dim=1)
        gt[hit] = i
    return Assignment(gt)


def test_levels_become_one_list_row_by_row():
    maps = [torch.arange(12.0).view(1, 2, 2, 3), torch.arange(100.0, 104).view(1, 2, 1, 2)]
    found = flatten_levels(maps)
    wanted = [[maps[0][0, 0, y, x], maps[0][0, 1, y, x]] for y in range(2) for x in range(3)]
    wanted += [[maps[1][0, 0, 0, x], maps[1][0, 1, 0, x]] for x in range(2)]
    assert found.tolist() == [[[float(a), float(b)] for a, b in wanted]]
    assert level_shapes(maps) == ((2, 3), (1, 2))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_wide(given, wanted):
    assert at_least_float32(torch.zeros(1, dtype=given)).dtype == wanted


def test_boxes_and_labels_stand_at_their_points():
    priors = grid_priors(SHAPES, STRIDES)
    batch = [
        targets([[4.0, 4.0, 20.0, 20.0], [30.0, 30.0, 60.0, 60.0]], [7, 3], [False, False]),
        targets([], [], []),
    ]
    found = assign_batch(inside, priors, batch)
    truth = batch[0].boxes.tolist()
    assert found.positive.shape == (2, 80)
    assert not found.positive[1].any()
    assert found.counted.all()
    for point, positive, label, box in zip(
        priors.points.tolist(), found.positive[0], found.labels[0], found.boxes[0], strict=True
    ):
        x, y = point
        owner = next((i for i, (x1, y1, x2, y2) in enumerate(truth) if x1 < x < x2 and y1 < y < y2), None)
        assert bool(positive) == (owner is not None)
        assert int(label) == (-1 if owner is None else [7, 3][owner])
        assert box.tolist() == ([0.0] * 4 if owner is None else truth[owner])


@pytest.mark.parametrize(("divisor", "rows", "columns"), [(1, 4, 5), (32, 4, 8)])
def test_padding_is_not_counted(divisor, rows, columns):
    """An image of 30 x 40 pixels has 4 x 5 cells of 8; rounded up to 32 it has 4 x 8."""
    priors = grid_priors(SHAPES, STRIDES)
    batch = [targets([[0.0, 0.0, 64.0, 64.0]], [0], [False], (30, 40))]
    found = assign_batch(inside, priors, batch, divisor=divisor)
    counted = found.counted[0, :64].view(8, 8)
    assert counted[:rows, :columns].all()
    assert int(counted.sum()) == rows * columns
    assert not (found.positive & ~found.counted).any()


def test_crowd_regions_are_neither_object_nor_background():
    priors = grid_priors(SHAPES, STRIDES)
    crowd, box = [16.0, 16.0, 48.0, 48.0], [30.0, 30.0, 60.0, 60.0]
    found = assign_batch(inside, priors, [targets([crowd, box], [5, 2], [True, False])])
    for point, positive, label, counted in zip(
        priors.points.tolist(), found.positive[0], found.labels[0], found.counted[0], strict=True
    ):
        in_box = all(30 < side < 60 for side in point)
        in_crowd = all(16 <= side <= 48 for side in point)
        assert bool(positive) == in_box
        assert int(label) == (2 if in_box else -1)
        assert bool(counted) == (in_box or not in_crowd)
    assert (found.positive & found.counted).any()
    assert not found.counted.all()


def test_crowd_regions_can_be_background():
    priors = grid_priors(SHAPES, STRIDES)
    batch = [targets([[16.0, 16.0, 48.0, 48.0], [30.0, 30.0, 60.0, 60.0]], [5, 2], [True, False])]
    masked, found = (assign_batch(inside, priors, batch, mask_crowd=mask) for mask in (True, False))
    assert found.counted.all()
    assert torch.equal(found.positive, masked.positive)
    assert torch.equal(found.labels, masked.labels)


def test_only_crowd():
    priors = grid_priors(SHAPES, STRIDES)
    found = assign_batch(inside, priors, [targets([[0.0, 0.0, 64.0, 64.0]], [5], [True])])
    assert not found.positive.any()
    assert not found.counted.any()


def test_normalizers_of_one_process():
    sums = [torch.tensor(7), torch.tensor(0.3), torch.tensor(2.5, requires_grad=True)]
    for clamp_total in (True, False):
        found = avg_factors(sums, torch.float32, clamp_total=clamp_total)
        assert found.tolist() == [7.0, 1.0, 2.5]
        assert not found.requires_grad


@pytest.mark.parametrize(("clamp_total", "wanted"), [(True, [3.0, 0.75, 0.5]), (False, [3.0, 1.0, 1.0])])
def test_normalizers_of_two_processes(monkeypatch, clamp_total, wanted):
    """Both hold the same; the sums are then 6, 1.5 and 0."""
    monkeypatch.setattr(dense.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dense.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dense.dist, "all_reduce", lambda values: values.mul_(2))
    sums = [torch.tensor(3.0), torch.tensor(0.75), torch.tensor(0.0)]
    assert avg_factors(sums, torch.float32, clamp_total=clamp_total).tolist() == wanted


@pytest.mark.parametrize(("clamp_total", "wanted"), [(True, [5e-7, 0.5]), (False, [1e-6, 1.0])])
def test_normalizers_have_their_own_floors(monkeypatch, clamp_total, wanted):
    monkeypatch.setattr(dense.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dense.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dense.dist, "all_reduce", lambda values: values.mul_(2))
    sums = [torch.tensor(0.0), torch.tensor(0.4)]
    found = avg_factors(sums, torch.float64, clamp_total=clamp_total, floors=[1e-6, 1.0])
    assert found.tolist() == pytest.approx(wanted)


def test_centerness_by_hand():
    """In a box of 10 by 20: the middle, a quarter along one side, a corner, and a point on the rim."""
    points = torch.tensor([[5.0, 10.0], [2.5, 10.0], [2.0, 4.0], [0.0, 10.0]])
    boxes = torch.tensor([[0.0, 0.0, 10.0, 20.0]]).expand(4, -1)
    wanted = [1.0, (2.5 / 7.5) ** 0.5, ((2 / 8) * (4 / 16)) ** 0.5, 0.0]
    assert centerness(points, boxes).tolist() == pytest.approx(wanted)
    assert centerness(points[:0], boxes[:0]).shape == (0,)


@pytest.mark.parametrize(("everywhere", "points"), [(False, 20), (True, 64)])
def test_classification_counts_the_padding_only_when_told_to(everywhere, points):
    """Four rows of five points in the image, 64 in the batch; every wrong entry costs .75 * .5^2 * ln 2."""
    dense_targets = assign_batch(inside, grid_priors([(8, 8)], [8]), [targets([], [], [], (30, 40))])
    found = dense_classification_loss(
        FCOSConfig(), torch.zeros(1, 64, 3), dense_targets, torch.zeros(0), everywhere=everywhere
    )
    assert found.item() == pytest.approx(points * 3 * 0.75 * 0.25 * math.log(2))


def test_each_image_may_have_its_own_priors():
    """The second image's points lie 16 pixels further right."""
    first = grid_priors(SHAPES, STRIDES)
    second = replace(first, points=first.points + torch.tensor([16.0, 0.0]))
    batch = [targets([[4.0, 4.0, 20.0, 20.0]], [1], [False])] * 2
    found = assign_batch(inside, [first, second], batch)
    for row, priors in zip(found.positive, (first, second), strict=True):
        wanted = [4 < x < 20 and 4 < y < 20 for x, y in priors.points.tolist()]
        assert row.tolist() == wanted
    assert found.positive[0].sum() > found.positive[1].sum() > 0


def test_what_the_assignment_ignores_is_not_counted():
    """Here every third diagonal; the image has less columns than the batch."""
    priors = grid_priors(SHAPES, STRIDES)

    def assign(priors: Priors, boxes: torch.Tensor) -> Assignment:
        return Assignment(torch.full((len(priors.points),), -1), priors.points.sum(dim=1) % 24 == 0)

    found = assign_batch(assign, priors, [targets([[0.0, 0.0, 20.0, 20.0]], [5], [True], (64, 50))])
    for n, ((x, y), stride) in enumerate(zip(priors.points.tolist(), priors.strides.tolist(), strict=True)):
        masked = max(x, y) <= 20 or (x + y) % 24 == 0 or x // stride >= 50 / stride
        assert bool(found.counted[0, n]) == (not masked)


def test_positive_counts(monkeypatch):
    """Five points in two images, then none; of two processes that hold the same each has half of one object."""
    some = torch.zeros(2, 9, dtype=torch.bool)
    some[0, :5] = True
    none = torch.zeros(2, 9, dtype=torch.bool)
    assert num_positives([some, none], torch.float64).tolist() == [5.0, 1.0]
    assert num_positives([some, none], torch.float64, each_image=True).tolist() == [6.0, 2.0]
    monkeypatch.setattr(dense.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dense.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dense.dist, "all_reduce", lambda values: values.mul_(2))
    assert num_positives([some, none], torch.float64).tolist() == [5.0, 0.5]
    assert num_positives([some, none], torch.float64, each_image=True).tolist() == [6.0, 2.0]


def test_assigner_settings_travel_by_partial():
    """The contract of an assigner is two positional arguments."""

    def none(priors: Priors, boxes: torch.Tensor, *, value: int) -> Assignment:
        return Assignment(torch.full((len(priors.points),), value))

    found = assign_batch(partial(none, value=-1), grid_priors(SHAPES, STRIDES), [targets([], [], [])])
    assert not found.positive.any()
