"""VFNet's deformable parts: where they are, and how they start."""

import pytest
import torch

from varifocal.models.backbone import BackboneConfig
from varifocal.models.pafpn import PAFPN
from varifocal.models.vfnet import VFNet, VFNetConfig
from varifocal.ops.deform_conv import DeformConv

BACKBONE = BackboneConfig("resnet18")


@pytest.mark.parametrize("convs", [1, 4])
def test_the_last_convolution_of_each_tower_is_deformable(convs):
    model = VFNet(VFNetConfig(3, BACKBONE, 32, levels=3, convs=convs, deformable_tower=True))
    places = {name for name, module in model.named_modules() if isinstance(module, DeformConv)}
    assert places == {f"head.{branch}_tower.{convs - 1}.0" for branch in ("cls", "reg")}


def test_start_of_a_deformable_tower():
    """Steered to its own places, with the weights a deformable convolution starts with; all others are normal."""
    torch.manual_seed(0)
    head = VFNet(VFNetConfig(3, BACKBONE, 64, levels=3, convs=2, deformable_tower=True)).head
    bound = 1 / (9 * 64) ** 0.5
    for tower in (head.cls_tower, head.reg_tower):
        plain, deformable = tower[0][0].weight, tower[1][0]
        assert plain.std().item() == pytest.approx(0.01, rel=0.05)
        assert not deformable.offset.weight.any()
        assert not deformable.offset.bias.any()
        assert deformable.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert 0.95 * bound < deformable.weight.abs().max().item() <= bound
    assert head.reg_conv[0].weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_the_neck_is_what_the_config_says():
    assert isinstance(VFNet(VFNetConfig(3, BACKBONE, 32, neck="pafpn")).neck, PAFPN)
    assert not isinstance(VFNet(VFNetConfig(3, BACKBONE, 32)).neck, PAFPN)
