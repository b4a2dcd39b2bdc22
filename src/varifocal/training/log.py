"""The log of a run: a progress bar or lines on stderr, and ``log.jsonl``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from varifocal.training.callbacks import Callback
from varifocal.utils.atomic_write import atomic_write
from varifocal.utils.errors import TrainingError

QUIET_SECONDS = 15.0  # between lines if stderr is not a terminal


class RunLogger(Callback):
    """Writes ``log.jsonl`` in the run folder, and shows a bar on a terminal or lines elsewhere.

    Lines of steps from the first one on are removed from an existing file, because a resumed run repeats these steps.
    """

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )

    def on_start(self, run: Path, recipe: Mapping[str, Any], first_step: int, total_steps: int) -> None:
        """Open the log of a run, and show the bar."""
        self.path, self.start, self.steps = run / "log.jsonl", first_step, total_steps
        _truncate(self.path, first_step)
        self.begun = self.last_printed = time.monotonic()
        self.task = self.bar.add_task("train", total=total_steps, completed=first_step, numbers="")
        self.bar.start()

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """Log the losses and the learning rate with the memory and the time."""
        memory = memory_mb()
        self._write({"step": step, **values, "memory_mb": memory, "seconds": time.monotonic() - self.begun})
        text = " ".join(f"{name} {value:.3g}" for name, value in values.items()) + f" mem {memory:.0f}M"
        self.bar.update(self.task, completed=step + 1, numbers=text)
        if not self.console.is_terminal and time.monotonic() - self.last_printed > QUIET_SECONDS:
            self.last_printed = time.monotonic()
            self.on_note(f"step {step + 1}/{self.steps} {text} left {self._time_left(step + 1)}")

    def on_validation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics."""
        self._write({"step": step, "validation": dict(metrics)})
        self.on_note(f"step {step + 1}: validation AP {100 * metrics['AP']:.1f} AP50 {100 * metrics['AP50']:.1f}")

    def on_unreadable_images(self, step: int, count: int, summary: str) -> None:
        """Log the number of images that could not be read so far."""
        self._write({"step": step, "unreadable_images": count})
        self.on_note(f"step {step + 1}: {summary}")

    def on_note(self, text: str) -> None:
        """Print a line on stderr, above the bar."""
        self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the bar."""
        self.bar.stop()

    def _time_left(self, done: int) -> str:
        seconds = (time.monotonic() - self.begun) / max(done - self.start, 1) * (self.steps - done)
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"

    def _write(self, line: dict[str, Any]) -> None:
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise TrainingError(
                f"{self.path}: cannot be written ({error.strerror}); free some space, then resume the run.",
                code="log-unwritable",
            ) from error


def memory_mb() -> float:
    """Return the peak memory in MiB: of the accelerator if there is one, of this process otherwise."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "win32":
        return 0.0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _truncate(path: Path, start: int) -> None:
    """Remove the lines of steps from ``start`` on."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            if json.loads(line)["step"] < start:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            break  # a line cut off by a kill is the last one
    atomic_write(path, "".join(kept).encode())
