"""Parameter groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from varifocal.models.backbone import Backbone
from varifocal.ops.deform_conv import DeformConv

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Factor = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class TrainConfig:
    """How long, how fast and how carefully to train; the defaults are the paper's 1x schedule.

    ``batch`` counts the pictures of a step over all processes, ``accumulate`` the steps whose gradients are added
    before the weights move. ``lr`` belongs to that batch; it is not scaled behind your back. ``bias_lr`` and
    ``bias_decay`` multiply rate and decay of convolution biases (the authors' rule; norms keep the plain ones),
    ``backbone_lr`` the rate of the backbone. ``milestones`` are shares of the run, so that they move with its
    length; the warm-up takes ``warmup_steps`` but never more than a tenth of the run. ``clip`` bounds the
    gradient's norm, ``ema`` is the decay of the averaged weights that are validated and saved (0: none).
    ``precision`` "bf16" and "fp16" run the network in half precision; losses and boxes stay in float32.
    ``validate_every`` counts epochs, ``save_every`` steps. ``cache_mb`` bounds the decoded pictures that each
    loading process keeps. A loss above ``max_loss`` stops the run. ``weights`` names a checkpoint to start from.
    """

    epochs: Positive = 12
    batch: Positive = 16
    accumulate: Positive = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.01
    momentum: Factor = 0.9
    weight_decay: Factor = 1e-4
    bias_lr: Factor = 2.0
    bias_decay: Factor = 0.0
    backbone_lr: Factor = 1.0
    schedule: Literal["multi-step", "cosine"] = "multi-step"
    milestones: tuple[Share, ...] = (2 / 3, 11 / 12)
    warmup_steps: NotNegative = 500
    warmup_start: Share = 0.1
    clip: Factor = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: NotNegative = 0
    workers: NotNegative = 2
    cache_mb: NotNegative = 512
    validate_every: NotNegative = 1
    save_every: NotNegative = 500
    max_loss: float = 1e4
    tensorboard: bool = False
    weights: str = ""


def make_optimizer(detector: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over the authors' parameter groups; each group carries its ``scale`` of the learning rate."""
    groups = list(_groups(detector, config))
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def _groups(detector: nn.Module, config: TrainConfig) -> Iterator[dict[str, Any]]:
    """One group for each kind of parameter: in the backbone or not, a convolution's bias or not."""
    offsets = {module.offset for module in detector.modules() if isinstance(module, DeformConv)}
    biases = {
        id(module.bias)
        for module in detector.modules()
        if isinstance(module, nn.Conv2d) and module.bias is not None and module not in offsets
    }
    backbone = {id(p) for part in detector.modules() if isinstance(part, Backbone) for p in part.parameters()}
    members: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in detector.parameters():
        if parameter.requires_grad:
            kind = id(parameter) in backbone, id(parameter) in biases
            members.setdefault(kind, []).append(parameter)
    for (in_backbone, is_bias), parameters in sorted(members.items(), key=lambda item: item[0], reverse=True):
        yield {
            "params": parameters,
            "scale": (config.backbone_lr if in_backbone else 1.0) * (config.bias_lr if is_bias else 1.0),
            "weight_decay": config.weight_decay * (config.bias_decay if is_bias else 1.0),
        }


def lr_factor(step: int, steps: int, config: TrainConfig) -> float:
    """What the base rate is multiplied by: linear warm-up, times tenfold drops or half a cosine."""
    warmup, warmup_steps = 1.0, min(config.warmup_steps, steps // 10)
    if step < warmup_steps:
        warmup = config.warmup_start + (1 - config.warmup_start) * step / warmup_steps
    if config.schedule == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * step / steps))
    return warmup * 0.1 ** sum(step >= round(share * steps) for share in config.milestones)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The rate of every group, each by its scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
