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
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from varifocal.utils.errors import CheckpointError
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

Advance = Callable[[int, int | None], None]  # called with the bytes there so far, and their final number if known


def address_of(family: str, file: str) -> str:
    """Return the URL of a file that mmdetection published, from the folder of its detector and its file name."""
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


def fetch(address: str, folder: Path, advance: Advance | None = None) -> Path:
    """Return the path in ``folder`` of the file at ``address``, fetching it unless it is already there.

    The first eight digits of the file's SHA-256 end its name (``...-38db6f58.pth``); a file with another hash is never
    kept. An interrupted download goes on where it stopped, also in a later call.

    Raises:
        CheckpointError: no connection, an answer that is not the file, a redirect to another server, a full disk, or a
            wrong hash; the message names the address, so that the file can be fetched by hand.
    """
    file = folder / unquote(os.path.basename(urlsplit(address).path))
    if file.is_file():
        return file
    busy = f"{file}: another process is fetching it; wait until it ends."
    part = file.with_name(f".{file.name}.part")
    with claimed(file.with_name(f".{file.name}.lock"), busy), _disk_errors(part):
        if not _has_digest(part, file.name):  # a part that was killed before it was renamed may be whole
            _download(address, part, advance or (lambda done, total: None))
            _check_digest(part, file.name, address)
        part.replace(file)
    return file


def _download(address: str, part: Path, advance: Advance) -> None:
    """Append what is missing to ``part``, over as many as ``TRIES`` connections."""
    reason: BaseException | None = None
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
            reason = error
        except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
            reason = error
    what = getattr(reason, "reason", None) or reason or "the connection was cut"
    raise _failed(address, part, f"{what}; what has arrived is kept, and the same command continues") from reason


def _receive(address: str, part: Path, advance: Advance) -> bool:
    """Read one response into ``part``; return whether the file is complete."""
    done = part.stat().st_size if part.is_file() else 0
    request = Request(address, headers={"User-Agent": "varifocal", **({"Range": f"bytes={done}-"} if done else {})})
    try:
        response = build_opener(_SameServer(address, part)).open(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416 and done:  # more is there than the file has: begin anew
            error.close()
            part.unlink()
            return False
        raise
    with response:
        continued = response.status == 206
        done = done if continued else 0
        total = _total(response, done)
        _check_size(address, part, total, total - done if total is not None else CHUNK)
        with open(part, "ab" if continued else "wb") as stream:
            for chunk in iter(lambda: response.read(CHUNK), b""):
                stream.write(chunk)
                done += len(chunk)
                advance(done, total)
                if done > LARGEST:
                    raise _failed(address, part, f"the file has more than {LARGEST >> 30} GiB")
    return total is None or done >= total


def _total(response: HTTPResponse, done: int) -> int | None:
    length = response.headers.get("Content-Length")
    return done + int(length) if length and length.isdecimal() else None


def _check_size(address: str, part: Path, total: int | None, missing: int) -> None:
    """Raise where the file is larger than any published one, or than the disk has room for."""
    if total is not None and total > LARGEST:
        raise _failed(address, part, f"the file has {total >> 20} MiB, more than {LARGEST >> 20}")
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise _failed(address, part, f"{missing >> 20} MiB are missing and the disk has {free >> 20} MiB free")


def _has_digest(part: Path, name: str) -> bool:
    """Whether the file begins with the SHA-256 digits that its name ends with."""
    expected = _DIGEST.search(name)
    if expected is None or not part.is_file():
        return False
    digest = hashlib.sha256()
    with open(part, "rb") as stream:
        for chunk in iter(lambda: stream.read(CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest().startswith(expected[1])


def _check_digest(part: Path, name: str, address: str) -> None:
    """Raise, and remove the part, where its hash is not the one in its name."""
    if not _has_digest(part, name):
        part.unlink()
        raise CheckpointError(
            f"{address}: the file that arrived does not have the SHA-256 that its name ends with; it was removed. Try "
            "again; if it happens again, something on the way changes the file.",
            code="weights-hash",
        )


def _failed(address: str, part: Path, reason: str) -> CheckpointError:
    where = part.parent / part.name[1:].removesuffix(".part")
    return CheckpointError(
        f"{address}: cannot be fetched ({reason}). Without a network, fetch it elsewhere and put it at {where}.",
        code="weights-not-fetched",
    )


@contextmanager
def _disk_errors(part: Path) -> Iterator[None]:
    """Turn an error of the disk into a sentence; what has arrived stays."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        free = "make room there" if error.errno == errno.ENOSPC else "check the folder"
        raise CheckpointError(
            f"{part.parent}: cannot be written ({error.strerror or error}); {free}, or set {CACHE} to another folder.",
            code="weights-cache",
        ) from error


class _SameServer(HTTPRedirectHandler):
    """Follow redirects only within the server that was named, and never from https to http."""

    def __init__(self, address: str, part: Path) -> None:
        self.address, self.part = address, part

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        """Return the request for the new address, or raise."""
        old, new = urlsplit(self.address), urlsplit(newurl)
        if new.hostname != old.hostname or new.scheme != old.scheme:
            fp.close()
            raise _failed(self.address, self.part, f"the server redirects to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
