"""Classes without a name and duplicate names in the list of classes of a source."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from varifocal.data.annotations import NO_LABEL
from varifocal.types import Category
from varifocal.utils.text import counted, short, short_list


def name_unnamed(categories: Sequence[Category], source: str) -> tuple[tuple[Category, ...], list[str]]:
    """Return the classes, those without a name called by their numbers (``class_4``), and a note where there are any.

    A class that nothing is labeled with often has no name, for example an entry 0 for the background.
    """
    taken = {category.name for category in categories}
    named = []
    for category in categories:
        name = category.name if category.name.strip() else f"class_{category.id}"
        while name in taken and not category.name.strip():
            name += "_"
        named.append(Category(category.id, name))
    new = [after.name for before, after in zip(categories, named, strict=True) if before != after]
    text = counted(len(new), "(class has no name and is|classes have no names and are) called by number")
    return tuple(named), [f"{source}: {text}: {short_list(new)}."] if new else []


class Joined(NamedTuple):
    """Labels and categories after :func:`join_duplicates`.

    ``names`` are the class names of which an entry without boxes was joined to another entry; ``clashes`` are those of
    which two entries have boxes, which stay as they are.
    """

    labels: Int64[np.ndarray, "N"]
    categories: tuple[Category, ...]
    names: list[str]
    clashes: list[str]


def join_duplicates(labels: Int64[np.ndarray, "N"], categories: Sequence[Category]) -> Joined:
    """Join the entries of one class name: those without boxes are dropped, and all but the first if none has boxes.

    Labeling tools put a class that is called like the project, and that nothing is labeled with, in front of the
    others. Labels below 0 stay.
    """
    by_name: dict[str, list[int]] = {}
    for index, category in enumerate(categories):
        by_name.setdefault(category.name, []).append(index)
    if len(by_name) == len(categories):
        return Joined(labels, tuple(categories), [], [])
    counts = np.bincount(labels[labels >= 0], minlength=len(categories))
    kept = {name: [index for index in found if counts[index]] or found[:1] for name, found in by_name.items()}
    names = [name for name, found in by_name.items() if len(kept[name]) < len(found)]
    clashes = [name for name, used in kept.items() if len(used) > 1]
    is_kept = np.zeros(len(categories), bool)
    is_kept[[*chain.from_iterable(kept.values())]] = True
    new = np.append(np.cumsum(is_kept) - 1, [NO_LABEL, -1])  # these two are indexed by labels below 0
    return Joined(new[labels], tuple(categories[int(index)] for index in np.flatnonzero(is_kept)), names, clashes)


def joined_notes(source: str, names: Sequence[str]) -> list[str]:
    """Return a note on the class names whose entries were joined; none without such names."""
    if not names:
        return []
    listed = ", ".join(short(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
    return [f"{source}: of two classes called {listed} one has no boxes; they count as one class."]


def clash(name: str, what: str = "class name") -> tuple[str, str]:
    """Return the text and the fix of the problem that two classes of one name both have boxes."""
    text = f"the {what} {short(name)} occurs twice, and both have boxes"
    return text, "give one of them another name, or join them with varifocal check --fix"
