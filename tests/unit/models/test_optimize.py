"""The network as prediction runs it against the one that was trained."""

import copy
import warnings

import pytest
import torch
from error_codes import raises_code
from torch import nn

import varifocal as vf
from varifocal.models import optimize as fuse
from varifocal.models.backbone import Backbone, BackboneConfig
from varifocal.ops.deform_conv import DeformConv
from varifocal.structures import Outputs

BACKBONES = ["resnet18", "tf_efficientnet_lite0", "mobilenetv3_small_050", "res2net50_14w_8s", "resnext50_32x4d"]


def network(backbone: str = "resnet18", detector: str = "vfnet", **options) -> nn.Module:
    """With batch norms that do something."""
    torch.manual_seed(0)
    model = vf.create_model(detector, backbone=backbone, num_classes=3, channels=64, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return model.detector.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def assert_close(found: Outputs, wanted: Outputs, bound: float) -> None:
    """Within a share of each tensor's largest magnitude."""
    assert found.shapes == wanted.shapes
    for name, tensor in wanted.tensors.items():
        assert (found.tensors[name] - tensor).abs().max() <= bound * tensor.abs().max(), name


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_batch_norm_goes_and_the_outputs_stay(backbone):
    detector = network(backbone).double()
    assert norms(detector) > 10
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    fused = fuse.optimize_for_inference(detector)
    assert norms(fused) == 0
    with torch.inference_mode():
        assert_close(fused(images), detector(images), 1e-9)


def test_deformable_convolutions_take_their_norms():
    backbone = Backbone(BackboneConfig("resnet18", dcn_stages=(4, 5))).double().eval()
    assert any(isinstance(module, DeformConv) for module in backbone.modules())
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
    holder = nn.Module()
    holder.backbone = backbone
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    fused = fuse.optimize_for_inference(holder).backbone
    assert norms(fused) == 0
    with torch.inference_mode():
        torch.testing.assert_close(fused(images), backbone(images))


def test_the_detector_is_left_as_it_was_and_shares_what_did_not_change():
    detector = network().train()
    before = copy.deepcopy(detector.state_dict())
    found = fuse.optimize_for_inference(detector)
    assert detector.training
    torch.testing.assert_close(detector.state_dict(), before, rtol=0, atol=0)
    assert norms(detector) > 10
    assert found.head.cls.weight.data_ptr() == detector.head.cls.weight.data_ptr()
    assert all(parameter.requires_grad for parameter in detector.head.parameters())


class Reused(nn.Module):
    """A convolution whose result goes to a batch norm and elsewhere: it cannot be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        nn.init.constant_(self.norm.running_mean, 3.0)

    def forward(self, images):
        found = self.conv(images)
        return [self.norm(found) + found]


def test_what_cannot_be_folded_is_not_and_says_so():
    holder = nn.Module()
    holder.backbone = Reused()
    with pytest.warns(UserWarning, match="Reused: the batch norms are not folded"):
        found = fuse.optimize_for_inference(holder)
    images = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(found.backbone(images), holder.eval().backbone(images))


class Narrow(nn.Module):
    """Takes no image as small as the probe."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, dilation=80), nn.BatchNorm2d(4)

    def forward(self, images):
        return [self.norm(self.conv(images))]


def test_a_backbone_that_refuses_the_probe_runs_unfolded():
    holder = nn.Module()
    holder.backbone = Narrow().eval()
    with pytest.warns(fuse.FusionWarning, match="Narrow: the batch norms are not folded"):
        found = fuse.optimize_for_inference(holder)
    images = torch.randn(1, 3, 200, 200)
    torch.testing.assert_close(found.backbone(images), holder.backbone(images))


class Plain(nn.Module):
    """A convolution and its norm."""

    def __init__(self, options) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, **options)

    def forward(self, images):
        return [self.norm(self.conv(images))]


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}])
def test_a_norm_without_scale_or_statistics_stays(options):
    holder = nn.Module()
    holder.backbone = Plain(options)
    assert norms(fuse.optimize_for_inference(holder)) == 1


def test_folding_under_the_callers_autocast_is_the_same():
    detector = network()
    with torch.autocast("cpu", torch.bfloat16), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert norms(fuse.optimize_for_inference(detector)) == 0


