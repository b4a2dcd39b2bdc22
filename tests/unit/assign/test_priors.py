"""Points, anchors and padding, cell by cell."""

import math

import pytest
import torch

from varifocal.ops.boxes import crop_priors, grid_anchors, grid_priors, square_anchors

SHAPES = [(4, 6), (2, 3), (1, 2)]
STRIDES = [8, 16, 32]


@pytest.mark.parametrize("half", [False, True])
def test_points_run_along_rows_level_by_level(half):
    priors = grid_priors(SHAPES, STRIDES, offset=0.5 if half else 0.0)
    wanted = [
        (x * stride + stride // 2 * half, y * stride + stride // 2 * half, stride)
        for (height, width), stride in zip(SHAPES, STRIDES, strict=True)
        for y in range(height)
        for x in range(width)
    ]
    found = torch.cat([priors.points, priors.strides[:, None]], dim=1)
    assert found.tolist() == [list(map(float, row)) for row in wanted]
    assert priors.shapes == tuple(SHAPES)
    assert priors.counts == (24, 6, 2)


def test_type_is_that_of_the_example():
    priors = grid_priors(SHAPES, STRIDES, like=torch.zeros(1, dtype=torch.float64))
    assert priors.points.dtype == priors.strides.dtype == torch.float64


@pytest.mark.parametrize("scale", [8.0, 4.0])
def test_anchors(scale):
    priors = grid_priors(SHAPES, STRIDES)
    for point, stride, anchor in zip(priors.points, priors.strides, square_anchors(priors, scale), strict=True):
        half = scale * stride / 2
        assert anchor.tolist() == [point[0] - half, point[1] - half, point[0] + half, point[1] + half]


def test_anchors_of_every_shape_lie_together():
    """A ratio is height over width; the area is that of the square of the scale."""
    priors = grid_priors(SHAPES, STRIDES, like=torch.zeros(1, dtype=torch.float64))
    ratios, scales = (0.5, 1.0, 3.0), (4.0, 5.5)
    found = grid_anchors(priors, scales=scales, ratios=ratios)
    rows = []
    for (x, y), stride in zip(priors.points.tolist(), priors.strides.tolist(), strict=True):
        for ratio in ratios:
            for scale in scales:
                width = scale * stride / math.sqrt(ratio)
                height = scale * stride * math.sqrt(ratio)
                rows.append([x, y, stride, x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    table = torch.cat([found.points, found.strides[:, None], found.anchors], dim=1)
    torch.testing.assert_close(table, torch.tensor(rows, dtype=torch.float64), rtol=1e-12, atol=1e-9)
    assert found.counts == (144, 36, 12)


@pytest.mark.parametrize("anchors", [False, True])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("size", [(32, 48), (31, 48), (25, 33), (24, 32), (1, 1), (8, 17), (64, 40)])
def test_cells_of_a_smaller_image(size, half, anchors):
    priors = grid_priors(SHAPES, STRIDES, offset=0.5 if half else 0.0)
    if anchors:
        priors = grid_anchors(priors, scales=[2.0], ratios=[0.5, 1.0, 3.0])
    cells = [
        (y < math.ceil(size[0] / stride) and x < math.ceil(size[1] / stride))
        for (height, width), stride in zip(SHAPES, STRIDES, strict=True)
        for y in range(height)
        for x in range(width)
    ]
    wanted = [inside for inside in cells for _ in range(3 if anchors else 1)]
    own, inside = crop_priors(priors, *size)
    assert inside.tolist() == wanted
    assert own.points.tolist() == [point for point, kept in zip(priors.points.tolist(), wanted, strict=True) if kept]
    assert own.strides.tolist() == [side for side, kept in zip(priors.strides.tolist(), wanted, strict=True) if kept]
    assert own.shapes == tuple(
        (len({y for _, y in level}), len({x for x, _ in level}))
        for stride in STRIDES
        for level in [own.points[own.strides == stride].tolist()]
    )
    assert own.counts == tuple(int((own.strides == stride).sum()) for stride in STRIDES)
    if anchors:
        assert own.anchors.tolist() == priors.anchors[torch.tensor(wanted)].tolist()
    else:
        assert own.anchors is None
