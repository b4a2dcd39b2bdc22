"""Training curves: what the logs of several runs say, in one plot for each number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from varifocal.analysis.charts.plot import Axis, Line, plot
from varifocal.tools.report.folders import Run, is_number

POINTS = 150  # of a curve; more steps are averaged
SEEN = 0.015  # of the axis, to both sides of a single point
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
    """SVG texts: losses, learning rate, validation."""
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
    return is_number(value) and value >= 0  # -1 stands for nothing to find


def _columns(pairs: Sequence[tuple[float, float]]) -> Curve:
    both = np.array(pairs, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _averaged(x: np.ndarray, y: np.ndarray) -> Curve:
    """At most ``POINTS``, each the mean of as many neighbors."""
    if len(x) <= POINTS:
        return x, y
    parts = np.array_split(np.arange(len(x)), POINTS)
    return tuple(np.array([values[part].mean() for part in parts]) for values in (x, y))  # type: ignore[return-value]


def _chart(name: str, curves: Sequence[Curve], runs: Sequence[Run], *, percent: bool = False) -> str:
    known = [(number, curve) for number, curve in enumerate(curves) if len(curve[0])]
    if not known:
        return ""
    title = TITLES.get(name, f"Loss: {name}")
    high = max(float(y.max()) for _, (_, y) in known)
    ends = [f"{runs[number].name} ends at {y[-1]:.3g}" for number, (_, y) in known]
    said = f"{title}{', %' if percent else ''}, against steps: {'; '.join(ends)}."
    last = max(float(x[-1]) for _, (x, _) in known)
    lines = [Line(*_drawn(x, y, last), runs[number].name, number) for number, (x, y) in known]
    unit = "AP, %" if percent else ("rate" if name == "lr" else "loss")
    return plot(title, said, Axis("step", 0.0, last), Axis(unit, 0.0, high * 1.05 or 1.0), lines)


def _drawn(x: np.ndarray, y: np.ndarray, last: float) -> Curve:
    """A single point as a short line, on an axis from 0 to ``last``, so that it is seen."""
    if len(x) > 1:
        return x, y
    return np.clip([x[0] - SEEN * last, x[0] + SEEN * last], 0, last), np.repeat(y, 2)
