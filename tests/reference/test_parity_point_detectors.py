"""FCOS, ATSS and GFL against the numbers of the authors' implementations: names, maps, losses, gradients, detections.

The networks are filled by the rule of fill.py. The stored maps are samples, so the whole maps are computed in float64
and rounded; they are the stored numbers to the last digit or the one before. Losses and detections start from them.

Two of the authors' numbers cannot be compared. Without a positive point their GFL divides by zero: of that case the
classification loss and its gradient are compared. Their losses of ATSS with the varifocal loss are those of focal loss;
that detector is compared with a sum over the points.
"""

from __future__ import annotations

import copy
import gzip
import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fill import filled, images, random_direction
from stored import backward_from, cut, keep_last
from torch import Tensor, nn

from varifocal.assign.atss import assign_atss
from varifocal.inference.published.convert import convert_state_dict
from varifocal.inference.published.key_maps import map_key
from varifocal.models import DETECTORS
from varifocal.models.backbone import BackboneConfig
from varifocal.models.dense import assign_batch
from varifocal.ops.boxes import grid_priors
from varifocal.ops.nms import multiclass_nms
from varifocal.structures import Outputs, Targets
from varifocal.types import PostProcess

DATA = Path(__file__).parent / "data"
CASES = json.loads((DATA / "cases.json").read_text())
IMAGES = {name: torch.from_numpy(image) for name, image in images().items()}
LEVELS = range(5)
WEIGHTS = {"mixed": 1.0, "overlap": 0.7, "none": 1.3, "padded": 0.4}  # of the cases in a sum of losses

# of each stored network: the detector, its backbone, and the authors' names of its outputs and losses
FROZEN = BackboneConfig(frozen_stages=1)
NETWORKS: dict[str, tuple[str, BackboneConfig]] = {
    "fcos_r50": ("fcos", replace(FROZEN, style="caffe")),
    "atss_r50": ("atss", FROZEN),
    "gfl_r50": ("gfl", FROZEN),
}
MAPS = {
    "fcos": {"cls": "logits", "bbox": "distances", "centerness": "centerness"},
    "atss": {"cls": "logits", "bbox": "deltas", "centerness": "centerness"},
    "gfl": {"cls": "logits", "reg_dist": "sides"},
}
TERMS = {"loss_cls": "cls", "loss_bbox": "box", "loss_centerness": "centerness", "loss_dfl": "distribution"}
# the authors' losses on the outputs of these networks, and our switches
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "fcos_r50": ("fcos_r50", {}),
    "atss_r50": ("atss_r50", {}),
    "atss_raw": ("atss_r50", {"centerness": False}),
    "atss_gfl": ("atss_r50", {"loss": "quality-focal"}),
    "gfl_r50": ("gfl_r50", {}),
}
KEYS = {  # the file of names, and our switches
    **{name: (name, switches) for name, (_, switches) in VARIANTS.items()},
    "atss_gfl": ("atss_r50", {"loss": "quality-focal"}),
    "vfl_atss": ("atss_r50", {"loss": "varifocal"}),
}


def config_of(base: str, switches: dict[str, Any]) -> Any:
    detector, backbone = NETWORKS[base]
    return DETECTORS[detector][1](compat="paper", backbone=backbone, **switches)


def detector_of(name: str) -> str:
    return name.removeprefix("vfl_").split("_")[0]


@cache
def keys(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for key, shape in json.loads((DATA / "keys" / f"{name}.json").read_text()).items()}


@cache
def stored(base: str) -> dict[str, np.ndarray]:
    return dict(np.load(DATA / "forward" / f"{base}.npz"))


@cache
def stored_losses(name: str) -> dict[str, Any]:
    return json.loads(gzip.decompress((DATA / "loss" / f"{name}.json.gz").read_bytes()))


@pytest.fixture(scope="module")
def network() -> Callable[[str], nn.Module]:
    """The filled float32 network, built once; treat it as read-only but for its gradients."""

    @cache
    def build(base: str) -> nn.Module:
        detector = detector_of(base)
        values = {key: torch.from_numpy(filled(key, shape)) for key, shape in keys(base).items()}
        model = DETECTORS[detector][0](config_of(base, {}))
        model.load_state_dict(convert_state_dict(values, detector)[0])
        return model

    return build


