"""The training loop, whole and in one place.

Lightning Fabric moves tensors, casts and synchronises; it was taken rather than Accelerate because it keeps no
process-wide state, so that several runs fit into one process. Everything else is a plain line of the loop.
"""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from varifocal.data.augment import Augment
from varifocal.data.loader import Batches, TrainingSet
from varifocal.data.preprocess import Preprocess, normalise
from varifocal.data.sampling import Sampling
from varifocal.errors import ConfigError, Interrupted, TrainingError, VarifocalError
from varifocal.evaluate.coco_ap import CocoMetrics
from varifocal.evaluate.run import detect_all, measure
from varifocal.predict import Model, save
from varifocal.train.bad_pictures import BadPictures
from varifocal.train.checkpoint import load_state, save_state
from varifocal.train.ema import Averages
from varifocal.train.interrupt import Interruption
from varifocal.train.log import RunLog
from varifocal.train.optim import Schedule, TrainConfig, base_lr, make_optimizer, set_lr
from varifocal.types import Batch, DataSet, Targets

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True, eq=False)
class Job:
    """What to train on what, and where to keep it; ``cache_bytes`` of decoded pictures are kept on this machine.

    ``notes`` are sentences on how the model begins.
    """

    model: Model
    training: DataSet
    validation: DataSet | None
    augment: Augment
    config: TrainConfig
    run: Path
    sampling: Sampling = field(default_factory=Sampling)
    cache_bytes: int = 0
    notes: tuple[str, ...] = ()


def train(job: Job, *, resume: bool = False) -> dict[str, float]:
    """Train to the end of the schedule and return the best validation metrics (empty without validation data).

    Under ``torchrun`` every process calls this. The run folder gets ``best.safetensors``, ``last.safetensors``,
    ``state.safetensors`` and ``log.jsonl``, and ``bad_pictures.txt`` where there are some.

    Raises:
        TrainingError: a loss is not finite or too large; the last checkpoint is untouched.
        DataError: more pictures cannot be read than the config lets pass, or one of the validation.
        CheckpointError: nothing to resume from, or a checkpoint cannot be written.
        Interrupted: Ctrl-C; the step it came in is finished, and the state of the run is written.
    """
    fabric = start_fabric(job.config)
    metrics, stopped = dict[str, float](), ""
    try:
        metrics = _run(job, fabric, resume)
    except Interrupted as error:
        stopped = str(error)
    leave_together(fabric)  # after the exception, whose trace refers to all that the run had
    if stopped:
        raise Interrupted(stopped)
    return metrics


