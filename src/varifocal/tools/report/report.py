"""The content of a report, from which the page and the JSON are made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from varifocal.tools.report.examples import Example
from varifocal.tools.report.folders import Run
from varifocal.tools.report.measure import RunEvaluation
from varifocal.tools.report.sweeps import Sweep

VERSION = 1  # of the JSON: increased when a key changes its meaning or is removed


@dataclass(frozen=True, eq=False)
class RunSummary:
    """A run of a report.

    ``metrics`` are in 0..1: those on the data that is named, or else those that the run wrote at its end, or else newly
    evaluated ones. ``notes`` name what is missing. A run is not ``comparable`` if it was evaluated on other images or
    labels than the first one.
    """

    run: Run
    measured: RunEvaluation | None
    metrics: dict[str, Any] | None
    notes: tuple[str, ...]
    comparable: bool = True

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.run.name


@dataclass(frozen=True, eq=False)
class Report:
    """Runs, which are compared with the first one, and sweeps; ``data`` is the data set used instead of theirs."""

    runs: tuple[RunSummary, ...]
    sweeps: tuple[Sweep, ...]
    examples: tuple[Example, ...]
    data: str | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values; metrics are in 0..1."""
        return {
            "version": VERSION,
            "data": self.data,
            "notes": list(self.notes),
            "runs": [_run(run) for run in self.runs],
            "sweeps": [sweep.to_json() for sweep in self.sweeps],
            "examples": [{"file": str(example.sample.file), "why": example.why} for example in self.examples],
        }


def _run(summary: RunSummary) -> dict[str, Any]:
    gain = None if summary.measured is None else summary.measured.gain
    return {
        "name": summary.name,
        "folder": str(summary.run.folder),
        "notes": list(summary.notes),
        "metrics": summary.metrics,
        "refinement": None if gain is None else asdict(gain),
        "diagnosis": None if summary.measured is None else summary.measured.diagnosis.to_json(),
    }
