"""A recipe made from the data, the machine and the time: what ``varifocal train DATA`` does without ``--recipe``.

The decisions are plain functions of numbers: those of the data (:class:`varifocal.data.summary.DataSummary`), those of
the machine, and the measured costs of a step and of a validation. Each decision has a sentence with its reason. The
result is an ordinary recipe, whose run resumes like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from varifocal.data.recommend_size import STEP
from varifocal.data.summary import DataSummary
from varifocal.recipes.budget import show_duration
from varifocal.training.measure import Costs
from varifocal.types import PostProcess
from varifocal.utils.errors import ConfigError

PRESETS = ("nano", "small", "base", "large")
PRESET_OF = {"cpu": "small", "cuda": "base", "mps": "small"}

ENOUGH_STEPS = 400  # fewer of them learn less than smaller images lose
MANY_STEPS = 2000  # from here on larger images are worth more than more steps
LEAST_STEPS = 30  # below this a run is not worth starting
LIGHT_FROZEN_STAGES = 3  # of the backbone, in a short run
FEW_EPOCHS = 12  # images that are seen fewer times need no variation, and more steps are worth more
MOST_EPOCHS = 150  # and at least MOST_STEPS steps: more only repeat the images
MOST_STEPS = 4000
USUAL_STEPS = 3000  # without a limit of time
USUAL_EPOCHS = (12, 100)  # at least and at most, without a limit of time
NEARLY_ONE = 0.1  # a scale that differs less from 1 is not worth the resize
SMALLEST = 0.5  # of the size that the boxes need, if time is short
LEAST_SIDE = 192
SMALL_CROP = 256  # pixels of a training crop of tiled images on a CPU
LARGE_CROP = 640  # the same on a GPU
VALIDATING = 0.1  # fraction of the time that validation may take
VALIDATIONS = 10
RARE = 0.05  # a class in a smaller fraction of the images is rare
MOST_DETECTIONS = 10_000
EMPTY = 0.5  # images without objects beyond this fraction are too many
KEPT_EMPTY = 0.3


@dataclass(frozen=True)
class Machine:
    """What trains: the kind of device, its name, threads of the CPU, and free memory in bytes."""

    device: str
    name: str
    threads: int
    memory: int


@dataclass
class Plan:
    """The decisions so far: overrides of the preset, and a sentence with the reason of each decision."""

    preset: str
    words: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    def overrides(self) -> list[str]:
        """Return the decisions as ``key=value`` words."""
        return [f"{key}={value}" for key, value in self.words.items()]


Measure = Callable[[Plan], Costs]


@dataclass(frozen=True)
class InputSize:
    """How large the network sees the images.

    Whole images have a ``short`` and a ``long`` side; large ones are read at ``scale`` in square tiles of ``crop``
    pixels of the network's input that overlap by ``overlap`` pixels of the image.
    """

    short: int = 0
    long: int = 0
    crop: int = 0
    scale: float = 1.0
    overlap: int = 0

    @property
    def pixels(self) -> float:
        """The pixels of the padded input of the network, to compare the costs of two sizes of the same data."""
        return float(self.crop**2 or _padded(self.short) * _padded(self.long))

    def words(self) -> dict[str, str]:
        """Return the size as settings of a recipe."""
        if not self.crop:
            sides = {"short_side": self.short, "max_long_side": self.long, "max_size": max(4096, self.long)}
            return {f"data.preprocess.{key}": str(value) for key, value in sides.items()}
        return {
            "data.preprocess.scale": f"{self.scale:g}",
            "data.augment.crop": str(self.crop),
            "data.augment.crop_on_box_prob": "0.7",
            "tiling.size": str(round(self.crop / self.scale)),
            "tiling.overlap": str(self.overlap),
            "tiling.vote": "0.6",
        }

    def scaled(self, factor: float) -> InputSize:
        """Return whole images with sides multiplied by ``factor``, in multiples of 32."""
        ratio = self.long / self.short
        short = max(round(self.short * factor / STEP) * STEP, STEP)
        return InputSize(short, math.ceil(short * ratio / STEP) * STEP)

    def __str__(self) -> str:
        if self.crop:
            return f"tiles of {round(self.crop / self.scale)} pixels"
        return f"images of {self.short} x {self.long} pixels"


def _padded(side: int) -> int:
    return math.ceil(side / STEP) * STEP


def needed_size(data: DataSummary, machine: Machine) -> InputSize:
    """Return the size at which 95 % of the boxes are large enough to be learned, at most twice that of the images."""
    advice = data.size
    if advice is not None and advice.window:
        scale = advice.preprocess.scale or 1.0
        if abs(scale - 1) < NEARLY_ONE:
            scale = 1.0
        most = round(advice.window * scale)
        least = SMALL_CROP if machine.device == "cpu" else LARGE_CROP
        overlap = min(advice.overlap, round(most / scale / 2))
        crop = min(max(least, math.ceil(2 * overlap * scale / STEP) * STEP), math.ceil(most / STEP) * STEP)
        return InputSize(crop=crop, scale=scale, overlap=min(overlap, round(crop / scale) - 1))
    native = native_size(data)
    if advice is None or not advice.overrides:
        return native
    return native.scaled(advice.preprocess.short_side / native.short)


def native_size(data: DataSummary) -> InputSize:
    """Return the median size of the images: those of that size are not resized."""
    return InputSize(data.short_side, data.long_side)


def choose_preset(machine: Machine) -> tuple[str, str]:
    """Return the preset for a device, and why."""
    preset = PRESET_OF.get(machine.device, "small")
    return preset, f"model {preset}: for {machine.name}; others with --model ({', '.join(PRESETS)})"


def usual_batch(machine: Machine, usual: int) -> int:
    """Return the images per step where memory does not limit them; ``usual`` is the preset's number."""
    return 4 if machine.device == "cpu" else usual


