"""Averages of the weights: an exponential moving one that follows quickly at first, and one in equal parts."""

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


class WeightAverages:
    """The averages of a run: of every step with ``decay`` above 0, of the ends of the last epochs with ``swa``."""

    def __init__(self, detector: nn.Module, decay: float, swa: bool) -> None:
        self.detector, self.decay = detector, decay
        self.ema = make_ema(detector, decay)
        self.swa = make_swa(detector) if swa else None

    def parts(self) -> dict[str, nn.Module]:
        """What an exact resume needs."""
        return {"ema": self.ema} if self.swa is None else {"ema": self.ema, "swa": self.swa}

    def update(self, *, ends_swa_epoch: bool) -> None:
        """Take in the weights as they are after a step."""
        self.ema.update_parameters(self.detector)
        if self.swa is not None and ends_swa_epoch:
            self.swa.update_parameters(self.detector)

    def best(self) -> nn.Module:
        """The weights to validate and to save."""
        if self.swa is not None and int(self.swa.n_averaged) > 0:
            return self.swa.module
        return self.ema.module if self.decay else self.detector


def make_swa(detector: nn.Module) -> AveragedModel:
    """torch's averaged model in which every update counts the same; buffers are copied."""

    def average(kept: Tensors, new: Tensors, count: Tensor | int) -> None:
        torch._foreach_lerp_(kept, new, 1 / (float(count) + 1))  # torch's own has this weight in float32

    return AveragedModel(detector, multi_avg_fn=average)
