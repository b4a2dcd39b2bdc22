"""Parameter groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from varifocal.models.backbone import Backbone
from varifocal.ops.deform_conv import DeformConv
from varifocal.utils.errors import ConfigError

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Factor = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class TrainConfig:
    """How long, how fast and how carefully to train; the defaults are the paper's 1x schedule.

    ``batch_size`` counts the images of a step over all processes, ``accumulate_grad_batches`` the steps whose gradients
    are added before the weights move. ``lr`` belongs to ``base_batch_size`` images: for another number,
    ``batch_size * accumulate_grad_batches``, it is scaled in proportion, and the run says so when it starts; with 0 it
    is the rate, whatever the batch.
    ``bias_lr_mult`` and ``bias_decay_mult`` multiply rate and decay of convolution biases (the authors' rule; norms
    keep the plain ones), ``backbone_lr_mult`` the rate of the backbone. ``milestones`` are fractions of the run, so
    that they move with its length; the warm-up takes ``warmup_steps`` but never more than a tenth of the run, and rises
    from ``warmup_factor`` of the rate or ("constant") stays there. ``clip_grad_norm`` bounds the gradient's norm,
    ``ema`` is the decay of the averaged weights that are validated and saved (0: none).

    ``swa_epochs`` more epochs follow the schedule (stochastic weight averaging, Zhang et al., arXiv 2012.12645): in
    each the rate falls from ``swa_lr`` to ``swa_lr_min`` times ``lr`` along half a cosine, and the weights at the
    ends of these epochs, in equal parts, are what is then validated and saved. Only weights are averaged, so batch
    norms should keep their statistics (``backbone.norm_eval``).

    ``precision`` "bf16" and "fp16" run the network in half precision; losses and boxes stay in float32.
    ``val_every_epochs`` counts epochs, ``save_every_steps`` steps. A loss above ``max_loss`` stops the run.
    ``max_unreadable`` is the fraction of the images that may turn out to be unreadable: they are replaced by others
    and reported, and one more stops the run; 0 stops at the first. ``weights`` names a checkpoint to start from.
    """

    epochs: Positive = 12
    batch_size: Positive = 16
    accumulate_grad_batches: Positive = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.01
    base_batch_size: NotNegative = 0
    momentum: Factor = 0.9
    weight_decay: Factor = 1e-4
    bias_lr_mult: Factor = 2.0
    bias_decay_mult: Factor = 0.0
    backbone_lr_mult: Factor = 1.0
    schedule: Literal["multi-step", "cosine"] = "multi-step"
    milestones: tuple[Fraction, ...] = (2 / 3, 11 / 12)
    warmup_steps: NotNegative = 500
    warmup_type: Literal["linear", "constant"] = "linear"
    warmup_factor: Fraction = 0.1
    clip_grad_norm: Factor = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    swa_epochs: NotNegative = 0
    swa_lr: Factor = 1.0
    swa_lr_min: Factor = 0.01
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: NotNegative = 0
    num_workers: NotNegative = 2
    val_every_epochs: NotNegative = 1
    save_every_steps: NotNegative = 500
    max_loss: float = 1e4
    max_unreadable: Fraction = 0.01
    tensorboard: bool = False
    weights: str = ""

    RENAMED: ClassVar = {
        "batch": "batch_size",
        "lr_batch": "base_batch_size",
        "accumulate": "accumulate_grad_batches",
        "clip": "clip_grad_norm",
        "workers": "num_workers",
        "warmup": "warmup_type",
        "warmup_start": "warmup_factor",
        "bias_lr": "bias_lr_mult",
        "bias_decay": "bias_decay_mult",
        "backbone_lr": "backbone_lr_mult",
        "validate_every": "val_every_epochs",
        "save_every": "save_every_steps",
        "bad_pictures": "max_unreadable",
    }


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
            "scale": (config.backbone_lr_mult if in_backbone else 1.0) * (config.bias_lr_mult if is_bias else 1.0),
            "weight_decay": config.weight_decay * (config.bias_decay_mult if is_bias else 1.0),
        }


def count_steps(config: TrainConfig, per_epoch: int) -> int:
    """How often the weights move in the schedule, before any epochs of weight averaging.

    Raises:
        ConfigError: not once.
    """
    steps = config.epochs * per_epoch // config.accumulate_grad_batches
    if steps < 1:
        raise ConfigError(
            f"train.epochs={config.epochs} with {per_epoch} batches each and "
            f"train.accumulate_grad_batches={config.accumulate_grad_batches} is "
            "not a single step; raise the first or lower the last."
        )
    return steps


class Schedule:
    """The length of a run whose epochs have ``per_epoch`` batches, and its rate at every step.

    ``steps`` counts all of them; those from ``plain`` on are epochs of weight averaging, ``cycle`` steps each.
    """

    def __init__(self, config: TrainConfig, per_epoch: int) -> None:
        self.config, self.per_epoch = config, per_epoch
        self.plain = count_steps(config, per_epoch)
        self.cycle = max(per_epoch // config.accumulate_grad_batches, 1)
        self.steps = self.plain + config.swa_epochs * self.cycle

    def lr(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return base_lr(self.config) * lr_factor(step, self.plain, self.config, self.cycle)

    def ends_swa_epoch(self, step: int) -> bool:
        """Whether the weights after this step are to be averaged."""
        return step >= self.plain and (step + 1 - self.plain) % self.cycle == 0


def base_lr(config: TrainConfig) -> float:
    """``lr`` for the images of a step, in proportion to ``base_batch_size`` (Goyal et al., arXiv 1706.02677)."""
    return config.lr * (
        config.batch_size * config.accumulate_grad_batches / config.base_batch_size if config.base_batch_size else 1.0
    )


def lr_factor(step: int, steps: int, config: TrainConfig, cycle: int = 1) -> float:
    """What the base rate is multiplied by: linear or constant warm-up, times tenfold drops or half a cosine.

    ``steps`` is the length of the schedule; behind it each ``cycle`` steps are one epoch of averaging.
    """
    if config.swa_epochs and step >= steps:
        done = (step - steps) % cycle / cycle
        return config.swa_lr_min + (config.swa_lr - config.swa_lr_min) * 0.5 * (1 + math.cos(math.pi * done))
    warmup, warmup_steps = 1.0, min(config.warmup_steps, steps // 10)
    if step < warmup_steps:
        risen = step / warmup_steps if config.warmup_type == "linear" else 0.0
        warmup = config.warmup_factor + (1 - config.warmup_factor) * risen
    if config.schedule == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * step / steps))
    return warmup * 0.1 ** sum(step >= round(fraction * steps) for fraction in config.milestones)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The rate of every group, each by its scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]