def test_training_forgets_what_was_prepared():
    """A fused optimizer's step leaves the counters as they are."""
    model = vf.create_model("vfnet", backbone="resnet18", num_classes=3, channels=64)
    images = torch.randn(1, 3, 64, 64)
    model.forward_optimized(images)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) * 0.01
    optimizer.step()
    model.eval()
    with torch.no_grad():
        assert_close(model.forward_optimized(images), model(images), 1e-4)


def test_weights_made_under_inference_mode_are_never_stale():
    with torch.inference_mode():
        model = vf.create_model("vfnet", backbone="resnet18", num_classes=3, channels=64)
        images = torch.randn(1, 3, 64, 64)
        model.forward_optimized(images)
        model.load_state_dict(vf.create_model("vfnet", backbone="resnet18", num_classes=3, channels=64).state_dict())
        assert_close(model.forward_optimized(images), model(images), 1e-4)


class Twice(nn.Module):
    """Layers that are called twice, each norm after another convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        nn.init.constant_(self.norm.running_mean, 3.0)

    def forward(self, images):
        return [self.norm(self.conv(self.norm(self.conv(images))))]


def test_shared_layers_stay():
    holder = nn.Module()
    holder.backbone = Twice()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fuse.optimize_for_inference(holder)
    assert norms(found) == 1


@pytest.mark.parametrize(
    ("detector", "options"),
    [
        *((name, {}) for name in ("vfnet", "atss", "fcos", "retinanet", "foveabox", "reppoints", "gfl")),
        *((name, {"star_norm": "group"}) for name in ("vfnet", "reppoints")),
    ],
)
def test_bfloat16_is_near(detector, options):
    """Within a few roundings of 2^-9 each; distances and points leave as float32."""
    net = network(detector=detector, **options)
    images = torch.randn(1, 3, 64, 96)
    low = fuse.optimize_for_inference(net, "bf16")
    with torch.inference_mode():
        wanted = net(images)
        with fuse.autocast("bf16", "cpu"):
            found = low(images)
    assert_close(found, wanted, 0.06)
    assert low.backbone is not net.backbone
    if options:
        assert low.head.cls_star.weight.dtype == torch.bfloat16
        assert {values.dtype for values in low.head.cls_star.norm.parameters()} == {torch.float32}


@pytest.mark.parametrize("backbone", ["convnext_atto", "vit_tiny_patch16_224"])
def test_bfloat16_with_layer_norms(backbone):
    net = network(backbone)
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode(), fuse.autocast("bf16", "cpu"):
        found = fuse.optimize_for_inference(net, "bf16")(images)
    with torch.inference_mode():
        assert_close(found, net(images), 0.06)


def test_predictions_follow_changed_weights():
    """By an optimizer's step, by loading, and by a move to another place."""
    model = vf.create_model("vfnet", backbone="resnet18", num_classes=3, channels=64)
    images = torch.randn(1, 3, 64, 64)
    first = model.forward_optimized(images)
    assert model._optimized.network(model.detector, "fp32") is model._optimized.network(model.detector, "fp32")
    with torch.no_grad():
        model.detector.head.cls.bias.add_(1.0)
        model.detector.backbone.get_parameter("net.conv1.weight").mul_(2.0)
    second = model.forward_optimized(images)
    assert_close(second, model(images), 1e-5)
    assert (second.tensors["logits"] - first.tensors["logits"]).abs().max() > 0.1
    model.load_state_dict(vf.create_model("vfnet", backbone="resnet18", num_classes=3, channels=64).state_dict())
    assert_close(model.forward_optimized(images), model(images), 1e-5)
    twin = copy.deepcopy(model)
    assert_close(twin.forward_optimized(images), model(images), 1e-5)


def test_prediction_leaves_the_mode_alone():
    model = vf.create_model("vfnet", backbone="resnet18", num_classes=3, channels=64).train()
    model.predict(torch.randint(0, 255, (40, 50, 3), dtype=torch.uint8).numpy())
    assert model.training
    assert model.detector.training


@pytest.mark.parametrize(("precision", "code"), [("fp16", "precision-fp16-on-cpu"), ("int3", "precision-unknown")])
def test_unusable_precision(precision, code):
    with raises_code(code):
        fuse.check_precision(precision, "cpu")
