"""Splits by their names: which one is trained on, validated on and evaluated, for every command alike.

Names count by what they mean, whatever their spelling (:func:`normalize_split`). A single split is trained on under any
name. ``trainval`` is ``train`` and ``val`` together: it is trained on where ``train`` is missing, and two splits with
images in common are never used side by side.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from varifocal.utils.errors import ConfigError, DataError

STANDARD = frozenset(["train", "val", "test"])
NAMED = STANDARD | {"trainval"}  # names by which files and folders say which split they belong to
# Names that programs give to images that nobody has put into a split.
_UNNAMED = frozenset(["default", "result", "results", "labels", "annotations", "instances"])
_SPELLINGS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "validating", "dev", "development", "eval", "evaluation"),
    "test": ("test", "testing", "tst"),
    "trainval": ("trainval", "trainvalid", "trainvalidation", "trainandval"),
}
_MEANT = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}
_PARTS = {"trainval": ("train", "val", "valminusminival"), "val": ("minival", "valminusminival")}
# A year, part or size, or the name of a program: train2017, val-00, 2007_train, autosplit_train (Ultralytics).
_AROUND = re.compile(r"[-_ .]?\d+k?$|^(?:\d+|autosplit)[-_ .]")
_SIGNS = re.compile(r"[-_ .+&]+")
_AFFIX = re.compile(  # trainset, val_images, train_annotations
    r"(?:sets?|splits?|data|images?|imgs|list|annotations?|labels?|instances|coco|boxes|bbox|bboxes|gt)$"
)


@lru_cache(maxsize=4096)
def normalize_split(split: str) -> str:
    """Return "train", "val", "test" or "trainval" for "valid", "Train2017", "test_set" and the like; any other name in
    lower case, without a number at either end."""
    small = split.strip().lower()
    stem = _AROUND.sub("", small) or small
    bare = _SIGNS.sub("", stem)
    return _MEANT.get(bare) or _MEANT.get(_AFFIX.sub("", bare)) or stem


def meant_by(requested: str, splits: Sequence[str]) -> list[str]:
    """Return the splits that a name means: the one of exactly that name, or else all whose names mean the same."""
    if requested in splits:
        return [requested]
    return [name for name in splits if normalize_split(name) == normalize_split(requested)]


def resolve_split(path: Any, splits: Sequence[str], split: str | None) -> str:
    """Return the name of the requested split, or of the only one if ``split`` is None.

    "train", "val" and "test" also match names such as "train2017".

    Raises:
        DataError: the split is unknown, or several match.
    """
    if split is None and len(splits) > 1:
        raise DataError(
            f"{path}: there are several splits; name one of them: {', '.join(splits)}", code="split-not-named"
        )
    return _only_match(path, split, splits if split is None else meant_by(split, splits), splits, "name one of them")


def _only_match(path: Any, requested: str | None, matches: Sequence[str], splits: Sequence[str], fix: str) -> str:
    if not matches:
        hint = "" if fix == "name one of them" else f"; {fix}"
        raise DataError(
            f"{path}: there is no split {requested!r}; available: {', '.join(splits)}{hint}", code="split-unknown"
        )
    if len(matches) > 1:
        listed = ", ".join(matches)
        raise DataError(f"{path}: split {requested!r} fits more than one ({listed}); {fix}", code="split-ambiguous")
    return matches[0]


def have_common_images(one: str, other: str) -> bool:
    """Return whether two splits have images in common by their names: "trainval" is "train" and "val" together, and
    COCO's "minival" is a part of "val"."""
    first, second = normalize_split(one), normalize_split(other)
    return first == second == "trainval" or second in _PARTS.get(first, ()) or first in _PARTS.get(second, ())


def training_split(
    path: Any, splits: Sequence[str], requested: str = "train", *, option: str = "data.train_split="
) -> str:
    """Return the split to train on: the requested one, "trainval" for "train", or the only one there is.

    Beside splits for evaluation, one called "default" or the like is trained on, too.

    Raises:
        DataError: there is none, or several match; the message names ``option`` as the way to choose.
    """
    matches = meant_by(requested, splits)
    if not matches and normalize_split(requested) == "train":
        matches = meant_by("trainval", splits) or [name for name in splits if normalize_split(name) in _UNNAMED]
    if not matches and len(splits) == 1:
        return splits[0]
    return _only_match(path, requested, matches, splits, f"choose with {option}NAME")


def validation_split(path: Any, splits: Sequence[str], training: str, requested: str = "val") -> tuple[str | None, str]:
    """Return the split to validate on beside ``training``, or None, and a note if it is not the requested one.

    It is the requested split, or else "test"; there is none if ``requested`` is empty. A split with images of
    ``training`` is never taken.

    Raises:
        DataError: several splits match.
    """
    if not requested:
        return None, ""
    others = [name for name in splits if name != training and not have_common_images(name, training)]
    if meant_by(requested, others):
        return resolve_split(path, others, requested), ""
    if meant_by("test", others):
        chosen = resolve_split(path, others, "test")
        return chosen, f"no split {requested!r}, so validation is on {chosen!r}."
    if len(splits) == 1:
        return None, "there is one split, so there is no validation; hold images out for it with --val-fraction 0.2."
    common = [name for name in meant_by(requested, splits) if have_common_images(name, training)]
    if common:
        return None, f"the split {common[0]!r} has images of {training!r}, so there is no validation."
    hint = f"; data.val_split={others[0]} takes another" if others else ""
    return None, f"no split {requested!r} (there are {', '.join(splits)}), so there is no validation{hint}."


def evaluation_split(path: Any, splits: Sequence[str], *, option: str = "--split ") -> str:
    """Return the split to evaluate a trained model on: "val", or else "test", or the only one there is.

    Raises:
        DataError: there are several and none has such a name, or several have.
    """
    if len(splits) == 1:
        return splits[0]
    chosen, _ = validation_split(path, splits, "")
    if chosen is None:
        raise DataError(
            f"{path}: has the splits {', '.join(splits)}; name one with {option}NAME", code="evaluation-split-not-named"
        )
    return chosen


def holdout_split(path: Any, splits: Sequence[str], requested: str = "train", validation: str = "val") -> str:
    """Return the split of which a fraction is held out for validation: the only one, or the one to train on.

    Raises:
        ConfigError: there is a validation split already.
        DataError: see :func:`training_split`.
    """
    if len(splits) == 1:
        return splits[0]
    existing = meant_by(validation, splits) if validation else []
    if existing:
        raise ConfigError(
            f"{path}: there is a split {existing[0]!r} already (of {', '.join(splits)}); leave --val-fraction out.",
            code="validation-split-exists",
        )
    return training_split(path, splits, requested)


def is_named(split: str) -> bool:
    """Return whether data sets use a name for a split, or programs use it for what was never split."""
    return normalize_split(split) in NAMED | _UNNAMED


def is_to_train(split: str) -> bool:
    """Return whether the name of a split says that it is trained on, or says nothing of its purpose."""
    return normalize_split(split) in {"train", "trainval", "all", *_UNNAMED}


def made_of_others(splits: Sequence[str]) -> list[str]:
    """Return the splits that consist of others: "trainval" beside "train" and "val"."""
    meant = {normalize_split(name) for name in splits}
    return [name for name in splits if normalize_split(name) == "trainval" and {"train", "val"} <= meant]
