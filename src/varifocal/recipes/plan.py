"""Planning a run: reads the data, measures a few real steps, and returns the recipe with the reasons."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from varifocal.data.loader import collate
from varifocal.data.summary import DataSummary, summarize
from varifocal.inference.loading import load_checkpoint
from varifocal.models.pretrained import LITE0, has_package
from varifocal.recipes import auto
from varifocal.recipes.auto import InputSize, Machine, Plan
from varifocal.recipes.budget import show_duration
from varifocal.recipes.build import Splits, job_of, read_splits_of, with_batch_size
from varifocal.recipes.recipe import Recipe, load_recipe
from varifocal.recipes.run import DRAWN_IMAGES
from varifocal.structures import Batch
from varifocal.training.batch_size import free_memory
from varifocal.training.loop import TrainJob, build_train_dataset
from varifocal.training.measure import Costs, bytes_per_image, measure_costs
from varifocal.training.processes import find_device
from varifocal.utils.config import to_dict
from varifocal.utils.errors import VarifocalError
from varifocal.utils.overrides import override
from varifocal.utils.text import count_of

FINE_TUNING = 0.3  # of the learning rate, for a model whose weights are all trained already
MEASURING = 0.012  # fraction of the budget for one measurement; there are at most two
LONGEST_MEASUREMENT = 20.0
SHORTEST_MEASUREMENT = 2.0
CAUTION = 1.1  # validation of trained weights takes longer than that of new ones, as there is more to suppress
PATIENCE = 5  # validations, without a limit of time
RESERVE = 4.0  # seconds to build the model again and to write files
_SAMPLING = ("data.repeat_factor_threshold", "data.max_empty_fraction")
_SIZES = ("data.preprocess", "data.augment.crop", "tiling")
TRAIN = "varifocal train"  # for other commands, the name of the recipe that it makes from the data
DIFFERENT = 0.15  # a change of the pixels that has to be measured again


@dataclass(frozen=True)
class PlannedRun:
    """A recipe, the sentences on its decisions, and the data, which is read already."""

    recipe: Recipe
    reasons: tuple[str, ...]
    splits: Splits


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    ``budget`` are the seconds of the whole run, None without a limit; ``epochs`` is a number of epochs instead.
    ``words`` are overrides of the recipe, which win over every decision. ``begun`` is the time at which the command
    began.
    """

    data: Path
    preset: str = ""
    budget: float | None = None
    epochs: float | None = None
    words: tuple[str, ...] = ()
    begun: float = 0.0


def this_machine(device: str = "auto") -> Machine:
    """Return what trains here; ``device`` is that of the recipe.

    Raises:
        ConfigError: there is no such device.
    """
    kind = find_device(device)
    if kind == "mps":
        return Machine("mps", "the GPU of a Mac", torch.get_num_threads(), free_memory())
    if kind == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return Machine("cuda", f"the GPU {torch.cuda.get_device_name()}", torch.get_num_threads(), free)
    threads = torch.get_num_threads()
    return Machine("cpu", f"a CPU with {count_of(threads, 'thread')}", threads, free_memory())


def plan_run(request: Request) -> PlannedRun:
    """Return the recipe for a data set, this machine and the requested time.

    Raises:
        ConfigError: the time is too short, or a word is no valid override.
        DataError: the data cannot be read.
    """
    return _Planner(request).planned()


def untimed_recipe(data: DataSummary, words: Sequence[str] = ()) -> Recipe:
    """Return the recipe of ``varifocal train DATA`` without ``--budget``, as far as other commands need it.

    The sections ``data``, ``model`` and ``tiling`` are those of a run on this machine, as are the length and the batch
    size where memory is not short. ``words`` are overrides; weights that they start from are not looked at.

    Raises:
        ConfigError: a word is no valid override.
    """
    machine = this_machine(load_recipe("small", words).train.device)
    plan = Plan(auto.choose_preset(machine)[0])
    if not _decide(words, *_SAMPLING):
        plan.words |= auto.choose_sampling(data)[0]
    plan.words |= auto.choose_detections(data)[0]
    if data.images and not _decide(words, *_SIZES):
        plan.words |= auto.needed_size(data, machine).words()
    batch = auto.usual_batch(machine, load_recipe(plan.preset).train.images_per_batch)
    plan.words["train.batch_size"] = str(batch)
    plan.words["train.epochs"] = f"{auto.usual_epochs(max(-(-data.images // batch), 1)):g}"
    return load_recipe(plan.preset, [*plan.overrides(), *words])


