"""The whole training loop, in one module.

Lightning Fabric moves tensors, casts and synchronises; it was taken rather than Accelerate because it keeps no
process-wide state, so that several runs fit into one process. Everything else is a plain line of the loop.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from varifocal.data.augment import Augmentation
from varifocal.data.loader import BatchSampler, TrainDataset
from varifocal.data.preprocess import normalize
from varifocal.data.sampler import Sampling
from varifocal.evaluation.coco_ap import CocoMetrics
from varifocal.evaluation.evaluate import detect_all, measure
from varifocal.inference.model import Model, save
from varifocal.structures import Batch, Targets
from varifocal.train.averaging import WeightAverages
from varifocal.train.checks import average_losses, ensure_finite_loss, ensure_finite_weights, outputs_of
from varifocal.train.interrupt import Interruption
from varifocal.train.log import RunLogger
from varifocal.train.optim import Schedule, TrainConfig, base_lr, make_optimizer, set_lr
from varifocal.train.state import load_state, save_state
from varifocal.train.unreadable_images import UnreadableImages
from varifocal.types import Dataset, Preprocess
from varifocal.utils.errors import ConfigError, Interrupted, VarifocalError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True, eq=False)
class TrainJob:
    """What to train on what, and where to keep it; ``cache_bytes`` of decoded images are kept on this machine.

    ``notes`` are sentences on how the model begins.
    """

    model: Model
    training: Dataset
    validation: Dataset | None
    augment: Augmentation
    config: TrainConfig
    run: Path
    sampling: Sampling = field(default_factory=Sampling)
    cache_bytes: int = 0
    notes: tuple[str, ...] = ()


def train(job: TrainJob, *, resume: bool = False) -> dict[str, float]:
    """Train to the end of the schedule and return the best validation metrics (empty without validation data).

    Under ``torchrun`` every process calls this. The run folder gets ``best.safetensors``, ``last.safetensors``,
    ``state.safetensors`` and ``log.jsonl``, and ``unreadable_images.txt`` where there are some.

    Raises:
        TrainingError: a loss is not finite or too large; the last checkpoint is untouched.
        DataError: more images cannot be read than the config lets pass, or one of the validation.
        CheckpointError: nothing to resume from, or a checkpoint cannot be written.
        Interrupted: Ctrl-C; the step it came in is finished, and the state of the run is written.
    """
    fabric = start_fabric(job.config)
    metrics, stopped = dict[str, float](), ""
    try:
        metrics = _run(job, fabric, resume)
    except Interrupted as error:
        stopped = str(error)
    shutdown_process_group(fabric)  # after the exception, whose trace refers to all that the run had
    if stopped:
        raise Interrupted(stopped)
    return metrics


def _run(job: TrainJob, fabric: Fabric, resume: bool) -> dict[str, float]:
    config, detector = job.config, job.model.detector
    data = build_train_dataset(job)
    batches = BatchSampler(data, config.batch_size, rank=fabric.global_rank, world=fabric.world_size)
    schedule = Schedule(config, batches.per_epoch)
    steps = schedule.steps
    detector.to(memory_format=torch.channels_last)
    detector.train()  # a new module is in training mode but does not know of norm_eval before this call
    network, optimizer = fabric.setup(detector, make_optimizer(detector, config))
    averages = WeightAverages(detector, config.ema, config.swa_epochs > 0)
    parts = {"model": detector, **averages.parts()}
    # -1 is the AP of labels without boxes
    progress: dict[str, Any] = {"step": 0, "best": -2.0, "metrics": {}, "measured": True}
    if resume:
        progress = load_state(job.run, parts, optimizer)
    bad = _unreadable_images(job, fabric, progress)
    loader = batches.loader(
        progress["step"] * config.accumulate_grad_batches, steps * config.accumulate_grad_batches, config.num_workers
    )
    quiet = fabric.global_rank > 0
    with (
        RunLogger(job.run, progress["step"], steps, quiet=quiet, tensorboard=config.tensorboard) as log,
        Interruption(quiet=quiet) as interruption,
    ):
        keeper = _Keeper(job, fabric, averages, parts, optimizer, progress, steps, log, interruption)
        _introduce(log, config, data)
        if not progress.get("measured", True):  # the run was cut off while it was measured
            keeper.keep(measure=True, save=True)
        for step, group in enumerate(_groups_of(loader, config.accumulate_grad_batches), start=progress["step"]):
            bad.add(group, fabric.device)
            progress["unreadable_images"] = bad.rows()
            lr = schedule.lr(step)
            terms = _take_step(network, optimizer, job, group, fabric, step, lr)
            averages.update(ends_swa_epoch=schedule.ends_swa_epoch(step))
            log.step(step, terms, lr)
            _tell_of_unreadable_images(log, bad, step, config.accumulate_grad_batches, batches.per_epoch)
            keeper.after_step(step, group, batches.per_epoch)
    return progress["metrics"]


@dataclass(frozen=True, eq=False)
class _Keeper:
    """What is measured and written between steps."""

    job: TrainJob
    fabric: Fabric
    averages: WeightAverages
    parts: dict[str, nn.Module]
    optimizer: torch.optim.Optimizer
    progress: dict[str, Any]
    steps: int
    log: RunLogger
    interruption: Interruption

    def after_step(self, step: int, group: list[Batch], per_epoch: int) -> None:
        """Measure and write what is due; raises as :meth:`keep`, and TrainingError for weights that are not finite."""
        config = self.job.config
        self.progress["step"] = step + 1
        stop = self.interruption.anywhere(self.fabric.device)
        measure = _due(step, self.steps, config.val_every_epochs * per_epoch // config.accumulate_grad_batches)
        save = stop or _due(step, self.steps, config.save_every_steps)
        if measure or save:
            ensure_finite_weights(self.job.model.detector, step, group)
        self.keep(measure=measure, save=save, stop=stop)

    def keep(self, *, measure: bool, save: bool, stop: bool = False) -> None:
        """Measure, and write the state of the run, where these are due.

        Raises:
            Interrupted: a person wishes to ``stop``; the state is written, and measuring is left for later.
        """
        self.progress["measured"] = not measure
        try:
            if measure and not stop:
                _validate(self.job, self.averages.best(), self.progress, self.log, self.fabric, self.interruption.check)
        except KeyboardInterrupt:
            stop = save = self.interruption.noted is not None
            if not stop:
                raise
        finally:  # a validation image that cannot be read does not cost the training before it
            if save and self.fabric.is_global_zero:
                save_state(self.job.run, self.parts, self.optimizer, self.progress)
        if stop:
            raise Interrupted(f"interrupted after step {self.progress['step']} of {self.steps}, which is kept")


def schedule_of(job: TrainJob) -> Schedule:
    """How many steps a run has, and at which rate each is."""
    data = build_train_dataset(replace(job, cache_bytes=0))
    return Schedule(job.config, BatchSampler(data, job.config.batch_size).per_epoch)


def build_train_dataset(job: TrainJob) -> TrainDataset:
    """The examples of a run, as every process makes them."""
    config, samples = job.config, job.training.samples
    return TrainDataset(
        samples,
        job.model.info.preprocess,
        job.augment,
        config.seed,
        sampling=job.sampling,
        cache_bytes=job.cache_bytes // int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        strict=UnreadableImages(config.max_unreadable, len(samples), None).most == 0,
    )


def _unreadable_images(job: TrainJob, fabric: Fabric, progress: dict[str, Any]) -> UnreadableImages:
    run = job.run if fabric.is_global_zero else None
    known = progress.get("unreadable_images", progress.get("bad_pictures", ()))  # its name before version 0.1.0
    return UnreadableImages(job.config.max_unreadable, len(job.training.samples), run, known)


def _introduce(log: RunLogger, config: TrainConfig, data: TrainDataset) -> None:
    for note in data.order.notes:
        log.say(note)
    if base_lr(config) != config.lr:
        log.say(f"train.lr={config.lr:g} is for {config.base_batch_size} images a step: here {base_lr(config):g}")


def _tell_of_unreadable_images(
    log: RunLogger, bad: UnreadableImages, step: int, accumulate: int, per_epoch: int
) -> None:
    """At the end of each epoch, if there are any."""
    ends_epoch = (step + 1) * accumulate // per_epoch > step * accumulate // per_epoch
    if bad.found and ends_epoch:
        log.unreadable_images(step, bad)


def seed_everything(seed: int) -> None:
    """Seed the generators in use; ``torch.manual_seed`` would wake those of every kind of accelerator each step."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(seed)


