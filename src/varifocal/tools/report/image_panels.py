"""Example images with their boxes as ``examples.html`` draws them, and what the script needs for sliders and stars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from varifocal.analysis.worst_images import DetectionError
from varifocal.tools.report.examples import Example, ImagePanel
from varifocal.tools.report.report import Report
from varifocal.types import Category

FLOOR = 0.3  # least score that is drawn at first where no score has a best F1
KINDS = {
    "right": "right (IoU 0.5)",
    "ignored": "in a crowd region, neither right nor wrong",
    "localization": "wrong: too loose",
    "class": "wrong: another class",
    "both": "wrong: too loose and another class",
    "duplicate": "wrong: its object is taken",
    "background": "wrong: nothing is there",
}


class BoxOutline(NamedTuple):
    """A box in pixels of the image; ``kind`` is its class in the style, ``words`` are shown when it is pointed at."""

    kind: str
    words: str
    x: float
    y: float
    width: float
    height: float


class DetectionOutline(NamedTuple):
    """A detection's box, its number among those of the scene, and whether it scores less than is drawn at first."""

    box: BoxOutline
    number: int
    low: bool


class Scene(NamedTuple):
    """What one run finds in an image. ``key`` is that of :func:`scene_data`; ``least`` the score from which boxes are
    drawn at first, ``shown`` how many these are; ``total`` counts also detections that the page leaves out."""

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
    """Return one image, once for each run."""
    sample, names = example.sample, _categories(report)
    scenes = [_scene(report, number, example, scene, names) for scene in example.scenes]
    title = f"{sample.file.name}: {example.why}"
    return ExamplePanels(number, title, example.uri, sample.width, sample.height, scenes)


def scene_data(report: Report) -> dict[str, Any]:
    """Return what the script knows, as plain values."""
    names = _categories(report)
    return {
        f"{number}-{scene.run}": {
            "size": [example.sample.width, example.sample.height],
            "refines": refines(report, scene.run),
            "truth": [_numbers(box) for box in example.sample.boxes],
            "found": [_found(seen, scene, i, names) for i, seen in enumerate(scene.found)],
        }
        for number, example in enumerate(report.examples)
        for scene in example.scenes
    }


def first_score(report: Report, run: int) -> float:
    """Where the slider of a run stands at first: the score of the best F1, in hundredths."""
    seen = report.runs[run].measured
    best = None if seen is None else seen.diagnosis.thresholds.f1
    return FLOOR if best is None else int(100 * best.score) / 100


def refines(report: Report, run: int) -> bool:
    """Whether the boxes of a run are refined, so that a star lies on another box than the last."""
    seen = report.runs[run].measured
    return seen is not None and seen.stars is not None and seen.refines


def _scene(report: Report, number: int, example: Example, scene: ImagePanel, names: Sequence[Category]) -> Scene:
    run, sample, least = report.runs[scene.run].name, example.sample, first_score(report, scene.run)
    truths = [
        _outline(box, "truth crowd" if crowd else "truth", f"true: {names[label].name}")
        for box, label, crowd in zip(sample.boxes, sample.labels, sample.crowd, strict=True)
    ]
    # large ones first, so that small ones lie above them and can be pointed at
    order = sorted(range(len(scene.found)), key=lambda i: -_area(scene.found[i]))
    return Scene(
        f"{number}-{scene.run}",
        scene.run,
        run,
        f"{run} in {sample.file.name}: {len(sample.boxes)} true boxes, {scene.total} detections",
        truths,
        [DetectionOutline(_detection(scene.found[i], names), i, scene.found[i].score < least) for i in order],
        least,
        sum(seen.score >= least for seen in scene.found),
        scene.total,
    )


def _detection(seen: DetectionError, names: Sequence[Category]) -> BoxOutline:
    kind = seen.kind if seen.kind in ("right", "ignored") else "wrong"
    words = f"{names[seen.label].name} {seen.score:.2f}, IoU {seen.iou:.2f}, {KINDS[seen.kind]}"
    return _outline(seen.box, kind, words)


def _outline(box: Float[np.ndarray, "4"], kind: str, words: str) -> BoxOutline:
    x1, y1, x2, y2 = (float(side) for side in box)
    return BoxOutline(kind, words, x1, y1, max(x2 - x1, 0.0), max(y2 - y1, 0.0))


def _area(seen: DetectionError) -> float:
    return float((seen.box[2] - seen.box[0]) * (seen.box[3] - seen.box[1]))


def _found(seen: DetectionError, scene: ImagePanel, i: int, names: Sequence[Category]) -> dict[str, Any]:
    known: dict[str, Any] = {
        "box": _numbers(seen.box),
        "name": names[seen.label].name,
        "score": round(seen.score, 3),
        "iou": round(seen.iou, 3),
        "kind": KINDS[seen.kind],
        "truth": seen.truth,
    }
    if scene.stars:
        star = scene.stars[i]
        known["center"], known["initial"] = _numbers(star.center), _numbers(star.initial)
        known["refined"] = _numbers(star.refined)
        known["ious"] = [None if one is None else round(one, 3) for one in (star.initial_iou, star.refined_iou)]
    return known


def _numbers(values: Any) -> list[float]:
    return [round(float(value), 1) for value in values]


def _categories(report: Report) -> tuple[Category, ...]:
    for one in report.runs:
        if one.measured is not None:
            return one.measured.data.categories
    return ()