@pytest.fixture(scope="module")
def network64(network) -> Callable[[str], nn.Module]:
    return keep_last(lambda base: copy.deepcopy(network(base)).double().train())


@pytest.fixture(scope="module")
def outputs64(network64) -> Callable[[str, str], Outputs]:
    """What a float64 network says about an image, in training; of image b with its graph."""

    @keep_last
    def run(base: str, image: str) -> Outputs:
        with torch.set_grad_enabled(image == "b"):
            return network64(base)(IMAGES[image].double())

    return run


@pytest.fixture(scope="module")
def rounded(outputs64) -> Callable[[str, str], Outputs]:
    """The same in float32: the authors' stored maps."""

    @cache
    def run(base: str, image: str) -> Outputs:
        outputs = outputs64(base, image)
        return Outputs({key: value.detach().float() for key, value in outputs.tensors.items()}, outputs.shapes)

    return run


def split(values: Tensor, shapes: tuple[tuple[int, int], ...]) -> list[Tensor]:
    """One list of all points back to maps [B, C, H, W]."""
    counts = [height * width for height, width in shapes]
    levels = zip(values.split(counts, dim=1), shapes, strict=True)
    return [level.transpose(1, 2).unflatten(2, shape) for level, shape in levels]


def targets_of(case: str) -> list[Targets]:
    rows = []
    for image in ("image0", "image1"):
        truth = CASES[case][image]
        boxes = torch.tensor(truth["boxes"], dtype=torch.float32).reshape(-1, 4).double()
        crowd = torch.zeros(len(boxes), dtype=torch.bool)
        size = tuple(truth.get("img_shape", (192, 224)))
        rows.append(Targets(boxes, torch.tensor(truth["labels"], dtype=torch.long), crowd, size))
    return rows


def losses_of(name: str, model: nn.Module, outputs: Outputs, case: str) -> dict[str, Tensor]:
    """The losses of a variant on outputs that it shares with others."""
    base, switches = VARIANTS[name]
    judge = copy.copy(model)
    judge.config = config_of(base, switches)
    return judge.loss(outputs, targets_of(case))


def divides_by_zero(name: str, case: str) -> bool:
    return name == "gfl_r50" and case == "none"


def assert_losses(name: str, case: str, ours: dict[str, Tensor], theirs: dict[str, Any]) -> None:
    wanted = {TERMS[term]: theirs[term] for term in TERMS if term in theirs}
    if divides_by_zero(name, case):
        assert math.isnan(wanted["box"])
        assert math.isnan(wanted["distribution"])
        wanted = {**wanted, "box": 0.0, "distribution": 0.0}
    assert {key: value.item() for key, value in ours.items()} == pytest.approx(wanted, rel=1e-9, abs=1e-300)


def projection(name: str, gradient: Tensor) -> float:
    """Of a gradient on the fixed direction of that name."""
    return float(gradient.numpy().reshape(-1) @ random_direction(f"grad:{name}", (gradient.numel(),)))


@pytest.mark.parametrize("name", KEYS)
def test_every_weight_of_the_authors_has_its_place(name):
    file, switches = KEYS[name]
    detector = detector_of(name)
    with torch.device("meta"):
        base = "atss_r50" if detector == "atss" else name
        model = DETECTORS[detector][0](config_of(base, switches))
        mapped, left = convert_state_dict({key: torch.empty(shape) for key, shape in keys(file).items()}, detector)
    assert left == []
    assert len(mapped) == len(keys(file))
    assert {key: value.shape for key, value in mapped.items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }


