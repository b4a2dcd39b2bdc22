"""An iterator that prepares its next items in a thread."""

from __future__ import annotations

from collections.abc import Generator
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE = 0.1  # seconds after which a thread that waits for room checks whether there is still a reader


def prefetch(items: Generator[T, None, None], room: int) -> Generator[T, None, None]:
    """Yield the same items, made by a thread while the caller is busy; at most ``room`` of them wait, plus one.

    An error in the thread is raised here in place of its item. Closing this generator closes ``items`` in the thread
    and waits for its end.
    """
    line: Queue[tuple[bool, Any]] = Queue(room)
    left = Event()
    thread = Thread(target=_work, args=(items, line, left), name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            last, thing = line.get()
            if not last:
                yield thing
            elif thing is None:
                return
            else:
                raise thing
    finally:
        left.set()
        thread.join()


def _work(items: Generator[Any, None, None], line: Queue[tuple[bool, Any]], left: Event) -> None:
    failure = None
    try:
        for item in items:
            if not _hand_over((False, item), line, left):
                break
    except BaseException as error:  # any error is raised in the reader
        failure = error
    finally:
        items.close()
    _hand_over((True, failure), line, left)


def _hand_over(thing: tuple[bool, Any], line: Queue[tuple[bool, Any]], left: Event) -> bool:
    """Put an item into the queue; return whether there was still a reader."""
    while not left.is_set():
        try:
            line.put(thing, timeout=PATIENCE)
        except Full:
            continue
        return True
    return False
