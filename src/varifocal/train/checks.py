"""What ends a run in one sentence rather than in weights that are worth nothing."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from varifocal.structures import Batch
from varifocal.utils.errors import TrainingError


def outputs_of(network: Any, images: Tensor, step: int, batch: Batch) -> Any:
    """What the network says of a batch.

    Raises:
        TrainingError: a batch norm that learns its statistics has a single value to learn from.
    """
    try:
        return network(images)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        height, width = images.shape[2:]
        raise TrainingError(
            f"step {step + 1}: a batch norm of the backbone cannot learn from the single value that {batch.files[0]} "
            f"leaves it at {width} x {height} pixels; set model.backbone.norm_eval=true, or take a larger "
            "train.batch_size or larger images."
        ) from error


def ensure_finite_loss(losses: dict[str, Tensor], limit: float, step: int, batch: Batch) -> dict[str, float]:
    """The terms as numbers, averaged over the processes.

    All processes stop when one must: a process left alone would wait for the others forever.

    Raises:
        TrainingError: not finite, or above ``limit``; names the step, the images and the largest term.
    """
    terms = {name: loss.item() for name, loss in losses.items()}
    total = sum(terms.values())
    bad = not (math.isfinite(total) and total <= limit)
    means, any_bad = _exchange(terms, bad, next(iter(losses.values())).device)
    if not any_bad:
        return means
    if not bad:
        raise TrainingError(f"step {step + 1}: the loss of another process is not finite or too large; it says more.")
    worst = max(terms, key=lambda name: abs(terms[name]) if math.isfinite(terms[name]) else math.inf)
    raise TrainingError(
        f"step {step + 1}: the loss is {total:.4g} (largest term: {worst} = {terms[worst]:.4g}) on "
        f"{', '.join(batch.files)}; the last checkpoint is kept. Lower train.lr, set train.clip_grad_norm=10, or "
        f"look at "
        "these images' boxes."
    )


def _exchange(terms: dict[str, float], bad: bool, device: torch.device) -> tuple[dict[str, float], bool]:
    """The terms averaged over the processes, and whether any process is bad."""
    if not (dist.is_available() and dist.is_initialized()):
        return terms, bad
    values = torch.tensor([*terms.values(), float(bad)], dtype=torch.float64, device=device)
    dist.all_reduce(values)
    *means, count = values.tolist()
    return {name: mean / dist.get_world_size() for name, mean in zip(terms, means, strict=True)}, count > 0


def average_losses(terms: list[dict[str, float]]) -> dict[str, float]:
    """The terms of a step, averaged over its batches."""
    return {name: sum(one[name] for one in terms) / len(terms) for name in terms[0]}


def ensure_finite_weights(detector: nn.Module, step: int, group: list[Batch]) -> None:
    """Looked at before anything is written: a finite loss can have a gradient that is not.

    Raises:
        TrainingError: a weight is not finite; names the step, the images and the weight.
    """
    for name, weight in detector.named_parameters():
        if not weight.isfinite().all():
            files = ", ".join(file for batch in group for file in batch.files)
            raise TrainingError(
                f"step {step + 1}: {name} is not finite after {files}; the last checkpoint is kept. Lower train.lr, "
                "or set train.clip_grad_norm=10."
            )
