"""Names as data sets write them: of files, which must stay inside the data, and of splits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from varifocal.utils.errors import DataError

STANDARD = frozenset(["train", "val", "test"])
NAMED = STANDARD | {"trainval"}  # names by which files and folders say which split they are of
_SPELLINGS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "validating", "dev", "development", "eval", "evaluation"),
    "test": ("test", "testing", "tst"),
    "trainval": ("trainval", "trainvalid", "trainvalidation", "trainandval"),
}
_MEANT = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}
_PARTS = {"trainval": ("train", "val", "valminusminival"), "val": ("minival", "valminusminival")}
_NUMBER = re.compile(r"[-_ .]?\d+k?$|^\d+[-_ .]")  # of a year, a part, or the size: train2017, val-00, 2007_train
_SIGNS = re.compile(r"[-_ .+&]+")
_AFFIX = re.compile(  # trainset, val_images, train_annotations
    r"(?:sets?|splits?|data|images?|imgs|list|annotations?|labels?|instances|coco|boxes|bbox|bboxes|gt)$"
)

# Absolute on any system, a climb out of the folder, or no name at all.
_UNSAFE = re.compile(r"^/|^[A-Za-z]:|(?:^|/)\.\.(?:/|$)|\x00|^$|/$")


def is_unsafe_path(file_name: str) -> bool:
    """Whether a ``file_name`` is absolute, climbs with ``..`` or names no file."""
    return _UNSAFE.search(file_name.replace("\\", "/")) is not None


@lru_cache(maxsize=4096)
def normalize_split(split: str) -> str:
    """What "valid", "Train2017", "test_set" and the like mean: "train", "val", "test" or "trainval"; other names in
    small letters, without a number at their end."""
    small = split.strip().lower()
    stem = _NUMBER.sub("", small) or small
    bare = _SIGNS.sub("", stem)
    return _MEANT.get(bare) or _MEANT.get(_AFFIX.sub("", bare)) or stem


def resolve_split(path: Any, splits: Sequence[str], split: str | None) -> str:
    """The name of the split asked for, or of the only one.

    "train", "val" and "test" also match names such as "train2017".

    Raises:
        DataError: the split is unknown, or more than one matches.
    """
    if split is None:
        matches = list(splits)
    else:
        matches = meant_by(split, splits)
    listed = ", ".join(splits)
    if not matches:
        raise DataError(f"{path}: there is no split {split!r}; available: {listed}")
    if len(matches) > 1 and split is None:
        raise DataError(f"{path}: there are several splits; name one of them: {listed}")
    if len(matches) > 1:
        raise DataError(f"{path}: split {split!r} fits more than one; name one of them: {', '.join(matches)}")
    return matches[0]


def meant_by(requested: str, splits: Sequence[str]) -> list[str]:
    """The splits that a name means: the one called so, or else all whose names mean the same."""
    if requested in splits:
        return [requested]
    return [name for name in splits if normalize_split(name) == normalize_split(requested)]


def have_common_images(one: str, other: str) -> bool:
    """Whether two splits have images in common by their names: "trainval" is "train" and "val" together, and COCO's
    "minival" is a part of "val"."""
    first, second = normalize_split(one), normalize_split(other)
    return first == second == "trainval" or second in _PARTS.get(first, ()) or first in _PARTS.get(second, ())
