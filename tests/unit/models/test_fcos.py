"""The switches of FCOS that the authors' stored numbers do not show."""

import math

import pytest
import torch

from varifocal.models.backbone import BackboneConfig
from varifocal.models.fcos import FCOS, FCOSConfig
from varifocal.structures import Outputs, Targets

TINY = {"num_classes": 2, "backbone": BackboneConfig("test_resnet"), "channels": 16, "num_levels": 2, "num_convs": 1}


def make(**switches) -> FCOS:
    torch.manual_seed(0)
    return FCOS(FCOSConfig(**{**TINY, **switches})).eval()


@pytest.mark.parametrize("norm_on_bbox", [False, True])
def test_distances_are_an_exponential_or_strides_after_a_relu(norm_on_bbox):
    model = make(norm_on_bbox=norm_on_bbox)
    seen = {}
    model.head.register_forward_hook(lambda _m, _i, maps: seen.update(maps))
    with torch.no_grad():
        model.head.scales[1].fill_(300.0)
        distances = model(torch.randn(1, 3, 32, 64)).tensors["distances"][0]
    assert seen["reg"][1].abs().max() > 0.1
    rows = []
    for stride, level in zip((8, 16), seen["reg"], strict=True):
        for y in range(level.shape[2]):
            for x in range(level.shape[3]):
                said = level[0, :, y, x].tolist()
                rows.append([max(v, 0.0) * stride if norm_on_bbox else math.exp(v) for v in said])
    assert distances.flatten().tolist() == pytest.approx([value for row in rows for value in row], rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(("on_reg", "tower"), [(False, "cls_tower"), (True, "reg_tower")])
def test_the_tower_that_centerness_reads(on_reg, tower):
    model = make(centerness_on_reg=on_reg)
    model(torch.randn(1, 3, 32, 64)).tensors["centerness"].sum().backward()
    for name in ("cls_tower", "reg_tower"):
        gradient = getattr(model.head, name)[0][0].weight.grad
        assert (gradient is not None) == (name == tower)


@pytest.mark.parametrize("conv_bias", [False, True])
def test_the_towers_have_biases_only_when_told_to(conv_bias):
    names = {name for name, _ in make(conv_bias=conv_bias).head.named_parameters()}
    assert ("cls_tower.0.0.bias" in names) == ("reg_tower.0.0.bias" in names) == conv_bias


def literal_loss(outputs: Outputs, box: list[float], *, center: bool, giou: bool) -> dict[str, float]:
    """One box of class 1 on one image, point by point; it fits the first level."""
    total, weights, central, count = 0.0, 0.0, 0.0, 0
    (rows, columns), *_ = outputs.shapes
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    for i in range(rows * columns):
        x, y = (i % columns) * 8 + 4.0, (i // columns) * 8 + 4.0
        left, t, r, b = x - box[0], y - box[1], box[2] - x, box[3] - y
        near = abs(x - middle[0]) < 12 and abs(y - middle[1]) < 12
        if min(left, t, r, b) <= 0 or (center and not near):
            continue
        pl, pt, pr, pb = outputs.tensors["distances"][0, i].tolist()
        shared = (min(left, pl) + min(r, pr)) * (min(t, pt) + min(b, pb))
        union = (left + r) * (t + b) + (pl + pr) * (pt + pb) - shared
        hull = (max(left, pl) + max(r, pr)) * (max(t, pt) + max(b, pb))
        iou = shared / union
        weight = math.sqrt(min(left, r) / max(left, r) * min(t, b) / max(t, b))
        total += weight * (1 - iou + (hull - union) / hull if giou else -math.log(iou))
        said = 1 / (1 + math.exp(-outputs.tensors["centerness"][0, i, 0].item()))
        central -= weight * math.log(said) + (1 - weight) * math.log(1 - said)
        weights, count = weights + weight, count + 1
    return {"box": total / weights, "centerness": central / count}


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("box_loss", ["iou", "giou"])
def test_box_losses_point_by_point(center, box_loss):
    model = make(center_sampling=center, box_loss=box_loss)
    rng = torch.Generator().manual_seed(0)
    shapes, points = ((8, 8), (4, 4)), 80
    numbers = torch.randn(1, points, 7, generator=rng, dtype=torch.float64)
    outputs = Outputs(
        {"logits": numbers[..., :2], "distances": (numbers[..., 2:6] / 2 + 3).exp(), "centerness": numbers[..., 6:]},
        shapes,
    )
    box = [9.5, 5.2, 55.1, 47.3]
    truth = Targets(torch.tensor([box]).double(), torch.tensor([1]), torch.tensor([False]), (64, 64))
    found = model.loss(outputs, [truth])
    wanted = literal_loss(outputs, truth.boxes[0].tolist(), center=center, giou=box_loss == "giou")
    assert {key: found[key].item() for key in wanted} == pytest.approx(wanted, rel=1e-9)


def test_points_of_atss_in_the_middle_of_their_cells():
    """One box on two levels, nine candidates each: positive above mean plus deviation of their anchors' IoU."""
    model = make(assigner="atss", center_sampling=True)
    box = [9.5, 5.2, 55.1, 47.3]
    labeling = model.labeling(model.config)
    priors = labeling.grid(((8, 8), (4, 4)), like=torch.zeros(1))
    found = labeling.assign(priors, torch.tensor([box])).gt
    rows = []
    for stride, count, first in ((8, 8, 0), (16, 4, 64)):
        level = []
        for i in range(count * count):
            x, y = (i % count + 0.5) * stride, (i // count + 0.5) * stride
            half = 4 * stride
            w = max(0.0, min(x + half, box[2]) - max(x - half, box[0]))
            h = max(0.0, min(y + half, box[3]) - max(y - half, box[1]))
            area = (box[2] - box[0]) * (box[3] - box[1])
            inside = box[0] < x < box[2] and box[1] < y < box[3]
            away = math.dist((x, y), ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
            level.append((away, first + i, w * h / (4 * half * half + area - w * h), inside))
        rows += sorted(level)[:9]
    overlaps = torch.tensor([iou for _, _, iou, _ in rows], dtype=torch.float64)
    limit = (overlaps.mean() + overlaps.std()).item()
    wanted = {i for _, i, iou, inside in rows if iou >= limit and inside}
    assert set(found.ge(0).nonzero().flatten().tolist()) == wanted
    assert len(wanted) >= 3
