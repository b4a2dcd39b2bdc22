"""The report as a self-contained HTML page, for any screen, light or dark.

This module chooses the content of the page; ``page.html`` lays it out.
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
    """A chart, as :func:`inline_chart` returns it, and its caption."""

    chart: str
    caption: str = ""


class SweepPart(NamedTuple):
    """A sweep, the sentences on AP, and the charts of its differences."""

    sweep: Sweep
    sentences: list[str]
    figures: list[Figure]


def make_page(report: Report) -> str:
    """Return the whole page as HTML."""
    sweeps = [_sweep(sweep, f"s{number}-") for number, sweep in enumerate(report.sweeps)]
    curves = [Figure(chart) for chart in inline_charts(make_curves([run.run for run in report.runs]), "c")]
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
        examples=[example_panels(report, number, example) for number, example in enumerate(report.examples)],
        megabytes=max(sum(len(example.uri) for example in report.examples) / 1e6, 0.1),
        all_have_stars=_all_have_stars(report),
        curves=curves,
        diagnosis=diagnosis,
        plots=list(_plots(report)),
        scenes=scene_data(report),
    )


def _title(report: Report) -> str:
    """Return the names of the sweeps, and of the runs that belong to none."""
    folders = {sweep.folder for sweep in report.sweeps}
    alone = [run.name for run in report.runs if run.run.folder.parent not in folders]
    return ", ".join([*(sweep.name for sweep in report.sweeps), *alone])


def _missing(report: Report) -> Iterator[str]:
    yield from report.notes
    yield from (f"{run.name}: {note}" for run in report.runs for note in run.notes)


def _sweep(sweep: Sweep, key: str) -> SweepPart:
    against = "row against row" if sweep.baseline is None else f"against {sweep.baseline}"
    charts = [forest_plot(f"{name} {against}", sweep.of(name)) for name in SHOWN] if sweep.comparisons else []
    sentences = [comparison.words for comparison in sweep.of("AP")]
    return SweepPart(sweep, sentences, [Figure(chart) for chart in inline_charts(charts, key)])


def _plots(report: Report) -> Iterator[tuple[str, list[Figure]]]:
    """Yield the charts of the diagnosis, kind by kind, with the names of the runs."""
    plots = [(run.name, make_plots(run.measured.diagnosis)) for run in report.runs if run.measured is not None]
    for kind, words in KINDS.items():
        file = f"{kind}.svg"
        own = [(name, charts[file]) for name, charts in plots if file in charts]
        figures = [Figure(inline_chart(chart, f"{kind}{number}"), name) for number, (name, chart) in enumerate(own)]
        if figures:
            yield words, figures


def _all_have_stars(report: Report) -> bool:
    return all(panel.stars for example in report.examples for panel in example.scenes if panel.found)


def _refining(report: Report) -> list[bool]:
    """Return for each run with stars whether it refines its boxes; [True] if no run has stars."""
    stars = [
        refines(report, number)
        for number, run in enumerate(report.runs)
        if run.measured is not None and run.measured.stars is not None
    ]
    return stars or [True]


def _gains(report: Report) -> Iterator[str]:
    for run in report.runs:
        gain = None if run.measured is None else run.measured.gain
        if gain is not None:
            yield (
                f"{run.name}: refinement changes the mean IoU of {gain.count:,} true positives from "
                f"{gain.initial:.3f} to {gain.refined:.3f}; it improves {100 * gain.better:.0f} % of them"
            )
