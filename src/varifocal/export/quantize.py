"""Eight-bit networks: calibrated on a data set, measured on another, and kept only if AP stays.

Convolutions, the sums between them and, where the runtime gains by it, the product of deformable ones compute in int8;
normalizations, locations, distances, scores and all that follows them stay float32.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from varifocal.evaluation.evaluate import evaluate
from varifocal.export.calibrate import MOST, View, choose_views, read_views
from varifocal.export.config import ExportSettings, check_settings
from varifocal.export.quantize_accuracy import Accuracy, count_matched
from varifocal.export.quantize_formats import Built, form_of
from varifocal.export.quantize_graph import plain_name, within
from varifocal.export.quantize_network import Int8Network
from varifocal.export.sensitivity import TRIED, Restoration, blocks, rank, restore
from varifocal.inference.exported.info import Int8Target
from varifocal.inference.exported.model import ExportedModel
from varifocal.inference.exported.processor import has_vnni
from varifocal.inference.model import Model, ModelInfo
from varifocal.inference.pipeline import Predictor
from varifocal.types import TTA, Dataset, Detections, Tiling
from varifocal.utils.atomic_write import atomic_write_all
from varifocal.utils.errors import ConfigError, DataError, ExportError

LOOKED_AT = 8  # images on which blocks are compared

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, eq=False)
class Int8:
    """What eight bits are laid out and judged by.

    At most ``images`` of ``calibration``, chosen by ``seed``, say what the tensors hold; on ``validation`` AP may
    drop by ``max_drop`` points (of 100). The modules ``keep`` stay in floating point, as ``backbone.layer1``.
    ``target`` "portable" rounds weights to seven bits, with which every processor computes the same; "vnni" to eight,
    which are exact only on x86 processors with VNNI, and on others than x86.
    """

    calibration: Dataset
    validation: Dataset
    max_drop: float = 1.0
    keep: tuple[str, ...] = ()
    images: int = MOST
    seed: int = 0
    target: Int8Target = "portable"

    def __post_init__(self) -> None:
        if not self.max_drop >= 0:
            raise ConfigError(f"--max-ap-drop {self.max_drop:g}: a drop of AP in points is at least 0.")
        if not self.validation.samples:
            raise DataError(
                f"{self.validation.source}: holds no images to measure AP on; name others with --validation-data."
            )
        if self.target == "vnni" and has_vnni() is False:
            raise ConfigError(
                "--int8-target vnni: this processor has no VNNI and would measure another model than the one that runs "
                "elsewhere; use --int8-target portable, or export on a processor with VNNI."
            )


def export_int8(
    model: Model, target: Path, settings: ExportSettings, int8: Int8, format: str, progress: Progress
) -> Accuracy:
    """Write ``target`` with what belongs to it, in eight bits, after AP is measured with torch and with the file.

    ``progress`` is called with what begins and how many steps it has, and returns a callback for the number done.

    Raises:
        ConfigError: a package is missing, the model cannot be exported so, or ``keep`` names what there is not.
        DataError: no image to calibrate on can be read, or one to measure on cannot.
        ExportError: AP drops by more than it may; the message names the blocks to keep. Nothing is written.
        CheckpointError: a file cannot be written.
    """
    form = form_of(format)
    check_settings(replace(settings, precision="fp32"), model.info)
    check_keep(model, int8.keep)
    views = choose_views(int8.calibration, model.info.tiling, int8.images, int8.seed)
    with TemporaryDirectory() as folder:
        with progress("making the graph", 1) as advance:
            network = Int8Network(model, settings, form, target, Path(folder), int8.target)
            advance(1)
        if all(within(name, int8.keep) for name in network.blocks):
            raise ConfigError(
                f"--fp32-modules {','.join(int8.keep)}: these leave nothing to int8; use --precision fp32."
            )
        judge = _Judge(model, int8, progress)  # before the calibration, since other data are wrong more often
        with progress("calibrating", len(views)) as advance:
            network.calibrate(views, advance)
        built = network.build(int8.keep)
        accuracy = judge.accuracy(built, "measuring the int8 file", network.measured.images)
        if not accuracy.sound:
            raise ExportError(
                _complaint(target, accuracy, _find_restoration(network, judge, views, model.info), network, judge)
            )
        atomic_write_all(built.files(replace(built.info, parity=accuracy.to_json())))
    return accuracy


def check_keep(model: Model, keep: Sequence[str]) -> None:
    """Raises ConfigError: there is no module of such a name with a convolution in it; the message has those near."""
    known: dict[str, None] = {}
    for name, module in model.detector.named_modules():
        wraps = plain_name(f"{name}.x") != f"{plain_name(name)}.x"  # a name that messages leave out
        if name and not wraps and any(parameter.dim() > 1 for parameter in module.parameters()):
            known[plain_name(name)] = None
    for name in keep:
        if name not in known:
            near = difflib.get_close_matches(name, known, 4, 0.5)
            stages = [part for part in blocks(known) if part in known]
            parts = near or [part for part in stages if not any(other.startswith(f"{part}.") for other in stages)]
            raise ConfigError(
                f"--fp32-modules {name}: the network has no such part; {'near' if near else 'there'} are "
                f"{', '.join(parts)}."
            )


class _Judge:
    """Files on the validation images, beside the checkpoint."""

    def __init__(self, model: Model, int8: Int8, progress: Progress) -> None:
        self.int8, self.progress = int8, progress
        self.before, self.truth = self._average(model, "measuring the checkpoint")
        if self.before < 0:
            raise DataError(
                f"{int8.validation.source}: has no boxes to measure AP on; name other data with --validation-data."
            )

    def accuracy(self, built: Built, title: str, calibrated: int) -> Accuracy:
        """The comparison with the checkpoint."""
        after, found = self._average(ExportedModel(built.runner, built.info), title)
        counts = count_matched(self.truth, found)
        return Accuracy(len(found), calibrated, self.before, after, self.int8.max_drop, *counts, self.int8.keep)

    def _average(self, model: Predictor, title: str) -> tuple[float, list[Detections]]:
        with self.progress(title, len(self.int8.validation.samples)) as advance:
            metrics, found = evaluate(model, self.int8.validation, advance)
        return metrics.AP, found


def _find_restoration(network: Int8Network, judge: _Judge, views: Sequence[View], info: ModelInfo) -> Restoration:
    """What to keep: blocks are ranked on a few images, and tried on all that AP is measured on."""
    images = list(read_views(views[:: max(len(views) // LOOKED_AT, 1)][:LOOKED_AT], info))
    names = [name for name in network.blocks if not within(name, judge.int8.keep)]

    def detect(keep: Sequence[str]) -> list[Detections]:
        built = network.build([*judge.int8.keep, *keep])
        plain = replace(built.info, tiling=Tiling(), tta=TTA())
        return ExportedModel(built.runner, plain).predict(images)

    def attempt(keep: tuple[str, ...]) -> tuple[float, bool]:
        found = judge.accuracy(network.build(keep), f"with {', '.join(keep)} in fp32", network.measured.images)
        return found.ap_after, found.sound

    with judge.progress("looking for what eight bits harm", len(names)) as advance:
        costs = rank(names, detect, advance)
    return restore(costs, judge.int8.keep, attempt)


def _complaint(target: Path, accuracy: Accuracy, found: Restoration, network: Int8Network, judge: _Judge) -> str:
    worst = ", ".join(f"{name} ({100 * cost:.1f} %)" for name, cost in found.costs[:TRIED])
    text = f"{target}: is not kept, because {accuracy.complaint()}; alone in int8 the detections change most by {worst}"
    option = f"--fp32-modules {','.join(found.keep)}"
    if found.enough:
        return f"{text}; with the first of them in floating point AP is {100 * found.ap:.1f}: add {option}"
    whole = judge.accuracy(network.build(network.blocks), "all in fp32", network.measured.images)
    if not whole.sound:
        return f"{text}; but with nothing in int8 AP is {100 * whole.ap_after:.1f}, too: choose another --size."
    return (
        f"{text}; with {option} AP is still only {100 * found.ap:.1f}: calibrate on images like those it will see, "
        "keep more, or use --precision fp32."
    )
