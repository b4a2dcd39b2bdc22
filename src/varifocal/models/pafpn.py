"""The neck of VFNet-X: a feature pyramid with a second, bottom-up path (PAFPN; Liu et al., CVPR 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from varifocal.models.layers import extra_levels, group_norm, init_xavier, pyramid_conv, top_down
from varifocal.ops.deform_conv import DeformConv


class PAFPN(nn.Module):
    """P3..P7 from C3..C5, ``width`` channels each; strides 8 to 128. As the VFNet authors changed it.

    Laterals, then a way down as in FPN with a 3x3 convolution a level, then a way up: to each level a strided
    convolution of the finer one is added. A deformable convolution reads the result, at the finest level too. P6 is a
    strided convolution of the last output, P7 one of ReLU(P6). All but the laterals have a group norm and no bias;
    there is no other activation. The convolutions that predict the offsets of the deformable ones do not start at zero.
    ``levels`` below 5 drops the coarsest ones.
    """

    def __init__(self, channels: Sequence[int], width: int, levels: int = 5) -> None:
        super().__init__()
        kept = min(levels, len(channels))
        self.lateral = nn.ModuleList(pyramid_conv(c, width, 1) for c in channels[:kept])
        self.inner = nn.ModuleList(pyramid_conv(width, width, 3, norm=True) for _ in range(kept))
        self.down = nn.ModuleList(pyramid_conv(width, width, 3, stride=2, norm=True) for _ in range(kept - 1))
        self.output = nn.ModuleList(nn.Sequential(DeformConv(width, width), group_norm(width)) for _ in range(kept))
        self.extra = nn.ModuleList(pyramid_conv(width, width, 3, stride=2, norm=True) for _ in range(levels - kept))
        init_xavier(self)

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B C _ _"]]:
        """Return the levels of the pyramid, finest first."""
        merged = top_down([lateral(c) for lateral, c in zip(self.lateral, maps, strict=False)])
        inner = [conv(level) for conv, level in zip(self.inner, merged, strict=True)]
        for i, down in enumerate(self.down):
            inner[i + 1] = inner[i + 1] + down(inner[i])
        levels = [output(level) for output, level in zip(self.output, inner, strict=True)]
        return levels + extra_levels(levels[-1], self.extra, relu=True)
