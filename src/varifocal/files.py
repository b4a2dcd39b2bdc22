"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from varifocal.errors import CheckpointError


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
    # always the same names: what a kill leaves is used up by the next write
    parts = {path: path.with_name(f".{path.name}.part") for path in contents}
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


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the folder may not be readable either; the first error is the one to tell
