"""The parts of VFNet against unit values of the authors' implementation and the stated check values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from varifocal.assign import atss
from varifocal.losses import (
    distribution_focal_loss,
    focal_loss,
    giou_loss,
    iou_loss,
    quality_focal_loss,
    varifocal_loss,
)
from varifocal.models.vfnet import VFNetConfig, VFNetHead
from varifocal.ops.boxes import (
    clip_boxes,
    decode_deltas,
    elementwise_giou,
    elementwise_iou,
    encode_deltas,
    grid_priors,
    square_anchors,
)
from varifocal.ops.deform_conv import deform_conv2d
from varifocal.ops.kernels.star_operator import star_offsets
from varifocal.ops.nms import multiclass_nms
from varifocal.structures import Priors
from varifocal.types import PostProcess

UNITS = Path(__file__).parent / "data" / "units"
TIED = "sym"  # boxes centered on or between columns: the library picks one of equally near points


def load(name: str) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in np.load(UNITS / f"{name}.npz").items()}


LOSSES = load("losses")
BOXES = load("boxes")
ATSS = load("atss")
NMS = load("nms")
STAR = load("star")
DCN = load("dcn")


def one_hot() -> Tensor:
    """Of the labels, of which 20 is background."""
    return torch.nn.functional.one_hot(LOSSES["label"], 21)[:, :20].double()


def assert_loss(name: str, loss: Tensor, source: Tensor, units: dict[str, Tensor] = LOSSES) -> None:
    """The loss and the gradient of its sum."""
    (gradient,) = torch.autograd.grad(loss.sum(), source)
    torch.testing.assert_close(loss.detach(), units[f"{name}.loss"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, units[f"{name}.grad"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("default", {}),
        ("not_iou_weighted", {"iou_weighted": False}),
        ("a1_g15", {"alpha": 1.0, "gamma": 1.5}),
        ("a0", {"alpha": 0.0}),
    ],
)
def test_varifocal_loss(name, settings):
    logits = LOSSES["pred"].clone().requires_grad_()
    loss = varifocal_loss(logits, LOSSES["vfl_target"], **settings)
    assert_loss(f"vfl.{name}", loss, logits)
    assert loss.sum().item() / 7 == pytest.approx(LOSSES[f"vfl.{name}.avg7"].item(), rel=1e-12)


@pytest.mark.parametrize(("name", "alpha", "gamma"), [("default", 0.25, 2.0), ("fovea", 0.4, 1.5)])
def test_focal_loss(name, alpha, gamma):
    logits = LOSSES["pred"].clone().requires_grad_()
    assert_loss(f"focal.{name}", focal_loss(logits, one_hot(), alpha=alpha, gamma=gamma), logits)


def test_quality_focal_loss():
    logits = LOSSES["pred"].clone().requires_grad_()
    target = one_hot() * LOSSES["quality"][:, None]
    assert_loss("qfl", quality_focal_loss(logits, target).sum(dim=1), logits)


def test_distribution_focal_loss():
    logits = LOSSES["dfl.pred"].clone().requires_grad_()
    assert_loss("dfl", 0.25 * distribution_focal_loss(logits, LOSSES["dfl.target"]), logits)


def test_giou_loss_and_iou():
    """The last rows are identical, disjoint, nested, of no area, both so, touching, inside out, tiny."""
    boxes = LOSSES["box.pred"].clone().requires_grad_()
    assert_loss("giou", giou_loss(boxes, LOSSES["box.target"]), boxes)
    assert_loss("iou", iou_loss(boxes, LOSSES["box.target"]), boxes, BOXES)
    iou = elementwise_iou(LOSSES["box.pred"], LOSSES["box.target"])
    matrix = elementwise_iou(LOSSES["box.pred"][:, None], LOSSES["box.target"])
    torch.testing.assert_close(iou, LOSSES["overlaps.iou_aligned"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(matrix, LOSSES["overlaps.iou_matrix"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "std"), [("std1", (1, 1, 1, 1)), ("std_atss", (0.1, 0.1, 0.2, 0.2))])
def test_box_deltas(name, std):
    """Some of the decoded deltas are beyond the bound of the sides; the clip is to an image of 70 by 90."""
    anchors, boxes, deltas = BOXES["coder.anchors"], BOXES["coder.gt"], BOXES["coder.deltas"]
    decoded = decode_deltas(anchors, deltas, std)
    theirs = [BOXES[f"coder.{name}.{part}"] for part in ("encode", "decode", "decode_clip")]
    for ours, wanted in zip(
        (encode_deltas(anchors, boxes, std), decoded, clip_boxes(decoded, 70, 90)), theirs, strict=True
    ):
        torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=1e-10)


def as_tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("loss", "logit", "target", "value"),
    [
        (varifocal_loss, 0.0, 0.6, 0.415888),
        (varifocal_loss, 0.0, 0.0, 0.129965),
        (varifocal_loss, 2.0, 0.9, 0.294235),
        (varifocal_loss, 2.0, 0.0, 1.237559),
        (varifocal_loss, -4.5951, 0.0, 7.538e-7),
        (quality_focal_loss, 0.0, 0.6, 0.0069315),
        (quality_focal_loss, 2.0, 0.0, 1.650078),
        (focal_loss, 0.0, 1.0, 0.0433217),
        (focal_loss, 2.0, 0.0, 1.237558),
    ],
)
def test_check_values_of_classification_losses(loss, logit, target, value):
    """They are given to four to seven digits."""
    assert loss(as_tensor(logit), as_tensor(target)).item() == pytest.approx(value, rel=1e-4)


def test_check_values_of_distribution_focal_loss():
    even, peaked = torch.zeros(1, 17), torch.zeros(1, 17)
    peaked[0, 3] = 2
    assert distribution_focal_loss(even, torch.tensor([7.3])).item() == pytest.approx(2.833213, abs=1e-6)
    assert distribution_focal_loss(peaked, torch.tensor([3.25])).item() == pytest.approx(1.652268, abs=1e-6)


def test_check_values_of_overlap():
    box = as_tensor(0, 0, 10, 10)
    assert elementwise_iou(box, as_tensor(5, 5, 15, 15)).item() == pytest.approx(0.142857, abs=1e-6)
    assert elementwise_giou(box, as_tensor(5, 5, 15, 15)).item() == pytest.approx(-0.0793651, abs=1e-7)
    assert elementwise_giou(box, as_tensor(20, 0, 30, 10)).item() == pytest.approx(-1 / 3, abs=1e-7)


ATSS_CASES = sorted({key.split(".")[0] for key in ATSS if "." in key})


def nearest_anywhere(priors: Priors, boxes: Tensor, topk: int) -> Tensor:
    """The candidates of points that are no grid."""
    start, nearest = 0, []
    for count in priors.counts:
        gap = torch.cdist(priors.points[start : start + count], (boxes[:, :2] + boxes[:, 2:]) / 2)
        nearest.append(gap.topk(min(topk, count), dim=0, largest=False).indices + start)
        start += count
    return torch.cat(nearest)


@pytest.fixture
def assigned(monkeypatch) -> Callable[[str], tuple[Tensor, Tensor]]:
    """Ours and theirs of a case, -1 for background. Some cases have anchors anywhere, of any shape."""

    def run(case: str) -> tuple[Tensor, Tensor]:
        anchors = ATSS[f"{case}.anchors"]
        points = (anchors[:, :2] + anchors[:, 2:]) / 2
        strides = (anchors[:, 2] - anchors[:, 0]) / 8
        levels = points.split(ATSS[f"{case}.num_level"].tolist())
        columns = [int((level[:, 1] == level[0, 1]).sum()) for level in levels]
        shapes = tuple((len(level) // width, width) for level, width in zip(levels, columns, strict=True))
        priors = Priors(points, strides, shapes)
        if case.startswith(("random", "no_anchor")):
            monkeypatch.setattr(atss, "square_anchors", lambda _priors, _scale: anchors)
            monkeypatch.setattr(atss, "_nearest", nearest_anywhere)
        else:
            assert torch.equal(square_anchors(priors), anchors)
        ours = atss.assign_atss(priors, ATSS[f"{case}.gts"]).gt
        return ours, ATSS[f"{case}.assigned"].long() - 1

    return run


@pytest.mark.parametrize("case", [case for case in ATSS_CASES if case != TIED])
def test_assignment(case, assigned):
    ours, theirs = assigned(case)
    assert torch.equal(ours, theirs)


def test_assignment_with_tied_distances(assigned):
    """Each of its four ties may bring one point in and put another out."""
    ours, theirs = assigned(TIED)
    assert int((ours != theirs).sum()) <= 2 * 4


def test_assignment_of_the_golden_example():
    priors = grid_priors([(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)], (8, 16, 32, 64, 128))
    boxes = torch.tensor([[23.6667, 23.8757, 238.6326, 151.8874], [100.0, 60.0, 140.0, 110.0]])
    gt = atss.assign_atss(priors, boxes).gt
    assert len(priors.points) == 1364
    wide, small = priors.points[gt == 0], priors.points[gt == 1]
    assert {tuple(point) for point in wide.tolist()} == {(x, y) for x in (112, 128, 144) for y in (80, 96)}
    assert set(priors.strides[gt == 0].tolist()) == {16.0}
    assert len(small) == 9
    assert set(priors.strides[gt == 1].tolist()) == {8.0}


@pytest.mark.parametrize("stride", [8, 64])
def test_star_offsets_let_a_tenth_of_the_gradient_through(stride):
    head = VFNetHead(VFNetConfig(channels=32, num_levels=1), (stride,))
    initial = STAR[f"s{stride}.bbox_pred"].clone().requires_grad_()
    offsets = star_offsets(head._cells(initial, stride))
    (gradient,) = torch.autograd.grad((offsets * STAR[f"s{stride}.grad_out"]).sum(), initial)
    torch.testing.assert_close(offsets.detach(), STAR[f"s{stride}.offset"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, STAR[f"s{stride}.grad_in"], rtol=1e-10, atol=1e-12)


def test_star_convolution_is_their_deformable_convolution():
    """Offsets of every kind: none, whole cells, fractions, and far outside.

    Exactly one cell outside the map the value is 0 and has two slopes; mmcv takes the outer one, which is 0,
    torchvision and we the inner one.
    """
    features, offsets, weight = (DCN[key].clone().requires_grad_() for key in ("x", "off", "w"))
    output = deform_conv2d(features, offsets, weight)
    gradients = list(torch.autograd.grad(output, (features, offsets, weight), DCN["gout"]))
    theirs = [DCN[f"v1.{key}"] for key in ("y", "gx", "goff", "gw")]
    tap = torch.arange(9)
    row = DCN["off"][:, 0::2] + (tap // 3 - 1)[:, None, None] + torch.arange(9)[:, None]
    column = DCN["off"][:, 1::2] + (tap % 3 - 1)[:, None, None] + torch.arange(11)
    kink = torch.stack([(row == -1) | (row == 9), (column == -1) | (column == 11)], dim=2).flatten(1, 2)
    kink |= kink.view(2, 9, 2, 9, 11).flip(2).flatten(1, 2)
    assert 0 < int(kink.sum()) < 20
    gradients[1] = torch.where(kink, theirs[2], gradients[1])
    for ours, wanted in zip((output.detach(), *gradients), theirs, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("iou", [0.6, 0.5])
@pytest.mark.parametrize("case", ["0", "1", "3"])
def test_suppression(case, iou):
    """The same boxes and scores in the same order; of exact duplicates (case 3) either may be kept."""
    boxes, scores, labels = NMS[f"{case}.boxes"], NMS[f"{case}.scores"], NMS[f"{case}.labels"].long()
    keep = NMS[f"{case}.nms0{iou * 10:.0f}.keep"].long()
    table = torch.zeros(len(boxes), int(labels.max()) + 1)
    table[torch.arange(len(boxes)), labels] = scores
    post = PostProcess(score_threshold=0.0, nms_pre=10**6, nms_iou=iou, max_detections=10**6)
    found = multiclass_nms(boxes, table, [len(boxes)], post)
    assert torch.equal(found[1], NMS[f"{case}.nms0{iou * 10:.0f}.scores"])
    if case == "3":
        ours = sorted(zip(found[1].tolist(), found[2].tolist(), found[0].tolist(), strict=True))
        theirs = sorted(zip(scores[keep].tolist(), labels[keep].tolist(), boxes[keep].tolist(), strict=True))
        assert ours == theirs
    else:
        assert torch.equal(found[0], boxes[keep])
        assert torch.equal(found[2], labels[keep])


@pytest.mark.parametrize("case", ["0", "3"])
def test_soft_suppression(case):
    """Linear decay from an IoU of 0.65 on down to a score of 1e-3; theirs runs in float32 on shifted boxes."""
    boxes, scores, labels = NMS[f"{case}.boxes"], NMS[f"{case}.scores"], NMS[f"{case}.labels"].long()
    keep = NMS[f"{case}.soft065.keep"].long()
    table = torch.zeros(len(boxes), int(labels.max()) + 1)
    table[torch.arange(len(boxes)), labels] = scores
    post = PostProcess(0.0, 10**6, 0.65, 10**6, nms_type="soft-nms", min_score=1e-3)
    found = multiclass_nms(boxes, table, [len(boxes)], post)
    assert len(found[1]) == len(keep)
    torch.testing.assert_close(found[1], NMS[f"{case}.soft065.scores"], rtol=1e-4, atol=1e-6)
    if case != "3":
        assert torch.equal(found[0], boxes[keep])
        assert torch.equal(found[2], labels[keep])
