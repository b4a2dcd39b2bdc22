"""Published weights by name: fetch a file from its official address into a cache folder, checked by its hash."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from varifocal.utils.errors import CheckpointError, ConfigError
from varifocal.utils.locks import claimed

SERVER = "https://download.openmmlab.com/mmdetection/v2.0"
MIRROR = "VARIFOCAL_WEIGHTS_SERVER"  # environment variable with another server that has the same files
CACHE = "VARIFOCAL_CACHE"  # environment variable with the cache folder
LARGEST = 4 << 30  # bytes; the largest published file has 0.5 GB
CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
TRIES = 4  # connections for one file, each continuing where the last one broke off
_DIGEST = re.compile(r"-([0-9a-f]{8})\.pth$")
_DATED = re.compile(r"(_\d{8}(pth)?(_\d{6})?)?-[0-9a-f]{8}\.pth$")  # follows the name of the configuration

Advance = Callable[[int, int | None], None]  # called with the number of bytes so far, and the final one if known


def address_of(family: str, file: str) -> str:
    """Return the URL of a file that mmdetection published; ``family`` is the folder of its detector."""
    server = os.environ.get(MIRROR, SERVER).rstrip("/")
    config = _DATED.sub("", file)
    return f"{server}/{family}/{quote(config)}/{quote(file)}"


def cache_folder() -> Path:
    """Return the folder where fetched weights are kept; it need not exist yet.

    ``$VARIFOCAL_CACHE`` if set, else ``varifocal`` in the user's cache folder of this operating system.
    """
    if CACHE in os.environ:
        return Path(os.environ[CACHE]).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(base).expanduser() / "varifocal"


def fetch(address: str, folder: Path, advance: Advance = lambda done, total: None) -> Path:
    """Return the path in ``folder`` of the file at ``address``, fetching it unless it is already there.

    The first eight digits of the file's SHA-256 end its name (``...-38db6f58.pth``). A file with another hash is never
    kept, and one that has been damaged since is fetched again. An interrupted download goes on where it stopped, also
    in a later call. While another process fetches the file, this one waits.

    Raises:
        CheckpointError: no connection, an answer that is not the file, a redirect to another server, a full disk, or a
            wrong hash; the message names the address, so that the file can be fetched by hand.
    """
    file = folder / unquote(os.path.basename(urlsplit(address).path))
    if is_intact(file):
        return file
    part = file.with_name(f".{file.name}.part")
    with _disk_errors(folder), ExitStack() as stack:
        _claim(stack, file, lambda: advance(part.stat().st_size if part.is_file() else 0, None))
        if is_intact(file):  # another process has fetched it in the meantime
            return file
        if not is_intact(part, file.name):  # a part is whole if the process was killed before renaming it
            _download(address, part, advance)
            _check_digest(part, file.name, address)
        part.replace(file)
    return file


def is_intact(file: Path, name: str = "") -> bool:
    """Return whether a file exists and its SHA-256 begins with the digits that end its name, or ``name``."""
    expected = _DIGEST.search(name or file.name)
    if expected is None or not file.is_file():
        return False
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        for chunk in iter(lambda: stream.read(CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest().startswith(expected[1])


def _claim(stack: ExitStack, file: Path, waiting: Callable[[], None]) -> None:
    """Hold the sole right to fetch ``file`` until the stack closes; wait, as ``torchrun`` starts several processes.

    Raises:
        OSError: the folder cannot be written.
    """
    while True:
        try:
            stack.enter_context(claimed(file.with_name(f".{file.name}.lock"), f"{file}: is being fetched."))
        except ConfigError as error:
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            waiting()
            time.sleep(1.0)
        else:
            return


def _download(address: str, part: Path, advance: Advance) -> None:
    """Append what is missing to ``part``, over as many as ``TRIES`` connections."""
    failure: BaseException | None = None
    for attempt in range(TRIES):
        if attempt:
            time.sleep(0.5 * 2**attempt)
        try:
            if _receive(address, part, advance):
                return
        except HTTPError as error:
            error.close()
            if error.code < 500:
                raise _failed(address, part, f"the server answered {error.code} {error.reason}") from error
            failure = error
        except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
            failure = error
    reason = getattr(failure, "reason", None) or failure or "the connection was cut"
    raise _failed(address, part, f"{reason}; what has arrived is kept, and the same command continues") from failure


def _receive(address: str, part: Path, advance: Advance) -> bool:
    """Append one response to ``part``; return whether the file is complete."""
    done = part.stat().st_size if part.is_file() else 0
    response = _open(address, part, done)
    if response is None:
        part.unlink()
        return False
    with response:
        continued = response.status == 206  # 200 is the whole file, whatever range was requested
        done = done if continued else 0
        total = _total(response, done)
        _check_size(address, part, done, total)
        with open(part, "ab" if continued else "wb") as stream:
            for chunk in iter(lambda: response.read(CHUNK), b""):
                stream.write(chunk)
                done += len(chunk)
                advance(done, total)
                _check_size(address, part, done, total)
    return total is None or done >= total


def _open(address: str, part: Path, done: int) -> HTTPResponse | None:
    """Request the file without its first ``done`` bytes; return None if it has no more than these."""
    request = Request(address, headers={"User-Agent": "varifocal", **({"Range": f"bytes={done}-"} if done else {})})
    try:
        response: HTTPResponse = build_opener(_SameServer(address, part)).open(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416 or not done:
            raise
        error.close()
        return None
    return response


def _total(response: HTTPResponse, done: int) -> int | None:
    length = response.headers.get("Content-Length")
    return done + int(length) if length and length.isdecimal() else None


def _check_size(address: str, part: Path, done: int, total: int | None) -> None:
    """Raise CheckpointError if the file is larger than any published one, or than what is free on the disk."""
    size = max(done, total or 0)
    if size > LARGEST:
        raise _failed(address, part, f"the file has {size >> 20} MiB, more than {LARGEST >> 20}")
    free = shutil.disk_usage(part.parent).free
    if size - done > free:
        raise _failed(address, part, f"{(size - done) >> 20} MiB are missing and the disk has {free >> 20} MiB free")


def _check_digest(part: Path, name: str, address: str) -> None:
    """Remove the part and raise CheckpointError if its hash is not the one in its name."""
    if not is_intact(part, name):
        part.unlink()
        raise CheckpointError(
            f"{address}: the file that arrived does not have the SHA-256 that its name ends with; it was removed. Try "
            "again; if it happens again, something on the way changes the file.",
            code="weights-hash",
        )


def _failed(address: str, part: Path, reason: str) -> CheckpointError:
    file = part.parent / part.name[1:].removesuffix(".part")
    return CheckpointError(
        f"{address}: cannot be fetched ({reason}). Without a network, fetch it elsewhere and put it at {file}.",
        code="weights-not-fetched",
    )


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Make the folder; turn an OSError of the block into a CheckpointError that says what to do."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        fix = "make room there" if error.errno == errno.ENOSPC else "check the folder"
        raise CheckpointError(
            f"{folder}: cannot be written ({error.strerror or error}); {fix}, or set {CACHE} to another folder.",
            code="weights-cache",
        ) from error


class _SameServer(HTTPRedirectHandler):
    """Follow redirects only within the server that was named, and never from https to http."""

    def __init__(self, address: str, part: Path) -> None:
        self.address, self.part = address, part

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        """Return the request for the new address, or raise CheckpointError."""
        old, new = urlsplit(self.address), urlsplit(newurl)
        if new.hostname != old.hostname or new.scheme != old.scheme:
            fp.close()
            raise _failed(self.address, self.part, f"the server redirects to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
