"""VFNet against the numbers of the authors' implementation: names, maps, losses, gradients, detections.

The network is filled by the rule of fill.py, so no weights are needed. Float32 maps are held to 1e-5 of each
map's largest magnitude: the authors' own float32 deviates from their float64 by up to 2.7e-6.
"""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from fill import images, random_direction
from stored import DATA, compare_map, filled_state, keep_last, keys, stored
from torch import Tensor

from varifocal.inference.published.convert import convert_state_dict
from varifocal.inference.published.key_maps import map_key
from varifocal.models.backbone import BackboneConfig
from varifocal.models.layers import flatten_levels, level_shapes
from varifocal.models.vfnet import VFNet, VFNetConfig
from varifocal.ops.nms import multiclass_nms
from varifocal.structures import Outputs, Targets
from varifocal.types import PostProcess

CASES = json.loads((DATA / "cases.json").read_text())
LOSSES = json.loads(gzip.decompress((DATA / "loss.json.gz").read_bytes()))
IMAGES = {name: torch.from_numpy(image) for name, image in images().items()}
MAPS = {"cls": "logits", "bbox": "initial", "bbox_refine": "refined"}
TERMS = {"loss_cls": "cls", "loss_bbox": "initial", "loss_bbox_rf": "refined"}
LEVELS = range(5)

FROZEN = BackboneConfig(frozen_stages=1)
CONFIGS = {
    "vfnet_r50": VFNetConfig(compat="paper", backbone=FROZEN),
    "vfnet_raw_r50": VFNetConfig(compat="paper", backbone=FROZEN, star=False, refine=False, loss="focal"),
    "vfnet_r50_mdconv": VFNetConfig(
        compat="paper", backbone=replace(FROZEN, dcn_stages=(3, 4, 5)), deformable_tower=True
    ),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "vfnet_r50": {},
    "vfnet_r50.use_vfl_false": {"loss": "focal"},
    "vfnet_r50.use_atss_false": {"assigner": "fcos"},
    "vfnet_r50.fl_fcos_center": {"loss": "focal", "assigner": "fcos-center"},
    "vfnet_r50.fcos_center_vfl": {"assigner": "fcos-center"},
    "vfnet_r50.norm_stride": {"bbox_norm": "stride"},
    "vfnet_r50.grad_mul_1": {"gradient_mul": 1.0},
    "vfnet_raw_r50": {},
    "vfnet_raw_r50.use_vfl_true": {"loss": "varifocal"},
    "vfnet_r50_mdconv": {},
}
# The product with a fixed direction is linear in the gradient: one backward pass of this sum of the four
# cases' losses checks all four, in a quarter of the time. Norms are compared case by case without variants.
WEIGHTS = {"mixed": 1.0, "overlap": 0.7, "none": 1.3, "padded": 0.4}


def config_of(name: str) -> VFNetConfig:
    return replace(CONFIGS[name.split(".")[0]], **VARIANTS[name])


@pytest.fixture(scope="module")
def network() -> Callable[[str], VFNet]:
    """The filled float32 network of a base model, built once; treat it as read-only but for its gradients."""

    @cache
    def build(base: str) -> VFNet:
        mapped, _ = convert_state_dict(filled_state(base))
        model = VFNet(CONFIGS[base])
        model.load_state_dict(mapped)
        return model

    return build


@pytest.fixture(scope="module")
def forward64(network) -> Callable[[str], tuple[VFNet, Outputs]]:
    """A float64 network in training and what it says about image b, whatever the loss and the assigner."""

    @keep_last
    def run(base: str, unit: str, factor: float) -> tuple[VFNet, Outputs]:
        model = copy.deepcopy(network(base)).double().train()
        model.head.config = replace(model.config, bbox_norm=unit, gradient_mul=factor)
        return model, model(IMAGES["b"].double())

    return lambda name: run(name.split(".")[0], config_of(name).bbox_norm, config_of(name).gradient_mul)


def targets_of(case: str, dtype: torch.dtype) -> list[Targets]:
    rows = []
    for image in ("image0", "image1"):
        truth = CASES[case][image]
        boxes = torch.tensor(truth["boxes"], dtype=torch.float32).reshape(-1, 4).to(dtype)
        crowd = torch.zeros(len(boxes), dtype=torch.bool)
        size = tuple(truth.get("img_shape", (192, 224)))
        rows.append(Targets(boxes, torch.tensor(truth["labels"], dtype=torch.long), crowd, size))
    return rows


def losses_of(name: str, model: VFNet, outputs: Outputs, case: str) -> dict[str, Tensor]:
    """The losses of a variant on outputs that it shares with others."""
    judge = copy.copy(model)
    judge.config = config_of(name)
    return judge.loss(outputs, targets_of(case, outputs.tensors["logits"].dtype))


