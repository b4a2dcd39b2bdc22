"""Class names that probably mean the same class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

_LONG = 5  # letters from which one letter more, less or exchanged with its neighbor is a slip of the pen
_LONGER = 8  # letters from which another letter is one, too: house and mouse are two things
_ENDINGS = ("ies", "es", "s")


class SimilarNames(NamedTuple):
    """Two classes, by index, and what is different: "case" (or spaces and signs), "number" or "spelling"."""

    first: int
    second: int
    how: Literal["case", "number", "spelling"]


def find_twins(names: Sequence[str]) -> list[SimilarNames]:
    """Pairs of names that are probably one, each later name with the first that it resembles."""
    plain = [_plain(name) for name in names]
    found: list[SimilarNames] = []
    seen: dict[str, int] = {}
    singular: dict[str, int] = {}
    slips: dict[str, list[int]] = {}
    for index, name in enumerate(plain):
        if not name:
            continue
        twin = _twin(index, plain, seen, singular, slips)
        if twin is not None:
            found.append(twin)
        seen.setdefault(name, index)
        for form in _singulars(name):
            singular.setdefault(form, index)
        for shorter in _shorter(name):
            slips.setdefault(shorter, []).append(index)
    return found


def _twin(
    index: int,
    plain: Sequence[str],
    seen: dict[str, int],
    singular: dict[str, int],
    slips: dict[str, list[int]],
) -> SimilarNames | None:
    name = plain[index]
    if name in seen:
        return SimilarNames(seen[name], index, "case")
    for form in _singulars(name):
        if form in singular:
            return SimilarNames(singular[form], index, "number")
    candidates = sorted({other for shorter in _shorter(name) for other in slips.get(shorter, ())})
    for other in candidates:
        if _slip(plain[other], name):
            return SimilarNames(other, index, "spelling")
    return None


def _plain(name: str) -> str:
    """Letters and digits alone, in lower case; a name of signs only stays what it is."""
    return re.sub(r"[\W_]+", "", name.casefold()) or name.strip()


def _singulars(name: str) -> list[str]:
    """The name, and what it may be the plural of; short words and those in double s have none."""
    forms = [name]
    for ending in _ENDINGS:
        if name.endswith(ending) and not name.endswith("ss") and len(name) - len(ending) >= 3:
            forms.append(name.removesuffix(ending) + ("y" if ending == "ies" else ""))
    return forms


def _shorter(name: str) -> set[str]:
    """The name, and without any one of its letters: two names one slip apart have one of these in common."""
    if len(name) < _LONG:
        return set()
    return {name, *(name[:i] + name[i + 1 :] for i in range(len(name)))}


def _slip(a: str, b: str) -> bool:
    """Whether one slip of the pen makes one of the other; digits, which count things, are no slips."""
    if a > b:
        a, b = b, a
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    left, right = a[start : len(a) - end], b[start : len(b) - end]
    if any(letter.isdigit() for letter in left + right) or min(len(a), len(b)) + 1 < _LONG:
        return False
    if len(left) + len(right) == 1:
        return True
    if len(left) == len(right) == 2:
        return left == right[::-1]
    return len(left) == len(right) == 1 and len(a) >= _LONGER and start > 0
