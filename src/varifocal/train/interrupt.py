"""Ctrl-C while a run trains: it is taken where a step is whole, so that what is kept can be gone on with exactly."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType

import torch
import torch.distributed as dist

MESSAGE = b"\ninterrupted: the step is finished and kept first; Ctrl-C again stops at once\n"
PATIENCE = 2.0  # seconds within which a second signal is the same one: torchrun hands on what the terminal has sent


class Interruption:
    """Takes note of SIGINT while the block runs, where nobody else has taken it over; the second stops at once.

    A process that is not ``quiet`` prints that to the person who waits.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.noted: float | None = None
        self._installed = False

    def __enter__(self) -> Interruption:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._note)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.noted is None:
            self.noted = now
            if not self.quiet:
                os.write(2, MESSAGE)  # not through sys.stderr, which may be in the middle of a line
        elif now - self.noted > PATIENCE:
            raise KeyboardInterrupt

    def anywhere(self, device: torch.device) -> bool:
        """Whether any process of the run was interrupted; all of them ask at the same step and get one answer."""
        noted = self.noted is not None
        if not (dist.is_available() and dist.is_initialized()):
            return noted
        count = torch.tensor([float(noted)], device=device)
        dist.all_reduce(count)
        return bool(count.item())

    def check(self, done: int) -> None:
        """Raises KeyboardInterrupt: it was noted, and this process has no others that would wait for it."""
        if self.noted is not None and not (dist.is_available() and dist.is_initialized()):
            raise KeyboardInterrupt
