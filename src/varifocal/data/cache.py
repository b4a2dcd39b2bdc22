"""Cache of decoded images in memory that all loading processes share, up to a limit."""

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
    """Keeps the first images that are read, by index, until ``limit`` bytes of pixels are used; none is ever dropped.

    The image that was read last is not needed before the next epoch, so replacing another one would gain nothing.

    Processes started by fork use the same cache, and on Linux also those started otherwise. On other systems each of
    these gets an empty cache of its own, which ``divide`` limits to its part of the bytes.

    Raises:
        ConfigError: the system does not grant that much address space.
    """

    def __init__(self, images: int, limit: int) -> None:
        self.images, self.limit = images, limit
        self._lock = Lock()
        self._file, self._alone = -1, False
        try:
            if hasattr(os, "memfd_create"):
                self._file = os.memfd_create("varifocal-images")
                weakref.finalize(self, os.close, self._file)
                os.ftruncate(self._file, self._size())  # uses no memory yet
            self._open(mmap.mmap(self._file, self._size()))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"data.cache_bytes={limit}: the system does not grant that many bytes ({error}); use less.",
                code="cache-too-large",
            ) from error

    def get(self, index: int) -> UInt8[np.ndarray, "H W 3"] | None:
        """Return the pixels, which must not be modified; None if they are not in the cache."""
        with self._lock:
            first, height, width = self._entries[index].tolist()
        if not height:
            return None
        return self._pixels[first : first + height * width * 3].reshape(height, width, 3)

    def put(self, index: int, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        """Store a copy if there is room."""
        with self._lock:
            first = int(self._used[0])
            if self._entries[index, 2] or first + pixels.nbytes > self.limit:
                return
            self._used[0] += pixels.nbytes
            self._entries[index, 2] = pixels.shape[1]  # no other process stores the same image
        self._pixels[first : first + pixels.nbytes].reshape(pixels.shape)[:] = pixels
        with self._lock:  # only now others can read it
            self._entries[index] = first, *pixels.shape[:2]

    @property
    def used(self) -> int:
        """The number of bytes of pixels in the cache."""
        return int(self._used[0])

    def divide(self, processes: int) -> None:
        """Reduce the limit to the part of one of so many loading processes, if the cache is not shared."""
        if self._alone:
            self.limit //= processes

    def _size(self) -> int:
        return 8 + 24 * self.images + self.limit

    def _open(self, memory: mmap.mmap) -> None:
        self._used = np.frombuffer(memory, np.int64, 1)
        # for each image the offset of its first byte, its height and its width
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
