"""Progress bars and spinners on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

# a function like progress_bar: label and total to a context that is called with the number done
Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@contextmanager
def no_bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show nothing."""
    yield lambda done: None


@contextmanager
def progress_bar(label: str, total: int | None, unit: str = "") -> Iterator[Callable[..., None]]:
    """Show a bar while the block runs; the yielded function is called with the number done so far.

    ``total`` is None if it is not known yet; the function takes it as its second argument later. If it is 0, no bar is
    shown. With ``unit`` the bar also shows the number done per second.
    """
    if total == 0:
        yield lambda done, total=None: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.description}", markup=False)
    columns = (text, MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn())
    begun = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, speed="")

        def advance(done: int, total: int | None = None) -> None:
            speed = f"{done / max(time.monotonic() - begun, 1e-9):.1f} {unit}" if unit else ""
            bar.update(task, completed=done, total=total, speed=speed)

        yield advance


@contextmanager
def spinner(label: str) -> Iterator[None]:
    """Show a spinner and the elapsed seconds while the block runs, for work that cannot be counted."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task(label, total=None)
        yield
