"""VFNet-X's pyramid: sizes, and what reaches what."""

import pytest
import torch
import torch.nn.functional as F

from varifocal.models.pafpn import PAFPN

CHANNELS = (4, 6, 8)
WIDTH = 16


def maps(height: int = 64, width: int = 96) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    sizes = [(-(-height // stride), -(-width // stride)) for stride in (8, 16, 32)]
    return [torch.randn(2, c, *size, generator=rng) for c, size in zip(CHANNELS, sizes, strict=True)]


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [(64, 96), (72, 104)])
def test_each_level_halves_the_last_and_every_weight_learns(levels, size):
    neck = PAFPN(CHANNELS, WIDTH, levels)
    pyramid = neck(maps(*size))
    assert [tuple(p.shape) for p in pyramid] == [
        (2, WIDTH, -(-size[0] // 2**i), -(-size[1] // 2**i)) for i in range(3, 3 + levels)
    ]
    sum((level * torch.randn(level.shape)).sum() for level in pyramid).backward()
    for name, parameter in neck.named_parameters():
        assert parameter.grad is not None, name


def test_written_out():
    """With the steering convolutions at zero the deformable ones are plain ones at half strength."""
    neck, (c3, c4, c5) = PAFPN(CHANNELS, WIDTH).double(), (level.double() for level in maps(72, 104))
    state = neck.state_dict()
    for name, value in state.items():
        if ".offset." in name:
            value.zero_()
        elif name.endswith("bias"):
            value.normal_()

    def conv(name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        half = 0.5 if name.startswith("output") else 1.0
        x = half * F.conv2d(x, state[f"{name}.0.weight"], None, stride, 1)
        return F.group_norm(x, 16, state[f"{name}.1.weight"], state[f"{name}.1.bias"])

    def lateral(i: int, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, state[f"lateral.{i}.weight"], state[f"lateral.{i}.bias"])

    m5 = lateral(2, c5)
    m4 = lateral(1, c4) + F.interpolate(m5, size=c4.shape[2:], mode="nearest")
    m3 = lateral(0, c3) + F.interpolate(m4, size=c3.shape[2:], mode="nearest")
    n3 = conv("inner.0", m3)
    n4 = conv("inner.1", m4) + conv("down.0", n3, 2)
    n5 = conv("inner.2", m5) + conv("down.1", n4, 2)
    p5 = conv("output.2", n5)
    p6 = conv("extra.0", p5, 2)
    wanted = [conv("output.0", n3), conv("output.1", n4), p5, p6, conv("extra.1", p6.clamp(min=0), 2)]
    for ours, theirs in zip(neck([c3, c4, c5]), wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_start():
    """Xavier-uniform everywhere, also where the deformable convolutions are steered; their own weights are theirs."""
    neck = PAFPN(CHANNELS, WIDTH)
    for name, parameter in neck.named_parameters():
        if parameter.ndim == 4:
            fan_in, fan_out = (parameter.shape[i] * parameter.shape[2] ** 2 for i in (1, 0))
            xavier = (6 / (fan_in + fan_out)) ** 0.5
            bound = 1 / (9 * WIDTH) ** 0.5 if name.startswith("output") and ".offset." not in name else xavier
            assert 0.9 * bound < parameter.abs().max().item() <= bound, name
        else:
            assert parameter.eq(0 if name.endswith("bias") else 1).all(), name
