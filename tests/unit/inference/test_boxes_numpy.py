"""Suppression in NumPy against that of torch, which is tested against slow loops."""

import numpy as np
import pytest
import torch
import torchvision

from varifocal.inference.boxes_numpy import batched_nms_numpy, box_iou, elementwise_iou, multiclass_nms
from varifocal.ops.boxes import elementwise_iou as torch_iou
from varifocal.ops.nms import multiclass_nms as torch_select
from varifocal.types import PostProcess


def crowd(seed, number, classes, *, far=300.0):
    """Boxes that overlap much, and distinct scores."""
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(-20, far, (number, 2)), rng.uniform(1, 120, (number, 2))
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    scores = rng.permutation(number * classes).reshape(number, classes).astype(np.float32) / (number * classes)
    return boxes, scores, rng.uniform(0.1, 1, number).astype(np.float32)


@pytest.mark.parametrize("select", ["pairs", "points"])
@pytest.mark.parametrize("method", ["nms", "soft-nms"])
@pytest.mark.parametrize("with_quality", [False, True])
@pytest.mark.parametrize(("number", "classes", "most"), [(400, 5, 100), (700, 1, 30), (60, 80, 1000), (1, 1, 5)])
def test_the_same_as_torch(select, method, with_quality, number, classes, most):
    boxes, scores, quality = crowd(number, number, classes)
    boxes[::7, 2] = boxes[::7, 0]  # without area
    counts = (number - number // 3, number // 3)
    config = PostProcess(0.3, 90, 0.5, most, select, method)
    own = quality if with_quality else None
    found = multiclass_nms(boxes, scores, counts, config, own)
    wanted = torch_select(
        torch.from_numpy(boxes),
        torch.from_numpy(scores),
        counts,
        config,
        None if own is None else torch.from_numpy(own),
    )
    assert len(wanted[0]) > 0 or number == 1
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.dtype == theirs.numpy().dtype
        assert np.array_equal(mine, theirs.numpy())


@pytest.mark.parametrize("counts", [(0,), (0, 0)])
def test_nothing_in_nothing_out(counts):
    box, score, label = multiclass_nms(
        np.zeros((0, 4), np.float32), np.zeros((0, 3), np.float32), counts, PostProcess()
    )
    assert (box.shape, score.shape, label.shape) == ((0, 4), (0,), (0,))


@pytest.mark.parametrize("most", [1, 7, 100, 10_000])
def test_suppression_is_that_of_torchvision(most):
    """Of crowded and of far boxes, with as few looks as it takes."""
    for far in (50.0, 5000.0):
        boxes, scores, _ = crowd(1, 900, 1, far=far)
        labels = np.random.default_rng(2).integers(0, 4, 900)
        wanted = torchvision.ops.batched_nms(
            torch.from_numpy(boxes).double(), torch.from_numpy(scores[:, 0]).double(), torch.from_numpy(labels), 0.3
        )[:most]
        assert batched_nms_numpy(boxes, scores[:, 0], labels, 0.3, most).tolist() == wanted.tolist()


def test_of_equal_scores_the_first_stays():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 0, 60, 10]], np.float32)
    assert batched_nms_numpy(boxes, np.array([0.5, 0.5, 0.5], np.float32), np.zeros(3, int), 0.5, 10).tolist() == [0, 2]


def test_overlaps():
    boxes, _, _ = crowd(3, 40, 1)
    other, _, _ = crowd(4, 40, 1)
    one, two = torch.from_numpy(boxes), torch.from_numpy(other)
    assert np.allclose(elementwise_iou(boxes, other), torch_iou(one, two).numpy(), atol=1e-6)
    assert np.allclose(box_iou(boxes, other), torchvision.ops.box_iou(one, two).numpy(), atol=1e-6)
    assert np.isnan(box_iou(np.zeros((1, 4)), np.zeros((1, 4)))).all()