class _Planner:
    """The state of the decisions: the plan so far and what is known of data, machine and costs."""

    def __init__(self, request: Request) -> None:
        self.request, self.fine_tunes = request, False
        first = load_recipe(request.preset or "small", request.words)
        self.machine = this_machine(first.train.device)
        preset, why = auto.choose_preset(self.machine)
        self.plan = Plan(request.preset or preset)
        self.base: dict[str, Any] = {"base": self.plan.preset}
        if first.train.weights:
            self._start_from(first.train.weights)
        elif not request.preset:
            self.plan.reasons.append(why)
        self._set_fixed()
        self.recipe = self._recipe()
        self.splits = read_splits_of(self.recipe, request.data)
        self.largest_batch = self.recipe.train.batch_size == "auto"
        self.summary = summarize(self.splits[0])

    def planned(self) -> PlannedRun:
        """Return the plan with all decisions."""
        self.plan.reasons.insert(0, _describe(self.summary))
        for choose, keys in (
            (auto.choose_sampling, _SAMPLING),
            (auto.choose_detections, ("postprocess.max_detections",)),
        ):
            words, reasons = choose(self.summary)
            if not self._decides(*keys):
                self.plan.words |= words
                self.plan.reasons += reasons
        needed, native = auto.needed_size(self.summary, self.machine), auto.native_size(self.summary)
        self.size = native if 0 < native.short < needed.short else needed
        if not self._decides(*_SIZES):
            self.plan.words |= self.size.words()
        self._set_batch(needed if needed.pixels > self.size.pixels else self.size)
        self._set_length(self._fit(needed, native))
        return PlannedRun(self._recipe(), tuple(self.plan.reasons), self.splits)

    def _start_from(self, name: str) -> None:
        """Take the model of a checkpoint, whose weights the run starts from, instead of that of the preset."""
        info = load_checkpoint(name).info
        model = to_dict(replace(info.config, num_classes=0, compat="none"))
        colors = {key: value for key, value in to_dict(info.preprocess).items() if key in ("mean", "std", "bgr")}
        self.base |= {"detector": info.name, "model": model, "data": {"preprocess": colors}}
        self.plan.words["train.backbone_lr_mult"] = "1.0"
        self.fine_tunes = True
        self.plan.reasons.append(f"model: that of {name} ({info.name}, {info.config.backbone.name}), fine-tuned")

    def _recipe(self) -> Recipe:
        return load_recipe(self.base, [*self.plan.overrides(), *self.request.words])

    def _set_fixed(self) -> None:
        """Set what depends on the machine alone."""
        cores, words = os.cpu_count() or 1, self.plan.words
        if self.machine.device == "cuda":
            words |= {"train.num_workers": str(max(min(cores - 1, 8), 0))}
            if torch.cuda.is_bf16_supported():
                words["train.precision"] = "bf16"
        else:
            words["train.num_workers"] = str(0 if cores == 1 else 1 if cores <= 4 else 2)
        backbone = load_recipe(self.base).model.backbone
        if backbone.pretrained == "package" and backbone.name == LITE0 and not has_package():
            words["model.backbone.pretrained"] = "timm"
            why = "timm downloads the ImageNet weights, as varifocal[demo], which has them, is not installed"
            self.plan.reasons.append(why)

    def _job(self) -> TrainJob:
        """Return a job without pretrained weights, whose model may be changed by a measurement."""
        torch.manual_seed(0)
        return job_of(self._recipe(), self.splits, Path(tempfile.gettempdir()), weights=False)

    def _decides(self, *keys: str) -> bool:
        return _decide(self.request.words, *keys)

    def _set_batch(self, size: InputSize) -> None:
        """Decide on the batch size by the memory that images of this size need, the largest that may be chosen."""
        if not self._decides(*_SIZES):
            self.plan.words |= size.words()
        if self.largest_batch:
            recipe, _ = with_batch_size(override(self._recipe(), ["train.batch_size=auto"]), self.splits)
            count = recipe.train.images_per_batch
            # the last word wins, also over train={batch_size: auto}
            self.request = replace(self.request, words=(*self.request.words, f"train.batch_size={count}"))
            self.plan.reasons.append(f"batch size {count}: the largest that fits into the memory")
        elif not self._decides("train.batch_size"):
            self._choose_batch()
        if not self._decides(*_SIZES):
            self.plan.words |= self.size.words()

    def _choose_batch(self) -> None:
        usual = load_recipe(self.plan.preset).train.images_per_batch
        job = self._job()
        per_image = bytes_per_image(job, _first_batch(job)) if self.machine.device == "cpu" else 0
        size, why = auto.choose_batch(self.summary, self.machine, usual, per_image)
        self.plan.words["train.batch_size"] = str(size)
        self.plan.reasons.append(why)

    def _measure(self) -> Costs:
        budget = self.request.budget or 0.0
        seconds = min(max(MEASURING * budget, SHORTEST_MEASUREMENT), LONGEST_MEASUREMENT)
        costs = measure_costs(self._job(), seconds)
        validation = CAUTION * costs.validation
        images = 0 if self.splits[1] is None else len(self.splits[1].samples)
        return Costs(costs.step, validation, costs.batches, validation * min(DRAWN_IMAGES / max(images, 1), 1.0))

    def _fit(self, needed: InputSize, native: InputSize) -> Costs:
        """Choose the size and how light the steps are for the time, and return the costs of these decisions."""
        light = self._lighten()
        costs, measured = self._measure(), self.size
        if not self._decides(*_SIZES):
            self._choose_size(needed, native, costs)
        epochs = self._epochs() or self._steps_at(self.size, measured, costs) / costs.batches
        if light and epochs >= auto.FEW_EPOCHS:
            self._undo(light)
            full = self._measure()
            if self._epochs() or self._steps_at(self.size, self.size, full) >= auto.FEW_EPOCHS * full.batches:
                return full
            self.plan.words |= light
        if light:
            self.plan.reasons.append(auto.light_reason(light, epochs))
        return self._measure() if abs(self.size.pixels / measured.pixels - 1) > DIFFERENT else costs

    def _lighten(self) -> dict[str, str]:
        """Set what makes a step cheaper, unless the user decides it or the run is long enough; return what was set."""
        epochs = self._epochs() or (auto.USUAL_EPOCHS[0] if self.request.budget is None else 0)
        if self.fine_tunes or epochs >= auto.FEW_EPOCHS:
            return {}
        freezes = self._recipe().model.backbone.name == LITE0
        light = auto.light_words(self.summary, freezes=freezes)
        words = {key: value for key, value in light.items() if not self._decides(key)}
        self.plan.words |= words
        return words

    def _epochs(self) -> float | None:
        """Return the length in epochs if the user sets it."""
        return self._recipe().train.epochs if self._decides("train.epochs") else self.request.epochs

    def _undo(self, words: dict[str, str]) -> None:
        for key in words:
            del self.plan.words[key]

    def _choose_size(self, needed: InputSize, native: InputSize, costs: Costs) -> None:
        measured = self.size
        self.size, why = auto.fitting_size(needed, native, lambda size: self._steps_at(size, measured, costs))
        self.plan.words |= self.size.words()
        self.plan.reasons.append(f"{self.size}: {why}")

    def _steps_at(self, size: InputSize, measured: InputSize, costs: Costs) -> float:
        """Return the steps that the time allows at a size, by the costs at another one."""
        if self.request.budget is None:
            return auto.USUAL_STEPS
        factor = size.pixels / measured.pixels
        return auto.steps_in(self._left(), costs.times(factor))[0]

    def _left(self) -> float:
        """Return the seconds that are left for steps and validations."""
        assert self.request.budget is not None
        return self.request.budget - (time.monotonic() - self.request.begun) - RESERVE

    def _set_length(self, costs: Costs) -> None:
        budget = self.request.budget
        if budget is not None:
            left = self._left()
            steps, validations = auto.steps_in(left, costs)
            auto.ensure_trainable(steps, budget, budget - left, costs)
            epochs, why = auto.epochs_in(steps, costs)
        else:
            validations = auto.VALIDATIONS
            asked = self._epochs()
            epochs, why = asked or auto.usual_epochs(costs.batches), "as requested"
            if asked is None:
                why = "the usual length; --budget 30m or --epochs N set another"
        steps = round(epochs * costs.batches)
        recipe = load_recipe(self.plan.preset)
        lr = recipe.train.lr * (FINE_TUNING if self.fine_tunes else 1.0)
        every = max(-(-steps // (validations * costs.batches)), 1)
        if budget is None:
            self.plan.words["train.patience"] = str(PATIENCE)
        self.plan.words |= {
            "train.epochs": f"{epochs:.4f}".rstrip("0").rstrip("."),
            "train.val_every_epochs": str(every),
        }
        batch = self._recipe().train.images_per_batch
        self.plan.words |= auto.schedule_words(steps, batch, recipe.train.images_per_batch, lr)
        seconds = steps * costs.step + validations * costs.validation
        self.plan.reasons.append(
            f"{count_of(steps, 'step')} of {costs.step:.2g} s ({epochs:.3g} epochs), {show_duration(seconds)}: {why}"
        )


def _decide(words: Sequence[str], *keys: str) -> bool:
    """Return whether a word of the user sets one of these keys, a key below it, or the mapping that it is in."""
    given = [word.partition("=")[0] for word in words]
    return any(f"{word}.".startswith(f"{key}.") or f"{key}.".startswith(f"{word}.") for word in given for key in keys)


def _describe(data: DataSummary) -> str:
    objects = f"{data.boxes / data.images:.1f} objects in each"
    classes = f"{data.classes} {'class' if data.classes == 1 else 'classes'}"
    return f"data: {count_of(data.images, 'image')} of about {data.short_side} x {data.long_side}, {objects}, {classes}"


def _first_batch(job: TrainJob) -> Batch:
    """Return a batch of the first example.

    Raises:
        DataError: its image cannot be read.
    """
    data = build_train_dataset(job)
    key = (0, 0, int(data.order(0)[0]))
    batch = collate([data[key]], data.preprocess.size_divisor)
    if isinstance(batch, VarifocalError):
        raise batch
    return batch
