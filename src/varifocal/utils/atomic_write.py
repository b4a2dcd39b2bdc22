"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from varifocal.utils.errors import CheckpointError, ConfigError
from varifocal.utils.locks import claimed_file, is_at, release, try_lock

PART = ".part"  # suffix of what is not yet complete


def atomic_write(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` in one step, flushed to the disk.

    Raises:
        CheckpointError: it cannot be written; the file that was at ``path`` is kept.
    """
    atomic_write_all({path: content})


def atomic_write_all(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all are on the disk before the first is renamed to its path, in this order.

    Raises:
        CheckpointError: one cannot be written; the files that were at the paths are kept.
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
            f"{path}: cannot be written ({error.strerror}); nothing was lost, make room or choose another folder.",
            code="file-not-writable",
        ) from error
    finally:  # after an interruption, too; parts that were moved no longer exist
        for part in parts.values():
            part.drop()


def is_part(path: Path) -> bool:
    """Return whether a file is an incomplete one by its name."""
    return path.name.startswith(".") and path.name.endswith(PART)


def refuse_existing(path: Path, fix: str = "choose another folder, nothing is overwritten") -> None:
    """Raise ``ConfigError`` if there is a file, a folder or even a broken link at ``path``."""
    if os.path.lexists(path):
        raise ConfigError(f"{path}: already exists; {fix}.", code="output-exists")


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``out`` that is renamed to it at the end, or removed if anything fails.

    Raises:
        ConfigError: ``out`` exists or cannot be written, or another process is writing it.
    """
    folder = out.parent / f".{out.name}{PART}"
    with claimed_file(out):
        try:
            shutil.rmtree(folder, ignore_errors=True)  # from a run that was killed
            folder.mkdir()
            yield folder
            refuse_existing(out)
            os.rename(folder, out)
        except OSError as error:
            raise ConfigError(
                f"{out}: cannot be written ({error.strerror or error}); make room or choose another folder.",
                code="folder-not-writable",
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _Part:
    """The future content of ``path``: a file beside it that no other process and no other thread writes.

    Its name is always the same, so that the next write uses up the file that a killed process left. While another
    process writes a file of that name, the name gets a random number.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.moved = path, False
        self.file, descriptor = _usual(path) or _own(path)
        try:
            self.stream = open(descriptor, "wb")  # noqa: SIM115  # it outlives this call
        except BaseException:
            release(lambda: os.close(descriptor), self.file)
            raise

    def write(self, content: bytes) -> None:
        """Write everything, flushed to the disk."""
        self.stream.write(content)
        self.stream.flush()
        os.fsync(self.stream.fileno())

    def move(self) -> None:
        """Rename the file to its path; it stays open and locked meanwhile if the system allows that."""
        if sys.platform == "win32":
            self.stream.close()
        os.replace(self.file, self.path)
        self.moved = True

    def drop(self) -> None:
        """Close the file, and remove it if it was not moved."""
        release(self.stream.close, None if self.moved else self.file)


def _usual(path: Path) -> tuple[Path, int] | None:
    """Open the part under its usual name, emptied; None if another process writes it or there are no locks."""
    file = path.with_name(f".{path.name}{PART}")
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            locked = try_lock(descriptor)
        except OSError:
            locked = False
        if locked and is_at(descriptor, file):
            os.ftruncate(descriptor, 0)
            return file, descriptor
        os.close(descriptor)
        if not locked:
            return None  # otherwise it has just been renamed to its path, and the name is free again


def _own(path: Path) -> tuple[Path, int]:
    """Open a new part under a random name."""
    file = path.with_name(f".{path.name}.{secrets.token_hex(6)}{PART}")
    return file, os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