def stored_outputs(base: str, image: str, dtype: torch.dtype) -> tuple[dict[str, list[Tensor]], Outputs]:
    values = stored(base)
    maps = {
        ours: [torch.from_numpy(values[f"{image}.{theirs}.{i}"]).to(dtype).requires_grad_() for i in LEVELS]
        for theirs, ours in MAPS.items()
        if f"{image}.{theirs}.0" in values
    }
    tensors = {name: flatten_levels(levels) for name, levels in maps.items()}
    return maps, Outputs(tensors, level_shapes(maps["logits"]))


def assert_losses(ours: dict[str, Tensor], theirs: dict[str, Any], tolerance: float) -> None:
    wanted = {TERMS[term]: theirs[term] for term in TERMS if term in theirs}
    assert {name: value.item() for name, value in ours.items()} == pytest.approx(wanted, rel=tolerance, abs=1e-300)


def projection(name: str, gradient: Tensor) -> float:
    """Of a gradient on the fixed direction of that name."""
    return float(gradient.numpy().reshape(-1) @ random_direction(f"grad:{name}", (gradient.numel(),)))


@pytest.mark.parametrize("base", CONFIGS)
def test_every_weight_of_the_authors_has_its_place(base, network):
    mapped, left = convert_state_dict({key: torch.empty(shape) for key, shape in keys(base).items()})
    ours = {name: value.shape for name, value in network(base).state_dict().items()}
    assert left == []
    assert len(mapped) == len(keys(base))
    assert {name: value.shape for name, value in mapped.items()} == ours


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("base", CONFIGS)
def test_forward(base, image, network):
    model = network(base).eval()
    seen: dict[str, Tensor] = {}
    hooks = [
        model.backbone.net.layer1.register_forward_hook(lambda _m, _i, out: seen.update({"C.0": out})),
        model.backbone.register_forward_hook(
            lambda _m, _i, out: seen.update({f"C.{i}": c for i, c in enumerate(out, 1)})
        ),
        model.neck.register_forward_hook(lambda _m, _i, out: seen.update({f"P.{i}": p for i, p in enumerate(out)})),
        model.head.register_forward_hook(
            lambda _m, _i, out: seen.update(
                {f"{t}.{i}": out[o][i] for t, o in MAPS.items() if o in out for i in LEVELS}
            )
        ),
    ]
    with torch.no_grad():
        outputs = model(IMAGES[image])
    for hook in hooks:
        hook.remove()
    wanted = {key.removesuffix(".stats") for key in stored(base) if key.startswith(image) and ".stats" in key}
    assert {f"{image}.{key}" for key in seen} == wanted
    for key, value in seen.items():
        compare_map(base, f"{image}.{key}", value)
    for theirs, ours in MAPS.items():
        if ours in outputs.tensors:
            levels = [seen[f"{theirs}.{i}"] for i in LEVELS]
            assert torch.equal(outputs.tensors[ours], torch.cat([x.flatten(2).mT for x in levels], dim=1))
    assert outputs.shapes == tuple(tuple(seen[f"cls.{i}"].shape[2:]) for i in LEVELS)


def test_every_stored_variant_is_compared():
    assert set(VARIANTS) == set(LOSSES)
    assert set(WEIGHTS) == set(CASES)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", [name for name in VARIANTS if "head_f64" in LOSSES[name]["mixed"]])
def test_losses_of_stored_outputs(name, case, network):
    """Losses to 1e-9 and the gradient of every map, level by level."""
    base = name.split(".")[0]
    theirs = LOSSES[name][case]["head_f64"]
    maps, outputs = stored_outputs(base, "b", torch.float64)
    losses = losses_of(name, network(base), outputs, case)
    assert_losses(losses, theirs, 1e-9)
    sum(losses.values()).backward()
    of_map = {f"{theirs_}.{i}": maps[ours][i].grad for theirs_, ours in MAPS.items() if ours in maps for i in LEVELS}
    assert set(theirs["grad"]) == set(of_map)
    for key, (norm, product) in theirs["grad"].items():
        gradient = of_map[key]
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-6, abs=1e-15), key
        assert projection(key, gradient) == pytest.approx(product, abs=1e-6 * norm + 1e-15), key


