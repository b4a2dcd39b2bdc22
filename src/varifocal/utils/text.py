"""Parts of sentences: counts with their nouns, and values cut to a readable length."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Container, Iterable
from typing import Any

_BY_COUNT = re.compile(r"\(([^()|]*)\|([^()|]*)\)")


def counted(count: int, text: str) -> str:
    """Return a count and what is counted; each "(one|many)" in the text is replaced by the words for that count.

    ``counted(2, "(image is|images are) left out")`` gives "2 images are left out".
    """
    return f"{count} " + _BY_COUNT.sub(lambda match: match[1] if count == 1 else match[2], text)


def count_of(number: int, noun: str) -> str:
    """Return the number with its noun in the singular or plural: "1 box", "2,000 boxes"."""
    plural = "es" if noun.endswith(("s", "x")) else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def short(value: Any) -> str:
    """Return a value as Python writes it, cut if it is long, with single backslashes, as paths have."""
    return reprlib.repr(value).replace("\\\\", "\\")


def quoted(text: str) -> str:
    """Return a whole text in quotes, with single backslashes, as paths have them."""
    return repr(text).replace("\\\\", "\\")


def cut(text: str, most: int = 100) -> str:
    """Return a text on one line; of one longer than ``most`` characters the middle is left out."""
    text = text if text.isprintable() else quoted(text)[1:-1]
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 4 :]}"


def short_list(values: Iterable[Any], most: int = 8) -> str:
    """Return the first ``most`` values, separated by commas, and how many more there are."""
    items = [cut(str(value), 60) for value in values]
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def unlike(taken: Container[str], name: str, key: Callable[[str], str] = str) -> str:
    """Return the name, or with the first number that makes its ``key`` differ from all taken: a, a-2, a-3."""
    number, free = 1, name
    while key(free) in taken:
        number += 1
        free = f"{name}-{number}"
    return free