def choose_batch(data: DataSummary, machine: Machine, usual: int, per_image: int) -> tuple[int, str]:
    """Return the images per step, and why: on a CPU few images and many steps learn most in the same time.

    ``usual`` is the preset's number; ``per_image`` are the bytes that training needs for an image.
    """
    preferred = usual_batch(machine, usual)
    fits = max(int(machine.memory / 2 / max(per_image, 1)), 1)
    batch = min(preferred, fits) if data.images >= preferred or data.size is None else preferred
    if batch < preferred:
        memory = f"{machine.memory / 2**30:.1f} GiB are free and an image takes {per_image / 2**30:.1f} GiB"
        return batch, f"batch size {batch}: {memory}"
    return batch, f"batch size {batch}: the usual one for a {'CPU' if machine.device == 'cpu' else 'GPU'}"


def choose_sampling(data: DataSummary) -> tuple[dict[str, str], list[str]]:
    """Return settings for rare classes and for many images without objects, with their reasons."""
    words, reasons = {}, []
    name, fraction = data.rarest
    if data.classes > 1 and fraction < RARE:
        words["data.repeat_factor_threshold"] = "0.1"
        reasons.append(f"images of rare classes are repeated: {name} is in {fraction:.1%} of the images")
    if EMPTY < data.empty < 1:
        words["data.max_empty_fraction"] = f"{KEPT_EMPTY}"
        text = f"at most {KEPT_EMPTY:.0%} of an epoch"
        reasons.append(f"images without objects are {text}: they are {data.empty:.0%} of the data")
    return words, reasons


def choose_detections(data: DataSummary) -> tuple[dict[str, str], list[str]]:
    """Return the setting for the detections of an image, with its reason, where images have many objects."""
    least = 2 * data.most
    if least <= PostProcess().max_detections:
        return {}, []
    most = min(math.ceil(least / 100) * 100, MOST_DETECTIONS)
    return {"postprocess.max_detections": str(most)}, [
        f"up to {most:,} detections in an image: there are up to {data.most:,} objects in one"
    ]


