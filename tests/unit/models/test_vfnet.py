"""VFNet's deformable parts: where they are, and how they start."""

import pytest
import torch
import torch.nn.functional as F

from varifocal.models.backbone import BackboneConfig
from varifocal.models.layers import StarConv
from varifocal.models.pafpn import PAFPN
from varifocal.models.reppoints import RepPoints, RepPointsConfig
from varifocal.models.vfnet import VFNet, VFNetConfig
from varifocal.ops.deform_conv import DeformConv
from varifocal.ops.star_conv import free_points, star_conv

BACKBONE = BackboneConfig("resnet18")


@pytest.mark.parametrize("convs", [1, 4])
def test_the_last_convolution_of_each_tower_is_deformable(convs):
    model = VFNet(VFNetConfig(3, BACKBONE, 32, num_levels=3, num_convs=convs, deformable_tower=True))
    places = {name for name, module in model.named_modules() if isinstance(module, DeformConv)}
    assert places == {f"head.{branch}_tower.{convs - 1}.0" for branch in ("cls", "reg")}


def test_start_of_a_deformable_tower():
    """Steered to its own places, with the weights a deformable convolution starts with; all others are normal."""
    torch.manual_seed(0)
    head = VFNet(VFNetConfig(3, BACKBONE, 64, num_levels=3, num_convs=2, deformable_tower=True)).head
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


@pytest.mark.parametrize(("width", "groups"), [(64, 32), (96, 32), (40, 8), (9, 1)])
@pytest.mark.parametrize("on_grid", [False, True])
def test_a_group_norm_follows_the_star(width, groups, on_grid):
    """By hand on what comes without one, which is the bare convolution to the last bit."""
    torch.manual_seed(0)
    levels = [torch.randn(2, width, 5, 6), torch.randn(2, width, 3, 3)]
    taps = None if on_grid else free_points([torch.randn(2, 18, *level.shape[2:]) for level in levels])
    star = StarConv(width, "group")
    bare = StarConv(width)
    bare.load_state_dict({"weight": star.weight})
    torch.nn.init.uniform_(star.norm.weight, 0.5, 1.5)
    torch.nn.init.uniform_(star.norm.bias, -1, 1)
    plain = [F.conv2d(x, star.weight, padding=1) for x in levels] if on_grid else star_conv(levels, taps, star.weight)
    assert all(torch.equal(a, b) for a, b in zip(bare(levels, taps), plain, strict=True))
    for found, before in zip(star(levels, taps), plain, strict=True):
        wanted = F.group_norm(before, groups, star.norm.weight, star.norm.bias)
        torch.testing.assert_close(found, wanted)


NORMS = {f"head.{branch}_star.norm.{part}" for branch in ("cls", "reg") for part in ("weight", "bias")}


@pytest.mark.parametrize(
    ("star", "refine", "names"),
    [
        (True, True, NORMS),
        (False, True, NORMS),
        (True, False, {n for n in NORMS if ".cls_" in n}),
        (False, False, set()),
    ],
)
def test_the_norms_of_the_star_are_all_that_it_adds(star, refine, names):
    """The same seed starts the same weights with and without them; they start as no change of scale."""
    states = []
    for norm in ("none", "group"):
        torch.manual_seed(0)
        config = VFNetConfig(3, BACKBONE, 32, num_levels=3, num_convs=1, star=star, refine=refine, star_norm=norm)
        states.append(VFNet(config).state_dict())
    before, after = states
    assert after.keys() - before.keys() == names
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all((after[name] == float(name.endswith("weight"))).all() for name in names)


def test_reppoints_norms_what_it_reads_at_its_points():
    head = RepPoints(RepPointsConfig(3, BACKBONE, 32, num_levels=3, num_convs=1, star_norm="group")).head
    assert {name for name, _ in head.named_parameters() if ".norm." in name} == {
        f"{branch}_star.norm.{part}" for branch in ("cls", "pts_refine") for part in ("weight", "bias")
    }
    bare = RepPoints(RepPointsConfig(3, BACKBONE, 32, num_levels=3, num_convs=1)).head
    assert bare.cls_star.norm is None
    assert bare.pts_refine_star.norm is None
