"""One step of training: the losses of its batches, their gradients, checks of both, and the update of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from varifocal.data.preprocess import normalize
from varifocal.structures import Batch, Targets
from varifocal.training.optim import TrainConfig, set_lr
from varifocal.training.processes import in_group, sum_over_processes
from varifocal.types import Preprocess
from varifocal.utils.errors import TrainingError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Stepper:
    """Updates the weights of a detector; ``network`` is the detector as Fabric wrapped it."""

    def __init__(
        self,
        detector: Any,
        optimizer: torch.optim.Optimizer,
        preprocess: Preprocess,
        config: TrainConfig,
        fabric: Fabric,
    ) -> None:
        self.detector, self.preprocess, self.config, self.fabric = detector, preprocess, config, fabric
        self.network, self.optimizer = fabric.setup(detector, optimizer)

    def step(self, step: int, batches: Sequence[Batch], lr: float) -> dict[str, float]:
        """Update the weights once with the gradients of these batches; return the mean of each loss term.

        Raises:
            TrainingError: a loss is not finite or too large, or a batch norm has a single value to learn from.
        """
        set_lr(self.optimizer, lr)
        # dropout and the like depend on the step alone, so that a resumed run repeats them
        seed_everything((self.config.seed * 1_000_003 + step) * 1009 + self.fabric.global_rank)
        terms = self._add_gradients(step, batches)
        if self.config.clip_grad_norm:
            self.fabric.clip_gradients(
                self.network, self.optimizer, max_norm=self.config.clip_grad_norm, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        return terms

    def _add_gradients(self, step: int, batches: Sequence[Batch]) -> dict[str, float]:
        """Run forward and backward on each batch; return the mean of each loss term."""
        terms: list[dict[str, float]] = []
        for i, batch in enumerate(batches):
            images, targets = to_device(batch, self.fabric.device, self.preprocess)
            # processes exchange gradients once a step, at its last batch
            with self.fabric.no_backward_sync(self.network, enabled=i + 1 < len(batches)):
                losses = self.detector.loss(outputs_of(self.network, images, step, batch), targets)
                terms.append(ensure_finite_loss(losses, self.config.max_loss, step, batch))
                self.fabric.backward(torch.stack(list(losses.values())).sum() / len(batches))
        return {name: sum(values[name] for values in terms) / len(terms) for name in terms[0]}


def seed_everything(seed: int) -> None:
    """Seed the generators in use; ``torch.manual_seed`` would initialize every kind of accelerator at each step."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(seed)


def to_device(batch: Batch, device: torch.device, preprocess: Preprocess) -> tuple[Tensor, list[Targets]]:
    """Return normalized images [B, 3, H, W], channels last, and the targets, all on the device."""
    pixels = batch.images.to(device, non_blocking=True)
    images = normalize(pixels, [target.size for target in batch.targets], preprocess)
    targets = [Targets(t.boxes.to(device), t.labels.to(device), t.crowd.to(device), t.size) for t in batch.targets]
    return images, targets


def outputs_of(network: Any, images: Tensor, step: int, batch: Batch) -> Any:
    """Return the network's outputs for the images of a batch.

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
            f"step {step + 1}: a batch norm of the backbone has a single value to learn its statistics from, because "
            f"{batch.files[0]} is alone in its batch and only {width} x {height} pixels large; set "
            "model.backbone.norm_eval=true, or use a larger train.batch_size or larger images.",
            code="single-value-batch-norm",
        ) from error


def ensure_finite_loss(losses: dict[str, Tensor], limit: float, step: int, batch: Batch) -> dict[str, float]:
    """Return the loss terms as numbers, averaged over the processes.

    All processes stop if one must: a process left alone would wait for the others forever.

    Raises:
        TrainingError: the loss is not finite or above ``limit``; names the step, the images and the largest term.
    """
    terms = {name: loss.item() for name, loss in losses.items()}
    total = sum(terms.values())
    bad = not (math.isfinite(total) and total <= limit)
    means, any_bad = _mean_over_processes(terms, bad, next(iter(losses.values())).device)
    if not any_bad:
        return means
    if not bad:
        raise TrainingError(
            f"step {step + 1}: the loss is not finite or too large in another process; see its message.",
            code="loss-of-another-process",
        )
    worst = max(terms, key=lambda name: abs(terms[name]) if math.isfinite(terms[name]) else math.inf)
    raise TrainingError(
        f"step {step + 1}: the loss is {total:.4g} (largest term: {worst} = {terms[worst]:.4g}) on "
        f"{', '.join(batch.files)}; the last checkpoint is kept. Lower train.lr, set train.clip_grad_norm=10, or check "
        "the boxes of these images.",
        code="loss-not-finite",
    )


def _mean_over_processes(terms: dict[str, float], bad: bool, device: torch.device) -> tuple[dict[str, float], bool]:
    """Return the mean of each term over the processes, and whether any process is ``bad``."""
    if not in_group():
        return terms, bad
    *sums, count, world = sum_over_processes([*terms.values(), float(bad), 1.0], device)
    return {name: total / world for name, total in zip(terms, sums, strict=True)}, count > 0


def ensure_finite_weights(detector: nn.Module, step: int, batches: Sequence[Batch]) -> None:
    """Check the weights before they are written: a finite loss can have a gradient that is not finite.

    Raises:
        TrainingError: a weight is not finite; names the step, the images and the weight.
    """
    for name, weight in detector.named_parameters():
        if not weight.isfinite().all():
            files = ", ".join(file for batch in batches for file in batch.files)
            raise TrainingError(
                f"step {step + 1}: {name} is not finite after training on {files}; the last checkpoint is kept. Lower "
                "train.lr, or set train.clip_grad_norm=10.",
                code="weight-not-finite",
            )
