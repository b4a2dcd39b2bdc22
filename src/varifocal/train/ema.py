"""An exponential moving average of the weights that follows quickly at first."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def make_ema(detector: nn.Module, decay: float) -> AveragedModel:
    """torch's averaged model with decay ``min(decay, (1 + n) / (4 + n))`` after n updates.

    The warm-up makes it an average over about the last third of what there has been, until the decay takes over: the
    random start counts for nothing, and a short run is averaged as a long one is. Buffers are copied.
    """

    def average(kept: Tensors, new: Tensors, count: Tensor | int) -> None:
        n = float(count)
        torch._foreach_lerp_(kept, new, 1 - min(decay, (1 + n) / (4 + n)))

    return AveragedModel(detector, multi_avg_fn=average)
