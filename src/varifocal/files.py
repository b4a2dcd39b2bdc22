"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from varifocal.errors import CheckpointError


def write_beside(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` in one step, flushed to the disk.

    Raises:
        CheckpointError: it cannot be written; what was at ``path`` is kept.
    """
    beside = path.with_name(
        f".{path.name}.part"
    )  # always the same name: what a kill leaves is used up by the next write
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        _remove(beside)
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror}); nothing was lost, make room or choose another folder."
        ) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the folder may not be readable either; the first error is the one to tell
