"""Tables of several runs side by side, with the differences from the first run."""

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
    "AR1": "AR, 1 per image",
    "AR10": "AR, 10 per image",
    "AR100": "AR, 100 per image",
    "ARs": "AR, small",
    "ARm": "AR, medium",
    "ARl": "AR, large",
}


class Cell(NamedTuple):
    """A number of a run; ``delta`` is its difference from the first run, "" if that has no meaning.

    ``kind`` is the CSS class of the difference: better, worse or soft.
    """

    text: str
    delta: str = ""
    kind: str = ""


class RunTable(NamedTuple):
    """Numbers of the runs side by side: a row is its name and one cell for each run.

    ``left_out`` is the number of further rows, which are not on the page.
    """

    caption: str
    head: tuple[str, ...]
    rows: list[tuple[str, tuple[Cell, ...]]]
    left_out: int = 0


def _laece(run: RunEvaluation) -> float | None:
    return None if run.diagnosis.calibration is None else run.diagnosis.calibration.laece_all


def _f1(run: RunEvaluation, name: str) -> float | None:
    best = run.diagnosis.thresholds.f1
    value: float | None = None if best is None else getattr(best, name)
    return value


# a number of the diagnosis: name, value, factor, digits, and whether more is better (None: neither)
Number = tuple[str, Callable[[RunEvaluation], "float | None"], float, int, "bool | None"]
DIAGNOSED: tuple[Number, ...] = (
    ("AP lost to ranking", lambda run: run.diagnosis.ranking.worth.ranking, 100, 1, False),
    ("AP lost to duplicates", lambda run: run.diagnosis.ranking.worth.duplicates, 100, 1, False),
    ("AP lost to missing or imprecise boxes", lambda run: run.diagnosis.ranking.worth.boxes, 100, 1, False),
    ("Rank correlation of score and IoU (Spearman)", lambda run: run.diagnosis.ranking.near.spearman, 1, 3, True),
    ("Calibration error of the scores (LaECE)", _laece, 100, 1, False),
    ("Best F1", lambda run: _f1(run, "f1"), 1, 3, True),
    ("Score of the best F1", lambda run: _f1(run, "score"), 1, 3, None),
)


def metrics_table(report: Report) -> RunTable:
    """Return the COCO metrics of all runs."""
    rows = [
        (words, _compared(report, [_metric(run, name) for run in report.runs], 100, 1))
        for name, words in NAMES.items()
        if any(_metric(run, name) is not None for run in report.runs)
    ]
    return RunTable("Metrics, %", ("metric", *(run.name for run in report.runs)), rows)


def class_table(report: Report) -> RunTable | None:
    """Return the AP of each class, in the order of the first run that has it; None for a single class."""
    names = list(dict.fromkeys(name for run in report.runs for name in _per_class(run)))
    if len(names) < 2:
        return None
    rows = [
        (name, _compared(report, [_known(_per_class(run).get(name)) for run in report.runs], 100, 1))
        for name in names[:MOST_CLASSES]
    ]
    head = ("class", *(run.name for run in report.runs))
    return RunTable("AP by class, %", head, rows, max(len(names) - MOST_CLASSES, 0))


def diagnosis_table(report: Report) -> RunTable | None:
    """Return the numbers of the diagnosis; None if no run was diagnosed."""
    evaluations = [run.measured for run in report.runs]
    if not any(evaluations):
        return None
    rows = []
    for name, value, factor, digits, more_is_better in DIAGNOSED:
        values = [None if evaluation is None else value(evaluation) for evaluation in evaluations]
        rows.append((name, _compared(report, values, factor, digits, more_is_better)))
    return RunTable("Reasons, in numbers", ("", *(run.name for run in report.runs)), rows)


def settings_table(report: Report) -> RunTable | None:
    """Return the settings in which the recipes of the runs differ; None for fewer than two recipes."""
    known = [(run.name, dict(_flat(to_dict(run.run.recipe)))) for run in report.runs if run.run.recipe is not None]
    if len(known) < 2:
        return None
    keys = list(dict.fromkeys(key for _, values in known for key in values))
    rows = [
        (key, tuple(Cell(str(values.get(key, "-"))) for _, values in known))
        for key in keys
        if len({str(values.get(key, "-")) for _, values in known}) > 1
    ]
    return RunTable("Differences of the recipes", ("setting", *(name for name, _ in known)), rows)


def _metric(run: RunSummary, name: str) -> float | None:
    return _known((run.metrics or {}).get(name))


def _per_class(run: RunSummary) -> dict[str, float]:
    classes: dict[str, float] = (run.metrics or {}).get("per_class", {})
    return classes


def _known(value: float | None) -> float | None:
    """Return the value; None for -1, which stands for a metric without objects."""
    return None if value is None or value < 0 else value


def _compared(
    report: Report, values: Sequence[float | None], factor: float, digits: int, more_is_better: bool | None = True
) -> tuple[Cell, ...]:
    """Return the first value, and the others with their differences from the first if the runs can be compared."""
    first = values[0]
    cells = []
    for number, (run, value) in enumerate(zip(report.runs, values, strict=True)):
        if value is None:
            cells.append(Cell("-"))
            continue
        text = f"{factor * value:.{digits}f}"
        if number and first is not None and run.comparable:
            cells.append(Cell(text, *_delta(factor * (value - first), digits, more_is_better)))
        else:
            cells.append(Cell(text))
    return tuple(cells)


def _delta(change: float, digits: int, more_is_better: bool | None) -> tuple[str, str]:
    """Return the change in words, and its CSS class."""
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