def fitting_size(needed: InputSize, native: InputSize, steps_at: Callable[[InputSize], float]) -> tuple[InputSize, str]:
    """Return the size for the time, and why; ``steps_at`` estimates the steps at a size.

    Images are enlarged only if there is time for many steps, and made smaller than the boxes need if there is not even
    time for enough.
    """
    if needed.crop:
        return needed, "large images are trained on as crops and read in overlapping tiles, so that small boxes stay"
    enlarges = needed.short > native.short
    if enlarges and steps_at(needed) >= MANY_STEPS:
        return needed, "enlarged, so that 95 % of the boxes span two cells of the finest map"
    size = native if enlarges else needed
    steps = steps_at(size)
    factor = max(math.sqrt(steps / ENOUGH_STEPS), SMALLEST, LEAST_SIDE / size.short)
    if factor < 1:
        return size.scaled(factor), "smaller than the boxes need, because time is short"
    if enlarges:
        return size, "their own size; enlarging them would leave too few steps"
    return size, "large enough for 95 % of the boxes"


def light_words(data: DataSummary, *, freezes: bool) -> dict[str, str]:
    """Return settings for a run that sees each image a few times only: cheaper steps, of which more fit into the time.

    Jitter of colors and scales slows learning down before it helps, and that of scales enlarges the batches, whose
    images are padded to the largest. ``freezes`` is whether more stages of the backbone may keep their weights.
    """
    words = {"model.backbone.frozen_stages": str(LIGHT_FROZEN_STAGES)} if freezes else {}
    words["data.augment.color_jitter"] = "0"
    if data.size is None or not data.size.window:
        words["data.augment.scale_jitter"] = "[1.0,1.0]"
    return words


def light_reason(words: Mapping[str, str], epochs: float) -> str:
    """Return why a run has these settings of :func:`light_words`."""
    names = {"scale_jitter": "no scale jitter", "color_jitter": "no color jitter", "frozen_stages": "frozen stages"}
    what = ", ".join(text for key, text in names.items() if any(word.endswith(key) for word in words))
    times = "once" if epochs < 1.5 else f"about {epochs:.0f} times"
    return f"{what}: each image is seen only {times}"


def steps_in(seconds: float, costs: Costs) -> tuple[int, int]:
    """Return the number of steps and of validations that fit."""
    validations = 1
    if costs.validation:
        validations = min(max(int(VALIDATING * seconds / costs.validation), 1), VALIDATIONS)
    left = seconds - validations * costs.validation - costs.drawing
    return max(int(left / costs.step), 0), validations


def ensure_trainable(steps: int, budget: float, spent: float, costs: Costs) -> None:
    """Check that a run is long enough to learn anything.

    Raises:
        ConfigError: it is not; the message says how long it would take at least.
    """
    if steps < LEAST_STEPS:
        needed = spent + LEAST_STEPS * costs.step + costs.validation + costs.drawing
        raise ConfigError(
            f"--budget {show_duration(budget)}: too short to train on this data with this machine: {LEAST_STEPS} steps "
            f"and an evaluation take {show_duration(needed * 1.1)}; allow more time, or use --model nano.",
            code="budget-too-short",
        )


def epochs_in(steps: int, costs: Costs) -> tuple[float, str]:
    """Return the epochs of a run of at most ``steps`` steps, and how it is limited."""
    most = max(MOST_EPOCHS * costs.batches, MOST_STEPS)
    if steps <= most:
        return steps / costs.batches, "as many as fit into the time"
    return most / costs.batches, "all that helps with so few images; the time would allow more"


def usual_epochs(costs_batches: int) -> float:
    """Return the epochs of a run without a limit of time: about 3,000 steps, between 12 and 100 epochs."""
    least, most = USUAL_EPOCHS
    return min(max(math.ceil(USUAL_STEPS / costs_batches), least), most)


def schedule_words(steps: int, batch: int, usual_batch: int, lr: float) -> dict[str, str]:
    """Return learning rate, warm-up, average and the like for a number of steps and a batch size."""
    ema = 0.998 if steps < 3000 else 0.999 if steps < 10000 else 0.9998
    return {
        "train.lr": f"{lr * math.sqrt(batch / usual_batch):.2g}",
        "train.warmup_steps": str(min(max(steps // 20, 10), 500)),
        "train.ema": f"{ema}",
    }
