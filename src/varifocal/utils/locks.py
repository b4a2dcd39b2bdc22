"""Locks of the operating system for files and folders that one process at a time may write.

The lock of a process that dies is released.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from varifocal.utils.errors import ConfigError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = ".lock"  # name of the lock in a folder that is being written
_BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)  # the file system has no locks


@contextmanager
def claimed(lock: Path, refusal: str) -> Iterator[None]:
    """Hold the lock file ``lock`` while the block runs; other processes and other threads cannot get it meanwhile.

    The file is removed at the end. A file that a killed process leaves blocks nobody.

    Raises:
        ConfigError: somebody else holds the lock, with the message ``refusal``; or the file cannot be made.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = _Held.take(lock)
    except OSError as error:
        raise ConfigError(
            f"{lock.parent}: cannot be written ({error.strerror}); choose another folder.", code="lock-not-writable"
        ) from error
    if held is None:
        mark = _mark_of(lock)
        hint = f" If there is none, remove {mark}." if mark.exists() else ""
        raise ConfigError(f"{refusal}{hint}", code="locked")
    try:
        yield
    finally:
        held.release()


@contextmanager
def claimed_folder(folder: Path, instead: str = "or choose another --out") -> Iterator[None]:
    """Hold the sole right to write to a folder; ``instead`` is the alternative to waiting in the error message.

    The folder is made if it does not exist, and removed again if it stays empty.

    Raises:
        ConfigError: another process is writing to it, or it cannot be made.
    """
    refusal = f"{folder}: another process is writing to this folder; wait until it ends, {instead}."
    with fresh(folder), claimed(folder / LOCK, refusal):
        yield


@contextmanager
def claimed_file(file: Path) -> Iterator[None]:
    """Hold the sole right to make a file or folder of this name, and the files that belong to it.

    Raises:
        ConfigError: another process is writing it, or its folder cannot be written.
    """
    refusal = f"{file}: another process is writing it; wait until it ends, or choose another path."
    with claimed(file.with_name(f".{file.name}{LOCK}"), refusal):
        yield


@contextmanager
def fresh(folder: Path) -> Iterator[None]:
    """Remove the folder at the end if it did not exist at the beginning and is empty."""
    made = not folder.exists()
    try:
        yield
    finally:
        if made:
            with suppress(OSError):
                folder.rmdir()


class _Held:
    """A lock that this process holds, but no child that it forks meanwhile, such as a loader that outlives it."""

    def __init__(self, file: Path, descriptor: int) -> None:
        self.file, self.descriptor = file, descriptor
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    @classmethod
    def take(cls, file: Path) -> _Held | None:
        """Return the held lock, or None if somebody else holds it."""
        while True:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                taken = try_lock(descriptor)
            except OSError as error:
                os.close(descriptor)
                if error.errno not in _NO_LOCKS:
                    raise
                return cls._mark(file)
            if not taken:
                os.close(descriptor)
                return None
            if is_at(descriptor, file):
                return cls(file, descriptor)
            os.close(descriptor)  # the previous holder has just removed it

    @classmethod
    def _mark(cls, file: Path) -> _Held | None:
        """Hold a file with the process id and the host in place of a lock, on a file system without locks."""
        mark, host = _mark_of(file), socket.gethostname()
        with suppress(OSError):
            file.unlink()
        for _ in range(2):
            try:
                descriptor = os.open(mark, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                if not _is_left_over(mark, host):
                    return None
                mark.unlink(missing_ok=True)
            else:
                os.write(descriptor, f"{os.getpid()} {host}".encode())
                return cls(mark, descriptor)
        return None

    def release(self) -> None:
        """Release the lock and remove the file."""
        if self.descriptor >= 0:
            release(self._forget, self.file)

    def _forget(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _mark_of(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}-of")


def release(close: Callable[[], None], file: Path | None) -> None:
    """Remove a locked file and close its lock, in an order that never removes a file that somebody else has locked."""
    if sys.platform == "win32":  # which cannot remove an open file
        close()
    if file is not None:
        with suppress(OSError):
            file.unlink()
    if sys.platform != "win32":
        close()


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this descriptor until it is closed; return whether that was possible.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


def is_at(descriptor: int, file: Path) -> bool:
    """Return whether an open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False


def _is_left_over(mark: Path, host: str) -> bool:
    """Return whether the process that made the mark ran on this machine and has ended."""
    try:
        number, _, where = mark.read_text(encoding="utf-8").partition(" ")
        if where != host:
            return False
        os.kill(int(number), 0)
    except (ProcessLookupError, FileNotFoundError):
        return True
    except (OSError, ValueError):
        return False
    return False
