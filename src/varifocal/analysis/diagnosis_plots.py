"""The charts of a diagnosis, each a self-contained SVG."""

from __future__ import annotations

import numpy as np

from varifocal.analysis.calibration import BINS
from varifocal.analysis.charts.bars import Row, Segment, bars
from varifocal.analysis.charts.heat_map import heat_map
from varifocal.analysis.charts.plot import Area, Axis, Dots, Line, Series, Steps, plot
from varifocal.analysis.diagnosis import Diagnosis
from varifocal.analysis.precision import RECALLS
from varifocal.analysis.ranking import APBreakdown

CLASSES = 24  # of the confusion matrix; the others share one row and one column
FAINT = 40  # curves of single classes that are drawn
PARTS = ("AP", "lost to ranking", "lost to duplicates", "lost to missing or imprecise boxes")


def make_plots(found: Diagnosis) -> dict[str, str]:
    """Return SVG texts by file name; a chart without anything to plot is left out."""
    plots = {
        "worth": _worth(found),
        "errors": _errors(found),
        "precision-recall": _curves(found),
        "reliability": _reliability(found),
        "score-iou": _scatter(found),
        "confusion": _confusion(found),
    }
    return {f"{name}.svg": text for name, text in plots.items() if text}


def percent(value: float | None) -> str:
    """Format a fraction in percent with one decimal; "-" for None."""
    return "-" if value is None else f"{100 * value:.1f}"


def _worth(found: Diagnosis) -> str:
    ranking = found.ranking
    rows = [
        Row(name, segments)
        for name, breakdown in {"all boxes": ranking.worth, **ranking.worth_by_size}.items()
        if (segments := _segments(breakdown))
    ]
    if not rows:
        return ""
    worth = ranking.worth
    description = (
        f"AP is {percent(worth.given)}. Scores equal to the IoU would add {percent(worth.ranking)}, removing "
        f"duplicates {percent(worth.duplicates)}; {percent(worth.boxes)} is lost to missing or imprecise boxes."
    )
    return bars("What separates AP from 100", description, "AP, %", rows, high=100, parts=PARTS)


def _segments(breakdown: APBreakdown) -> tuple[Segment, ...]:
    values = (breakdown.given, breakdown.ranking, breakdown.duplicates, breakdown.boxes)
    return tuple(
        Segment(max(100 * value, 0), tone, f"{PARTS[tone]}: {percent(value)}")
        for tone, value in enumerate(values)
        if value is not None
    )


def _errors(found: Diagnosis) -> str:
    errors = found.errors
    rows = [
        Row(name, (Segment(100 * cost, 0, f"{name}: {percent(cost)}"),), f"{percent(cost)} ({errors.counts[name]:,})")
        for name, cost in errors.costs.items()
        if cost is not None
    ]
    special = {"all false positives": errors.false_positives, "all false negatives": errors.false_negatives}
    rows += [
        Row(name, (Segment(max(100 * cost, 0), 5, f"{name}: {percent(cost)}"),), percent(cost))
        for name, cost in special.items()
        if cost is not None
    ]
    if not rows:
        return ""
    costs = "; ".join(f"{row.name} {row.words}" for row in rows)
    return bars("What each kind of error costs", f"AP50 points, and errors: {costs}.", "points of AP50 (errors)", rows)


def _curves(found: Diagnosis) -> str:
    classes = found.classes
    if not classes:
        return ""
    precision = found.given.whole.precision
    faint = [Line(RECALLS, precision[0, :, k], tone=5, faint=True) for k in classes[:FAINT]] if len(classes) > 1 else []
    means = {"IoU 0.5": precision[0], "IoU 0.75": precision[5], "mean of 0.5 ... 0.95": precision.mean(axis=0)}
    lines = [
        Line(RECALLS, curve[:, classes].mean(axis=1), f"{name}: {percent(float(curve[:, classes].mean()))}", tone)
        for tone, (name, curve) in enumerate(means.items())
    ]
    description = f"Average precision: {', '.join(line.name for line in lines)}."
    description += " Gray: single classes at IoU 0.5." if faint else ""
    return plot("Precision and recall", description, Axis("recall"), Axis("precision"), [*faint, *lines])


def _reliability(found: Diagnosis) -> str:
    calibration = found.calibration
    if calibration is None or calibration.laece_all is None:
        return ""
    bins, edges = calibration.bins, np.linspace(0, 1, BINS + 1)
    total = max(int(bins.count.sum()), 1)
    tooltips = [
        f"score {edges[i]:.2f} to {edges[i + 1]:.2f}: {count:,} detections, mean score {bins.score[i]:.3f}, "
        f"precision x mean IoU {bins.quality[i]:.3f}"
        for i, count in enumerate(bins.count.tolist())
    ]
    marks: list[Series] = [
        Area(edges, bins.quality, "precision x mean IoU", 0, tooltips),
        Line([0, 1], [0, 1], "score = precision x mean IoU", 5),
        Steps(edges, bins.count / total, "fraction of the detections", 1),
    ]
    title = f"Reliability of the scores (LaECE {percent(calibration.laece_all)})"
    filled = "; ".join(text for text, count in zip(tooltips, bins.count, strict=True) if count)
    description = (
        f"LaECE is {percent(calibration.laece)} from the best threshold of each class on. The columns of a calibrated "
        f"score end at the diagonal. {filled}."
    )
    return plot(title, description, Axis("score"), Axis("fraction"), marks)


def _scatter(found: Diagnosis) -> str:
    points = found.scatter
    if not points.shown:
        return ""
    low, high = min(float(points.score.min()), 0.0), max(float(points.score.max()), 1.0)
    near = found.ranking.near
    description = f"{points.shown:,} of {points.total:,} detections. "
    if near.spearman is not None and near.kendall is not None:
        description += f"From IoU 0.1 on: Spearman {near.spearman:.3f}, Kendall {near.kendall:.3f}."
    marks: list[Series] = [
        Dots(points.score[~points.right], points.iou[~points.right], "wrong at IoU 0.5", 1),
        Dots(points.score[points.right], points.iou[points.right], "right", 0),
        Line([0, 1], [0, 1], "score = IoU", 5),
    ]
    title = f"Score and IoU of {points.shown:,} of {points.total:,} detections"
    return plot(title, description, Axis("score", low, high), Axis("IoU with the best box of the class"), marks)


def _confusion(found: Diagnosis) -> str:
    confusion = found.confusion
    if not confusion.counts.sum():
        return ""
    counts, listed, joined = confusion.grouped(CLASSES)
    labels = [found.data.categories[k].name for k in listed] + ([f"{joined} others"] if joined else [])
    rows, columns = [*labels, "nothing"], [*labels, "not detected"]
    totals = counts.sum(axis=1, keepdims=True)
    tooltips = [
        [f"{row} detected as {column}: {counts[i, j]:,} of {totals[i, 0]:,}" for j, column in enumerate(columns)]
        for i, row in enumerate(rows)
    ]
    return heat_map(
        f"What is detected as what, from score {confusion.score:.3f} on",
        f"{confusion.correct:,} of {int(confusion.counts[:-1].sum()):,} boxes are detected as their class. "
        "Cells are percent of the row.",
        rows,
        columns,
        counts / np.maximum(totals, 1),
        tooltips,
        down="labeled",
        across="detected as, % of the row",
    )
