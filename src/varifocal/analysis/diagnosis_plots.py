"""The images of a diagnosis, each a chart that stands by itself."""

from __future__ import annotations

import numpy as np

from varifocal.analysis.calibration import BINS
from varifocal.analysis.charts.bars import Row, Segment, bars
from varifocal.analysis.charts.heat_map import heat_map
from varifocal.analysis.charts.plot import Area, Axis, Dots, Line, Series, Steps, plot
from varifocal.analysis.diagnosis import Diagnosis
from varifocal.analysis.precision import RECALLS
from varifocal.analysis.ranking import APBreakdown

CLASSES = 24  # of the confusion matrix; the others are one row and one column
FAINT = 40  # curves of single classes


def make_plots(found: Diagnosis) -> dict[str, str]:
    """SVG texts by file name; what there is nothing to plot of is left out."""
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
        Row(name, tuple(Segment(max(100 * value, 0), tone, tooltip) for tone, (value, tooltip) in enumerate(parts)))
        for name, one in {"all boxes": ranking.worth, **ranking.worth_by_size}.items()
        if (parts := _parts(one))
    ]
    if not rows:
        return ""
    worth = ranking.worth
    said = (
        f"AP is {percent(worth.given)}. Scores equal to the IoU would add {percent(worth.ranking)}, no second boxes "
        f"{percent(worth.duplicates)}; {percent(worth.boxes)} is lost to boxes that are missing or loose."
    )
    names = ("AP as it is", "lost to the order", "to second boxes", "to missing and loose boxes")
    return bars("What separates AP from 100", said, "AP, %", rows, high=100, parts=names)


def _parts(one: APBreakdown) -> list[tuple[float, str]]:
    if one.given is None or one.ranking is None or one.duplicates is None or one.boxes is None:
        return []
    tooltips = ("AP as it is", "lost to the order", "lost to second boxes", "lost to missing and loose boxes")
    values = (one.given, one.ranking, one.duplicates, one.boxes)
    return [(value, f"{name}: {percent(value)}") for value, name in zip(values, tooltips, strict=True)]


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
    said = "; ".join(f"{row.name} {row.words}" for row in rows)
    return bars("What each kind of error costs", f"AP50 points, and errors: {said}.", "points of AP50 (errors)", rows)


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
    said = f"Average precision: {', '.join(line.name for line in lines)}."
    said += " Gray: single classes at IoU 0.5." if faint else ""
    return plot("Precision and recall", said, Axis("recall"), Axis("precision"), [*faint, *lines])


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
        Line([0, 1], [0, 1], "as the score promises", 5),
        Steps(edges, bins.count / total, "fraction of the detections", 1),
    ]
    title = f"Reliability of the scores (LaECE {percent(calibration.laece_all)})"
    said = f"LaECE from the best thresholds on is {percent(calibration.laece)}. "
    said += "A calibrated score has columns that end at the diagonal. " + "; ".join(
        text for text, count in zip(tooltips, bins.count, strict=True) if count
    )
    return plot(title, f"{said}.", Axis("score"), Axis("fraction"), marks)


def _scatter(found: Diagnosis) -> str:
    points = found.scatter
    if not points.shown:
        return ""
    low, high = min(float(points.score.min()), 0.0), max(float(points.score.max()), 1.0)
    near = found.ranking.near
    said = f"{points.shown:,} of {points.total:,} detections. "
    if near.spearman is not None and near.kendall is not None:
        said += f"Over IoU 0.1: Spearman {near.spearman:.3f}, Kendall {near.kendall:.3f}."
    marks: list[Series] = [
        Dots(points.score[~points.right], points.iou[~points.right], "wrong at IoU 0.5", 1),
        Dots(points.score[points.right], points.iou[points.right], "right", 0),
        Line([0, 1], [0, 1], "score = IoU", 5),
    ]
    title = f"Score and IoU of {points.shown:,} of {points.total:,} detections"
    return plot(title, said, Axis("score", low, high), Axis("IoU with the best box of the class"), marks)


def _confusion(found: Diagnosis) -> str:
    counts = found.confusion.counts
    if not counts.sum():
        return ""
    names = [category.name for category in found.data.categories]
    used = counts.sum(axis=1)[:-1] + counts.sum(axis=0)[:-1]
    order = [k for k in np.argsort(-used, kind="stable").tolist() if used[k]]
    first, others = sorted(order[:CLASSES]), order[CLASSES:]
    groups = [[k] for k in first] + ([others] if others else []) + [[len(names)]]
    small = np.array([[counts[np.ix_(a, b)].sum() for b in groups] for a in groups])
    labels = [names[k] for k in first] + ([f"{len(others)} others"] if others else [])
    rows, columns = [*labels, "nothing"], [*labels, "not found"]
    totals = small.sum(axis=1, keepdims=True)
    tooltips = [
        [f"{row} found as {column}: {small[i, j]:,} of {totals[i, 0]:,}" for j, column in enumerate(columns)]
        for i, row in enumerate(rows)
    ]
    right = int(counts.diagonal().sum())
    said = f"{right:,} of {int(counts[:-1].sum()):,} boxes are found as what they are. Cells are percent of the row."
    title = f"What is found as what, from score {found.confusion.score:.3f} on"
    return heat_map(
        title,
        said,
        rows,
        columns,
        small / np.maximum(totals, 1),
        tooltips,
        down="labeled",
        across="found as, % of the row",
    )
