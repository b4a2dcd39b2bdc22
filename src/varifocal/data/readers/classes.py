"""Lists of classes as sources have them: entries of one name, of which one is meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from varifocal.types import Category
from varifocal.utils.text import short


class Joined(NamedTuple):
    """Labels and categories in which each name is there once.

    ``names`` are those of which an entry without a box was joined to another; ``clashes`` those of which two entries
    have boxes, which stay as they are.
    """

    labels: Int64[np.ndarray, "N"]
    categories: tuple[Category, ...]
    names: list[str]
    clashes: list[str]


def join_twins(labels: Int64[np.ndarray, "N"], categories: Sequence[Category]) -> Joined:
    """The classes with entries of one name joined, where at most one of them has boxes; that one is kept.

    Labeling tools put a class that is called like the project, and that nothing is labeled with, in front of the
    others. A label of -1 stays.
    """
    by_name: dict[str, list[int]] = {}
    for index, category in enumerate(categories):
        by_name.setdefault(category.name, []).append(index)
    twins = {name: found for name, found in by_name.items() if len(found) > 1}
    if not twins:
        return Joined(labels, tuple(categories), [], [])
    counts = np.bincount(labels[labels >= 0], minlength=len(categories))
    kept = np.ones(len(categories), bool)
    names, clashes = [], []
    for name, found in twins.items():
        used = [location for location in found if counts[location]] or found[:1]
        if len(used) > 1:
            clashes.append(name)
        if len(used) < len(found):
            names.append(name)
        kept[[position for position in found if position not in used]] = False
    new = np.append(np.cumsum(kept) - 1, -1)  # the last one is that of the label -1
    return Joined(new[labels], tuple(one for one, keep in zip(categories, kept, strict=True) if keep), names, clashes)


def joined_notes(source: str, names: Sequence[str]) -> list[str]:
    """A sentence on the classes that were joined, if there are any."""
    if not names:
        return []
    listed = ", ".join(short(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
    return [f"{source}: of two classes called {listed} one has no box; they are taken as one class."]


def clash(name: str, what: str = "class name") -> tuple[str, str]:
    """Return the text and the fix of a problem: two classes of one name that both have boxes."""
    text = f"the {what} {short(name)} is there twice, and both have boxes"
    return text, "give one of them another name, or join them with varifocal check --fix"
