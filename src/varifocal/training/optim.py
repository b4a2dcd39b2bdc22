"""How weights are updated: the settings, the optimizer, the learning rate of each step, and averages of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from varifocal.models.backbone import Backbone
from varifocal.ops.deform_conv import DeformConv
from varifocal.training.callbacks import TrackerName
from varifocal.utils.errors import ConfigError

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Factor = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True)
class TrainConfig:
    """The ``train`` section of a recipe; the defaults are the paper's 1x schedule.

    ``epochs`` may be a fraction: 1.5 epochs of 100 batches are 150 steps. Each update of the weights adds the gradients
    of ``accumulate_grad_batches`` batches of ``batch_size`` images, which all processes together process; "auto"
    is replaced at the start of a run by the largest number that the memory allows. ``lr`` is for
    ``base_batch_size`` images per update; for another number, it is scaled in proportion, and the run says so at its
    start. With ``base_batch_size`` 0 it is never scaled.
    ``bias_lr_mult`` and ``bias_decay_mult`` multiply the learning rate and weight decay of convolution biases (the
    authors' rule; those of norms stay as they are), ``backbone_lr_mult`` the learning rate of the backbone.
    ``milestones`` are fractions of the run, so that they move with its length. The warm-up takes ``warmup_steps`` but
    at most a tenth of the run; it rises from ``warmup_factor`` times the learning rate or ("constant") stays there.
    ``clip_grad_norm`` limits the norm of the gradient (0: no limit), ``ema`` is the decay of the averaged weights that
    are validated and saved (0: no averaging).

    ``swa_epochs`` more epochs follow the schedule (stochastic weight averaging, Zhang et al., arXiv 2012.12645): in
    each, the learning rate falls from ``swa_lr`` to ``swa_lr_min`` times ``lr`` along half a cosine, and the mean of
    the weights at the ends of these epochs is validated and saved. Only weights are averaged, so batch norms should
    keep their statistics (``backbone.norm_eval``).

    With ``patience`` above 0 the run stops early after that many validations in a row that are not better than the
    best; its best weights are kept in any case.

    ``precision`` "bf16" and "fp16" run the network in half precision; losses and boxes stay in float32. A loss above
    ``max_loss`` stops the run. ``max_unreadable`` is the fraction of the training images that may be unreadable: they
    are replaced by others and reported, and one more stops the run; 0 stops at the first. ``log`` lists the
    experiment trackers that the run reports to. ``freeze`` lists the parts of the detector that keep their weights:
    "backbone", "neck" or "head". ``weights`` names what to start from: a checkpoint, a run or published
    weights.
    """

    epochs: Annotated[int | float, Field(gt=0)] = 12
    batch_size: Positive | Literal["auto"] = 16
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
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    seed: NotNegative = 0
    num_workers: NotNegative = 2
    val_every_epochs: NotNegative = 1
    patience: NotNegative = 0
    save_every_steps: NotNegative = 500
    max_loss: float = 1e4
    max_unreadable: Fraction = 0.01
    log: tuple[TrackerName, ...] = ()
    freeze: tuple[Literal["backbone", "neck", "head"], ...] = ()
    weights: str = ""

    RENAMED: ClassVar = {
        "tensorboard": "log",
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

    @property
    def images_per_batch(self) -> int:
        """The batch size, a number once a run has begun."""
        assert not isinstance(self.batch_size, str), "a run replaces auto at its start"
        return self.batch_size

    RENAMED_VALUES: ClassVar = {"log": {True: ("tensorboard",), False: ()}}


def make_optimizer(detector: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return SGD or AdamW over the authors' parameter groups; ``scale`` of a group multiplies its learning rate."""
    groups = list(_groups(detector, config))
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def _groups(detector: nn.Module, config: TrainConfig) -> Iterator[dict[str, Any]]:
    """Yield a group for each kind of parameter: in the backbone or not, bias of a convolution or not.

    The convolutions that predict offsets of deformable convolutions count as not having a bias, as for the authors.
    """
    modules = list(detector.modules())
    offsets = {id(module.offset.bias) for module in modules if isinstance(module, DeformConv)}
    biases = {id(module.bias) for module in modules if isinstance(module, nn.Conv2d)} - offsets
    backbone = {id(p) for module in modules if isinstance(module, Backbone) for p in module.parameters()}
    members: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in detector.parameters():
        if parameter.requires_grad:
            kind = id(parameter) in backbone, id(parameter) in biases
            members.setdefault(kind, []).append(parameter)
    for (in_backbone, is_bias), parameters in sorted(members.items(), key=lambda item: item[0], reverse=True):
        lr_mult, decay_mult = (config.bias_lr_mult, config.bias_decay_mult) if is_bias else (1.0, 1.0)
        yield {
            "params": parameters,
            "scale": (config.backbone_lr_mult if in_backbone else 1.0) * lr_mult,
            "weight_decay": config.weight_decay * decay_mult,
        }


def count_steps(config: TrainConfig, per_epoch: int) -> int:
    """Return the number of steps of the schedule, before any epochs of weight averaging.

    Raises:
        ConfigError: it is 0.
    """
    steps = round(config.epochs * per_epoch) // config.accumulate_grad_batches
    if steps < 1:
        raise ConfigError(
            f"train.epochs={config.epochs} with {per_epoch} batches per epoch and "
            f"train.accumulate_grad_batches={config.accumulate_grad_batches} is not a single step; raise train.epochs "
            "or lower train.accumulate_grad_batches.",
            code="no-training-step",
        )
    return steps


class Schedule:
    """The number of steps of a run whose epochs have ``per_epoch`` batches, and the learning rate of each step.

    The first ``plain`` of all ``steps`` follow the schedule; the others are epochs of weight averaging, each ``cycle``
    steps long. Steps are counted from 0.
    """

    def __init__(self, config: TrainConfig, per_epoch: int) -> None:
        self.config, self.per_epoch = config, per_epoch
        self.plain = count_steps(config, per_epoch)
        self.cycle = max(per_epoch // config.accumulate_grad_batches, 1)
        self.steps = self.plain + config.swa_epochs * self.cycle

    def lr(self, step: int) -> float:
        """Return the learning rate of a step."""
        return base_lr(self.config) * lr_factor(step, self.plain, self.config, self.cycle)

    def ends_epoch(self, step: int) -> bool:
        """Return whether an epoch ends with or within a step."""
        batches = self.config.accumulate_grad_batches
        return (step + 1) * batches // self.per_epoch > step * batches // self.per_epoch

    def ends_swa_epoch(self, step: int) -> bool:
        """Return whether the weights after a step are to be averaged."""
        return step >= self.plain and (step + 1 - self.plain) % self.cycle == 0


def base_lr(config: TrainConfig) -> float:
    """Return ``lr`` scaled from ``base_batch_size`` to the images of a step (Goyal et al., arXiv 1706.02677)."""
    return config.lr * (
        config.images_per_batch * config.accumulate_grad_batches / config.base_batch_size
        if config.base_batch_size
        else 1.0
    )


def lr_factor(step: int, steps: int, config: TrainConfig, cycle: int = 1) -> float:
    """Return what multiplies the base learning rate: linear or constant warm-up, times tenfold drops or half a cosine.

    ``steps`` is the length of the schedule; after it, each ``cycle`` steps are one epoch of weight averaging.
    """
    if config.swa_epochs and step >= steps:
        done = (step - steps) % cycle / cycle
        return config.swa_lr_min + (config.swa_lr - config.swa_lr_min) * 0.5 * (1 + math.cos(math.pi * done))
    warmup, warmup_steps = 1.0, min(config.warmup_steps, steps // 10)
    if step < warmup_steps:
        done = step / warmup_steps if config.warmup_type == "linear" else 0.0
        warmup = config.warmup_factor + (1 - config.warmup_factor) * done
    if config.schedule == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * step / steps))
    return warmup * 0.1 ** sum(step >= round(fraction * steps) for fraction in config.milestones)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group, each times its scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


class WeightAverages:
    """Averages of the weights of a run: over all steps if ``decay`` is above 0, over the last epochs with ``swa``."""

    def __init__(self, detector: nn.Module, decay: float, swa: bool) -> None:
        self.detector, self.decay = detector, decay
        self.ema = make_ema(detector, decay)
        self.swa = make_swa(detector) if swa else None

    def parts(self) -> dict[str, nn.Module]:
        """Return the modules that an exact resume needs."""
        return {"ema": self.ema} if self.swa is None else {"ema": self.ema, "swa": self.swa}

    def update(self, *, ends_swa_epoch: bool) -> None:
        """Add the weights as they are after a step."""
        self.ema.update_parameters(self.detector)
        if self.swa is not None and ends_swa_epoch:
            self.swa.update_parameters(self.detector)

    def best(self) -> nn.Module:
        """Return the detector with the weights to validate and save."""
        if self.swa is not None and int(self.swa.n_averaged) > 0:
            return self.swa.module
        return self.ema.module if self.decay else self.detector


def make_ema(detector: nn.Module, decay: float) -> AveragedModel:
    """Return torch's averaged model with decay ``min(decay, (1 + n) / (4 + n))`` after n updates; buffers are copied.

    This warm-up averages over about the last third of the steps so far until the decay takes over: the random initial
    weights count for nothing, and a short run is averaged like a long one.
    """

    def average(kept: Tensors, new: Tensors, count: Tensor | int) -> None:
        n = float(count)
        torch._foreach_lerp_(kept, new, 1 - min(decay, (1 + n) / (4 + n)))

    return AveragedModel(detector, multi_avg_fn=average)


def make_swa(detector: nn.Module) -> AveragedModel:
    """Return torch's averaged model in which every update has the same weight; buffers are copied."""

    def average(kept: Tensors, new: Tensors, count: Tensor | int) -> None:
        torch._foreach_lerp_(kept, new, 1 / (float(count) + 1))  # torch's own has this weight in float32

    return AveragedModel(detector, multi_avg_fn=average)