@pytest.mark.parametrize("base", ["vfnet_r50", "vfnet_raw_r50"])
def test_losses_and_gradients_in_float32(base, network):
    """Losses to 1e-5 in each case; gradient norms to 1e-2, because a ReLU may fall on the other side."""
    model = network(base).train()
    outputs = model(IMAGES["b"])
    for case in CASES:
        losses = losses_of(base, model, outputs, case)
        assert_losses(losses, LOSSES[base][case]["model_f64"], 1e-5)
        assert_losses(losses, LOSSES[base][case]["model_f32"], 1e-5)
    model.zero_grad()
    sum(losses_of(base, model, outputs, "overlap").values()).backward()
    parameters = dict(model.named_parameters())
    for key, (norm, _) in LOSSES[base]["overlap"]["model_f64"]["grad"].items():
        assert parameters[map_key(key)].grad.norm().item() == pytest.approx(norm, rel=1e-2), key
    model.zero_grad()  # the network lives on


@pytest.mark.parametrize("case", CASES)
def test_gradient_norms_in_float64(case, forward64):
    model, outputs = forward64("vfnet_r50")
    model.zero_grad()
    sum(losses_of("vfnet_r50", model, outputs, case).values()).backward(retain_graph=True)
    parameters = dict(model.named_parameters())
    for key, (norm, product) in LOSSES["vfnet_r50"][case]["model_f64"]["grad"].items():
        gradient = parameters[map_key(key)].grad
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-6, abs=1e-12), key
        assert projection(key, gradient) == pytest.approx(product, abs=1e-6 * norm + 1e-12), key


@pytest.mark.parametrize("name", VARIANTS)
def test_losses_and_gradients_in_float64(name, forward64):
    """Losses to 1e-9 in each case; all parameter gradients of the weighted sum of the cases."""
    model, outputs = forward64(name)
    theirs = {case: LOSSES[name][case]["model_f64"] for case in CASES}
    total = torch.zeros((), dtype=torch.float64)
    for case, weight in WEIGHTS.items():
        losses = losses_of(name, model, outputs, case)
        assert_losses(losses, theirs[case], 1e-9)
        total = total + weight * sum(losses.values())
    model.zero_grad()
    total.backward(retain_graph=True)
    parameters = dict(model.named_parameters())
    learning = {key for key, parameter in parameters.items() if parameter.grad is not None}
    for case in CASES:
        assert {map_key(key) for key in theirs[case]["grad"]} == learning
        assert theirs[case]["no_grad"] == []
    assert learning == {key for key, parameter in parameters.items() if parameter.requires_grad}
    for key in theirs["mixed"]["grad"]:
        product = sum(weight * theirs[case]["grad"][key][1] for case, weight in WEIGHTS.items())
        norms = sum(weight * theirs[case]["grad"][key][0] for case, weight in WEIGHTS.items())
        ours = projection(key, parameters[map_key(key)].grad)
        assert ours == pytest.approx(product, abs=1e-6 * norms), key


@pytest.mark.parametrize(
    ("base", "file", "image", "index"),
    [
        (base, file, image, index)
        for base, file, images_ in (
            ("vfnet_r50", "post", "ab"),
            ("vfnet_r50", "mmdet33", "ab"),
            ("vfnet_raw_r50", "post", "b"),
            ("vfnet_r50_mdconv", "post", "b"),
            ("vfnet_r50_mdconv", "mmdet33", "b"),
        )
        for image in images_
        for index in range(len(IMAGES[image]))
    ],
)
@pytest.mark.parametrize(
    ("setting", "post"),
    [("iou06", PostProcess(nms_pre=1000, nms_iou=0.6)), ("iou05_pre100", PostProcess(nms_pre=100, nms_iou=0.5))],
)
def test_detections(base, file, image, index, setting, post, network):
    """The same boxes in the same order; "mmdet33" counts pairs, "post" points. The authors shift the boxes of
    different classes apart in float32, we do not: none of these candidates is so near the threshold that the rounding
    turns it."""
    theirs = np.load(DATA / file / (f"{base}.npz" if file == "post" else f"post_{base}.npz"))
    post = replace(post, topk_mode="points" if file == "post" else "pairs")
    _, outputs = stored_outputs(base, image, torch.float32)
    count = len(outputs.tensors["logits"])
    with torch.no_grad():
        boxes, scores, *_ = network(base).decode(outputs, [tuple(IMAGES[image].shape[2:])] * count)
        counts = [height * width for height, width in outputs.shapes]
        found = multiclass_nms(boxes[index], scores[index], counts, post)
    wanted = [torch.from_numpy(theirs[f"{image}.{setting}.{index}.{part}"]) for part in ("boxes", "scores", "labels")]
    assert len(wanted[1]) > 50
    torch.testing.assert_close(found[0], wanted[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(found[1], wanted[1], rtol=0, atol=1e-6)
    assert torch.equal(found[2], wanted[2])
