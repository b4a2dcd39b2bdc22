"""Which split of a data set is trained on, and which is measured on: the one rule that all verbs follow.

Names count by what they mean, whatever their spelling (:func:`varifocal.data.names.normalize_split`). A single split is
trained on under any name. ``trainval`` is ``train`` and ``val`` together: where ``train`` is missing it is trained on,
and two splits that have their images in common are never used side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from varifocal.data.names import NAMED, have_common_images, meant_by, normalize_split, resolve_split
from varifocal.utils.errors import ConfigError, DataError

# Names that programs give to images that nobody has put into a split.
_UNNAMED = frozenset(["default", "result", "results", "labels", "annotations", "instances"])


def training_split(
    path: Any, splits: Sequence[str], requested: str = "train", *, option: str = "data.train_split="
) -> str:
    """Return the split that is trained on: the requested one, "trainval" for "train", or the only one there is.

    Beside splits to measure on, one called "default" or the like is what is trained on, too.

    Raises:
        DataError: there is none, or several could be meant; ``option`` is named as the way to choose.
    """
    matches = [*meant_by(requested, splits)]
    if not matches and normalize_split(requested) == "train":
        matches = meant_by("trainval", splits) or [name for name in splits if normalize_split(name) in _UNNAMED]
    if not matches and len(splits) == 1:
        return splits[0]
    if not matches:
        listed = ", ".join(splits)
        raise DataError(f"{path}: there is no split {requested!r}; available: {listed}; choose with {option}NAME")
    if len(matches) > 1:
        listed = ", ".join(matches)
        raise DataError(f"{path}: split {requested!r} fits more than one ({listed}); choose with {option}NAME")
    return matches[0]


def validation_split(path: Any, splits: Sequence[str], training: str, requested: str = "val") -> str | None:
    """Return the split that is measured on beside the one that is trained on: the requested one, or else "test".

    None where there is neither, or ``requested`` is empty. A split whose images are also in ``training`` is not taken.

    Raises:
        DataError: several could be meant.
    """
    others = [name for name in splits if name != training and not have_common_images(name, training)]
    for name in (requested, "test"):
        if requested and meant_by(name, others):
            return resolve_split(path, others, name)
    return None


def measured_split(path: Any, splits: Sequence[str], *, option: str = "--split ") -> str:
    """The split that a trained model is measured on: "val", or else "test", or the only one there is.

    Raises:
        DataError: there are several and none is called so, or several are.
    """
    if len(splits) == 1:
        return splits[0]
    chosen = validation_split(path, splits, "")
    if chosen is None:
        raise DataError(f"{path}: has the splits {', '.join(splits)}; name one with {option}NAME")
    return chosen


def parted_split(path: Any, splits: Sequence[str], requested: str = "train", validation: str = "val") -> str:
    """Return the split of which a fraction is held out for validation: the only one, or that which is trained on.

    Raises:
        ConfigError: there is a validation split already.
        DataError: as of :func:`training_split`.
    """
    if len(splits) == 1:
        return splits[0]
    there = meant_by(validation, splits) if validation else []
    if there:
        raise ConfigError(
            f"{path}: there is a split {there[0]!r} already (of {', '.join(splits)}); leave --val-fraction out."
        )
    return training_split(path, splits, requested)


def is_named(split: str) -> bool:
    """Whether a name is one that data sets give to a split, or programs to what was never split."""
    return normalize_split(split) in NAMED | _UNNAMED


def is_to_train(split: str) -> bool:
    """Whether a split is to be trained on by its name, or has no name that says what it is for."""
    return normalize_split(split) in {"train", "trainval", "all", *_UNNAMED}


def made_of_others(splits: Sequence[str]) -> list[str]:
    """Splits that are others together: "trainval" where "train" and "val" are there, too."""
    meant = {normalize_split(name) for name in splits}
    return [name for name in splits if normalize_split(name) == "trainval" and {"train", "val"} <= meant]
