"""Training curves of several runs from their logs, one plot for each quantity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from varifocal.analysis.charts.plot import Axis, Line, plot
from varifocal.tools.report.folders import Run, is_number

POINTS = 150  # points of a curve; more steps are averaged
MARK = 0.015  # fraction of the axis that a single point extends to both sides, so that it is visible
USUAL = ("loss", "cls", "initial", "refined")
OTHER = ("step", "memory_mb", "seconds", "lr")
VALIDATED = ("AP", "AP50")
TITLES = {
    "loss": "Loss, all terms",
    "cls": "Loss of the classes",
    "initial": "Loss of the first box",
    "refined": "Loss of the refined box",
    "lr": "Learning rate",
    "AP": "Validation AP",
    "AP50": "Validation AP50",
}

Curve = tuple[np.ndarray, np.ndarray]


def make_curves(runs: Sequence[Run]) -> list[str]:
    """Return SVG texts of the losses, the learning rate and the validation metrics."""
    logged = {name for run in runs for line in run.steps[:1] for name in line} - set(OTHER)
    losses = [name for name in USUAL if name in logged] + sorted(logged - set(USUAL))
    charts = [_chart(name, [_steps(run, name) for run in runs], runs) for name in [*losses, "lr"]]
    charts += [_chart(name, [_validated(run, name) for run in runs], runs, percent=True) for name in VALIDATED]
    return [chart for chart in charts if chart]


def _steps(run: Run, name: str) -> Curve:
    pairs = [(line["step"] + 1, line[name]) for line in run.steps if is_number(line.get(name))]
    return _averaged(*_columns(pairs))


def _validated(run: Run, name: str) -> Curve:
    pairs = [(line["step"] + 1, 100 * line["validation"][name]) for line in run.validations if _valid(line, name)]
    return _columns(pairs)


def _valid(line: dict, name: str) -> bool:
    value = line["validation"].get(name)
    return is_number(value) and value >= 0  # -1 stands for a metric without objects


def _columns(pairs: Sequence[tuple[float, float]]) -> Curve:
    both = np.array(pairs, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _averaged(x: np.ndarray, y: np.ndarray) -> Curve:
    """Return at most ``POINTS`` points, each the mean of equally many neighbors."""
    if len(x) <= POINTS:
        return x, y
    parts = np.array_split(np.arange(len(x)), POINTS)
    return tuple(np.array([values[part].mean() for part in parts]) for values in (x, y))  # type: ignore[return-value]


def _chart(name: str, curves: Sequence[Curve], runs: Sequence[Run], *, percent: bool = False) -> str:
    known = [(number, *curve) for number, curve in enumerate(curves) if len(curve[0])]
    if not known:
        return ""
    last = max(float(x[-1]) for _, x, _ in known)
    high = max(float(y.max()) for *_, y in known)
    title = TITLES.get(name, f"Loss: {name}")
    unit = {"lr": "rate", **dict.fromkeys(VALIDATED, "AP, %")}.get(name, "loss")
    ends = "; ".join(f"{runs[number].name} ends at {y[-1]:.3g}" for number, _, y in known)
    return plot(
        title,
        f"{title}{', %' if percent else ''}, against steps: {ends}.",
        Axis("step", 0.0, last),
        Axis(unit, 0.0, high * 1.05 or 1.0),
        [Line(*_drawn(x, y, last), runs[number].name, number) for number, x, y in known],
    )


def _drawn(x: np.ndarray, y: np.ndarray, last: float) -> Curve:
    """Return a single point as a short line, on an axis from 0 to ``last``."""
    if len(x) > 1:
        return x, y
    return np.clip([x[0] - MARK * last, x[0] + MARK * last], 0, last), np.repeat(y, 2)
