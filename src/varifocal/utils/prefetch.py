"""An iterator that is a few items ahead of who reads it."""

from __future__ import annotations

from collections.abc import Generator
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE = 0.1  # seconds after which a thread that waits for room looks whether anybody still reads


def prefetch(items: Generator[T, None, None], room: int) -> Generator[T, None, None]:
    """The same items, made by a thread while the caller is busy; at most ``room`` wait, and one is being handed over.

    What fails in the thread is raised here, where its item was due. Closing this closes ``items`` in the thread and
    waits for its end.
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
    except BaseException as error:  # whatever it is, it is the reader's
        failure = error
    finally:
        items.close()
    _hand_over((True, failure), line, left)


def _hand_over(thing: tuple[bool, Any], line: Queue[tuple[bool, Any]], left: Event) -> bool:
    """Whether there was still a reader."""
    while not left.is_set():
        try:
            line.put(thing, timeout=PATIENCE)
        except Full:
            continue
        return True
    return False
