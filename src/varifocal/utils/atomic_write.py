"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from varifocal.utils.errors import CheckpointError
from varifocal.utils.locks import is_at, release, try_lock

PART = ".part"  # ends the name of what is not yet whole


def atomic_write(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` in one step, flushed to the disk.

    Raises:
        CheckpointError: it cannot be written; what was at ``path`` is kept.
    """
    atomic_write_all({path: content})


def atomic_write_all(contents: Mapping[Path, bytes]) -> None:
    """Rename files that belong together to their paths, in this order, when all of them are on the disk.

    Raises:
        CheckpointError: one cannot be written; what was at the paths is kept.
    """
    parts: dict[Path, _Part] = {}
    path = next(iter(contents))
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            parts[path] = _Part(path)
            parts[path].write(content)
        for path in contents:
            parts[path].move()
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror}); nothing was lost, make room or choose another folder."
        ) from error
    finally:  # also of an interruption; those that were renamed are there no more
        for part in parts.values():
            part.drop()


def is_part(path: Path) -> bool:
    """Whether a file is one that was not made whole, by its name."""
    return path.name.startswith(".") and path.name.endswith(PART)


class _Part:
    """What will be at ``path``, until it is whole: a file beside it that no other process and no other thread writes.

    Its name is always the same, so that what a kill leaves is used up by the next write; while another process is
    writing there it is one of its own.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.moved = path, False
        self.file, descriptor = _usual(path) or _own(path)
        try:
            self.stream = open(descriptor, "wb")  # noqa: SIM115  # it is to outlive this call
        except BaseException:
            release(lambda: os.close(descriptor), self.file)
            raise

    def write(self, content: bytes) -> None:
        """Everything, flushed to the disk."""
        self.stream.write(content)
        self.stream.flush()
        os.fsync(self.stream.fileno())

    def move(self) -> None:
        """Rename the file to its path. It stays open and locked until it is there, where the system can do that."""
        if sys.platform == "win32":
            self.stream.close()
        os.replace(self.file, self.path)
        self.moved = True

    def drop(self) -> None:
        """Remove what was not moved, and close it."""
        release(self.stream.close, None if self.moved else self.file)


def _usual(path: Path) -> tuple[Path, int] | None:
    """The part under its usual name, empty, and None where another process writes it or there are no locks."""
    file = path.with_name(f".{path.name}{PART}")
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            taken = try_lock(descriptor)
        except OSError:
            taken = False
        if taken and is_at(descriptor, file):
            os.ftruncate(descriptor, 0)
            return file, descriptor
        os.close(descriptor)
        if not taken:
            return None  # else it has just been renamed to its path, and the name is free again


def _own(path: Path) -> tuple[Path, int]:
    file = path.with_name(f".{path.name}.{secrets.token_hex(6)}{PART}")
    return file, os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
