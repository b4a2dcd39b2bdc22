"""Every image decoded once, in parallel: its size, whether it is whole, and what it is compared by."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from varifocal.data.image_scan import THUMB, ImageScan, scan_images
from varifocal.data.value_ranges import Used
from varifocal.types import FileLike, Levels

SAMPLE = 128  # images that are decoded to say what decoding all would cost


@dataclass(frozen=True, eq=False)
class ScannedImages:
    """Columns of M files as they were found: see :class:`varifocal.data.image_scan.ImageScan`.

    ``seen`` is False where no file was given, or it could not be read; ``errors`` has the kind and the sentence of
    those that could not, by index. ``used`` are the values of images of more than 8 bits, ``unknown`` says of some of
    these why their range is not known, and ``frames`` how many images a file holds where it holds several.
    """

    seen: Bool[np.ndarray, "M"]
    sizes: Int64[np.ndarray, "M 2"]
    stored: Int64[np.ndarray, "M 2"]
    orientations: UInt8[np.ndarray, "M"]
    digests: list[bytes]
    grays: UInt8[np.ndarray, "M s s"]
    errors: dict[int, tuple[str, str]] = field(default_factory=dict)
    used: dict[int, Used] = field(default_factory=dict)
    unknown: dict[int, str] = field(default_factory=dict)
    frames: dict[int, int] = field(default_factory=dict)


def scan_files(
    files: Sequence[FileLike | None],
    progress: Callable[[int], None],
    threads: int | None = None,
    *,
    levels: Levels | None = None,
) -> ScannedImages:
    """Decode every file; ``progress`` is called with the number done. None stands for an image that is missing.

    ``levels`` is that of ``read_image``. Images that only windows or crops make usable are looked at, too.
    """
    total = len(files)
    there = [index for index in range(total) if files[index] is not None]
    found = ScannedImages(
        np.zeros(total, bool),
        np.zeros((total, 2), np.int64),
        np.zeros((total, 2), np.int64),
        np.ones(total, np.uint8),
        [b""] * total,
        np.zeros((total, THUMB, THUMB), np.uint8),
    )

    def take(position: int, look: ImageScan) -> None:
        index = there[position]
        found.sizes[index], found.stored[index] = look.size, look.stored
        found.orientations[index], found.digests[index] = look.orientation, look.digest
        text = "" if look.error is None else str(look.error).removeprefix(f"{files[index]}: ")
        if look.gray is None:
            found.errors[index] = ("truncated-image" if look.size != (0, 0) else "unreadable-image", text)
        else:
            found.seen[index] = True
            found.grays[index] = look.gray
            found.unknown.update({index: text} if text else {})
        found.used.update({index: look.used} if look.used else {})
        found.frames.update({index: look.frames} if look.frames > 1 else {})
        progress(position + 1)

    scan_images(_There(files, there), take, threads or usable_threads(), levels=levels)
    return found


class _There(Sequence[FileLike]):
    """Those of the files that are there, made when asked for."""

    def __init__(self, files: Sequence[FileLike | None], there: Sequence[int]) -> None:
        self._files, self._there = files, there

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return [self._files[i] for i in self._there[index]]
        return self._files[self._there[index]]

    def __len__(self) -> int:
        return len(self._there)


def cost_of_decoding(files: Sequence[FileLike | None], count: int = SAMPLE) -> float:
    """Seconds that :func:`scan` would take for all files, from a random few of them; nan where there is none."""
    chosen = np.random.default_rng(0).permutation(len(files))[: 4 * count]
    few = [file for index in chosen if (file := files[int(index)]) is not None][:count]
    if not few:
        return float("nan")
    warm = len(few) // 4  # the first ones pay for what is loaded once
    for part in (few[:warm], few[warm:]):
        begun = time.perf_counter()
        scan_files(part, lambda done: None)
    return (time.perf_counter() - begun) / (len(few) - warm) * len(files)


def usable_threads() -> int:
    """Processors that this process may use, and one more, which waits for the disk."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1
