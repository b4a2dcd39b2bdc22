"""Feature pyramid (Lin et al., CVPR 2017) with the two coarse levels that FCOS added."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class FPN(nn.Module):
    """P3..P7 from C3..C5, ``width`` channels each; strides 8 to 128.

    P6 is a strided convolution of P5, P7 one of ReLU(P6). Up-sampling is nearest to the exact size of the finer map.
    ``levels`` below 5 leaves the coarsest away, for pictures whose objects are all small.
    """

    def __init__(self, channels: Sequence[int], width: int, levels: int = 5) -> None:
        super().__init__()
        kept = min(levels, len(channels))
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels[:kept])
        self.output = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels[:kept])
        self.extra = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(levels - kept))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B C _ _"]]:
        """The pyramid, finest level first."""
        merged = [lateral(c) for lateral, c in zip(self.lateral, maps, strict=False)]
        for i in range(len(merged) - 1, 0, -1):
            merged[i - 1] = merged[i - 1] + F.interpolate(merged[i], size=merged[i - 1].shape[2:])
        levels = [output(level) for output, level in zip(self.output, merged, strict=True)]
        for i, extra in enumerate(self.extra):
            levels.append(extra(levels[-1] if i == 0 else levels[-1].relu()))
        return levels
