"""The study: one pass of the network per image, from which every row is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from PIL import Image

from varifocal.data.validate import check_size
from varifocal.evaluation.evaluate import fit_classes, measure
from varifocal.inference.model import ForwardPass, Model
from varifocal.inference.pipeline import PassInput, detect, read_for
from varifocal.inference.tiling import merge_tiles
from varifocal.structures import Candidates
from varifocal.tools.oracle.ground_truth_nms import ground_truth_nms
from varifocal.tools.oracle.positives import Labeller, Positives, Truth, atss_labeller, find_positives
from varifocal.tools.oracle.refine import kept_pyramid, refine_given_boxes
from varifocal.tools.oracle.result import BASELINE, OracleRow, OracleStudy
from varifocal.tools.oracle.rows import CENTERNESS, REFINEMENT, Override, Row, all_rows, apply_override, split_rows
from varifocal.types import Dataset, Detections, PostProcess, Tiling

ALL = 10**9  # number of detections that stands for all of them


class Variant(NamedTuple):
    """One way from predictions to detections.

    With ``centerness`` scores are multiplied by it; it is None for a detector without centerness. ``tiling`` says how
    the tiles of a large image are merged.
    """

    override: Override
    centerness: bool | None
    settings: PostProcess
    tiling: Tiling


@dataclass(frozen=True)
class Experiment:
    """A row with one kind of scores; ``unsuppressed`` is the variant without NMS that ground-truth NMS needs."""

    row: Row
    ordinary: Variant
    unsuppressed: Variant | None = None

    def finish(self, found: Mapping[Variant, Detections], truth: Truth) -> Detections:
        """Return the image's detections, given those of each variant."""
        ordinary = found[self.ordinary]
        if self.row.ground_truth_nms is None or self.unsuppressed is None:
            return ordinary
        most = self.ordinary.settings.max_detections
        return ground_truth_nms(found[self.unsuppressed], ordinary, truth, self.row.ground_truth_nms, most)


