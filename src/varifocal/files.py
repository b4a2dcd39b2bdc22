"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from varifocal.errors import CheckpointError

PART = ".part"  # ends the name of what is not yet whole
_SHOWN = 40  # characters of the file's own name in that of its part, which may not be much longer than it


def write_beside(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` in one step, flushed to the disk.

    Raises:
        CheckpointError: it cannot be written; what was at ``path`` is kept.
    """
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Put files that belong together in their places, in this order, when all of them are on the disk.

    Raises:
        CheckpointError: one cannot be written; what was in the places is kept.
    """
    parts = {path: part_of(path) for path in contents}
    path = next(iter(parts))
    try:
        for path, content in contents.items():
            _write(parts[path], content)
        for path, part in parts.items():
            os.replace(part, path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror}); nothing was lost, make room or choose another folder."
        ) from error
    finally:  # also of an interruption; those that are in their places are there no more
        for part in parts.values():
            _remove(part)


def part_of(path: Path) -> Path:
    """A name beside ``path`` for what will be moved there, which no other call and no other process gets."""
    return path.with_name(f".{path.name[:_SHOWN]}.{secrets.token_hex(6)}{PART}")


def is_part(path: Path) -> bool:
    """Whether a file is one that was not made whole, by its name."""
    return path.name.startswith(".") and path.name.endswith(PART)


def sweep_parts(paths: Iterable[Path]) -> None:
    """Remove what killed processes left of these files or folders, which no other process may be writing."""
    folders: dict[Path, set[str]] = {}
    for path in paths:
        folders.setdefault(path.parent, set()).add(path.name[:_SHOWN])
    for folder, names in folders.items():
        for part in folder.glob(f".*{PART}"):
            if part.name[1:].rsplit(".", 2)[0] in names:
                _remove(part)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the folder may not be readable either; the first error is the one to tell
