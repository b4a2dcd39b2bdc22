"""The report as one page that needs nothing else: no network, light and dark, narrow and wide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from itertools import count

from varifocal.analysis.charts.svg import DARK_STYLE, STYLE
from varifocal.analysis.diagnosis_plots import make_plots
from varifocal.analysis.pages import html
from varifocal.analysis.pages.frame import document
from varifocal.tools.report.curves import make_curves
from varifocal.tools.report.forest_plot import forest_plot
from varifocal.tools.report.image_panels import NO_STAR, example_html, refines, scene_data
from varifocal.tools.report.report import Report
from varifocal.tools.report.sweeps import SHOWN, Sweep
from varifocal.tools.report.tables import (
    class_table,
    diagnosis_table,
    metrics_table,
    settings_table,
    statement_table,
    sweep_table,
)

KINDS = {
    "worth": "What separates AP from 100",
    "errors": "What each kind of error costs (TIDE)",
    "precision-recall": "Precision and recall",
    "reliability": "Reliability of the scores",
    "score-iou": "Score and IoU",
    "confusion": "Confusion",
}
IN_IMAGES = (("k-truth", "true box"), ("k-right", "right"), ("k-wrong", "wrong"))
HINTS = {  # by whether a run of the page refines its boxes
    True: "its first box, the nine points its star reads, the refined box",
    False: "its box, the nine points its star reads",
}


class _Charts:
    """Numbers the charts of a page, so that all ids in it differ."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def __call__(self, svg: str, caption: str = "") -> str:
        words = f"<figcaption>{html.text(caption)}</figcaption>" if caption else ""
        return f"<figure>{words}{html.chart(svg, next(self._numbers))}</figure>"


def make_page(report: Report) -> str:
    """The whole page."""
    charts = _Charts()
    parts = {
        "sweeps": ("Sweep", "".join(_sweep(report, one, charts) for one in report.sweeps)),
        "numbers": ("Numbers", _numbers(report)),
        "examples": ("Examples and the star", _examples(report)),
        "curves": ("Training", _curves(report, charts)),
        "diagnosis": ("Diagnosis", _diagnosis(report, charts)),
    }
    parts = {place: pair for place, pair in parts.items() if pair[1]}
    body = "".join(
        f'<section id="{place}"><h2>{html.text(words)}</h2>{content}</section>'
        for place, (words, content) in parts.items()
    )
    links = [(place, words) for place, (words, _) in parts.items()]
    alone = [one.name for one in report.runs if one.run.folder.parent not in {s.folder for s in report.sweeps}]
    title = ", ".join([*(one.name for one in report.sweeps), *alone])
    foot = "<footer>varifocal report. docs/report.md and docs/diagnose.md say what each figure means.</footer>"
    scenes = f'<script type="application/json" id="scenes">{scene_data(report)}</script>'
    folder = files("varifocal.tools.report")
    return document(
        f"{title}: report",
        _head(report, title, links) + body + foot + scenes,
        styles=[STYLE, (folder / "page.css").read_text(encoding="utf-8")],
        dark=DARK_STYLE,
        script=(folder / "page.js").read_text(encoding="utf-8"),
    )


def _head(report: Report, title: str, links: Sequence[tuple[str, str]]) -> str:
    where = "" if report.data is None else f"<p>Measured on {html.text(report.data)}.</p>"
    notes = [*report.notes, *(f"{one.name}: {note}" for one in report.runs for note in one.notes)]
    missing = f"<h3>What is missing</h3>{_list(notes)}" if notes else ""
    return (
        f'<div class="top"><h1>{html.text(title)}</h1><button type="button" id="theme">Dark page</button></div>'
        "<noscript><p>Without JavaScript everything is here but the sliders of the scores and the star: boxes are "
        "drawn from the score of the best F1 on.</p></noscript>"
        f"{html.navigation(links)}{where}{missing}"
    )


