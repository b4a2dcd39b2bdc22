"""Everything a report says, as one value: for the page and for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from varifocal.tools.report.examples import Example
from varifocal.tools.report.folders import Run
from varifocal.tools.report.measure import RunEvaluation
from varifocal.tools.report.sweeps import Sweep

VERSION = 1  # of the JSON: grows when a key changes its meaning or goes


@dataclass(frozen=True, eq=False)
class RunSummary:
    """One run of a report. ``metrics`` are in 0..1: those of the data that was named, or else those the run wrote
    at its end, or else measured anew. ``notes`` say what is missing. Not ``comparable`` are those that were measured
    on other images or labels than the first run's."""

    run: Run
    measured: RunEvaluation | None
    metrics: dict[str, Any] | None
    notes: tuple[str, ...]
    comparable: bool = True

    @property
    def name(self) -> str:
        """What the run is called."""
        return self.run.name


@dataclass(frozen=True, eq=False)
class Report:
    """Runs, the first of which the others are compared with, and sweeps. ``data`` is the name of the data that was
    named instead of the runs' own."""

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
            "runs": [_run(one) for one in self.runs],
            "sweeps": [one.to_json() for one in self.sweeps],
            "examples": [{"file": str(one.sample.file), "why": one.why} for one in self.examples],
        }


def _run(one: RunSummary) -> dict[str, Any]:
    gain = None if one.measured is None else one.measured.gain
    return {
        "name": one.name,
        "folder": str(one.run.folder),
        "notes": list(one.notes),
        "metrics": one.metrics,
        "refinement": None if gain is None else asdict(gain),
        "diagnosis": None if one.measured is None else one.measured.diagnosis.to_json(),
    }
