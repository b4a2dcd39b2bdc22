"""The study: one pass of the network an image, and every row from what it said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from varifocal.tools.oracle.apply_override import apply_override
from varifocal.tools.oracle.ground_truth_nms import ground_truth_nms
from varifocal.tools.oracle.positives import Labeller, Positives, Truth, atss_labeller, find_positives
from varifocal.tools.oracle.refine import kept_pyramid, refine_given_boxes
from varifocal.tools.oracle.result import BASELINE, OracleRow, OracleStudy
from varifocal.tools.oracle.rows import CENTERNESS, REFINEMENT, Override, Row, all_rows, split_rows
from varifocal.types import Dataset, Detections, PostProcess, Tiling

ALL = 10**9  # detections: all of them


class Variant(NamedTuple):
    """One way from what the network said to detections: what is given, how it is scored, what follows.

    ``centerness``: scores are multiplied by it; None where there is none. ``tiling`` says how the windows of a large
    image are joined.
    """

    given: Override
    centerness: bool | None
    settings: PostProcess
    tiling: Tiling


@dataclass(frozen=True)
class Experiment:
    """A row with one way to score, and the strands that it is made of.

    The first is what the model does; a row that suppresses by truth has a second, in which nothing is suppressed.
    """

    row: Row
    strands: tuple[Variant, ...]

    def finish(self, found: Mapping[Variant, Detections], truth: Truth) -> Detections:
        """The image's detections, from those of each strand."""
        ordinary = found[self.strands[0]]
        if self.row.one_each is None:
            return ordinary
        most = self.strands[0].settings.max_detections
        return ground_truth_nms(found[self.strands[1]], ordinary, truth, self.row.one_each, most)


def oracle_study(
    model: Model,
    data: Dataset,
    *,
    assign: Literal["atss", "detector"] = "atss",
    topk: int = 9,
    rows: Sequence[Row] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> OracleStudy:
    """Evaluate a model on a data set with each row's truth instead of what was predicted.

    Images are read, resized, cut into windows and looked at as :func:`varifocal.evaluation.evaluate.evaluate` does, so
    that the row ``nothing`` is its result. In a window an object counts when at least half of it is seen there, and its
    box is the whole one.

    Args:
        model: of any detector.
        data: the images and their labels; crowd regions have no positives. Images without boxes count.
        assign: which points are positive: "atss", as in the paper, or what the detector is taught ("detector").
        topk: candidates a level of that ATSS.
        rows: those of :func:`varifocal.tools.oracle.rows.all_rows` when left out; a baseline is always measured.
        progress: called with the number of images done.

    Raises:
        DataError: the model lacks a class that has boxes, or an image cannot be read.
    """
    data = fit_classes(model, data)
    requested = all_rows(topk if assign == "atss" else None) if rows is None else rows
    present, absent = split_rows(_with_baseline(requested), model.info.name, model.detector)
    cases = [case for row in present for case in _cases(row, model)]
    detector: Any = model.detector
    labellers: dict[int | None, Labeller] = {
        row.given.topk: atss_labeller(detector, row.given.topk) for row in present if row.given.topk is not None
    }
    labellers[None] = detector.assign if assign == "detector" else atss_labeller(detector, topk)
    runner = OracleRunner(model, cases, labellers)
    found: list[list[Detections]] = [[] for _ in cases]
    truths = [Truth.of(sample, data.categories, model.categories) for sample in data.samples]
    for done, (sample, truth) in enumerate(zip(data.samples, truths, strict=True), start=1):
        image = read_for(model.info, sample.file)
        check_size(sample, image)
        for each, detections in zip(found, runner.run(image, truth), strict=True):
            each.append(detections)
        progress(done)
    return OracleStudy(
        model.info.name,
        str(data.source),
        len(data.samples),
        sum(len(truth.labels) for truth in truths),
        "detector" if assign == "detector" else f"atss top-k {topk}",
        runner.positives,
        _measured(model, data, cases, found),
        absent,
    )


def _with_baseline(rows: Sequence[Row]) -> list[Row]:
    first = [row for row in rows if row.name == BASELINE] or [Row(BASELINE, "all as predicted")]
    return [*first, *(row for row in rows if row.name != BASELINE)]


def _cases(row: Row, model: Model) -> list[Experiment]:
    info = model.info
    unsuppressed = replace(info.postprocess, nms_type="nms", nms_iou=1.0, max_detections=ALL)
    ways: tuple[bool | None, ...] = (False, True) if CENTERNESS.has(model.detector) else (None,)
    if row.need is CENTERNESS:
        ways = (True,)
    cases = []
    for centerness in ways:
        strands = [Variant(row.given, centerness, info.postprocess, info.tiling)]
        if row.one_each is not None:
            strands.append(Variant(row.given, centerness, unsuppressed, replace(info.tiling, vote=0.0)))
        cases.append(Experiment(row, tuple(strands)))
    return cases


def _measured(
    model: Model, data: Dataset, cases: Sequence[Experiment], found: Sequence[Sequence[Detections]]
) -> tuple[OracleRow, ...]:
    rows: list[OracleRow] = []
    baseline: dict[bool | None, float] = {}
    for case, detections in zip(cases, found, strict=True):
        row = case.row
        metrics = measure(model, data, detections, without_false=row.without_false)
        centerness = case.strands[0].centerness
        gain = metrics.AP - baseline.setdefault(centerness, metrics.AP)  # the baseline is the first row
        rows.append(OracleRow(row.name, row.meaning, centerness, metrics, gain))
    return tuple(rows)


class OracleCandidates(NamedTuple):
    """The candidates of one pass over one image, before anything is replaced, and the positives of each assignment."""

    forward: ForwardPass
    decoded: Candidates
    positives: dict[int | None, Positives]
    image: Image.Image

    def replaced(self, strand: Variant) -> Candidates:
        """Return the candidates with what the strand replaces at its positives, in pixels of the image."""
        changed = apply_override(self.decoded, self.positives[strand.given.topk], strand.given)
        changed = changed._replace(quality=None) if strand.centerness is False else changed
        return self.forward.to_images(changed, [self.image])[0]


class OracleRunner:
    """The stages of prediction for one image after the other; ``positives`` counts those of the first labeller.

    Candidates are the network's own, so that it runs once, and become the detections of every strand in the end.
    """

    def __init__(self, model: Model, cases: Sequence[Experiment], labellers: dict[int | None, Labeller]) -> None:
        self.model, self.info, self.cases, self.labellers = model, model.info, cases, labellers
        self.strands = tuple(dict.fromkeys(strand for case in cases for strand in case.strands))
        self.again = any(case.row.need is REFINEMENT for case in cases)
        self.positives = 0

    def run(self, image: Image.Image, truth: Truth) -> list[Detections]:
        """Return the image's detections of every case."""
        self.truth = truth
        (found,) = detect(self, [image], self.info.postprocess)
        return [case.finish(found, truth) for case in self.cases]

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
        if self.again:
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
        """Return the detections of every strand."""
        del settings  # each strand has its own
        return {
            strand: self.model.postprocess([found.replaced(strand) for found in passes], strand.settings)
            for strand in self.strands
        }

    def merge(
        self, parts: Sequence[dict[Variant, Detections]], size: tuple[int, int], settings: PostProcess
    ) -> dict[Variant, Detections]:
        """Return the detections of every strand in an image of (height, width) from those in its tiles."""
        del settings
        return {
            strand: merge_tiles([part[strand] for part in parts], size, strand.tiling, strand.settings)[0]
            for strand in self.strands
        }
