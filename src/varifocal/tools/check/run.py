"""The check of a data set from end to end: read, judge, decode, match, count."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.data.load import DataSource, open_dataset
from varifocal.data.open_image import pixel_limit
from varifocal.data.options import Unlabeled
from varifocal.inference.pipeline import Predictor
from varifocal.tools.check.annotation_checks import find_copied_boxes, find_faults, find_in_source, find_odd_boxes
from varifocal.tools.check.classes import count_classes, find_in_classes
from varifocal.tools.check.find_label_errors import find_label_errors
from varifocal.tools.check.findings import Finding, Findings
from varifocal.tools.check.image_scan import ScannedImages, cost_of_decoding, scan_files
from varifocal.tools.check.images import find_in_scans, find_without_boxes
from varifocal.tools.check.recommend_size import Advice, recommend_size
from varifocal.tools.check.report import Decoding, MatchReport, ModelReport, Report
from varifocal.tools.check.split import Split
from varifocal.tools.check.statistics import count
from varifocal.tools.check.training_boxes import TrainingBoxes, make_scene
from varifocal.tools.check.unassigned import match

# A bar: label and total, then called with the number done.
Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@contextmanager
def no_bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Nothing is shown."""
    yield lambda done: None


def check_data(
    data: Path | str,
    eye: TrainingGeometry,
    *,
    split: str | None = None,
    format: str | None = None,
    images: str = "",
    unlabeled: Unlabeled = "",
    decode: bool = True,
    model: tuple[str, Predictor] | None = None,
    bar: Bar = no_bar,
) -> Report:
    """Look at everything in a data set, or at one ``split`` of it; ``images`` and ``unlabeled`` are those of
    :func:`varifocal.data.load.load_dataset`.

    ``eye`` says whose assignment and image size is tried. Without ``decode`` no image is opened but where a format
    does not record sizes, and a few to say what decoding would cost. ``model``, by its name, is asked about the labels
    of all images; no network is run without one.

    Raises:
        DataError: the data set cannot be read at all.
        ConfigError: an unknown format.
    """
    source = open_dataset(Path(data), format=format, images=images, unlabeled=unlabeled)
    splits = _read(source, source.splits if split is None else [split], bar)
    found = Findings()
    copies = [_look_at_labels(found, one) for one in splits]
    decoding, scans = _decode(found, splits, eye, bar) if decode else (_not_decoded(splits), [])
    classes = count_classes(splits)
    find_in_classes(found, splits, classes)
    scene = make_scene(splits, copies)
    resized = eye.resized(scene.sizes)
    advice = recommend_size(scene.sizes, scene.owner, scene.boxes, resized, eye.preprocess, eye.labeling.strides[0])
    matching, points = _match(found, splits, scene, eye, advice, bar)
    scale = np.sqrt(resized.prod(axis=1) / scene.sizes.prod(axis=1))
    statistics = count(splits, scene.sides * scale[scene.owner], points)
    asked = None if model is None else _ask(found, splits, model, bar)
    notes = tuple(dict.fromkeys(note for one in splits for note in one.raw.notes))
    return Report(str(data), splits, found, classes, statistics, decoding, matching, advice, asked, notes, scans)


def _ask(found: Findings, splits: Sequence[Split], model: tuple[str, Predictor], bar: Bar) -> ModelReport:
    with bar("asking the model", sum(len(split.raw.images) for split in splits)) as advance:
        return find_label_errors(found, splits, model[1], model[0], advance)


def _read(source: DataSource, names: Sequence[str], bar: Bar) -> list[Split]:
    splits = []
    with bar("reading", len(names)) as advance:
        for done, name in enumerate(names, start=1):
            splits.append(Split.of(source.read(name)))
            advance(done)
    return splits


def _look_at_labels(found: Findings, split: Split) -> np.ndarray:
    """What can be seen without an image; which boxes [N] equal an earlier one."""
    find_in_source(found, split)
    find_faults(found, split)
    copies = find_copied_boxes(found, split)
    find_odd_boxes(found, split)
    find_without_boxes(found, split)
    return copies


def _decode(
    found: Findings, splits: Sequence[Split], eye: TrainingGeometry, bar: Bar
) -> tuple[Decoding, list[ScannedImages]]:
    begun = time.perf_counter()
    there = [sum(file is not None for file in split.raw.images.files) for split in splits]
    scans, before = [], 0
    with bar("decoding", sum(there)) as advance:
        for split, many in zip(splits, there, strict=True):

            def moved(done: int, before: int = before) -> None:
                advance(before + done)

            levels = eye.preprocess.range
            scans.append(scan_files(split.raw.images.files, moved, levels=levels))
            before += many
    find_in_scans(found, splits, scans, eye.preprocess.range, pixel_limit(large=eye.cropped))
    return Decoding(True, sum(there), time.perf_counter() - begun), scans


def _not_decoded(splits: Sequence[Split]) -> Decoding:
    total = sum(len(split.raw.images) for split in splits)
    seconds = [cost_of_decoding(split.raw.images.files) for split in splits]
    return Decoding(False, total, float(np.nansum(seconds)))


def _match(
    found: Findings,
    splits: Sequence[Split],
    scene: TrainingBoxes,
    eye: TrainingGeometry,
    advice: Advice | None,
    bar: Bar,
) -> tuple[MatchReport, np.ndarray]:
    """What the assignment gives at the recipe's size and at the recommended one; the points of each box."""
    with bar("assigning", len(scene.owner)) as advance:
        given = match(scene, eye, advance)
    report = MatchReport(eye.name, given.looked_at, len(given.unmatched), given.sampled)
    if advice is not None and advice.overrides:
        with bar("assigning at the recommended size", len(scene.owner)) as advance:
            then = match(scene, eye.at(advice.preprocess), advance)
        report = replace(report, unmatched_then=len(then.unmatched))
    resized = eye.resized(scene.sizes)
    for i, split in enumerate(splits):
        lost = given.unmatched[scene.split[given.unmatched] == i]
        lost = lost[np.argsort(scene.sides[lost], kind="stable")]

        def make(index: int, split: Split = split) -> Finding:
            owner = scene.owner[index]
            width, height = (scene.boxes[index, 2:] - scene.boxes[index, :2]) * (resized[owner] / scene.sizes[owner])
            text = f"seen by the network as {width:.3g} x {height:.3g} pixels, gets no point"
            return split.on_box("unmatched-box", int(scene.index[index]), text, rank=float(1 / scene.sides[index]))

        found.add("unmatched-box", split.name, lost.tolist(), make)
    return report, given.points