def compare_map(base: str, key: str, ours: Tensor, tolerance: float) -> None:
    """With the stored map or its sample, within a part of its largest magnitude; and its statistics."""
    values = stored(base)
    mean, deviation, largest = values[f"{key}.stats"]
    assert tuple(ours.shape) == tuple(values[f"{key}.shape"])
    flat = ours.numpy().reshape(-1)
    found, wanted = (
        (flat, values[key].reshape(-1)) if key in values else (flat[values[f"{key}.idx"]], values[f"{key}.val"])
    )
    assert np.abs(found - wanted).max() <= tolerance * largest, key
    statistics = [flat.mean(dtype=np.float64), flat.std(dtype=np.float64), np.abs(flat).max()]
    assert statistics == pytest.approx([mean, deviation, largest], abs=max(tolerance, 1e-6) * largest), key


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("base", NETWORKS)
def test_forward(base, image, network):
    """In float32 to 1e-5: the authors' own float32 deviates from their float64 by up to 2.7e-6."""
    model = network(base).eval()
    seen: dict[str, Tensor] = {}
    hooks = [
        model.backbone.net.layer1.register_forward_hook(lambda _m, _i, out: seen.update({"C.0": out})),
        model.backbone.register_forward_hook(
            lambda _m, _i, out: seen.update({f"C.{i}": c for i, c in enumerate(out, 1)})
        ),
        model.neck.register_forward_hook(lambda _m, _i, out: seen.update({f"P.{i}": p for i, p in enumerate(out)})),
    ]
    with torch.no_grad():
        outputs = model(IMAGES[image])
    for hook in hooks:
        hook.remove()
    for theirs, ours in MAPS[detector_of(base)].items():
        levels = split(outputs.tensors[ours], outputs.shapes)
        seen.update({f"{theirs}.{i}": level for i, level in enumerate(levels)})
    wanted = {key.removesuffix(".stats") for key in stored(base) if key.startswith(image) and ".stats" in key}
    assert {f"{image}.{key}" for key in seen} == wanted
    for key, value in seen.items():
        compare_map(base, f"{image}.{key}", value, 1e-5)


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("base", NETWORKS)
def test_forward_in_float64(base, image, rounded):
    """The stored maps, to the last digit of float32 or the one before."""
    outputs = rounded(base, image)
    for theirs, ours in MAPS[detector_of(base)].items():
        for i, level in enumerate(split(outputs.tensors[ours], outputs.shapes)):
            compare_map(base, f"{image}.{theirs}.{i}", level, 2**-23)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", VARIANTS)
def test_losses_of_stored_outputs(name, case, network, rounded):
    """Losses to 1e-9 and the gradient of every map, level by level."""
    base = VARIANTS[name][0]
    theirs = stored_losses(name)[case]["head_f64"]
    maps = {key: value.double().requires_grad_() for key, value in rounded(base, "b").tensors.items()}
    outputs = Outputs(maps, rounded(base, "b").shapes)
    losses = losses_of(name, network(base), outputs, case)
    assert_losses(name, case, losses, theirs)
    sum(losses.values()).backward()
    of_map = {
        f"{their_name}.{i}": gradient
        for their_name, ours in MAPS[detector_of(base)].items()
        if maps[ours].grad is not None
        for i, gradient in enumerate(split(maps[ours].grad, outputs.shapes))
    }
    assert set(theirs["grad"]) == set(of_map)
    for key, (norm, product) in theirs["grad"].items():
        if math.isnan(norm):
            assert divides_by_zero(name, case)
            assert not of_map[key].any()
            continue
        assert of_map[key].norm().item() == pytest.approx(norm, rel=1e-6, abs=1e-15), key
        assert projection(key, of_map[key]) == pytest.approx(product, abs=1e-6 * norm + 1e-15), key


def learning(model: nn.Module) -> set[str]:
    """Of FCOS the authors hold the batch norms still; what the other weights learn does not depend on it."""
    moving = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if model.config.backbone.style == "pytorch":
        return moving
    norms = {
        f"{name}.{part}"
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for part in ("weight", "bias")
    }
    return moving - norms


@pytest.mark.parametrize("base", NETWORKS)
def test_losses_and_gradients_in_float64(base, network64, outputs64):
    """Losses to 1e-9 in each case of each variant; all gradients of the weighted sum of all of them.

    The product with a fixed direction is linear in the gradient, so one backward pass checks them all.
    """
    model, outputs = network64(base), outputs64(base, "b")
    names = [name for name, (other, _) in VARIANTS.items() if other == base]
    model.zero_grad()
    leaves = cut(outputs)
    product: dict[str, float] = {}
    size: dict[str, float] = {}
    for name in names:
        for case in CASES:
            theirs = stored_losses(name)[case]["model_f64"]
            losses = losses_of(name, model, leaves, case)
            assert_losses(name, case, losses, theirs)
            if divides_by_zero(name, case):
                continue
            weight = WEIGHTS[case] * (1 + names.index(name))
            (weight * sum(losses.values())).backward()
            for key, (norm, along) in theirs["grad"].items():
                product[key] = product.get(key, 0.0) + weight * along
                size[key] = size.get(key, 0.0) + weight * norm
    backward_from(outputs, leaves)
    parameters = dict(model.named_parameters())
    assert {map_key(key, detector_of(base)) for key in product} == learning(model)
    for key, along in product.items():
        ours = projection(key, parameters[map_key(key, detector_of(base))].grad)
        assert ours == pytest.approx(along, abs=1e-6 * size[key]), key


