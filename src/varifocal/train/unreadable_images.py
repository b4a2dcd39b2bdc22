"""Unreadable images of a run: they are counted over all processes and reported, and too many of them stop the run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from varifocal.structures import Batch
from varifocal.utils.atomic_write import atomic_write
from varifocal.utils.errors import DataError

LIST = "unreadable_images.txt"
FEW = 3  # a set of hundreds may have these though they are more than the fraction, one of dozens a tenth


class UnreadableImages:
    """What was found so far, by index in the data set: the same in every process and after any interruption.

    ``fraction`` of the ``total`` images may be bad, and never less than three or a tenth, unless it is 0: then none.
    ``found`` are what :meth:`rows` gave. The list is written into the folder ``run``, by the process that has one.
    """

    def __init__(self, fraction: float, total: int, run: Path | None, found: Iterable[Sequence[Any]] = ()) -> None:
        self.fraction, self.total, self.run = fraction, total, run
        self.most = max(int(fraction * total), min(FEW, total // 10)) if fraction else 0
        self.found = {index: reason for index, reason in found}

    def add(self, group: list[Batch], device: torch.device) -> None:
        """Take note of what the batches of a step tell, in all processes at once.

        Raises:
            DataError: there are more than may be, in every process.
        """
        fresh = {index: reason for batch in group for index, reason in batch.bad if index not in self.found}
        for one in _of_all(fresh, device):
            self.found.update(one)
        if len(self.found) <= self.most:
            return
        first = next(iter(self.found.values()))
        if self.most == 0:
            raise DataError(first)
        self.write()
        raise DataError(
            f"{len(self.found)} of {self.total} images cannot be read or do not fit their labels, more than the "
            f"{self.most} that may be (train.max_unreadable={self.fraction:g}; {LIST} in the run folder names them). "
            f"The first: {first}"
        )

    def rows(self) -> list[list[Any]]:
        """For a checkpoint, sorted."""
        return [list(row) for row in sorted(self.found.items())]

    def tell(self) -> str:
        """A sentence; empty where there are none."""
        if not self.found:
            return ""
        files = [reason.partition(": ")[0] for _, reason in sorted(self.found.items())]
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        return (
            f"{len(files)} of {self.total} images so far cannot be used and were replaced by others: "
            f"{', '.join(files[:3])}{more} (see {LIST})"
        )

    def write(self) -> None:
        """Each on a line of its own, with what is wrong with it."""
        if self.run is None:
            return
        lines = [reason + "\n" for _, reason in sorted(self.found.items())]
        atomic_write(self.run / LIST, "".join(lines).encode())


def _of_all(fresh: dict[int, str], device: torch.device) -> list[dict[int, str]]:
    """What each process has found anew; they talk at length only when one has something to say."""
    if not (dist.is_available() and dist.is_initialized()):
        return [fresh]
    count = torch.tensor([len(fresh)], device=device)
    dist.all_reduce(count)
    if not count.item():
        return []
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, fresh)
    return gathered
