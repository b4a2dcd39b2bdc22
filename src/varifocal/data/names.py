"""Names as data sets write them: of files, which must stay inside the data, and of splits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from varifocal.errors import DataError

STANDARD = frozenset(["train", "val", "test"])
_OTHER_NAMES = {"valid": "val", "validation": "val", "training": "train", "testing": "test"}

# Absolute on any system, a climb out of the folder, or no name at all.
_UNSAFE = re.compile(r"^/|^[A-Za-z]:|(?:^|/)\.\.(?:/|$)|\x00|^$|/$")


def leaves_folder(file_name: str) -> bool:
    """Whether a ``file_name`` is absolute, climbs with ``..`` or names no file."""
    return _UNSAFE.search(file_name.replace("\\", "/")) is not None


def canonical(split: str) -> str:
    """What "valid", "train2017" and the like mean: "train", "val" or "test"; other names in small letters."""
    stem = re.sub(r"[-_ ]?\d+$", "", split.lower()) or split.lower()
    return _OTHER_NAMES.get(stem, stem)


def match_split(path: Any, splits: Sequence[str], split: str | None) -> str:
    """The name of the split asked for, or of the only one.

    "train", "val" and "test" also match names such as "train2017".

    Raises:
        DataError: the split is unknown, or more than one matches.
    """
    if split is None:
        matches = list(splits)
    elif split in splits:
        matches = [split]
    else:
        matches = [name for name in splits if canonical(name) == canonical(split)]
    listed = ", ".join(splits)
    if not matches:
        raise DataError(f"{path}: there is no split {split!r}; available: {listed}")
    if len(matches) > 1 and split is None:
        raise DataError(f"{path}: there are several splits; name one of them: {listed}")
    if len(matches) > 1:
        raise DataError(f"{path}: split {split!r} fits more than one; name one of them: {', '.join(matches)}")
    return matches[0]
