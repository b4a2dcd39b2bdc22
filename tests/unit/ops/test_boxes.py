"""Box arithmetic against literal formulas, one box at a time."""

import math

import pytest
import torch

from varifocal.ops.boxes import (
    bbox2distance,
    box_area,
    clip_boxes,
    decode_deltas,
    distance2bbox,
    elementwise_giou,
    elementwise_iou,
    encode_deltas,
)


def random_boxes(count: int, seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=rng, dtype=torch.float64) * 20
    return torch.cat([corner, corner + torch.rand(count, 2, generator=rng, dtype=torch.float64) * 20 + 0.1], dim=1)


def literal_iou_and_giou(a: list[float], b: list[float]) -> tuple[float, float]:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    iou = width * height / union
    return iou, iou - (hull - union) / hull


def test_iou_and_giou_of_pairs_and_matrix():
    a, b = random_boxes(30, 0), random_boxes(30, 1)
    truth = torch.tensor([[literal_iou_and_giou(x, y) for y in b.tolist()] for x in a.tolist()], dtype=torch.float64)
    assert (truth[..., 0] > 0).any()
    assert (truth[..., 0] == 0).any()
    for measure, wanted in ((elementwise_iou, truth[..., 0]), (elementwise_giou, truth[..., 1])):
        torch.testing.assert_close(measure(a[:, None], b), wanted)
        torch.testing.assert_close(measure(a, b), wanted.diagonal())


@pytest.mark.parametrize("measure", [elementwise_iou, elementwise_giou])
def test_overlap_without_boxes(measure):
    assert measure(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)
    assert measure(torch.zeros(5, 1, 4), torch.zeros(0, 4)).shape == (5, 0)


@pytest.mark.parametrize("measure", [elementwise_iou, elementwise_giou])
def test_overlap_of_points_is_finite_with_gradient(measure):
    box = torch.tensor([[3.0, 3.0, 3.0, 3.0]], requires_grad=True)
    value = measure(box, torch.tensor([[3.0, 3.0, 3.0, 3.0]]))
    value.sum().backward()
    assert value.isfinite().all()
    assert box.grad is not None
    assert box.grad.isfinite().all()


def test_area_is_signed():
    boxes = torch.tensor([[1.0, 2.0, 4.0, 7.0], [4.0, 2.0, 1.0, 7.0], [2.0, 2.0, 2.0, 9.0]])
    assert box_area(boxes).tolist() == [15.0, -15.0, 0.0]


def test_distances_and_boxes():
    points = torch.tensor([[10.0, 20.0]])
    box = torch.tensor([[7.0, 15.0, 12.0, 21.0]])
    assert bbox2distance(points, box).tolist() == [[3.0, 5.0, 2.0, 1.0]]
    assert distance2bbox(points, torch.tensor([[3.0, 5.0, 2.0, 1.0]])).tolist() == box.tolist()
    outside = torch.tensor([[11.0, 15.0, 12.0, 21.0]])
    assert bbox2distance(points, outside)[0, 0] == -1


def test_clip():
    boxes = torch.tensor([[-5.0, -1.0, 50.0, 8.0], [60.0, 3.0, 70.0, 99.0]])
    assert clip_boxes(boxes, 30, 40).tolist() == [[0.0, 0.0, 40.0, 8.0], [40.0, 3.0, 40.0, 30.0]]


def test_deltas_of_one_box():
    """An anchor of 10 by 20 around (5, 10), a box of 20 by 10 around (8, 6)."""
    anchor, box = torch.tensor([[0.0, 0.0, 10.0, 20.0]]), torch.tensor([[-2.0, 1.0, 18.0, 11.0]])
    wanted = [0.3, -0.2, math.log(2), -math.log(2)]
    assert encode_deltas(anchor, box)[0].tolist() == pytest.approx(wanted)
    scaled = [value / std for value, std in zip(wanted, (0.1, 0.2, 0.4, 0.5), strict=True)]
    assert encode_deltas(anchor, box, (0.1, 0.2, 0.4, 0.5))[0].tolist() == pytest.approx(scaled)


@pytest.mark.parametrize("std", [(1, 1, 1, 1), (0.1, 0.1, 0.2, 0.2)])
def test_decoding_undoes_encoding(std):
    anchors, boxes = random_boxes(30, 0), random_boxes(30, 1)
    torch.testing.assert_close(decode_deltas(anchors, encode_deltas(anchors, boxes, std), std), boxes)
    assert decode_deltas(anchors[:0], boxes[:0]).shape == (0, 4)
    assert decode_deltas(anchors, boxes.expand(2, 30, 4)).shape == (2, 30, 4)


def test_a_decoded_side_is_bounded():
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    box = decode_deltas(anchor, torch.tensor([[0.0, 0.0, 90.0, -90.0]]))[0]
    assert box.tolist() == pytest.approx([8 - 500, 8 - 0.128, 8 + 500, 8 + 0.128], rel=1e-5)
