"""Export in int8: calibrated on one data set, measured on another, and kept only if the AP stays.

Convolutions, the sums between them and, where that is faster, the products of deformable convolutions compute in int8;
normalizations, locations, distances, scores and everything after them stay float32.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from varifocal.evaluation.evaluate import evaluate
from varifocal.export.calibrate import MAX_VIEWS, View, choose_views, read_views
from varifocal.export.config import ExportSettings, check_settings
from varifocal.export.parity import Built
from varifocal.export.quantize_accuracy import Accuracy, count_matched
from varifocal.export.quantize_formats import int8_format
from varifocal.export.quantize_graph import plain_name, within
from varifocal.export.quantize_network import Int8Network
from varifocal.export.sensitivity import MAX_KEPT, Restoration, blocks, rank, restore
from varifocal.inference.exported.info import Int8Target
from varifocal.inference.exported.model import ExportedModel
from varifocal.inference.exported.processor import has_vnni
from varifocal.inference.model import Model, ModelInfo
from varifocal.inference.pipeline import Predictor
from varifocal.types import TTA, Dataset, Detections, Tiling
from varifocal.utils.atomic_write import atomic_write_all
from varifocal.utils.errors import ConfigError, DataError, ExportError

COMPARED_IMAGES = 8  # to rank the blocks

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, eq=False)
class Int8:
    """Settings of an int8 export.

    At most ``images`` of ``calibration``, chosen by ``seed``, set the scales; on ``validation`` the AP may drop by
    ``max_drop`` points (of 100). The modules ``keep``, such as ``backbone.layer1``, stay in floating point. ``target``
    "portable" rounds weights to seven bits, for which all processors compute the same results; "vnni" rounds to eight,
    which are exact only on x86 processors with VNNI and on processors other than x86.
    """

    calibration: Dataset
    validation: Dataset
    max_drop: float = 1.0
    keep: tuple[str, ...] = ()
    images: int = MAX_VIEWS
    seed: int = 0
    target: Int8Target = "portable"

    def __post_init__(self) -> None:
        if not self.max_drop >= 0:
            raise ConfigError(f"--max-ap-drop {self.max_drop:g}: must be at least 0.", code="max-ap-drop-range")
        if not self.validation.samples:
            raise DataError(
                f"{self.validation.source}: has no images to measure the AP on; name others with --validation-data.",
                code="no-validation-images",
            )
        if self.target == "vnni" and has_vnni() is False:
            raise ConfigError(
                "--int8-target vnni: this processor has no VNNI, so the file would be measured with wrong results; use "
                "--int8-target portable, or export on a processor with VNNI.",
                code="no-vnni",
            )


def export_int8(
    model: Model, target: Path, settings: ExportSettings, int8: Int8, format: str, progress: Progress
) -> Accuracy:
    """Write ``target`` and the files that belong to it in int8, after measuring the AP with torch and with the file.

    ``progress`` is called with the title and the number of steps of a task, and returns a callback for the number done.

    Raises:
        ConfigError: a package is missing, the model cannot be exported with these settings, or ``keep`` names a module
            that does not exist.
        DataError: no image to calibrate on can be read, or one to measure on cannot.
        ExportError: the AP drops by more than it may; the message names the blocks to keep. Nothing is written.
        CheckpointError: a file cannot be written.
    """
    int8_form = int8_format(format)
    check_settings(replace(settings, precision="fp32"), model.info)
    check_keep(model, int8.keep)
    views = choose_views(int8.calibration, model.info.tiling, int8.images, int8.seed)
    with TemporaryDirectory() as folder:
        with progress("building the graph", 1) as advance:
            network = Int8Network(model, settings, int8_form, target, Path(folder), int8.target)
            advance(1)
        if all(within(name, int8.keep) for name in network.blocks):
            raise ConfigError(
                f"--fp32-modules {','.join(int8.keep)}: leaves nothing to compute in int8; use --precision fp32.",
                code="nothing-in-int8",
            )
        judge = _Judge(model, int8, progress)  # before the calibration, since wrong validation data is more likely
        with progress("calibrating", len(views)) as advance:
            network.calibrate(views, advance)
        built = network.build(int8.keep)
        accuracy = judge.accuracy(built, "measuring the int8 file", network.measured.images)
        if not accuracy.sound:
            restoration = _find_restoration(network, judge, views, model.info)
            raise ExportError(_complaint(target, accuracy, restoration, network, judge), code="int8-accuracy")
        atomic_write_all(built.files(replace(built.info, parity=accuracy.to_json())))
    return accuracy


def check_keep(model: Model, keep: Sequence[str]) -> None:
    """Raise ConfigError if ``keep`` names a module that does not exist or has no convolution; it suggests others."""
    known = _module_names(model)
    for name in keep:
        if name not in known:
            similar = difflib.get_close_matches(name, known, 4, 0.5)
            stages = [block for block in blocks(known) if block in known]
            names = similar or [stage for stage in stages if not any(other.startswith(f"{stage}.") for other in stages)]
            raise ConfigError(
                f"--fp32-modules {name}: the network has no such module; {'similar' if similar else 'there'} are "
                f"{', '.join(names)}.",
                code="unknown-module",
            )


def _module_names(model: Model) -> list[str]:
    """Return the names of all modules with a weight of more than one dimension, as users see them."""
    names: dict[str, None] = {}
    for name, module in model.detector.named_modules():
        wraps = plain_name(f"{name}.x") != f"{plain_name(name)}.x"  # a name that messages leave out
        if name and not wraps and any(parameter.dim() > 1 for parameter in module.parameters()):
            names[plain_name(name)] = None
    return list(names)


class _Judge:
    """Measures files on the validation images and compares them with the checkpoint."""

    def __init__(self, model: Model, int8: Int8, progress: Progress) -> None:
        self.int8, self.progress = int8, progress
        self.before, self.truth = self._ap(model, "measuring the checkpoint")
        if self.before < 0:
            raise DataError(
                f"{int8.validation.source}: has no boxes to measure the AP on; name other data with --validation-data.",
                code="no-validation-boxes",
            )

    def accuracy(self, built: Built, title: str, calibrated: int) -> Accuracy:
        """Return the comparison of a file with the checkpoint."""
        after, detections = self._ap(ExportedModel(built.runner, built.info), title)
        counts = count_matched(self.truth, detections)
        return Accuracy(len(detections), calibrated, self.before, after, self.int8.max_drop, *counts, self.int8.keep)

    def _ap(self, model: Predictor, title: str) -> tuple[float, list[Detections]]:
        """Return the AP (0..1) and the detections of a model."""
        with self.progress(title, len(self.int8.validation.samples)) as advance:
            metrics, detections = evaluate(model, self.int8.validation, advance)
        return metrics.AP, detections


def _find_restoration(network: Int8Network, judge: _Judge, views: Sequence[View], info: ModelInfo) -> Restoration:
    """Return the blocks to keep in floating point: ranked on a few images, tried on all validation images."""
    images = list(read_views(views[:: max(len(views) // COMPARED_IMAGES, 1)][:COMPARED_IMAGES], info))
    names = [name for name in network.blocks if not within(name, judge.int8.keep)]

    def detect(keep: Sequence[str]) -> list[Detections]:
        built = network.build([*judge.int8.keep, *keep])
        plain = replace(built.info, tiling=Tiling(), tta=TTA())
        return ExportedModel(built.runner, plain).predict(images)

    def attempt(keep: tuple[str, ...]) -> tuple[float, bool]:
        accuracy = judge.accuracy(network.build(keep), f"with {', '.join(keep)} in fp32", network.measured.images)
        return accuracy.ap_after, accuracy.sound

    with judge.progress("finding the blocks that int8 harms", len(names)) as advance:
        costs = rank(names, detect, advance)
    return restore(costs, judge.int8.keep, attempt)


def _complaint(target: Path, accuracy: Accuracy, restoration: Restoration, network: Int8Network, judge: _Judge) -> str:
    """Return the message of the error: what is wrong, which blocks cause it, and what helps."""
    worst = ", ".join(f"{name} ({100 * cost:.1f} %)" for name, cost in restoration.costs[:MAX_KEPT])
    text = (
        f"{target}: is not kept, because {accuracy.complaint()}; the blocks that in int8 alone change the most "
        f"detections are {worst}"
    )
    option = f"--fp32-modules {','.join(restoration.keep)}"
    if restoration.enough:
        return f"{text}; with the first of them in floating point the AP is {100 * restoration.ap:.1f}: add {option}"
    whole = judge.accuracy(network.build(network.blocks), "all in fp32", network.measured.images)
    if not whole.sound:
        return f"{text}; but without int8 the AP is also only {100 * whole.ap_after:.1f}: choose another --size."
    return (
        f"{text}; with {option} the AP is still only {100 * restoration.ap:.1f}: calibrate on images like those that "
        "the file will process, keep more modules, or use --precision fp32."
    )