def _run(job: Job, fabric: Fabric, resume: bool) -> dict[str, float]:
    config, detector = job.config, job.model.detector
    data = make_training_set(job)
    batches = Batches(data, config.batch, rank=fabric.global_rank, world=fabric.world_size)
    schedule = Schedule(config, batches.per_epoch)
    steps = schedule.steps
    detector.to(memory_format=torch.channels_last)
    detector.train()  # a new module is in training mode but does not know of norm_eval before this call
    network, optimizer = fabric.setup(detector, make_optimizer(detector, config))
    averages = Averages(detector, config.ema, config.swa_epochs > 0)
    parts = {"model": detector, **averages.parts()}
    # -1 is the AP of labels without boxes
    place: dict[str, Any] = {"step": 0, "best": -2.0, "metrics": {}, "measured": True}
    if resume:
        place = load_state(job.run, parts, optimizer)
    bad = _bad_pictures(job, fabric, place)
    loader = batches.loader(place["step"] * config.accumulate, steps * config.accumulate, config.workers)
    with (
        RunLog(job.run, place["step"], steps, quiet=fabric.global_rank > 0, tensorboard=config.tensorboard) as log,
        Interruption(quiet=fabric.global_rank > 0) as interruption,
    ):
        keeper = _Keeper(job, fabric, averages, parts, optimizer, place, steps, log, interruption)
        _introduce(log, config, data)
        if not place.get("measured", True):  # the run was cut off while it was measured
            keeper.keep(measure=True, save=True)
        for step, group in enumerate(_groups_of(loader, config.accumulate), start=place["step"]):
            bad.add(group, fabric.device)
            place["bad_pictures"] = bad.rows()
            lr = schedule.lr(step)
            set_lr(optimizer, lr)
            # dropout and the like depend on the step alone, so that a resumed run repeats them
            seed_everything((config.seed * 1_000_003 + step) * 1009 + fabric.global_rank)
            terms = _add_gradients(network, job, group, fabric, step)
            if config.clip:
                fabric.clip_gradients(network, optimizer, max_norm=config.clip, error_if_nonfinite=False)
            optimizer.step()
            optimizer.zero_grad()
            averages.update(ends_swa_epoch=schedule.ends_swa_epoch(step))
            log.step(step, terms, lr)
            _tell_of_bad_pictures(log, bad, step, config.accumulate, batches.per_epoch)
            place["step"] = step + 1
            stop = interruption.anywhere(fabric.device)
            measure = _due(step, steps, config.validate_every * batches.per_epoch // config.accumulate)
            keep = stop or _due(step, steps, config.save_every)
            if measure or keep:
                check_weights(detector, step, group)
            keeper.keep(measure=measure, save=keep, stop=stop)
    return place["metrics"]


@dataclass(frozen=True, eq=False)
class _Keeper:
    """What is measured and written between steps."""

    job: Job
    fabric: Fabric
    averages: Averages
    parts: dict[str, nn.Module]
    optimizer: torch.optim.Optimizer
    place: dict[str, Any]
    steps: int
    log: RunLog
    interruption: Interruption

    def keep(self, *, measure: bool, save: bool, stop: bool = False) -> None:
        """Measure, and write the state of the run, where these are due.

        Raises:
            Interrupted: a person wishes to ``stop``; the state is written, and measuring is left for later.
        """
        self.place["measured"] = not measure
        try:
            if measure and not stop:
                _validate(self.job, self.averages.best(), self.place, self.log, self.fabric, self.interruption.check)
        except KeyboardInterrupt:
            stop = save = self.interruption.noted is not None
            if not stop:
                raise
        finally:  # a validation picture that cannot be read does not cost the training before it
            if save and self.fabric.is_global_zero:
                save_state(self.job.run, self.parts, self.optimizer, self.place)
        if stop:
            raise Interrupted(f"interrupted after step {self.place['step']} of {self.steps}, which is kept")


def schedule_of(job: Job) -> Schedule:
    """How many steps a run has, and at which rate each is."""
    data = make_training_set(replace(job, cache_bytes=0))
    return Schedule(job.config, Batches(data, job.config.batch).per_epoch)


def make_training_set(job: Job) -> TrainingSet:
    """The examples of a run, as every process makes them."""
    config, samples = job.config, job.training.samples
    return TrainingSet(
        samples,
        job.model.info.preprocess,
        job.augment,
        config.seed,
        sampling=job.sampling,
        cache_bytes=job.cache_bytes // int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        strict=BadPictures(config.bad_pictures, len(samples), None).most == 0,
    )


def _bad_pictures(job: Job, fabric: Fabric, place: dict[str, Any]) -> BadPictures:
    run = job.run if fabric.is_global_zero else None
    return BadPictures(job.config.bad_pictures, len(job.training.samples), run, place.get("bad_pictures", ()))


def _introduce(log: RunLog, config: TrainConfig, data: TrainingSet) -> None:
    for note in data.order.notes:
        log.say(note)
    if base_lr(config) != config.lr:
        log.say(f"train.lr={config.lr:g} is for {config.lr_batch} pictures a step: here {base_lr(config):g}")


def _tell_of_bad_pictures(log: RunLog, bad: BadPictures, step: int, accumulate: int, per_epoch: int) -> None:
    """At the end of each epoch, if there are any."""
    ends_epoch = (step + 1) * accumulate // per_epoch > step * accumulate // per_epoch
    if bad.found and ends_epoch:
        log.bad_pictures(step, bad)


def seed_everything(seed: int) -> None:
    """Seed the generators in use; ``torch.manual_seed`` would wake those of every kind of accelerator each step."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(seed)


def _add_gradients(network: Any, job: Job, group: list[Batch], fabric: Fabric, step: int) -> dict[str, float]:
    """Forward and backward of the batches of one step; their mean loss terms."""
    detector: Any = job.model.detector
    terms: list[dict[str, float]] = []
    for i, batch in enumerate(group):
        images, targets = to_device(batch, fabric.device, job.model.info.preprocess)
        # processes exchange gradients once a step, at its last batch
        with fabric.no_backward_sync(network, enabled=i + 1 < len(group)):
            losses = detector.loss(_outputs(network, images, step, batch), targets)
            terms.append(check_losses(losses, job.config.max_loss, step, batch))
            fabric.backward(torch.stack(list(losses.values())).sum() / len(group))
    return mean_terms(terms)


def _outputs(network: Any, images: Tensor, step: int, batch: Batch) -> Any:
    try:
        return network(images)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        height, width = images.shape[2:]
        raise TrainingError(
            f"step {step + 1}: a batch norm of the backbone cannot learn from the single value that {batch.files[0]} "
            f"leaves it at {width} x {height} pixels; set model.backbone.norm_eval=true, or take a larger train.batch "
            "or larger pictures."
        ) from error


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
    if config.batch % world:
        raise ConfigError(f"train.batch={config.batch} cannot be shared by {world} processes; take a multiple.")
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
    """Normalised images, channels last, and targets on the device."""
    pixels = batch.images.to(device, non_blocking=True)
    images = normalise(pixels, [target.size for target in batch.targets], preprocess)
    moved = [Targets(t.boxes.to(device), t.labels.to(device), t.crowd.to(device), t.size) for t in batch.targets]
    return images, moved


def check_losses(losses: dict[str, Tensor], limit: float, step: int, batch: Batch) -> dict[str, float]:
    """The terms as numbers, averaged over the processes.

    All processes stop when one must: a process left alone would wait for the others forever.

    Raises:
        TrainingError: not finite, or above ``limit``; names the step, the pictures and the largest term.
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
        f"{', '.join(batch.files)}; the last checkpoint is kept. Lower train.lr, set train.clip=10, or look at these "
        "pictures' boxes."
    )