def _list(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{html.text(one.rstrip('.'))}.</li>" for one in sentences)
    return f'<ul class="said">{items}</ul>'


def _sweep(report: Report, sweep: Sweep, charts: _Charts) -> str:
    said = _list([one.words for one in sweep.statements if one.metric == "AP"])
    against = "row against row" if sweep.baseline is None else f"against {sweep.baseline}"
    plots = [forest_plot(f"{name} {against}", sweep.of(name)) for name in SHOWN]
    drawn = "".join(charts(svg) for svg in plots if svg)
    shown = "" if not sweep.statements else (
        f"{said}{statement_table(sweep)}"
        '<p class="soft">Better and worse are said where the 95 % interval of the paired differences (Student\'s t) '
        "leaves zero out, each row and metric for itself: of twenty comparisons without a difference one leaves it out "
        "by chance.</p>"
        f'<div class="charts">{drawn}</div>'
    )  # fmt: skip
    run = "the run of its first seed" if sweep.folder is not None else "the first of its runs"
    below = f"<p>Below, each row is shown by {run}.</p>" if report.runs else ""
    return f"<h3>{html.text(sweep.name)}</h3>{sweep_table(sweep)}{shown}{below}"


def _numbers(report: Report) -> str:
    if not report.runs:
        return ""
    return f"{metrics_table(report)}{class_table(report)}{settings_table(report)}"


def _curves(report: Report, charts: _Charts) -> str:
    drawn = "".join(charts(svg) for svg in make_curves([one.run for one in report.runs]))
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def _diagnosis(report: Report, charts: _Charts) -> str:
    plots = {one.name: make_plots(one.measured.diagnosis) for one in report.runs if one.measured is not None}
    if not plots:
        return ""
    parts = []
    for kind, words in KINDS.items():
        drawn = "".join(charts(own[f"{kind}.svg"], name) for name, own in plots.items() if f"{kind}.svg" in own)
        if drawn:
            parts.append(f'<h3>{html.text(words)}</h3><div class="charts">{drawn}</div>')
    return diagnosis_table(report) + "".join(parts)


def _examples(report: Report) -> str:
    if not report.examples:
        return ""
    parts = (("In the images", IN_IMAGES), ("Below a chosen one", _below(report)))
    keys = "".join(f'<p class="keys">{where}: {_keys(kinds)}</p>' for where, kinds in parts)
    images = "".join(example_html(report, number, one) for number, one in enumerate(report.examples))
    many = "1 image" if len(report.examples) == 1 else f"{len(report.examples)} images"
    size = sum(len(one.uri) for one in report.examples) / 1e6
    without = "" if all(scene.stars for one in report.examples for scene in one.scenes if scene.found) else NO_STAR
    return (
        f"{_list(list(_gains(report)))}"
        '<p class="hint">Choose a box, by click or with Tab and the arrow keys: below the image are '
        f"{HINTS[any(_refining(report))]}, and how IoU and score moved. Other runs show what they found "
        "of the same object. The slider hides what scores less, in all images of the run.</p>"
        f'{keys}<p class="soft small">{many} in the page, {max(size, 0.1):.1f} MB. {without}</p>'
        '<p class="truths-box"><input type="checkbox" id="truths" checked> <label for="truths">True boxes</label></p>'
        f"{images}"
    )


def _refining(report: Report) -> list[bool]:
    """Of each run with stars whether its boxes are refined; as if they were where no run has any."""
    stars = [
        refines(report, number)
        for number, one in enumerate(report.runs)
        if one.measured is not None and one.measured.stars is not None
    ]
    return stars or [True]


def _below(report: Report) -> tuple[tuple[str, str], ...]:
    """The colors of the close-up."""
    known = _refining(report)
    last = "refined box" if all(known) else ("refined box, or the only one" if any(known) else "box")
    first = "first box and its nine points" if any(known) else "nine points of the star"
    return ("k-truth", "true box"), ("k-initial", first), ("k-refined", last), ("k-kept", "mean of windows")


def _keys(kinds: tuple[tuple[str, str], ...]) -> str:
    key = '<span class="whole"><span class="key {}" aria-hidden="true"></span>{}</span>'
    return "".join(key.format(kind, words) for kind, words in kinds)


def _gains(report: Report) -> Iterator[str]:
    for one in report.runs:
        gain = None if one.measured is None else one.measured.gain
        if gain is not None:
            yield (
                f"{one.name}: refinement moves the mean IoU of {gain.count:,} true positives from "
                f"{gain.initial:.3f} to {gain.refined:.3f}; {100 * gain.better:.0f} % of them come nearer"
            )