def _take_step(
    network: Any,
    optimizer: torch.optim.Optimizer,
    job: TrainJob,
    group: list[Batch],
    fabric: Fabric,
    step: int,
    lr: float,
) -> dict[str, float]:
    """Move the weights once, by the batches of a step; their mean loss terms."""
    set_lr(optimizer, lr)
    # dropout and the like depend on the step alone, so that a resumed run repeats them
    seed_everything((job.config.seed * 1_000_003 + step) * 1009 + fabric.global_rank)
    terms = _add_gradients(network, job, group, fabric, step)
    if job.config.clip_grad_norm:
        fabric.clip_gradients(network, optimizer, max_norm=job.config.clip_grad_norm, error_if_nonfinite=False)
    optimizer.step()
    optimizer.zero_grad()
    return terms


def _add_gradients(network: Any, job: TrainJob, group: list[Batch], fabric: Fabric, step: int) -> dict[str, float]:
    """Forward and backward of the batches of one step; their mean loss terms."""
    detector: Any = job.model.detector
    terms: list[dict[str, float]] = []
    for i, batch in enumerate(group):
        images, targets = to_device(batch, fabric.device, job.model.info.preprocess)
        # processes exchange gradients once a step, at its last batch
        with fabric.no_backward_sync(network, enabled=i + 1 < len(group)):
            losses = detector.loss(outputs_of(network, images, step, batch), targets)
            terms.append(ensure_finite_loss(losses, job.config.max_loss, step, batch))
            fabric.backward(torch.stack(list(losses.values())).sum() / len(group))
    return average_losses(terms)