def _exchange(terms: dict[str, float], bad: bool, device: torch.device) -> tuple[dict[str, float], bool]:
    """The terms averaged over the processes, and whether any process is bad."""
    if not (dist.is_available() and dist.is_initialized()):
        return terms, bad
    values = torch.tensor([*terms.values(), float(bad)], dtype=torch.float64, device=device)
    dist.all_reduce(values)
    *means, count = values.tolist()
    return {name: mean / dist.get_world_size() for name, mean in zip(terms, means, strict=True)}, count > 0


def mean_terms(terms: list[dict[str, float]]) -> dict[str, float]:
    """The terms of a step, averaged over its batches."""
    return {name: sum(one[name] for one in terms) / len(terms) for name in terms[0]}


def check_weights(detector: nn.Module, step: int, group: list[Batch]) -> None:
    """Looked at before anything is written: a finite loss can have a gradient that is not.

    Raises:
        TrainingError: a weight is not finite; names the step, the pictures and the weight.
    """
    for name, weight in detector.named_parameters():
        if not weight.isfinite().all():
            files = ", ".join(file for batch in group for file in batch.files)
            raise TrainingError(
                f"step {step + 1}: {name} is not finite after {files}; the last checkpoint is kept. Lower train.lr, "
                "or set train.clip=10."
            )


def _due(step: int, steps: int, every: int) -> bool:
    return step + 1 == steps or (every > 0 and (step + 1) % every == 0)


def _validate(
    job: Job,
    detector: nn.Module,
    place: dict[str, Any],
    log: RunLog,
    fabric: Fabric,
    progress: Callable[[int], None],
) -> None:
    """Measure, keep the best, and write the weights as they are now."""
    model = Model(detector, job.model.info)
    numbers: dict[str, float] = {}
    if job.validation is not None:
        numbers = headline(validate(model, job.validation, fabric.global_rank, fabric.world_size, progress))
        log.validation(place["step"] - 1, numbers)
    better = numbers.get("AP", 0.0) > place["best"] or job.validation is None
    if fabric.is_global_zero:
        save(model, job.run / "last.safetensors", metrics=numbers)
        if better:
            save(model, job.run / "best.safetensors", metrics=numbers)
    if better:  # not before they are written, which may be interrupted
        place["best"], place["metrics"] = numbers.get("AP", 0.0), numbers
    place["measured"] = True


def validate(
    model: Model, data: DataSet, rank: int = 0, world: int = 1, progress: Callable[[int], None] = lambda done: None
) -> CocoMetrics:
    """COCO metrics, each process detecting in its share of the pictures."""
    found: list[Any] = [detect_all(model, data.samples[rank::world], progress)]
    if world > 1:
        mine = found[0]
        found = [None] * world
        dist.all_gather_object(found, mine)
    merged: list[Any] = [None] * len(data.samples)
    for share, detections in enumerate(found):
        merged[share::world] = detections
    return measure(model, data, merged)


def headline(metrics: CocoMetrics) -> dict[str, float]:
    """The twelve numbers without the classes."""
    return {name: value for name, value in metrics.to_json().items() if isinstance(value, float)}


def leave_together(fabric: Fabric) -> None:
    """Leave the process group at the same time as the others.

    gloo aborts at exit in about one of four runs when models or optimizers outlive their group; those of a run are
    locals of a function that has returned, and the collector takes what refers to itself.
    """
    if dist.is_available() and dist.is_initialized():
        gc.collect()
        fabric.barrier()
        dist.destroy_process_group()
