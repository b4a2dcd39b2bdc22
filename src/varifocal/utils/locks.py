"""What one process at a time may write to: a lock of the operating system, which a process that dies lets go of."""

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

LOCK = ".lock"  # in a folder that is being written to
_BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)  # of a file system that knows none


@contextmanager
def claimed(lock: Path, refusal: str) -> Iterator[None]:
    """Hold the file ``lock`` while the block runs; other processes, and other threads, are refused it meanwhile.

    The file goes away at the end. What a killed process leaves of it blocks nobody.

    Raises:
        ConfigError: somebody else holds it, said in the words ``refusal``; or the file cannot be made.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = _Held.take(lock)
    except OSError as error:
        raise ConfigError(f"{lock.parent}: cannot be written ({error.strerror}); choose another folder.") from error
    if held is None:
        mark = _mark_of(lock)
        raise ConfigError(f"{refusal} If there is none, remove {mark}." if mark.exists() else refusal)
    try:
        yield
    finally:
        held.release()


@contextmanager
def claimed_folder(folder: Path, instead: str = "or choose another --out") -> Iterator[None]:
    """The sole right to write to a folder; ``instead`` says what else than waiting can be done.

    It is made where it is not there, and goes away again where nothing was put into it.

    Raises:
        ConfigError: another process is writing to it, or it cannot be made.
    """
    words = f"{folder}: another process is writing to this folder; wait until it ends, {instead}."
    with fresh(folder), claimed(folder / LOCK, words):
        yield


@contextmanager
def claimed_file(file: Path) -> Iterator[None]:
    """The sole right to make this file, and what belongs to it, or a folder of this name.

    Raises:
        ConfigError: another process is writing it, or its folder cannot be written.
    """
    words = f"{file}: another process is writing it; wait until it ends, or choose another path."
    with claimed(file.with_name(f".{file.name}{LOCK}"), words):
        yield


@contextmanager
def fresh(folder: Path) -> Iterator[None]:
    """Remove the folder at the end where it was not there at the beginning and nothing was put into it."""
    made = not folder.exists()
    try:
        yield
    finally:
        if made:
            with suppress(OSError):
                folder.rmdir()


class _Held:
    """A lock that this process holds, and no child that it forks meanwhile: a loader that outlives it keeps nothing."""

    def __init__(self, file: Path, descriptor: int) -> None:
        self.file, self.descriptor = file, descriptor
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    @classmethod
    def take(cls, file: Path) -> _Held | None:
        """None where somebody else holds it."""
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
            os.close(descriptor)  # the holder before has just removed it

    @classmethod
    def _mark(cls, file: Path) -> _Held | None:
        """Where there are no locks: whoever makes a file that says whose it is."""
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
        """Let go of it, and remove the file."""
        if self.descriptor >= 0:
            release(self._forget, self.file)

    def _forget(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _mark_of(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}-of")


def release(close: Callable[[], None], file: Path | None) -> None:
    """Remove a locked file, and close what holds the lock; never a file that somebody else has locked by then."""
    if sys.platform == "win32":  # which removes no file that is open
        close()
    if file is not None:
        with suppress(OSError):
            file.unlink()
    if sys.platform != "win32":
        close()


def try_lock(descriptor: int) -> bool:
    """Whether an open file can be locked for this descriptor alone, until it is closed.

    Raises:
        OSError: the file system knows no locks.
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
    """Whether an open file is the one that is there under this name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False


def _is_left_over(mark: Path, host: str) -> bool:
    """Whether the process that made the mark, on this machine, is there no more."""
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
