"""The count of operations against hand calculations."""

import pytest
import torch
from torch import nn

from varifocal.models.flops import count_flops
from varifocal.models.layers import StarConv
from varifocal.ops.deform_conv import DeformConv
from varifocal.ops.star_conv import free_points


class Small(nn.Module):
    """A strided convolution, a deformable one, and a star convolution that is called twice."""

    def __init__(self, norm="none"):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.deform = DeformConv(8, 4)
        self.cls_star = StarConv(4, norm)

    def forward(self, images):
        features = self.deform(self.stem(images))
        taps = free_points([features.new_zeros(len(features), 18, *features.shape[2:])])
        return self.cls_star(self.cls_star([features], taps), taps)


@pytest.mark.parametrize("norm", ["none", "group"])  # norms count nowhere in the field
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_by_hand(device, norm):
    counted = count_flops(Small(norm).to(device).eval(), (16, 24))
    cells = 8 * 12
    stem = 2 * cells * 8 * 3 * 9
    offsets, deformed = 2 * cells * 27 * 8 * 9, 2 * cells * 4 * 8 * 9
    stars = 2 * (2 * cells * 4 * 4 * 9)
    assert counted["stem"] == counted["stem.0"] == stem
    assert counted["deform.offset"] == offsets
    assert counted["deform"] == offsets + deformed
    assert counted["cls_star"] == stars
    assert counted[""] == stem + offsets + deformed + stars


def test_the_network_is_left_as_it_was():
    network = Small().eval()
    count_flops(network, (16, 24))
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert torch.is_grad_enabled()
