"""The log of a run: a progress bar or lines on stderr, ``log.jsonl``, and optionally TensorBoard."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import TracebackType
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

from varifocal.utils.atomic_write import atomic_write
from varifocal.utils.errors import ConfigError, TrainingError

QUIET_SECONDS = 15.0  # between lines if stderr is not a terminal


class RunLogger:
    """Logs one process of a run: ``log.jsonl`` in the run folder, and a bar on a terminal or lines elsewhere.

    Lines of steps from ``start`` on are removed from an existing file, because a resumed run repeats these steps. A
    ``quiet`` logger does nothing.
    """

    def __init__(self, run: Path, start: int, steps: int, *, quiet: bool, tensorboard: bool) -> None:
        self.path, self.start, self.steps = run / "log.jsonl", start, steps
        self.quiet = quiet
        self.console = Console(stderr=True)
        self.board = _board(run, start) if tensorboard and not quiet else None
        if not quiet:
            _truncate(self.path, start)
        self.begun = self.last_printed = time.monotonic()
        self.bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("train", total=steps, completed=start, numbers="")

    def __enter__(self) -> RunLogger:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        if self.board is not None:
            self.board.close()

    def step(self, step: int, losses: dict[str, float], lr: float) -> None:
        """Log a finished step: the total loss, each term, the learning rate and the memory."""
        if self.quiet:
            return
        numbers = {"loss": sum(losses.values()), **losses, "lr": lr}
        memory = memory_mb()
        self._write({"step": step, **numbers, "memory_mb": memory, "seconds": time.monotonic() - self.begun})
        if self.board is not None:
            for name, value in numbers.items():
                self.board.add_scalar(f"train/{name}", value, step)
        text = " ".join(f"{name} {value:.3g}" for name, value in numbers.items()) + f" mem {memory:.0f}M"
        self.bar.update(self.task, completed=step + 1, numbers=text)
        if not self.console.is_terminal and time.monotonic() - self.last_printed > QUIET_SECONDS:
            self.last_printed = time.monotonic()
            self.say(f"step {step + 1}/{self.steps} {text} left {self._time_left(step + 1)}")

    def validation(self, step: int, metrics: dict[str, float]) -> None:
        """Log the metrics of a validation."""
        if self.quiet:
            return
        self._write({"step": step, "validation": metrics})
        if self.board is not None:
            for name, value in metrics.items():
                self.board.add_scalar(f"validation/{name}", value, step)
        self.say(f"step {step + 1}: validation AP {100 * metrics['AP']:.1f} AP50 {100 * metrics['AP50']:.1f}")

    def unreadable_images(self, step: int, count: int, summary: str) -> None:
        """Log how many images could not be read so far."""
        if self.quiet:
            return
        self._write({"step": step, "unreadable_images": count})
        self.say(f"step {step + 1}: {summary}")

    def say(self, text: str) -> None:
        """Print a line on stderr, above the bar."""
        if not self.quiet:
            self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

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


def _board(run: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            'train.tensorboard needs TensorBoard: pip install "varifocal[tensorboard]".', code="tensorboard-missing"
        ) from error
    return SummaryWriter(str(run / "tensorboard"), purge_step=start)
