"""Decoding of every image once, in parallel: size, damage, and what is needed to compare images."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from varifocal.data.annotations import LazySequence
from varifocal.data.image_scan import THUMB, ImageScan, scan_images
from varifocal.data.value_ranges import Used
from varifocal.types import FileLike, Levels

SAMPLE = 128  # images that are decoded to estimate the time for all


@dataclass(frozen=True, eq=False)
class ScannedImages:
    """Columns of M scanned files; see :class:`varifocal.data.image_scan.ImageScan`.

    ``seen`` is False for files that are missing or cannot be read; for the latter ``errors`` has the kind and the
    sentence, by index. ``used`` has the values of images of more than 8 bits, ``unknown`` the reason why the range of
    some of these is not known, and ``frames`` the number of images in files that hold several.
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
    """Decode every file; None stands for a missing image, and ``progress`` is called with the number done.

    ``levels`` is that of ``read_image``. Images that can only be used in tiles or crops are decoded, too.
    """
    total = len(files)
    present = [index for index in range(total) if files[index] is not None]
    found = ScannedImages(
        np.zeros(total, bool),
        np.zeros((total, 2), np.int64),
        np.zeros((total, 2), np.int64),
        np.ones(total, np.uint8),
        [b""] * total,
        np.zeros((total, THUMB, THUMB), np.uint8),
    )

    def store(position: int, scan: ImageScan) -> None:
        index = present[position]
        found.sizes[index], found.stored[index] = scan.size, scan.stored
        found.orientations[index], found.digests[index] = scan.orientation, scan.digest
        text = "" if scan.error is None else str(scan.error).removeprefix(f"{files[index]}: ")
        if scan.gray is None:
            found.errors[index] = ("truncated-image" if scan.size != (0, 0) else "unreadable-image", text)
        else:
            found.seen[index] = True
            found.grays[index] = scan.gray
            found.unknown.update({index: text} if text else {})
        found.used.update({index: scan.used} if scan.used else {})
        found.frames.update({index: scan.frames} if scan.frames > 1 else {})
        progress(position + 1)

    scan_images(_PresentFiles(files, present), store, threads or usable_threads(), levels=levels)
    return found


class _PresentFiles(LazySequence[Any]):
    """The files at the indices ``present``, each made when it is read."""

    def __init__(self, files: Sequence[FileLike | None], present: Sequence[int]) -> None:
        self._files, self._present = files, present

    def item(self, index: int) -> FileLike | None:
        return self._files[self._present[index]]

    def __len__(self) -> int:
        return len(self._present)


def cost_of_decoding(files: Sequence[FileLike | None], count: int = SAMPLE) -> float:
    """Estimate the seconds of :func:`scan_files` for all files from ``count`` random ones; NaN without files."""
    chosen = np.random.default_rng(0).permutation(len(files))[: 4 * count]
    few = [file for index in chosen if (file := files[int(index)]) is not None][:count]
    if not few:
        return float("nan")
    warm = len(few) // 4  # the first ones also pay for imports and caches
    for part in (few[:warm], few[warm:]):
        begun = time.perf_counter()
        scan_files(part, lambda done: None)
    return (time.perf_counter() - begun) / (len(few) - warm) * len(files)


def usable_threads() -> int:
    """Return the number of processors that this process may use, plus one thread that waits for the disk."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1
