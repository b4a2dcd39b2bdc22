"""Evaluation over the processes of ``torchrun``: each detects in a part of the images, the first one measures.

The results go through the store by which the processes found each other, so no process waits for another one, except
the first for the results of all. While it waits, every process says twelve times a minute that it is alive.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import numpy as np

from varifocal.types import Category, Detections
from varifocal.utils.errors import DataError

BEAT = 5.0  # seconds between two signs of life
SILENCE = 60.0  # seconds without one after which a process counts as dead
_POLL = 0.1
_CHUNK = 4 << 20  # bytes of one value of the store, which bounds them


@dataclass(frozen=True)
class Processes:
    """The number of this process, from 0, and how many there are."""

    rank: int = 0
    world: int = 1

    @classmethod
    def of_environment(cls) -> Processes:
        """Return those that ``torchrun`` started, or the only one."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        return cls(int(os.environ.get("RANK", "0")), world) if world > 1 else cls()

    @property
    def first(self) -> bool:
        """Whether this process measures and prints."""
        return self.rank == 0

    @contextmanager
    def alive(self) -> Iterator[Any]:
        """Connect the processes and yield their store; the others than the first say that they are alive meanwhile."""
        if self.world == 1:
            yield None
            return
        from torch import distributed

        try:
            meeting = distributed.rendezvous("env://", self.rank, self.world, timeout=timedelta(seconds=SILENCE))
            store, _, _ = next(iter(meeting))
        except RuntimeError as error:
            raise _unreachable(error) from error
        ended = Event()
        thread = Thread(target=_beat, args=(store, f"alive/{self.rank}", ended), daemon=True)
        if not self.first:
            thread.start()
        try:
            yield store
        finally:
            ended.set()
            if not self.first:
                thread.join()

    def collect(self, store: Any, found: Sequence[Detections]) -> list[Detections] | None:
        """Return the detections of all processes in the order of the images, in the first process; None in the others.

        Image i is that of process i modulo their number.

        Raises:
            DataError: a process has given no sign of life for a minute.
        """
        if self.world == 1:
            return list(found)
        if not self.first:
            try:
                _send(store, str(self.rank), _packed(found))
            except RuntimeError as error:
                raise _unreachable(error) from error
            return None
        categories = found[0].categories if found else ()
        parts = [list(found), *(_receive(store, rank, categories) for rank in range(1, self.world))]
        merged: list[Any] = [None] * sum(map(len, parts))
        for rank, part in enumerate(parts):
            merged[rank :: self.world] = part
        return merged


def _unreachable(error: RuntimeError) -> DataError:
    reason = " ".join(str(error).split())[:200]
    return DataError(
        f"the processes of torchrun cannot reach each other ({reason}); start the evaluation again.",
        code="processes-unreachable",
    )


def _beat(store: Any, key: str, ended: Event) -> None:
    count = 0
    while True:
        count += 1
        with suppress(Exception):  # the process that keeps the store may have ended before this one
            store.set(key, str(count))
        if ended.wait(BEAT):
            return


def _packed(found: Sequence[Detections]) -> bytes:
    """Return arrays of the detections of several images in NumPy's own format."""
    empty = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), ())
    parts = [*found, empty]
    stream = io.BytesIO()
    np.savez(
        stream,
        counts=np.array([len(one) for one in found], np.int64),
        boxes=np.concatenate([one.boxes for one in parts]),
        scores=np.concatenate([one.scores for one in parts]),
        labels=np.concatenate([one.labels for one in parts]),
    )
    return stream.getvalue()


def _unpacked(content: bytes, categories: tuple[Category, ...]) -> list[Detections]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        cuts = np.cumsum(arrays["counts"])[:-1]
        counts = len(arrays["counts"])
        columns = [np.split(arrays[name], cuts) for name in ("boxes", "scores", "labels")]
    rows = zip(*columns, strict=True) if counts else ()
    return [Detections(boxes, scores, labels, categories) for boxes, scores, labels in rows]


def _send(store: Any, name: str, content: bytes) -> None:
    chunks = [content[start : start + _CHUNK] for start in range(0, len(content), _CHUNK)]
    for number, chunk in enumerate(chunks):
        store.set(f"result/{name}/{number}", chunk)
    store.set(f"result/{name}", str(len(chunks)))  # last, as it says that the others are there


def _receive(store: Any, rank: int, categories: tuple[Category, ...]) -> list[Detections]:
    _wait(store, rank)
    count = int(store.get(f"result/{rank}"))
    return _unpacked(b"".join(store.get(f"result/{rank}/{number}") for number in range(count)), categories)


def _wait(store: Any, rank: int) -> None:
    """Wait for the result of a process as long as it is alive."""
    heard, last = time.monotonic(), b""
    while not store.check([f"result/{rank}"]):
        beat = store.get(f"alive/{rank}") if store.check([f"alive/{rank}"]) else b""
        if beat != last:
            heard, last = time.monotonic(), beat
        if time.monotonic() - heard > SILENCE:
            raise DataError(
                f"process {rank} of torchrun has given no sign of life for {SILENCE:.0f} s; repeat the evaluation.",
                code="process-silent",
            )
        time.sleep(_POLL)
