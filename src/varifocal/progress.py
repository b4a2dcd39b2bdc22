"""A bar for work that takes a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(label: str, total: int | None, unit: str = "") -> Iterator[Callable[[int], None]]:
    """A bar on stderr while the block runs; call what it gives with the number done so far.

    ``total`` None is not known. With ``unit`` the bar also tells how many are done a second.
    """
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
