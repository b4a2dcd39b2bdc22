"""The training loop: steps, and between them validation and checkpoints.

Lightning Fabric moves tensors, casts and synchronizes. It was chosen over Accelerate because it keeps no process-wide
state, so that several runs fit into one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from varifocal.data.augment import Augmentation
from varifocal.data.loader import BatchSampler, TrainDataset
from varifocal.data.sampler import Sampling
from varifocal.evaluation.coco_ap import CocoMetrics
from varifocal.evaluation.evaluate import detect_all, measure
from varifocal.inference.model import Model, save
from varifocal.structures import Batch
from varifocal.training.callbacks import emit
from varifocal.training.log import RunLogger
from varifocal.training.optim import Schedule, TrainConfig, WeightAverages, base_lr, make_optimizer
from varifocal.training.processes import (
    Interruption,
    ensure_equal,
    gather_from_processes,
    in_group,
    shutdown_process_group,
    start_fabric,
)
from varifocal.training.state import TrainState, UnreadableImages, load_state, max_unreadable, read_state, save_state
from varifocal.training.step import Stepper, ensure_finite_weights
from varifocal.types import Dataset
from varifocal.utils.errors import Interrupted, VarifocalError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True, eq=False)
class TrainJob:
    """What to train on what data, and the folder of the run.

    At most ``cache_bytes`` of decoded images are kept in memory on this machine. ``notes`` are sentences on the initial
    weights. ``callbacks`` are called in the first process; whoever makes the job closes them. ``facts`` are what has to
    be equal in all processes, by names for a message.
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
    callbacks: tuple[object, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Trained:
    """What the best weights of a run achieve on the validation data, and what is left to measure.

    ``metrics`` are the twelve COCO numbers, empty without validation data. ``measured`` has those of each class as
    well; None if an earlier process, which was stopped, has measured the weights.
    """

    metrics: dict[str, float]
    measured: CocoMetrics | None


def train(job: TrainJob, *, resume: bool = False) -> Trained:
    """Train to the end of the schedule and return the validation metrics of the best weights.

    Under ``torchrun`` every process calls this. The run folder gets ``best.safetensors``, ``last.safetensors``,
    ``state.safetensors`` and ``log.jsonl``, and ``unreadable_images.txt`` if there are any.

    Raises:
        TrainingError: a loss is not finite or too large; the last checkpoint is kept.
        ConfigError: the processes would train something different; each says so.
        DataError: more training images cannot be read than the config allows, or a validation image cannot be read.
        CheckpointError: there is nothing to resume from, or a checkpoint cannot be written.
        Interrupted: Ctrl-C; the current step is finished, and the state of the run is written.
    """
    fabric = start_fabric(job.config)
    trained, interruption = Trained({}, None), ""
    try:
        trained = _run(job, fabric, resume)
    except Interrupted as error:
        interruption = str(error)
    shutdown_process_group(fabric)  # after the exception, whose traceback refers to everything in the run
    if interruption:
        raise Interrupted(interruption)
    return trained


def _run(job: TrainJob, fabric: Fabric, resume: bool) -> Trained:
    trainer = _Trainer(job, fabric, resume=resume)
    with ExitStack() as stack, trainer.interruption:
        stack.callback(emit, trainer.own_callbacks, "close")
        trainer.start()
        for batches in trainer.remaining_steps():
            trainer.step(batches)
            trainer.after_step(batches)
    return Trained(trainer.state.metrics, trainer.measured)


class _Trainer:
    """A run in one process: what it is built of, one step, and what happens between steps."""

    def __init__(self, job: TrainJob, fabric: Fabric, *, resume: bool) -> None:
        config, detector = job.config, job.model.detector
        self.job, self.fabric = job, fabric
        if in_group():  # before DDP compares the shapes of the weights
            done = read_state(job.run).step if resume else 0
            ensure_equal({"the number of finished steps": done, **job.facts})
        self.data = build_train_dataset(job)
        self.sampler = BatchSampler(
            self.data, config.images_per_batch, rank=fabric.global_rank, world=fabric.world_size
        )
        self.schedule = Schedule(config, self.sampler.per_epoch)
        detector.to(memory_format=torch.channels_last)
        detector.train()  # a new module is in training mode but does not apply norm_eval before this call
        self.stepper = Stepper(detector, make_optimizer(detector, config), job.model.info.preprocess, config, fabric)
        self.averages = WeightAverages(detector, config.ema, config.swa_epochs > 0)
        self.parts = {"model": detector, **self.averages.parts()}
        self.measured: CocoMetrics | None = None  # of the best weights, if this process has measured them
        self.state = load_state(job.run, self.parts, self.stepper.optimizer) if resume else TrainState()
        self.unreadable = UnreadableImages(
            config.max_unreadable,
            len(job.training.samples),
            job.run if fabric.is_global_zero else None,
            self.state.unreadable,
        )
        self.own_callbacks: list[object] = [RunLogger()] if fabric.is_global_zero else []
        self.callbacks = [*self.own_callbacks, *(job.callbacks if fabric.is_global_zero else ())]
        self.interruption = Interruption(quiet=not fabric.is_global_zero)

    def start(self) -> None:
        """Start the callbacks, report the notes of the run, and make up for a validation that was interrupted."""
        job, config = self.job, self.job.config
        emit(self.callbacks, "on_start", job.run, job.model.info.recipe, self.state.step, self.schedule.steps)
        for note in self.data.order.notes:
            emit(self.callbacks, "on_note", note)
        if base_lr(config) != config.lr:
            scaled = f"{config.base_batch_size} images per step; scaled to {base_lr(config):g}"
            emit(self.callbacks, "on_note", f"train.lr={config.lr:g} is for {scaled}")
        if not self.state.validated:
            self._validate_and_save(validate=True, save=True)

    @property
    def exhausted(self) -> bool:
        """Whether the last validations have not become better for ``train.patience`` times."""
        return is_exhausted(self.state, self.job.config)

    def remaining_steps(self) -> Iterator[list[Batch]]:
        """Yield the batches of each step from the current one on; the first error of the data is raised."""
        config = self.job.config
        size = config.accumulate_grad_batches
        batches: Iterator[Any] = iter(
            self.sampler.loader(self.state.step * size, self.schedule.steps * size, config.num_workers)
        )
        while not self.exhausted and (group := list(islice(batches, size))):
            for batch in group:
                if isinstance(batch, VarifocalError):
                    raise batch
            yield group

    def step(self, batches: Sequence[Batch]) -> None:
        """Update the weights and their averages once, and report the losses."""
        step = self.state.step
        self.unreadable.add(batches, self.fabric.device)
        lr = self.schedule.lr(step)
        losses = self.stepper.step(step, batches, lr)
        self.averages.update(ends_swa_epoch=self.schedule.ends_swa_epoch(step))
        emit(self.callbacks, "on_step", step, {"loss": sum(losses.values()), **losses, "lr": lr})
        if self.unreadable.found and self.schedule.ends_epoch(step):
            self.unreadable.write()
            found = len(self.unreadable.found)
            emit(self.callbacks, "on_unreadable_images", step, found, self.unreadable.summary())

    def after_step(self, batches: Sequence[Batch]) -> None:
        """Validate and save if it is time for that.

        Raises:
            TrainingError: a weight is not finite; nothing is written.
            Interrupted: Ctrl-C in any process; the state is written.
        """
        step, config = self.state.step, self.job.config
        self.state.step += 1
        stop = self.interruption.in_any_process(self.fabric.device)
        validate = self._is_due(
            step, config.val_every_epochs * self.sampler.per_epoch // config.accumulate_grad_batches
        )
        save = stop or self._is_due(step, config.save_every_steps)
        if validate or save:
            ensure_finite_weights(self.job.model.detector, step, batches)
        self._validate_and_save(validate=validate, save=save, stop=stop)

    def _is_due(self, step: int, every: int) -> bool:
        """Return whether ``step`` is the last one of the run or of a group of ``every``; 0 means the run."""
        return step + 1 == self.schedule.steps or (every > 0 and (step + 1) % every == 0)

    def _validate_and_save(self, *, validate: bool, save: bool, stop: bool = False) -> None:
        """Validate, then write the state of the run; with ``stop`` the validation is left to the resumed run.

        Raises:
            Interrupted: ``stop``, or Ctrl-C during the validation.
        """
        self.state.validated = not validate
        try:
            if validate and not stop:
                self._validate()
                save = save or self.exhausted
        except KeyboardInterrupt:
            stop = save = self.interruption.first is not None
            if not stop:
                raise
        finally:  # a validation image that cannot be read does not cost the training before it
            if save and self.fabric.is_global_zero:
                save_state(self.job.run, self.parts, self.stepper.optimizer, self.state)
        if stop:
            raise Interrupted(f"interrupted after step {self.state.step} of {self.schedule.steps}, which is saved")

    def _validate(self) -> None:
        """Measure the averaged weights, and write them as the last and, if they are, the best of the run."""
        job, state = self.job, self.state
        model = Model(self.averages.best(), job.model.info)
        measured, metrics = None, dict[str, float]()
        if job.validation is not None:
            measured = validate(
                model, job.validation, self.fabric.global_rank, self.fabric.world_size, self.interruption.check
            )
            metrics = summary_metrics(measured)
        better = metrics.get("AP", 0.0) > state.best or job.validation is None
        if self.fabric.is_global_zero:
            save(model, job.run / "last.safetensors", metrics=metrics)
            if better:
                save(model, job.run / "best.safetensors", metrics=metrics)
        state.since_best = 0 if better else state.since_best + 1
        if better:  # not before they are written, which may be interrupted
            state.best, state.metrics, self.measured = metrics.get("AP", 0.0), metrics, measured
        state.validated = True
        if job.validation is not None:
            emit(self.callbacks, "on_validation", state.step - 1, metrics)
        if self.exhausted and state.step < self.schedule.steps:
            emit(self.callbacks, "on_note", f"stopped after step {state.step}: {patience_reason(state)}")


def is_exhausted(state: TrainState, config: TrainConfig) -> bool:
    """Return whether a run stops early, because as many validations as its patience were not better than the best."""
    return 0 < config.patience <= state.since_best


def patience_reason(state: TrainState) -> str:
    """Return why a run has stopped early, as a part of a sentence."""
    return f"the last {state.since_best} validations were not better than the best (AP {100 * state.best:.1f})"


def build_train_dataset(job: TrainJob) -> TrainDataset:
    """Return the training examples of a run, the same in every process."""
    config, samples = job.config, job.training.samples
    return TrainDataset(
        samples,
        job.model.info.preprocess,
        job.augment,
        config.seed,
        sampling=job.sampling,
        cache_bytes=job.cache_bytes // int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        strict=max_unreadable(config.max_unreadable, len(samples)) == 0,
    )


def schedule_of(job: TrainJob) -> Schedule:
    """Return the schedule of a run: its number of steps, and the learning rate of each."""
    data = build_train_dataset(replace(job, cache_bytes=0))
    return Schedule(job.config, BatchSampler(data, job.config.images_per_batch).per_epoch)


def validate(
    model: Model, data: Dataset, rank: int = 0, world: int = 1, progress: Callable[[int], None] = lambda done: None
) -> CocoMetrics:
    """Return the COCO metrics of a model; each of ``world`` processes detects in its part of the images."""
    detections: list[Any] = [None] * len(data.samples)
    for part, found in enumerate(gather_from_processes(detect_all(model, data.samples[rank::world], progress))):
        detections[part::world] = found
    return measure(model, data, detections)


def summary_metrics(metrics: CocoMetrics) -> dict[str, float]:
    """Return the twelve COCO numbers without the AP of each class."""
    return {name: value for name, value in metrics.to_json().items() if isinstance(value, float)}
