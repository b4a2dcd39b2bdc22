"""Example images as HTML: boxes as SVG over the image, and as JSON what the script needs for sliders and stars."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from varifocal.analysis.pages import html
from varifocal.analysis.worst_images import DetectionError
from varifocal.tools.report.examples import Example, ImagePanel
from varifocal.tools.report.report import Report
from varifocal.types import Category

FLOOR = 0.3  # least score that is drawn at first where no score has a best F1
NO_STAR = "Only detections of VFNet checkpoints have a star; of others the box, its score and its IoU are shown."
KINDS = {
    "right": "right (IoU 0.5)",
    "ignored": "in a crowd region, neither right nor wrong",
    "localization": "wrong: too loose",
    "class": "wrong: another class",
    "both": "wrong: too loose and another class",
    "duplicate": "wrong: its object is taken",
    "background": "wrong: nothing is there",
}


def example_html(report: Report, number: int, example: Example) -> str:
    """One image, once for each run."""
    sample, names = example.sample, _categories(report)
    title = f"{sample.file.name}: {example.why}"
    scenes = "".join(_scene(report, number, example, scene, names) for scene in example.scenes)
    size = f'width="{sample.width}" height="{sample.height}"'
    return (
        f'<article class="example" aria-labelledby="e{number}"><h3 id="e{number}">{html.text(title)}</h3>'
        '<svg class="store" width="0" height="0" aria-hidden="true">'
        f'<image id="p{number}" href="{example.uri}" {size} preserveAspectRatio="none"/></svg>'
        f'<div class="scenes">{scenes}</div></article>'
    )


def scene_data(report: Report) -> str:
    """What the script knows, as JSON that may stand inside a script element."""
    names = _categories(report)
    scenes = {
        f"{number}-{scene.run}": {
            "size": [example.sample.width, example.sample.height],
            "refines": refines(report, scene.run),
            "truth": [_numbers(box) for box in example.sample.boxes],
            "found": [_found(seen, scene, i, names) for i, seen in enumerate(scene.found)],
        }
        for number, example in enumerate(report.examples)
        for scene in example.scenes
    }
    return json.dumps(scenes, separators=(",", ":")).replace("<", "\\u003c")


def first_score(report: Report, run: int) -> float:
    """Where the slider of a run stands at first: the score of the best F1, in hundredths."""
    seen = report.runs[run].measured
    best = None if seen is None else seen.diagnosis.thresholds.f1
    return FLOOR if best is None else int(100 * best.score) / 100


def refines(report: Report, run: int) -> bool:
    """Whether the boxes of a run are refined, so that a star lies on another box than the last."""
    seen = report.runs[run].measured
    return seen is not None and seen.stars is not None and seen.refines


def _scene(report: Report, number: int, example: Example, scene: ImagePanel, names: Sequence[Category]) -> str:
    key, run = f"{number}-{scene.run}", report.runs[scene.run].name
    sample, least = example.sample, first_score(report, scene.run)
    truths = zip(sample.boxes, sample.labels, sample.crowd, strict=True)
    marks = [
        _rect(box, "truth crowd" if crowd else "truth", f"true: {names[label].name}") for box, label, crowd in truths
    ]
    # large ones first, so that small ones lie above them and can be pointed at
    order = sorted(range(len(scene.found)), key=lambda i: -_area(scene.found[i]))
    found = [_detection(scene.found[i], i, least, names) for i in order]
    more = f" The {len(scene.found)} best of {scene.total:,} are drawn." if scene.total > len(scene.found) else ""
    shown = sum(seen.score >= least for seen in scene.found)
    label = f"{run} in {sample.file.name}: {len(sample.boxes)} true boxes, {scene.total} detections"
    return (
        f'<div class="scene" data-scene="{key}" data-run="{scene.run}"><h4>{html.text(run)}</h4>'
        f'<svg class="image" viewBox="0 0 {sample.width} {sample.height}" role="img" '
        f'aria-label="{html.attribute(label)}"><use href="#p{number}"/>'
        f'<g class="truths">{"".join(marks)}</g><g class="founds">{"".join(found)}</g></svg>'
        f'<p class="slide"><label for="s{key}">Least score</label> '
        f'<input type="range" id="s{key}" min="0" max="1" step="0.01" value="{least:.2f}"> '
        f'<output for="s{key}"><span class="least">{least:.2f}</span>: <span class="count">{shown}'
        f' {"box" if shown == 1 else "boxes"}</span></output></p><p class="soft small">{html.text(more.strip())}</p>'
        '<div class="detail" hidden><p class="steps"><button type="button" class="previous">Previous box</button> '
        '<button type="button" class="next">Next box</button></p><div class="close"></div>'
        '<div class="told" aria-live="polite"></div></div></div>'
    )


def _detection(seen: DetectionError, place: int, least: float, names: Sequence[Category]) -> str:
    kind = "right" if seen.kind == "right" else ("ignored" if seen.kind == "ignored" else "wrong")
    low = " low" if seen.score < least else ""
    words = f"{names[seen.label].name} {seen.score:.2f}, IoU {seen.iou:.2f}, {KINDS[seen.kind]}"
    return (
        f'<g class="found {kind}{low}" data-place="{place}"><title>{html.text(words)}</title>'
        f"{_shape(seen.box, 'halo')}{_shape(seen.box, 'line')}</g>"
    )


def _rect(box: Float[np.ndarray, "4"], classes: str, words: str) -> str:
    return f'<g class="{classes}"><title>{html.text(words)}</title>{_shape(box, "halo")}{_shape(box, "line")}</g>'


def _shape(box: Float[np.ndarray, "4"], classes: str) -> str:
    x1, y1, x2, y2 = (float(side) for side in box)
    size = f'width="{max(x2 - x1, 0):.1f}" height="{max(y2 - y1, 0):.1f}"'
    return f'<rect class="{classes}" x="{x1:.1f}" y="{y1:.1f}" {size}/>'


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
