"""Ids of COCO records: usually whole numbers, but also texts, floats, or none at all."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from varifocal.utils.text import cut

# Codes are numbers that no id has: the lowest quarter for texts, those above it for records without an id.
_TEXTS = -(2**63)  # plus the index of a text
_TEXTS_END = -(2**62)
_NONE = -(2**61)  # minus the index of a record without an id
_LEAST = -(2**60)  # the numbers above it are their own codes
_PLAIN = re.compile(r"0|-?[1-9][0-9]{0,17}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,18})(\.0*)?")


class Ids:
    """The ids of one section as whole numbers of 64 bits.

    1, 1.0 and "1" are the same id. An id that is no such number gets a code below ``_LEAST`` until all ids are known;
    then ``assign_numbers`` gives it a number of its own.
    """

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}  # text -> code
        self.numbers: dict[str, int] = {}  # text -> number, once numbers are assigned
        self._shown: dict[int, str] = {}
        self._listed: list[str] = []

    def code(self, value: Any) -> int | None:
        """Return the number or the code of an id; None for what is no id: a list, true, an empty text."""
        if type(value) is int and _LEAST < value < -_TEXTS:
            return value
        if type(value) is float and value.is_integer() and abs(value) < 2**53:
            return int(value)
        text = _text_of(value)
        if _PLAIN.fullmatch(text):
            return int(text)
        return self.texts.setdefault(text, _TEXTS + len(self.texts)) if text.strip() else None

    def assign_numbers(self, codes: Int64[np.ndarray, "M"], referred: Iterable[Int64[np.ndarray, "K"]] = ()) -> None:
        """Give numbers to the texts among ``codes``, which are the ids of all records of the section.

        "0001" gets 1 where no other id has it. Other texts get, in their order, the first numbers from 1 on that are no
        id of a record and none of the ids in ``referred``.
        """
        if not self.texts:
            return
        own = {text: _number(text) for text in self.texts}
        known = [*map(list(own).__getitem__, dict.fromkeys((codes[codes < _TEXTS_END] - _TEXTS).tolist()))]
        taken = set(codes[codes > _LEAST].tolist())
        numbers: dict[str, int] = {}
        for text in known:
            number = own[text]
            if number is not None and number not in taken:
                numbers[text] = number
                taken.add(number)
        taken.update(own.values(), *(part[part > _LEAST].tolist() for part in referred))
        free = (number for number in count(1) if number not in taken)
        self.numbers = {text: numbers[text] if text in numbers else next(free) for text in known}
        self._shown = dict(zip(self.numbers.values(), self.numbers, strict=True))

    def numbered(self, codes: Int64[np.ndarray, "N"]) -> Int64[np.ndarray, "N"]:
        """Return ids with the numbers of their texts; a text that is the id of no record gets the number it spells."""
        where = np.flatnonzero(codes < _TEXTS_END)
        if not len(where):
            return codes
        table = np.arange(_TEXTS, _TEXTS + len(self.texts))
        for index, text in enumerate(self.texts):
            number = self.numbers.get(text, _number(text))
            table[index] = table[index] if number is None else number
        codes = codes.copy()
        codes[where] = table[codes[where] - _TEXTS]
        return codes

    def are_texts(self, codes: Int64[np.ndarray, "N"]) -> Bool[np.ndarray, "N"]:
        """Return which codes are those of texts."""
        return np.asarray(codes < _TEXTS_END)

    def are_none(self, codes: Int64[np.ndarray, "N"]) -> Bool[np.ndarray, "N"]:
        """Return which codes are those of records without an id."""
        return np.asarray((codes >= _TEXTS_END) & (codes <= _NONE))

    def show(self, number: int) -> str:
        """Return an id as the source has it, for a message, cut where it is long."""
        return cut(self._show(number), 60)

    def _show(self, number: int) -> str:
        if number in self._shown:
            return self._shown[number]
        if number >= _TEXTS_END:
            return str(number) if index_of(number) is None else "None"
        if len(self._listed) < len(self.texts):
            self._listed = list(self.texts)
        return self._listed[number - _TEXTS]


def are_plain(ids: Sequence[int]) -> bool:
    """Return whether all of these numbers are their own codes."""
    return min(ids) > _LEAST and max(ids) < -_TEXTS


def without_id(index: int) -> int:
    """Return the code of a record that has no id, by its index."""
    return _NONE - index


def index_of(code: int) -> int | None:
    """Return the index of a record that has no id; None for the codes of other records."""
    return _NONE - code if _TEXTS_END <= code <= _NONE else None


def _text_of(value: Any) -> str:
    """Return an id as JSON has it, "" for what is none, also for a number too long for Python to write."""
    if isinstance(value, str):
        return value
    if type(value) is not int and not (type(value) is float and math.isfinite(value)):
        return ""
    try:
        return str(value)
    except ValueError:
        return ""


def _number(text: str) -> int | None:
    """Return the number that a text such as "0001" or "1.0" spells; None for other texts."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        return None
    return -int(found[1]) if text.strip().startswith("-") else int(found[1])
