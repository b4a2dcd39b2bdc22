"""The check of a data set from end to end: read, validate, decode, assign, count."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.data.images import pixel_limit
from varifocal.data.load import DataSource, open_dataset
from varifocal.data.options import Unlabeled
from varifocal.data.recommend_size import Advice, recommend_size
from varifocal.data.splits import training_split
from varifocal.data.summary import DataSummary, summarize_sizes
from varifocal.inference.pipeline import Predictor
from varifocal.tools.check.annotation_checks import (
    add_copied_boxes,
    add_invalid_boxes,
    add_reader_issues,
    add_unusual_boxes,
)
from varifocal.tools.check.classes import add_class_findings, count_classes
from varifocal.tools.check.find_label_errors import find_label_errors
from varifocal.tools.check.findings import Finding, Findings
from varifocal.tools.check.image_scan import ScannedImages, cost_of_decoding, scan_files
from varifocal.tools.check.images import add_image_findings, add_images_without_boxes
from varifocal.tools.check.report import Decoding, MatchReport, ModelReport, Report
from varifocal.tools.check.split import Split
from varifocal.tools.check.statistics import make_statistics
from varifocal.tools.check.training_boxes import TrainingBoxes, collect_training_boxes
from varifocal.tools.check.unassigned import count_points
from varifocal.utils.errors import DataError
from varifocal.utils.progress import Bar, no_bar


def check_data(
    data: Path | str,
    geometry: TrainingGeometry | Callable[[DataSummary], TrainingGeometry],
    *,
    split: str | None = None,
    format: str | None = None,
    images: str = "",
    unlabeled: Unlabeled = "",
    decode: bool = True,
    model: tuple[str, Predictor] | None = None,
    bar: Bar = no_bar,
) -> Report:
    """Check all splits of a data set, or one of them.

    Args:
        data: the data set.
        geometry: the label assignment and image size that are tried, or a function that decides on them by the sizes
            of the images and boxes of the training split.
        split: the only split to check.
        format: as in :func:`varifocal.data.load.load_dataset`, like ``images`` and ``unlabeled``.
        images: the folder of the images.
        unlabeled: what images without labels are.
        decode: without it images are opened only for a format that does not record sizes, and a few to estimate the
            time that decoding would take.
        model: the name of a model and the model, which judges the labels of all images; no network runs without it.
        bar: shows progress.

    Raises:
        DataError: the data set cannot be read at all.
        ConfigError: the format is unknown.
    """
    source = open_dataset(Path(data), format=format, images=images, unlabeled=unlabeled)
    splits = _read(source, source.splits if split is None else [split], bar)
    findings = Findings()
    copies = [_check_annotations(findings, each) for each in splits]
    if not isinstance(geometry, TrainingGeometry):
        geometry = geometry(_summary(data, source, splits, copies))
    decoding, scans = _decode(findings, splits, geometry, bar) if decode else (_not_decoded(splits), [])
    classes = count_classes(splits)
    add_class_findings(findings, splits, classes)
    boxes = collect_training_boxes(splits, copies)
    resized = geometry.resized(boxes.sizes)
    stride = geometry.labeling.strides[0]
    advice = recommend_size(boxes.sizes, boxes.owner, boxes.boxes, resized, geometry.preprocess, stride)
    matching, points = _assign(findings, splits, boxes, geometry, advice, bar)
    scale = np.sqrt(resized.prod(axis=1) / boxes.sizes.prod(axis=1))
    statistics = make_statistics(splits, boxes.sides * scale[boxes.owner], points)
    judged = None if model is None else _judge_labels(findings, splits, model, bar)
    notes = tuple(dict.fromkeys(note for each in splits for note in each.raw.notes))
    return Report(str(data), splits, findings, classes, statistics, decoding, matching, advice, judged, notes, scans)


def _summary(
    data: Path | str, source: DataSource, splits: Sequence[Split], copies: Sequence[np.ndarray]
) -> DataSummary:
    """Return the sizes of images and boxes of the training split, or of all splits if none is known to be it."""
    try:
        name = training_split(data, source.splits)
    except DataError:
        name = ""
    known = [i for i, each in enumerate(splits) if (each.raw.images.sizes > 0).all(axis=1).any()]
    training = [i for i in known if splits[i].name == name] or range(len(splits))
    boxes = collect_training_boxes([splits[i] for i in training], [copies[i] for i in training])
    if not len(boxes.sizes):
        return DataSummary(images=0, boxes=0, short_side=0, long_side=0, pixels=0.0)
    return summarize_sizes(boxes.sizes, boxes.owner, boxes.boxes)


def _judge_labels(findings: Findings, splits: Sequence[Split], model: tuple[str, Predictor], bar: Bar) -> ModelReport:
    name, predictor = model
    with bar("checking labels with the model", sum(len(split.raw.images) for split in splits)) as advance:
        return find_label_errors(findings, splits, predictor, name, advance)


def _read(source: DataSource, names: Sequence[str], bar: Bar) -> list[Split]:
    splits = []
    with bar("reading", len(names)) as advance:
        for done, name in enumerate(names, start=1):
            splits.append(Split.of(source.read(name)))
            advance(done)
    return splits


def _check_annotations(findings: Findings, split: Split) -> np.ndarray:
    """Add what can be found without opening an image; return which boxes [N] equal an earlier one."""
    add_reader_issues(findings, split)
    add_invalid_boxes(findings, split)
    copies = add_copied_boxes(findings, split)
    add_unusual_boxes(findings, split)
    add_images_without_boxes(findings, split)
    return copies


def _decode(
    findings: Findings, splits: Sequence[Split], geometry: TrainingGeometry, bar: Bar
) -> tuple[Decoding, list[ScannedImages]]:
    begun, levels = time.perf_counter(), geometry.preprocess.range
    counts = [sum(file is not None for file in split.raw.images.files) for split in splits]
    scans, before = [], 0
    with bar("decoding", sum(counts)) as advance:
        for split, count in zip(splits, counts, strict=True):

            def progress(done: int, before: int = before) -> None:
                advance(before + done)

            scans.append(scan_files(split.raw.images.files, progress, levels=levels))
            before += count
    add_image_findings(findings, splits, scans, levels, pixel_limit(large=geometry.cropped))
    return Decoding(True, sum(counts), time.perf_counter() - begun), scans


def _not_decoded(splits: Sequence[Split]) -> Decoding:
    total = sum(len(split.raw.images) for split in splits)
    seconds = [cost_of_decoding(split.raw.images.files) for split in splits]
    return Decoding(False, total, float(np.nansum(seconds)))


def _assign(
    findings: Findings,
    splits: Sequence[Split],
    boxes: TrainingBoxes,
    geometry: TrainingGeometry,
    advice: Advice | None,
    bar: Bar,
) -> tuple[MatchReport, np.ndarray]:
    """Add the boxes without a point; return the report on the assignment and the number of points of each box."""
    with bar("assigning", len(boxes.owner)) as advance:
        assigned = count_points(boxes, geometry, advance)
    report = MatchReport(geometry.name, assigned.assigned, len(assigned.unmatched), assigned.sampled)
    if advice is not None and advice.overrides:
        with bar("assigning at the recommended size", len(boxes.owner)) as advance:
            then = count_points(boxes, geometry.with_preprocess(advice.preprocess), advance)
        report = replace(report, unmatched_then=len(then.unmatched))
    spans = (boxes.boxes[:, 2:] - boxes.boxes[:, :2]) * geometry.scale_factors(boxes.sizes)[boxes.owner, :2]
    for i, split in enumerate(splits):
        unmatched = assigned.unmatched[boxes.split[assigned.unmatched] == i]
        unmatched = unmatched[np.argsort(boxes.sides[unmatched], kind="stable")]

        def make(index: int, split: Split = split) -> Finding:
            width, height = spans[index]
            text = f"is {width:.3g} x {height:.3g} pixels in the network's input and gets no point"
            return split.on_box("unmatched-box", int(boxes.index[index]), text, rank=float(1 / boxes.sides[index]))

        findings.add_many(("unmatched-box", split.name), unmatched.tolist(), make)
    return report, assigned.points
