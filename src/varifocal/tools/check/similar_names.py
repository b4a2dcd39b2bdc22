"""Class names that probably mean the same class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

_LONG = 5  # letters from which one more, one less or two swapped letters are a typo
_LONGER = 8  # letters from which one other letter is a typo, too: house and mouse are two things
_ENDINGS = ("ies", "es", "s")


class SimilarNames(NamedTuple):
    """The indices of two classes, and their difference: "case" (or spaces and punctuation), "number" or "spelling"."""

    first: int
    second: int
    difference: Literal["case", "number", "spelling"]


def find_similar_names(names: Sequence[str]) -> list[SimilarNames]:
    """Return pairs of names that probably mean one class: each later name with the first that it resembles."""
    plain = [_plain(name) for name in names]
    found: list[SimilarNames] = []
    seen: dict[str, int] = {}
    singular: dict[str, int] = {}
    shortened: dict[str, list[int]] = {}
    for index, name in enumerate(plain):
        if not name:
            continue
        similar = _similar(index, plain, seen, singular, shortened)
        if similar is not None:
            found.append(similar)
        seen.setdefault(name, index)
        for form in _singulars(name):
            singular.setdefault(form, index)
        for shorter in _shorter(name):
            shortened.setdefault(shorter, []).append(index)
    return found


def _similar(
    index: int,
    plain: Sequence[str],
    seen: dict[str, int],
    singular: dict[str, int],
    shortened: dict[str, list[int]],
) -> SimilarNames | None:
    name = plain[index]
    if name in seen:
        return SimilarNames(seen[name], index, "case")
    for form in _singulars(name):
        if form in singular:
            return SimilarNames(singular[form], index, "number")
    candidates = sorted({other for shorter in _shorter(name) for other in shortened.get(shorter, ())})
    for other in candidates:
        if _is_typo(plain[other], name):
            return SimilarNames(other, index, "spelling")
    return None


def _plain(name: str) -> str:
    """Return the letters and digits in lower case; a name of punctuation alone stays as it is."""
    return re.sub(r"[\W_]+", "", name.casefold()) or name.strip()


def _singulars(name: str) -> list[str]:
    """Return the name and its possible singulars; short words and words in double s have none."""
    forms = [name]
    for ending in _ENDINGS:
        if name.endswith(ending) and not name.endswith("ss") and len(name) - len(ending) >= 3:
            forms.append(name.removesuffix(ending) + ("y" if ending == "ies" else ""))
    return forms


def _shorter(name: str) -> set[str]:
    """Return the name with and without each of its letters: two names one typo apart have one of these in common."""
    if len(name) < _LONG:
        return set()
    return {name, *(name[:i] + name[i + 1 :] for i in range(len(name)))}


def _common_start(a: str, b: str) -> int:
    """Return the number of letters with which both names start."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _is_typo(a: str, b: str) -> bool:
    """Return whether one typo separates two names; digits, which count things, are no typos."""
    shorter, longer = sorted((len(a), len(b)))
    start = _common_start(a, b)
    end = min(_common_start(a[::-1], b[::-1]), shorter - start)
    left, right = a[start : len(a) - end], b[start : len(b) - end]
    if any(map(str.isdigit, left + right)) or shorter + 1 < _LONG:
        return False
    changed = {len(left), len(right)}
    if changed == {2}:
        return left == right[::-1]
    return changed == {0, 1} or (changed == {1} and longer >= _LONGER and start > 0)
