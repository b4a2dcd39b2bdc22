"""Example images with their boxes for ``examples.html``, and the data of the script for sliders and stars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from varifocal.analysis.worst_images import DetectionError
from varifocal.tools.report.examples import Example, ImagePanel
from varifocal.tools.report.report import Report
from varifocal.types import Category

FLOOR = 0.3  # least score that is drawn at first if there is no best F1
KINDS = {
    "right": "true positive (IoU 0.5)",
    "ignored": "in a crowd region, does not count",
    "localization": "false positive: poorly localized",
    "class": "false positive: another class",
    "both": "false positive: poorly localized, another class",
    "duplicate": "false positive: duplicate",
    "background": "false positive: background",
}


class BoxOutline(NamedTuple):
    """A box in pixels of the image; ``kind`` is its CSS class, ``words`` are shown when the pointer is on it."""

    kind: str
    words: str
    x: float
    y: float
    width: float
    height: float


class DetectionOutline(NamedTuple):
    """A detection's box, its number in the scene, and whether its score is too low to be drawn at first."""

    box: BoxOutline
    number: int
    low: bool


class Scene(NamedTuple):
    """The boxes of one run in an image.

    ``key`` is that of :func:`scene_data`, ``least`` the score from which boxes are drawn at first, ``shown`` the number
    of these; ``total`` also counts detections that the page leaves out.
    """

    key: str
    run: int
    name: str
    label: str
    truths: list[BoxOutline]
    found: list[DetectionOutline]
    least: float
    shown: int
    total: int


class ExamplePanels(NamedTuple):
    """An image as a data URI, its size in pixels, and the scenes of all runs."""

    number: int
    title: str
    uri: str
    width: int
    height: int
    scenes: list[Scene]


def example_panels(report: Report, number: int, example: Example) -> ExamplePanels:
    """Return an example with a scene for each run."""
    sample, names = example.sample, _categories(report)
    scenes = [_scene(report, number, example, panel, names) for panel in example.scenes]
    title = f"{sample.file.name}: {example.why}"
    return ExamplePanels(number, title, example.uri, sample.width, sample.height, scenes)


def scene_data(report: Report) -> dict[str, Any]:
    """Return the data of the script as plain values."""
    names = _categories(report)
    return {
        f"{number}-{panel.run}": {
            "size": [example.sample.width, example.sample.height],
            "refines": refines(report, panel.run),
            "truth": [_numbers(box) for box in example.sample.boxes],
            "found": [_found(detection, panel, i, names) for i, detection in enumerate(panel.found)],
        }
        for number, example in enumerate(report.examples)
        for panel in example.scenes
    }


def first_score(report: Report, run: int) -> float:
    """Return the initial value of the slider of a run: the score of the best F1, in hundredths."""
    evaluation = report.runs[run].measured
    best = None if evaluation is None else evaluation.diagnosis.thresholds.f1
    return FLOOR if best is None else int(100 * best.score) / 100


def refines(report: Report, run: int) -> bool:
    """Return whether a run has stars and refines their boxes."""
    evaluation = report.runs[run].measured
    return evaluation is not None and evaluation.stars is not None and evaluation.refines


def _scene(report: Report, number: int, example: Example, panel: ImagePanel, names: Sequence[Category]) -> Scene:
    run, sample, least = report.runs[panel.run].name, example.sample, first_score(report, panel.run)
    truths = [
        _outline(box, "truth crowd" if crowd else "truth", f"true: {names[label].name}")
        for box, label, crowd in zip(sample.boxes, sample.labels, sample.crowd, strict=True)
    ]
    # large boxes first, so that small ones are above them and can be clicked
    order = sorted(range(len(panel.found)), key=lambda i: -_area(panel.found[i]))
    return Scene(
        f"{number}-{panel.run}",
        panel.run,
        run,
        f"{run} in {sample.file.name}: {len(sample.boxes)} ground truth boxes, {panel.total} detections",
        truths,
        [DetectionOutline(_detection(panel.found[i], names), i, panel.found[i].score < least) for i in order],
        least,
        sum(detection.score >= least for detection in panel.found),
        panel.total,
    )


def _detection(detection: DetectionError, names: Sequence[Category]) -> BoxOutline:
    kind = detection.kind if detection.kind in ("right", "ignored") else "wrong"
    words = f"{names[detection.label].name} {detection.score:.2f}, IoU {detection.iou:.2f}, {KINDS[detection.kind]}"
    return _outline(detection.box, kind, words)


def _outline(box: Float[np.ndarray, "4"], kind: str, words: str) -> BoxOutline:
    x1, y1, x2, y2 = (float(side) for side in box)
    return BoxOutline(kind, words, x1, y1, max(x2 - x1, 0.0), max(y2 - y1, 0.0))


def _area(detection: DetectionError) -> float:
    return float((detection.box[2] - detection.box[0]) * (detection.box[3] - detection.box[1]))


def _found(detection: DetectionError, panel: ImagePanel, i: int, names: Sequence[Category]) -> dict[str, Any]:
    known: dict[str, Any] = {
        "box": _numbers(detection.box),
        "name": names[detection.label].name,
        "score": round(detection.score, 3),
        "iou": round(detection.iou, 3),
        "kind": KINDS[detection.kind],
        "truth": detection.truth,
    }
    if panel.stars:
        star = panel.stars[i]
        known["center"], known["initial"] = _numbers(star.center), _numbers(star.initial)
        known["refined"] = _numbers(star.refined)
        known["ious"] = [None if iou is None else round(iou, 3) for iou in (star.initial_iou, star.refined_iou)]
    return known


def _numbers(values: Any) -> list[float]:
    return [round(float(value), 1) for value in values]


def _categories(report: Report) -> tuple[Category, ...]:
    return next((run.measured.data.categories for run in report.runs if run.measured is not None), ())
