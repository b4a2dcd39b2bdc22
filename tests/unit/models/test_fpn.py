"""The pyramid: sizes, and what reaches what."""

import pytest
import torch
import torch.nn.functional as F

from varifocal.models.layers import FPN

CHANNELS = (4, 6, 8)


def maps(height: int = 64, width: int = 96) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    sizes = [(-(-height // stride), -(-width // stride)) for stride in (8, 16, 32)]
    return [torch.randn(2, c, *size, generator=rng) for c, size in zip(CHANNELS, sizes, strict=True)]


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [(64, 96), (72, 104), (8, 8)])
def test_each_level_halves_the_last(levels, size):
    pyramid = FPN(CHANNELS, 16, levels)(maps(*size))
    wanted = [(2, 16, -(-size[0] // 2**i), -(-size[1] // 2**i)) for i in range(3, 3 + levels)]
    assert [tuple(level.shape) for level in pyramid] == wanted


def test_written_out():
    neck, (c3, c4, c5) = FPN(CHANNELS, 16), maps(72, 104)
    m5 = neck.lateral[2](c5)
    m4 = neck.lateral[1](c4) + F.interpolate(m5, size=c4.shape[2:], mode="nearest")
    m3 = neck.lateral[0](c3) + F.interpolate(m4, size=c3.shape[2:], mode="nearest")
    p5 = neck.output[2](m5)
    p6 = F.conv2d(p5, neck.extra[0].weight, neck.extra[0].bias, stride=2, padding=1)
    p7 = F.conv2d(p6.clamp(min=0), neck.extra[1].weight, neck.extra[1].bias, stride=2, padding=1)
    wanted = [neck.output[0](m3), neck.output[1](m4), p5, p6, p7]
    for ours, theirs in zip(neck([c3, c4, c5]), wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_fewer_levels_have_no_idle_weights():
    neck = FPN(CHANNELS, 16, 2)
    sum(level.sum() for level in neck(maps())).backward()
    assert all(parameter.grad is not None for parameter in neck.parameters())


def test_start():
    neck = FPN(CHANNELS, 16)
    for name, parameter in neck.named_parameters():
        assert bool(parameter.any()) == name.endswith("weight"), name
    bound = (6 / (9 * 16 + 9 * 16)) ** 0.5
    assert neck.output[0].weight.abs().max().item() == pytest.approx(bound, rel=0.05)
    assert neck.output[0].weight.abs().max().item() <= bound
