"""Numbers of several runs side by side, the others with their difference to the first one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from varifocal.tools.report.measure import RunEvaluation
from varifocal.tools.report.report import Report, RunSummary
from varifocal.utils.config import to_dict

MOST_CLASSES = 100
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


class Cell(NamedTuple):
    """A number of a run. ``delta`` is how much more it is than that of the first run, empty where that says nothing;
    ``kind`` is its class in the style: better, worse or soft."""

    text: str
    delta: str = ""
    kind: str = ""


class RunTable(NamedTuple):
    """Numbers of the runs side by side: a row is what they are and one cell for each run; ``left_out`` further rows are
    not on the page."""

    caption: str
    head: tuple[str, ...]
    rows: list[tuple[str, tuple[Cell, ...]]]
    left_out: int = 0


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


def metrics_table(report: Report) -> RunTable:
    """Return the COCO numbers of all runs."""
    rows = [
        (words, _compared(report, [_metric(one, name) for one in report.runs], 100, 1))
        for name, words in NAMES.items()
        if any(_metric(one, name) is not None for one in report.runs)
    ]
    return RunTable("Metrics, %", ("metric", *(one.name for one in report.runs)), rows)


def class_table(report: Report) -> RunTable | None:
    """Return AP of each class, in the order of the first run that has it; None for a single class."""
    names = list(dict.fromkeys(name for one in report.runs for name in _per_class(one)))
    if len(names) < 2:
        return None
    rows = [
        (name, _compared(report, [_known(_per_class(one).get(name)) for one in report.runs], 100, 1))
        for name in names[:MOST_CLASSES]
    ]
    head = ("class", *(one.name for one in report.runs))
    return RunTable("AP by class, %", head, rows, max(len(names) - MOST_CLASSES, 0))


def diagnosis_table(report: Report) -> RunTable | None:
    """Return what the diagnosis says in single numbers; None where no run was diagnosed."""
    seen = [one.measured for one in report.runs]
    if not any(seen):
        return None
    rows = []
    for words, value, factor, digits, more in DIAGNOSED:
        values = [None if one is None else value(one) for one in seen]
        better = None if words == "Score of the best F1" else more
        rows.append((words, _compared(report, values, factor, digits, better)))
    return RunTable("Why, in numbers", ("", *(one.name for one in report.runs)), rows)


def settings_table(report: Report) -> RunTable | None:
    """Return what the recipes of the runs differ in; None of fewer than two recipes."""
    known = [(one.name, dict(_flat(to_dict(one.run.recipe)))) for one in report.runs if one.run.recipe is not None]
    if len(known) < 2:
        return None
    keys = list(dict.fromkeys(key for _, values in known for key in values))
    rows = [
        (key, tuple(Cell(str(values.get(key, "-"))) for _, values in known))
        for key in keys
        if len({str(values.get(key, "-")) for _, values in known}) > 1
    ]
    return RunTable("What the recipes differ in", ("setting", *(name for name, _ in known)), rows)


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
) -> tuple[Cell, ...]:
    """The first value, and the others with what they are more than the first where that says anything."""
    first = values[0]
    cells = []
    for number, (one, value) in enumerate(zip(report.runs, values, strict=True)):
        if value is None:
            cells.append(Cell("-"))
            continue
        text = f"{factor * value:.{digits}f}"
        if number and first is not None and one.comparable:
            cells.append(Cell(text, *_delta(factor * (value - first), digits, more_is_better)))
        else:
            cells.append(Cell(text))
    return tuple(cells)


def _delta(change: float, digits: int, more_is_better: bool | None) -> tuple[str, str]:
    """The change in words, and its class in the style."""
    rounded = round(change, digits)
    if not rounded:
        return f"{0:.{digits}f}", "soft"
    kind = "soft" if more_is_better is None else ("better" if (rounded > 0) == more_is_better else "worse")
    return f"{rounded:+.{digits}f}", kind


def _flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
