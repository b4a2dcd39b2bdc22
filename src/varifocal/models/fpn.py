"""Feature pyramid (Lin et al., CVPR 2017) with the two coarse levels that FCOS and RetinaNet added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from varifocal.models.layers import group_norm


class FPN(nn.Module):
    """P3..P7 from C3..C5, ``width`` channels each; strides 8 to 128.

    P6 is a strided convolution of the last output, P5, or with ``extra_from="input"`` of C5; P7 is one of P6. With
    ``extra_relu`` P7 reads ReLU(P6). ``norm`` puts a group norm after every convolution, which then has no bias.
    Up-sampling is nearest to the exact size of the finer map. ``levels`` below 5 leaves the coarsest away, for
    images whose objects are all small.
    """

    def __init__(
        self,
        channels: Sequence[int],
        width: int,
        levels: int = 5,
        *,
        extra_from: Literal["output", "input"] = "output",
        extra_relu: bool = True,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.extra_from, self.extra_relu = extra_from, extra_relu
        kept = min(levels, len(channels))
        self.lateral = nn.ModuleList(pyramid_conv(c, width, 1, norm=norm) for c in channels[:kept])
        self.output = nn.ModuleList(pyramid_conv(width, width, 3, norm=norm) for _ in channels[:kept])
        inputs = [channels[-1] if extra_from == "input" else width] + [width] * levels
        self.extra = nn.ModuleList(pyramid_conv(inputs[i], width, 3, stride=2, norm=norm) for i in range(levels - kept))
        init_xavier(self)

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B C _ _"]]:
        """The pyramid, finest level first."""
        merged = top_down([lateral(c) for lateral, c in zip(self.lateral, maps, strict=False)])
        levels = [output(level) for output, level in zip(self.output, merged, strict=True)]
        last = maps[-1] if self.extra_from == "input" else levels[-1]
        return levels + extra_levels(last, self.extra, relu=self.extra_relu)


def top_down(levels: Sequence[Float[Tensor, "B C _ _"]]) -> list[Float[Tensor, "B C _ _"]]:
    """To each level everything coarser is added, up-sampled by nearest neighbor to its exact size."""
    merged = list(levels)
    for i in range(len(merged) - 1, 0, -1):
        merged[i - 1] = merged[i - 1] + F.interpolate(merged[i], size=merged[i - 1].shape[2:])
    return merged


def extra_levels(
    last: Float[Tensor, "B _ _ _"], convs: Iterable[nn.Module], *, relu: bool
) -> list[Float[Tensor, "B C _ _"]]:
    """The levels beyond the backbone: each a strided convolution of the one before, from the second on of its ReLU."""
    levels: list[Tensor] = []
    for conv in convs:
        last = conv(last.relu() if levels and relu else last)
        levels.append(last)
    return levels


def init_xavier(pyramid: nn.Module) -> None:
    """Xavier-uniform weights and no bias for every plain convolution, as pyramids of this family start.

    Those that steer a deformable convolution are among them, as in the authors' code.
    """
    for module in pyramid.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def pyramid_conv(inputs: int, outputs: int, size: int, *, stride: int = 1, norm: bool = False) -> nn.Module:
    """A convolution that keeps the size but for its stride, with a bias, or with a group norm and none."""
    conv = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=not norm)
    return nn.Sequential(conv, group_norm(outputs)) if norm else conv
