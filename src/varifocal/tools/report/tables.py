"""Numbers of several runs side by side, the others with their difference to the first one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from varifocal.analysis.pages import html
from varifocal.tools.report.measure import RunEvaluation
from varifocal.tools.report.report import Report, RunSummary
from varifocal.tools.report.sweeps import SHOWN, Row, Sweep, p_words
from varifocal.utils.config import to_dict

MOST_CLASSES = 100
CAUTION = (
    "In brackets: more than the first run. The difference of two runs is not yet that of two methods: another seed "
    "moves both. A sweep, or runs of several seeds, say how much is chance."
)
NAMES = {
    "AP": "AP",
    "AP50": "AP at IoU 0.5",
    "AP75": "AP at IoU 0.75",
    "APs": "AP, small",
    "APm": "AP, medium",
    "APl": "AP, large",
    "AR1": "AR, 1 an image",
    "AR10": "AR, 10 an image",
    "AR100": "AR, 100 an image",
    "ARs": "AR, small",
    "ARm": "AR, medium",
    "ARl": "AR, large",
}


def _laece(one: RunEvaluation) -> float | None:
    return None if one.diagnosis.calibration is None else one.diagnosis.calibration.laece_all


def _f1(one: RunEvaluation, name: str) -> float | None:
    best = one.diagnosis.thresholds.f1
    value: float | None = None if best is None else getattr(best, name)
    return value


# what the diagnosis says in one number: words, value, how it is written, and whether more is better
Number = tuple[str, Callable[[RunEvaluation], "float | None"], float, int, bool]
DIAGNOSED: tuple[Number, ...] = (
    ("AP lost to the order of the boxes", lambda one: one.diagnosis.ranking.worth.ranking, 100, 1, False),
    ("AP lost to second boxes", lambda one: one.diagnosis.ranking.worth.duplicates, 100, 1, False),
    ("AP lost to missing and loose boxes", lambda one: one.diagnosis.ranking.worth.boxes, 100, 1, False),
    ("Rank correlation of score and IoU (Spearman)", lambda one: one.diagnosis.ranking.near.spearman, 1, 3, True),
    ("Calibration error of the scores (LaECE)", _laece, 100, 1, False),
    ("Best F1", lambda one: _f1(one, "f1"), 1, 3, True),
    ("Score of the best F1", lambda one: _f1(one, "score"), 1, 3, True),
)


def metrics_table(report: Report) -> str:
    """The COCO numbers of all runs."""
    rows = [
        (html.text(words), *_compared(report, [_metric(one, name) for one in report.runs], 100, 1))
        for name, words in NAMES.items()
        if any(_metric(one, name) is not None for one in report.runs)
    ]
    if not rows:
        return "<p>No run has metrics.</p>"
    table = html.table("Metrics, %", ("metric", *(one.name for one in report.runs)), rows, classes="compared")
    return table + (f'<p class="soft">{CAUTION}</p>' if len(report.runs) > 1 else "")


def class_table(report: Report) -> str:
    """AP of each class, in the order of the first run that has it; nothing for a single class."""
    names = list(dict.fromkeys(name for one in report.runs for name in _per_class(one)))
    if len(names) < 2:
        return ""
    rows = [
        (html.text(name), *_compared(report, [_known(_per_class(one).get(name)) for one in report.runs], 100, 1))
        for name in names[:MOST_CLASSES]
    ]
    rest = (
        f'<p class="soft">And {len(names) - MOST_CLASSES:,} other classes; the file of --output-json has them.</p>'
        if len(names) > MOST_CLASSES
        else ""
    )
    head = ("class", *(one.name for one in report.runs))
    return html.table("AP by class, %", head, rows, classes="compared") + rest


def diagnosis_table(report: Report) -> str:
    """What the diagnosis says in single numbers; nothing where no run was diagnosed."""
    seen = [one.measured for one in report.runs]
    if not any(seen):
        return ""
    rows = []
    for words, value, factor, digits, more in DIAGNOSED:
        values = [None if one is None else value(one) for one in seen]
        better = None if words == "Score of the best F1" else more
        rows.append((html.text(words), *_compared(report, values, factor, digits, better)))
    return html.table("Why, in numbers", ("", *(one.name for one in report.runs)), rows, classes="compared")


def settings_table(report: Report) -> str:
    """What the recipes of the runs differ in."""
    known = [(one.name, dict(_flat(to_dict(one.run.recipe)))) for one in report.runs if one.run.recipe is not None]
    if len(known) < 2:
        return ""
    keys = list(dict.fromkeys(key for _, values in known for key in values))
    rows = [
        (html.text(key), *(html.text(values.get(key, "-")) for _, values in known))
        for key in keys
        if len({str(values.get(key, "-")) for _, values in known}) > 1
    ]
    if not rows:
        return "<p>The recipes do not differ.</p>"
    return html.table("What the recipes differ in", ("setting", *(name for name, _ in known)), rows)


def sweep_table(sweep: Sweep) -> str:
    """Mean and spread of each row."""
    rows = [
        (
            html.text(row.name),
            *(_spread(row, metric) for metric in SHOWN),
            html.text(", ".join(map(str, row.seeds)) or "-"),
            "-" if row.paper is None else f"{row.paper:.1f}",
        )
        for row in sweep.rows
    ]
    head = ("row", *SHOWN, "seeds", "paper's AP, COCO")
    return html.table("Mean over the seeds and standard deviation, %", head, rows)


def statement_table(sweep: Sweep) -> str:
    """Each row against the baseline, or against its own."""
    rows = []
    for one in sweep.statements:
        d = one.difference
        interval = "-" if d is None or d.low is None or d.high is None else f"{100 * d.low:+.2f} to {100 * d.high:+.2f}"
        rows.append(
            (
                html.text(f"{one.row}{f' against {one.baseline}' if sweep.baseline is None else ''}, {one.metric}"),
                f'<strong class="{one.verdict}">{one.verdict}</strong>',
                "-" if d is None else f"{100 * d.mean:+.2f}",
                interval,
                "-" if d is None else html.text(p_words(d)),
                "0" if d is None else str(d.pairs),
            )
        )
    head = ("row", "verdict", "difference", "95 % interval", "p", "seeds")
    what = "Row against row" if sweep.baseline is None else f"Against {sweep.baseline}"
    return html.table(f"{what}, in points, seed by seed", head, rows)


def _spread(row: Row, metric: str) -> str:
    mean, spread = row.mean(metric), row.spread(metric)
    if mean is None:
        return "-"
    return f"{100 * mean:.1f}" + ("" if spread is None else f' <span class="soft spread">± {100 * spread:.1f}</span>')


def _metric(one: RunSummary, name: str) -> float | None:
    return _known((one.metrics or {}).get(name))


def _per_class(one: RunSummary) -> dict[str, float]:
    classes: dict[str, float] = (one.metrics or {}).get("per_class", {})
    return classes


def _known(value: float | None) -> float | None:
    """None also of -1, which stands for nothing to find."""
    return None if value is None or value < 0 else value


def _compared(
    report: Report, values: Sequence[float | None], factor: float, digits: int, more_is_better: bool | None = True
) -> Iterator[str]:
    """The first value, and the others with what they are more than the first where that says anything."""
    first = values[0]
    for number, (one, value) in enumerate(zip(report.runs, values, strict=True)):
        if value is None:
            yield "-"
            continue
        said = f"{factor * value:.{digits}f}"
        if number and first is not None and one.comparable:
            said += f" {_delta(factor * (value - first), digits, more_is_better)}"
        yield said


def _delta(change: float, digits: int, more_is_better: bool | None) -> str:
    rounded = round(change, digits)
    if not rounded:
        return f'<span class="soft">({0:.{digits}f})</span>'
    kind = "soft" if more_is_better is None else ("better" if (rounded > 0) == more_is_better else "worse")
    return f'<span class="{kind}">({rounded:+.{digits}f})</span>'


def _flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
