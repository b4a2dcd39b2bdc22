"""Decoded images in memory shared by all loading processes, up to a bound."""

from __future__ import annotations

import mmap
import os
import weakref
from multiprocessing import Lock, reduction
from typing import Any

import numpy as np
from jaxtyping import UInt8

from varifocal.utils.errors import ConfigError


class ImageCache:
    """Keeps images by index, first come, until ``limit`` bytes of pixels are used; none is ever dropped.

    What was read last comes no more before the next epoch, so that making room for it would lose more than it gains.

    Processes started by fork use the same cache, and on Linux those started otherwise too. Elsewhere each of these
    gets an empty one of its own, which ``divide`` limits to its part of the bytes.

    Raises:
        ConfigError: the system does not give that much address space.
    """

    def __init__(self, images: int, limit: int) -> None:
        self.images, self.limit = images, limit
        self._lock = Lock()
        self._file, self._alone = -1, False
        try:
            if hasattr(os, "memfd_create"):
                self._file = os.memfd_create("varifocal-images")
                weakref.finalize(self, os.close, self._file)
                os.ftruncate(self._file, self._size())  # takes no memory yet
            self._open(mmap.mmap(self._file, self._size()))
        except (OSError, OverflowError) as error:
            raise ConfigError(f"data.cache_bytes={limit}: so many bytes cannot be had ({error}); take less.") from error

    def get(self, index: int) -> UInt8[np.ndarray, "H W 3"] | None:
        """The pixels, not to be written to; None where they are not kept."""
        with self._lock:
            first, height, width = self._entries[index].tolist()
        if not height:
            return None
        return self._pixels[first : first + height * width * 3].reshape(height, width, 3)

    def put(self, index: int, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        """Keep a copy, if there is room."""
        with self._lock:
            first = int(self._used[0])
            if self._entries[index, 2] or first + pixels.nbytes > self.limit:
                return
            self._used[0] += pixels.nbytes
            self._entries[index, 2] = pixels.shape[1]  # another process with the same image need not put it, too
        self._pixels[first : first + pixels.nbytes].reshape(pixels.shape)[:] = pixels
        with self._lock:  # only now can others see it
            self._entries[index] = first, *pixels.shape[:2]

    @property
    def used(self) -> int:
        """Bytes of pixels that are kept."""
        return int(self._used[0])

    def divide(self, processes: int) -> None:
        """In one of so many loading processes: keep to a part of the bound if this cache is not shared."""
        if self._alone:
            self.limit //= processes

    def _size(self) -> int:
        return 8 + 24 * self.images + self.limit

    def _open(self, memory: mmap.mmap) -> None:
        self._used = np.frombuffer(memory, np.int64, 1)
        # of each image the offset of its first byte, its height and its width
        self._entries = np.frombuffer(memory, np.int64, 3 * self.images, 8).reshape(self.images, 3)
        self._pixels = np.frombuffer(memory, np.uint8, self.limit, 8 + 24 * self.images)

    def __getstate__(self) -> dict[str, Any]:
        file = None if self._file < 0 else reduction.DupFd(self._file)
        return {"images": self.images, "limit": self.limit, "lock": self._lock, "file": file}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.images, self.limit, self._lock = state["images"], state["limit"], state["lock"]
        self._alone = state["file"] is None
        self._file = -1 if self._alone else state["file"].detach()
        if not self._alone:
            weakref.finalize(self, os.close, self._file)
        self._open(mmap.mmap(self._file, self._size()))