def start_fabric(config: TrainConfig) -> Fabric:
    """One process, or as many as ``torchrun`` started, on the device of the config."""
    from lightning_fabric import Fabric  # here, because reading a recipe needs no training

    cuda = torch.cuda.is_available()
    accelerator = ("cuda" if cuda else "cpu") if config.device == "auto" else config.device
    if accelerator == "cuda" and not cuda:
        raise ConfigError("train.device=cuda: torch sees no CUDA device here; use train.device=cpu or auto.")
    if accelerator == "cpu" and config.precision == "fp16":
        raise ConfigError("train.precision=fp16 needs a CUDA device; use bf16 or fp32 on a CPU.")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if config.batch_size % world:
        raise ConfigError(
            f"train.batch_size={config.batch_size} cannot be shared by {world} processes; take a multiple."
        )
    fabric = Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=max(world // local, 1),
        strategy="ddp" if world > 1 else "auto",
        precision=PRECISION[config.precision],  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def _groups_of(loader: Iterable[Any], size: int) -> Iterator[list[Batch]]:
    batches = iter(loader)
    while group := list(islice(batches, size)):
        for batch in group:
            if isinstance(batch, VarifocalError):
                raise batch
        yield group


def to_device(batch: Batch, device: torch.device, preprocess: Preprocess) -> tuple[Tensor, list[Targets]]:
    """Normalized images, channels last, and targets on the device."""
    pixels = batch.images.to(device, non_blocking=True)
    images = normalize(pixels, [target.size for target in batch.targets], preprocess)
    moved = [Targets(t.boxes.to(device), t.labels.to(device), t.crowd.to(device), t.size) for t in batch.targets]
    return images, moved


def _due(step: int, steps: int, every: int) -> bool:
    return step + 1 == steps or (every > 0 and (step + 1) % every == 0)


def _validate(
    job: TrainJob,
    detector: nn.Module,
    so_far: dict[str, Any],
    log: RunLogger,
    fabric: Fabric,
    progress: Callable[[int], None],
) -> None:
    """Measure, keep the best, and write the weights as they are now."""
    model = Model(detector, job.model.info)
    numbers: dict[str, float] = {}
    if job.validation is not None:
        numbers = summary_metrics(validate(model, job.validation, fabric.global_rank, fabric.world_size, progress))
        log.validation(so_far["step"] - 1, numbers)
    better = numbers.get("AP", 0.0) > so_far["best"] or job.validation is None
    if fabric.is_global_zero:
        save(model, job.run / "last.safetensors", metrics=numbers)
        if better:
            save(model, job.run / "best.safetensors", metrics=numbers)
    if better:  # not before they are written, which may be interrupted
        so_far["best"], so_far["metrics"] = numbers.get("AP", 0.0), numbers
    so_far["measured"] = True


def validate(
    model: Model, data: Dataset, rank: int = 0, world: int = 1, progress: Callable[[int], None] = lambda done: None
) -> CocoMetrics:
    """Return COCO metrics; each process detects in its part of the images."""
    found: list[Any] = [detect_all(model, data.samples[rank::world], progress)]
    if world > 1:
        mine = found[0]
        found = [None] * world
        dist.all_gather_object(found, mine)
    merged: list[Any] = [None] * len(data.samples)
    for part, detections in enumerate(found):
        merged[part::world] = detections
    return measure(model, data, merged)


def summary_metrics(metrics: CocoMetrics) -> dict[str, float]:
    """The twelve numbers without the classes."""
    return {name: value for name, value in metrics.to_json().items() if isinstance(value, float)}


def shutdown_process_group(fabric: Fabric) -> None:
    """Leave the process group at the same time as the others.

    gloo aborts at exit in about one of four runs when models or optimizers outlive their group; those of a run are
    locals of a function that has returned, and the collector takes what refers to itself.
    """
    if dist.is_available() and dist.is_initialized():
        gc.collect()
        fabric.barrier()
        dist.destroy_process_group()