def oracle_study(
    model: Model,
    data: Dataset,
    *,
    assign: Literal["atss", "detector"] = "atss",
    topk: int = 9,
    rows: Sequence[Row] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> OracleStudy:
    """Evaluate a model on a data set with each row's truth instead of the predictions.

    Images are read, resized and tiled as in :func:`varifocal.evaluation.evaluate.evaluate`, so that the row ``nothing``
    is its result. An object belongs to a tile if at least half of it is inside, and its box is the whole one.

    Args:
        model: of any detector.
        data: the images and their labels; crowd regions have no positives. Images without boxes count.
        assign: the assignment of the positives: "atss", as in the paper, or "detector", as in its training.
        topk: candidates per level of that ATSS.
        rows: by default those of :func:`varifocal.tools.oracle.rows.all_rows`; a baseline is always evaluated.
        progress: called with the number of images done.

    Raises:
        DataError: the model lacks a class that has boxes, or an image cannot be read.
    """
    data = fit_classes(model, data)
    requested = all_rows(topk if assign == "atss" else None) if rows is None else rows
    present, absent = split_rows(_with_baseline(requested), model.info.name, model.detector)
    runner = OracleRunner(model, present, assign, topk)
    found: list[list[Detections]] = [[] for _ in runner.experiments]
    objects = 0
    for done, sample in enumerate(data.samples, start=1):
        truth = Truth.of(sample, data.categories, model.categories)
        image = read_for(model.info, sample.file)
        check_size(sample, image)
        for detections, result in zip(found, runner.run(image, truth), strict=True):
            detections.append(result)
        objects += len(truth.labels)
        progress(done)
    return OracleStudy(
        model.info.name,
        str(data.source),
        len(data.samples),
        objects,
        "detector" if assign == "detector" else f"atss top-k {topk}",
        runner.positives,
        _measure(model, data, runner.experiments, found),
        absent,
    )


def _with_baseline(rows: Sequence[Row]) -> list[Row]:
    first = [row for row in rows if row.name == BASELINE] or [Row(BASELINE, "all predictions")]
    return [*first, *(row for row in rows if row.name != BASELINE)]


def _experiments(row: Row, model: Model) -> Iterator[Experiment]:
    """Yield an experiment with and one without centerness, if the detector and the row allow both."""
    info = model.info
    unsuppressed = replace(info.postprocess, nms_type="nms", nms_iou=1.0, max_detections=ALL)
    scores: tuple[bool | None, ...] = (False, True) if CENTERNESS.is_met(model.detector) else (None,)
    for centerness in (True,) if row.requires is CENTERNESS else scores:
        ordinary = Variant(row.override, centerness, info.postprocess, info.tiling)
        if row.ground_truth_nms is None:
            yield Experiment(row, ordinary)
        else:
            yield Experiment(
                row, ordinary, ordinary._replace(settings=unsuppressed, tiling=replace(info.tiling, vote=0.0))
            )


def _measure(
    model: Model, data: Dataset, experiments: Sequence[Experiment], found: Sequence[Sequence[Detections]]
) -> tuple[OracleRow, ...]:
    rows: list[OracleRow] = []
    baseline: dict[bool | None, float] = {}
    for experiment, detections in zip(experiments, found, strict=True):
        row, centerness = experiment.row, experiment.ordinary.centerness
        metrics = measure(model, data, detections, without_false=row.without_false)
        gain = metrics.AP - baseline.setdefault(centerness, metrics.AP)  # the baseline is the first row
        rows.append(OracleRow(row.name, row.meaning, centerness, metrics, gain))
    return tuple(rows)


class OracleCandidates(NamedTuple):
    """The candidates of one pass over one image, before anything is replaced, and the positives of each assignment."""

    forward: ForwardPass
    decoded: Candidates
    positives: dict[int | None, Positives]
    image: Image.Image

    def overridden(self, variant: Variant) -> Candidates:
        """Return the candidates with the override of the variant at its positives, in pixels of the image."""
        changed = apply_override(self.decoded, self.positives[variant.override.topk], variant.override)
        changed = changed._replace(quality=None) if variant.centerness is False else changed
        return self.forward.to_images(changed, [self.image])[0]


class OracleRunner:
    """The stages of prediction for one image after the other; ``positives`` counts those of the study's assignment.

    The network runs once for all experiments: only post-processing makes the detections of each variant.
    """

    def __init__(self, model: Model, rows: Sequence[Row], assign: Literal["atss", "detector"], topk: int) -> None:
        detector: Any = model.detector
        self.model, self.info = model, model.info
        self.experiments = [experiment for row in rows for experiment in _experiments(row, model)]
        self.labellers: dict[int | None, Labeller] = {
            row.override.topk: atss_labeller(detector, row.override.topk)
            for row in rows
            if row.override.topk is not None
        }
        self.labellers[None] = detector.assign if assign == "detector" else atss_labeller(detector, topk)
        variants = (v for each in self.experiments for v in (each.ordinary, each.unsuppressed) if v is not None)
        self.variants = tuple(dict.fromkeys(variants))
        self.refines = any(row.requires is REFINEMENT for row in rows)
        self.positives = 0

    def run(self, image: Image.Image, truth: Truth) -> list[Detections]:
        """Return the detections of each experiment in an image."""
        self.truth = truth
        (found,) = detect(self, [image], self.info.postprocess)
        return [experiment.finish(found, truth) for experiment in self.experiments]

    @torch.inference_mode()
    def candidates(self, batch: PassInput) -> list[OracleCandidates]:
        """Run the network over a batch, and find the positives of each assignment among its candidates."""
        model = self.model
        with kept_pyramid(model) as pyramid:
            forward = model.forward_pass(batch)
        decoded = model.decode(forward)
        targets = [
            self.truth.within(tile).targets(image.width, image.height, shape, flip=batch.flip, device=model.device)
            for (image, tile), shape in zip(batch.crops, forward.shapes, strict=True)
        ]
        positives = {
            topk: find_positives(model.detector, forward, decoded, targets, labeller)
            for topk, labeller in self.labellers.items()
        }
        self.positives += len(positives[None].point)
        if self.refines:
            positives[None] = refine_given_boxes(model, forward, pyramid, decoded, positives[None])
        return [
            OracleCandidates(
                replace(forward, shapes=forward.shapes[i : i + 1]),
                decoded.of_image(i),
                {topk: at.of_image(i) for topk, at in positives.items()},
                image,
            )
            for i, image in enumerate(batch.images)
        ]

    @torch.inference_mode()
    def postprocess(self, passes: Sequence[OracleCandidates], settings: PostProcess) -> dict[Variant, Detections]:
        """Return the detections of every variant."""
        del settings  # each variant has its own
        return {
            variant: self.model.postprocess([found.overridden(variant) for found in passes], variant.settings)
            for variant in self.variants
        }

    def merge(
        self, parts: Sequence[dict[Variant, Detections]], size: tuple[int, int], settings: PostProcess
    ) -> dict[Variant, Detections]:
        """Return the detections of every variant in an image of (height, width) from those in its tiles."""
        del settings
        return {
            variant: merge_tiles([part[variant] for part in parts], size, variant.tiling, variant.settings)[0]
            for variant in self.variants
        }
