"""VFNet with larger backbones, deformable convolutions and as VFNet-X: names, recognized settings, maps.

The weights follow from the rule of fill.py. Of each of these networks the single image a is compared; batches and
gradients through deformable convolutions are in test_parity_vfnet.py, where the smaller network has them too.
"""

from __future__ import annotations

import pytest
import torch
from fill import images
from stored import compare_map, families, filled_state, keys, stored
from torch import Tensor

from varifocal.inference.published.convert import convert_state_dict, read_published
from varifocal.models.backbone import BackboneConfig
from varifocal.models.checkpoint import load_state_dict_strict
from varifocal.models.vfnet import VFNet, VFNetConfig
from varifocal.types import PostProcess
from varifocal.utils.errors import CheckpointError

IMAGE = torch.from_numpy(images()["a"])
BACKBONES = {
    "r50": BackboneConfig("resnet50", frozen_stages=1),
    "r101": BackboneConfig("resnet101", frozen_stages=1),
    "x101_32x4d": BackboneConfig("resnext101_32x4d", frozen_stages=1),
    "x101_64x4d": BackboneConfig("resnext101_64x4d", frozen_stages=1),
    "r2_101": BackboneConfig("res2net101d", frozen_stages=1, res2net_pool="mmdet"),
}
POINTS = PostProcess(topk_mode="points")
DEFORMABLE = (3, 4, 5)


def deformable(backbone: BackboneConfig, **settings) -> VFNetConfig:
    fields = {**vars(backbone), "dcn_stages": DEFORMABLE}
    return VFNetConfig(backbone=BackboneConfig(**fields), deformable_tower=True, **settings)


CONFIGS = {
    **{f"vfnet_{short}": VFNetConfig(backbone=backbone) for short, backbone in BACKBONES.items()},
    **{f"vfnet_{short}_mdconv": deformable(backbone) for short, backbone in BACKBONES.items()},
    "vfnet_raw_r50": VFNetConfig(backbone=BACKBONES["r50"], star=False, refine=False),
    "vfnetx_r2_101": deformable(BACKBONES["r2_101"], neck="pafpn", channels=384, num_convs=4),
}


def shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def empty(name: str) -> dict[str, Tensor]:
    """A state dict of these shapes that takes no memory."""
    return {key: torch.zeros(()).expand(shape) for key, shape in keys(name).items()}


def test_every_stored_network_is_compared():
    assert set(families()) < set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_published_file_says_what_it_is(name, tmp_path):
    """Its settings follow from keys and shapes, and every weight has its place in the network that they build."""
    torch.save({"state_dict": empty(name), "meta": {"epoch": 24}}, tmp_path / "published.pth")
    found = read_published(tmp_path / "published.pth")
    info, tensors = found.info, found.tensors
    assert info.config == CONFIGS[name]
    wanted = PostProcess(topk_mode="points", nms_type="soft-nms", nms_iou=0.65) if name.startswith("vfnetx") else POINTS
    assert info.postprocess == wanted
    with torch.device("meta"):
        model = VFNet(info.config)
    assert len(tensors) == len(keys(name))
    assert shapes(tensors) == shapes(model.state_dict())


def test_very_old_names_of_deformable_convolutions(tmp_path):
    state = {
        key.replace("conv2.conv_offset", "conv2_offset"): value for key, value in empty("vfnet_r50_mdconv").items()
    }
    assert "backbone.layer2.0.conv2_offset.weight" in state
    torch.save(state, tmp_path / "old.pth")
    found = read_published(tmp_path / "old.pth")
    info, tensors = found.info, found.tensors
    assert info.config == CONFIGS["vfnet_r50_mdconv"]
    assert shapes(tensors) == shapes(convert_state_dict(empty("vfnet_r50_mdconv"))[0])


@pytest.mark.parametrize("layers", [("layer2",), ("layer3", "layer4")])
def test_some_stages_deformable_and_the_towers_plain(layers, tmp_path):
    state = {
        key: value
        for key, value in empty("vfnet_r50_mdconv").items()
        if "conv_offset" not in key or any(layer in key for layer in layers)
    }
    torch.save(state, tmp_path / "part.pth")
    config = read_published(tmp_path / "part.pth").info.config
    assert config.backbone.dcn_stages == tuple(int(layer[-1]) + 1 for layer in layers)
    assert not config.deformable_tower


@pytest.mark.parametrize(
    ("name", "key", "shape", "message"),
    [
        ("vfnet_r50", "backbone.layer3.5.", None, "does not know .5 blocks in layer3, 1 groups of 64 channels"),
        ("vfnet_x101_32x4d", "backbone.layer1.0.conv2.weight", (256, 8, 3, 3), "23 blocks in layer3, 32 groups of 8"),
        ("vfnet_r50", "backbone.layer1.0.conv2.weight", (128, 128, 3, 3), "1 groups of 128"),
        ("vfnet_r2_101", "backbone.layer1.0.convs.0.weight", (48, 48, 3, 3), "1 groups of 48"),
        (
            "vfnet_r50",
            "backbone.layer3.0.conv1",
            None,
            r"1 are missing \(first: backbone.net.layer3.0.conv1.weight",
        ),
    ],
)
def test_other_backbones_are_refused(name, key, shape, message, tmp_path):
    """``shape`` None takes the weights away."""
    state = {k: v for k, v in empty(name).items() if not k.startswith(key)}
    if shape is not None:
        state[key] = torch.zeros(()).expand(shape)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=message):
        read_published(tmp_path / "other.pth")


def compare(name: str, model: VFNet) -> None:
    """Every stored map of image a: of the backbone's stages, the neck and the head."""
    seen: dict[str, Tensor] = {}
    model.eval().backbone.net.layer1.register_forward_hook(lambda _m, _i, out: seen.update({"C.0": out}))
    with torch.no_grad():
        stages = model.backbone(IMAGE)
        pyramid = model.neck(stages)
        head = model.head(pyramid)
    seen |= {f"C.{i}": level for i, level in enumerate(stages, start=1)}
    seen |= {f"P.{i}": level for i, level in enumerate(pyramid)}
    for theirs, ours in (("cls", "logits"), ("bbox", "initial"), ("bbox_refine", "refined")):
        seen |= {f"{theirs}.{i}": level for i, level in enumerate(head[ours])}
    assert {f"a.{key}.stats" for key in seen} == {
        key for key in stored(name) if key.endswith(".stats") and key[0] == "a"
    }
    for key, value in seen.items():
        compare_map(name, f"a.{key}", value)


@pytest.mark.parametrize("name", families())
def test_forward(name):
    with torch.device("meta"):
        model = VFNet(CONFIGS[name])
    model.load_state_dict(convert_state_dict(filled_state(name))[0], assign=True)
    compare(name, model)


def test_forward_of_a_published_file(tmp_path):
    path = tmp_path / "vfnet_r50_mdconv.pth"
    torch.save({"state_dict": filled_state("vfnet_r50_mdconv"), "optimizer": None}, path)
    found = read_published(path)
    info, tensors = found.info, found.tensors
    path.unlink()
    model = VFNet(info.config)
    load_state_dict_strict(model, tensors, path)
    compare("vfnet_r50_mdconv", model)
