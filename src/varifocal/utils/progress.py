"""What shows that work which takes a while goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(label: str, total: int | None, unit: str = "") -> Iterator[Callable[[int], None]]:
    """A bar on stderr while the block runs; call what it gives with the number done so far.

    ``total`` None is not known; of 0 there is nothing to show. With ``unit`` the bar also tells how many are done a
    second.
    """
    if total == 0:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.description}", markup=False)
    columns = (text, MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn())
    begun = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, speed="")

        def advance(done: int) -> None:
            speed = f"{done / max(time.monotonic() - begun, 1e-9):.1f} {unit}" if unit else ""
            bar.update(task, completed=done, speed=speed)

        yield advance


@contextmanager
def spinner(label: str) -> Iterator[None]:
    """On stderr, with the seconds that went by, while the block runs: for work that cannot be counted."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task(label, total=None)
        yield
