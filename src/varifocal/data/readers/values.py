"""Numbers in the texts and records of a source."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from varifocal.data.annotations import NO_BOX

NAN = float("nan")
_MAX_SIDE = 2**31 - 1
_COMMA = re.compile(r"-?[0-9]+,[0-9]+")
_THOUSANDS = re.compile(r"-?[1-9][0-9]{0,2},[0-9]{3}")
_SIDES = tuple((*corner, *size) for corner in ("xy", ("left", "top")) for size in ("wh", ("width", "height")))
COMMAS = "(box has|boxes have) numbers with decimal commas"


def to_number(text: str) -> float:
    """Return a text as a number, NaN where it is none; Python's own forms such as 1_000 are none."""
    try:
        return NAN if "_" in text else float(text)
    except ValueError:
        return NAN


def to_whole(text: str) -> int | None:
    """Return a text as a whole number, which may be written as 3.0; None for anything else."""
    value = to_number(text)
    return int(value) if abs(value) < 1e9 and value == int(value) else None


def read_numbers(words: Sequence[str], separator: str = " ") -> tuple[list[float], str]:
    """Return words as numbers, NaN for what is none, and "" or, where one is none, all words as they are written."""
    numbers = [to_number(word) for word in words]
    return numbers, "" if all(number == number for number in numbers) else separator.join(words)


def with_points(words: Sequence[str]) -> list[str]:
    """Return words with decimal points in place of decimal commas: 12,5. What may be a thousand, 1,234, stays."""
    decimal = [_COMMA.fullmatch(word) and not _THOUSANDS.fullmatch(word) for word in words]
    return [word.replace(",", ".") if has_comma else word for word, has_comma in zip(words, decimal, strict=True)]


def written(words: Sequence[str]) -> str:
    """Return words as a message shows them, with :data:`NO_BOX` for those that are missing."""
    return " ".join(word or NO_BOX for word in words) if any(words) else NO_BOX


def sides_of(box: Mapping[str, Any]) -> list[Any] | None:
    """Return x, y, width and height of a box that is an object; None where it has other keys."""
    keys = next((keys for keys in _SIDES if box.keys() >= set(keys)), None)
    return None if keys is None else [box[key] for key in keys]


def whole_side(value: Any) -> int:
    """Return a side in pixels that is written as a number or as a text; 0 where it is no whole number."""
    number = to_number(value) if isinstance(value, str) else value
    if type(number) not in (int, float) or not 1 <= number <= _MAX_SIDE or number != int(number):
        return 0
    return int(number)


def whole_size(width: Any, height: Any) -> tuple[int, int]:
    """Return width and height where both are whole numbers of pixels; 0, 0 where one is not."""
    sides = whole_side(width), whole_side(height)
    return sides if all(sides) else (0, 0)
