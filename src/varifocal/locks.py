"""What one process at a time may write to: a lock of the operating system, which a process that dies lets go of."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from varifocal.errors import ConfigError

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
        held = _Held.take(lock)
    except OSError as error:
        raise ConfigError(f"{lock}: cannot be made ({error.strerror}); choose another place.") from error
    if held is None:
        raise ConfigError(refusal)
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
    with _made(folder), claimed(folder / LOCK, words):
        yield


@contextmanager
def claimed_file(file: Path) -> Iterator[None]:
    """The sole right to make this file, and what belongs to it, or a folder of this name.

    Raises:
        ConfigError: another process is writing it, or its folder cannot be made.
    """
    words = f"{file}: another process is writing it; wait until it ends, or choose another place."
    with _made(file.parent), claimed(file.with_name(f".{file.name}{LOCK}"), words):
        yield


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    with fresh(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be made ({error.strerror}); choose another place.") from error
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
                taken = _lock(descriptor)
            except OSError as error:
                os.close(descriptor)
                if error.errno not in _NO_LOCKS:
                    raise
                return cls._mark(file)
            if not taken:
                os.close(descriptor)
                return None
            if _is_at(descriptor, file):
                return cls(file, descriptor)
            os.close(descriptor)  # the holder before has just removed it

    @classmethod
    def _mark(cls, file: Path) -> _Held | None:
        """Where there are no locks: whoever makes a file that says whose it is."""
        mark, host = file.with_name(f"{file.name}-of"), socket.gethostname()
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
        if self.descriptor < 0:
            return
        if sys.platform != "win32":  # while it is held, so that nobody else's is removed
            with suppress(OSError):
                self.file.unlink()
        self._forget()
        if sys.platform == "win32":  # which removes no file that is open, and so nobody else's
            with suppress(OSError):
                self.file.unlink()

    def _forget(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
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


def _is_at(descriptor: int, file: Path) -> bool:
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
