"""The report as one page that needs nothing else: no network, light and dark, narrow and wide.

This module chooses what the page shows; ``page.html`` says how it looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from varifocal.analysis.diagnosis_plots import make_plots
from varifocal.analysis.pages.render import inline_chart, inline_charts, render
from varifocal.tools.report.curves import make_curves
from varifocal.tools.report.forest_plot import forest_plot
from varifocal.tools.report.image_panels import example_panels, refines, scene_data
from varifocal.tools.report.report import Report
from varifocal.tools.report.sweeps import SHOWN, Sweep, p_words
from varifocal.tools.report.tables import class_table, diagnosis_table, metrics_table, settings_table

KINDS = {
    "worth": "What separates AP from 100",
    "errors": "What each kind of error costs (TIDE)",
    "precision-recall": "Precision and recall",
    "reliability": "Reliability of the scores",
    "score-iou": "Score and IoU",
    "confusion": "Confusion",
}


class Figure(NamedTuple):
    """A chart, as :func:`inline_chart` returns it, and what stands above it."""

    chart: str
    caption: str = ""


class SweepPart(NamedTuple):
    """A sweep, its sentences on AP, and the charts of its differences."""

    sweep: Sweep
    sentences: list[str]
    figures: list[Figure]


def make_page(report: Report) -> str:
    """Return the whole page as HTML."""
    sweeps = [_sweep(sweep, f"s{number}-") for number, sweep in enumerate(report.sweeps)]
    curves = [Figure(one) for one in inline_charts(make_curves([one.run for one in report.runs]), "c")]
    diagnosis = diagnosis_table(report)
    parts = (
        ("sweeps", "Sweep", sweeps),
        ("numbers", "Numbers", report.runs),
        ("examples", "Examples and the star", report.examples),
        ("curves", "Training", curves),
        ("diagnosis", "Diagnosis", diagnosis),
    )
    return render(
        "tools/report/page.html",
        report=report,
        title=_title(report),
        links=[(id, words) for id, words, content in parts if content],
        missing=list(_missing(report)),
        sweeps=sweeps,
        metrics_of_sweeps=SHOWN,
        p_words=p_words,
        metrics=metrics_table(report),
        classes=class_table(report),
        settings=settings_table(report),
        gains=list(_gains(report)),
        refining=_refining(report),
        examples=[example_panels(report, number, one) for number, one in enumerate(report.examples)],
        megabytes=max(sum(len(one.uri) for one in report.examples) / 1e6, 0.1),
        all_have_stars=_all_have_stars(report),
        curves=curves,
        diagnosis=diagnosis,
        plots=list(_plots(report)),
        scenes=scene_data(report),
    )


def _title(report: Report) -> str:
    """The names of the sweeps, and of the runs that belong to none."""
    folders = {sweep.folder for sweep in report.sweeps}
    alone = [one.name for one in report.runs if one.run.folder.parent not in folders]
    return ", ".join([*(one.name for one in report.sweeps), *alone])


def _missing(report: Report) -> Iterator[str]:
    yield from report.notes
    yield from (f"{one.name}: {note}" for one in report.runs for note in one.notes)


def _sweep(sweep: Sweep, key: str) -> SweepPart:
    against = "row against row" if sweep.baseline is None else f"against {sweep.baseline}"
    charts = [forest_plot(f"{name} {against}", sweep.of(name)) for name in SHOWN] if sweep.statements else []
    sentences = [one.words for one in sweep.statements if one.metric == "AP"]
    return SweepPart(sweep, sentences, [Figure(one) for one in inline_charts(charts, key)])


def _plots(report: Report) -> Iterator[tuple[str, list[Figure]]]:
    """The charts of the diagnosis, kind by kind, with the names of the runs."""
    plots = [(one.name, make_plots(one.measured.diagnosis)) for one in report.runs if one.measured is not None]
    for kind, words in KINDS.items():
        file = f"{kind}.svg"
        own = [(name, charts[file]) for name, charts in plots if file in charts]
        figures = [Figure(inline_chart(chart, f"{kind}{run}"), name) for run, (name, chart) in enumerate(own)]
        if figures:
            yield words, figures


def _all_have_stars(report: Report) -> bool:
    return all(scene.stars for one in report.examples for scene in one.scenes if scene.found)


def _refining(report: Report) -> list[bool]:
    """Of each run with stars whether its boxes are refined; as if they were where no run has any."""
    stars = [
        refines(report, number)
        for number, one in enumerate(report.runs)
        if one.measured is not None and one.measured.stars is not None
    ]
    return stars or [True]


def _gains(report: Report) -> Iterator[str]:
    for one in report.runs:
        gain = None if one.measured is None else one.measured.gain
        if gain is not None:
            yield (
                f"{one.name}: refinement moves the mean IoU of {gain.count:,} true positives from "
                f"{gain.initial:.3f} to {gain.refined:.3f}; {100 * gain.better:.0f} % of them come nearer"
            )