def literal_iou(a: list[float], b: list[float]) -> float:
    width, height = (max(min(a[i + 2], b[i + 2]) - max(a[i], b[i]), 0.0) for i in (0, 1))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (both - width * height)


@pytest.mark.parametrize("case", CASES)
def test_varifocal_loss_of_atss(case, network, rounded):
    """Each negative, of the padding too, costs .75 p^2 BCE(x, 0); a positive of IoU q costs q BCE(x, q)."""
    outputs = rounded("atss_r50", "b")
    values = {key: value.double() for key, value in outputs.tensors.items()}
    judge = copy.copy(network("atss_r50"))
    judge.config = config_of("atss_r50", {"loss": "varifocal"})
    found = judge.loss(Outputs(values, outputs.shapes), targets_of(case))
    priors = grid_priors(outputs.shapes, (8, 16, 32, 64, 128), like=values["logits"])
    dense = assign_batch(assign_atss, priors, targets_of(case), divisor=32)
    logits = values["logits"]
    each = 0.75 * logits.sigmoid() ** 2 * torch.log1p(logits.exp())
    total, count = each.sum().item(), sum(max(int(row.sum()), 1) for row in dense.positive)
    for image, point in dense.positive.nonzero().tolist():
        (x, y), side = priors.points[point].tolist(), 8 * priors.strides[point].item()
        dx, dy, dw, dh = values["deltas"][image, point].tolist()
        x, y, width, height = x + 0.1 * dx * side, y + 0.1 * dy * side, math.exp(0.2 * dw), math.exp(0.2 * dh)
        half = (width * side / 2, height * side / 2)
        box = [x - half[0], y - half[1], x + half[0], y + half[1]]
        q = max(literal_iou(box, dense.boxes[image, point].tolist()), 1e-6)
        label = int(dense.labels[image, point])
        p = 1 / (1 + math.exp(-logits[image, point, label].item()))
        total -= each[image, point, label].item() + q * (q * math.log(p) + (1 - q) * math.log(1 - p))
    assert found["cls"].item() == pytest.approx(total / count, rel=1e-9)
    focal = losses_of("atss_r50", network("atss_r50"), Outputs(values, outputs.shapes), case)
    assert {key: found[key].item() for key in ("box", "centerness")} == pytest.approx(
        {key: focal[key].item() for key in ("box", "centerness")}, rel=1e-12
    )


@pytest.mark.parametrize(("select", "file"), [("points", "post/{}"), ("pairs", "mmdet33/post_{}")])
@pytest.mark.parametrize(
    ("setting", "post"),
    [("iou06", PostProcess(nms_pre=1000, nms_iou=0.6)), ("iou05_pre100", PostProcess(nms_pre=100, nms_iou=0.5))],
)
@pytest.mark.parametrize(("image", "index"), [("a", 0), ("b", 0), ("b", 1)])
@pytest.mark.parametrize("base", NETWORKS)
def test_detections(base, select, file, setting, post, image, index, network, rounded):
    """The same boxes in the same order. The authors shift the boxes of different classes apart in float32, we
    do not: none of these candidates is so near the threshold that the rounding turns it."""
    theirs = np.load(DATA / f"{file.format(base)}.npz")
    outputs = rounded(base, image)
    sizes = [tuple(IMAGES[image].shape[2:])] * len(outputs.tensors["logits"])
    with torch.no_grad():
        decoded = network(base).decode(outputs, sizes)
    quality = None if decoded.quality is None else decoded.quality[index]
    found = multiclass_nms(
        decoded.boxes[index], decoded.scores[index], decoded.counts, replace(post, topk_mode=select), quality
    )
    wanted = [torch.from_numpy(theirs[f"{image}.{setting}.{index}.{part}"]) for part in ("boxes", "scores", "labels")]
    assert len(wanted[1]) > 30
    torch.testing.assert_close(found[0], wanted[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(found[1], wanted[1], rtol=0, atol=1e-6)
    assert torch.equal(found[2], wanted[2])
