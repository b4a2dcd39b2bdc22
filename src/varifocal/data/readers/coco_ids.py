"""Ids of COCO records: whole numbers as a rule, but also texts, floats, or none at all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from varifocal.utils.text import cut

# Codes lie where no id does: texts in the lowest quarter, records without an id above them.
_TEXTS = -(2**63)  # plus the index of a text
_TEXTS_END = -(2**62)
_NONE = -(2**61)  # minus the index of a record without an id
_LEAST = -(2**60)  # of a number that stands for itself
_PLAIN = re.compile(r"0|-?[1-9][0-9]{0,17}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,18})(\.0*)?")


class Ids:
    """The ids of one section as whole numbers of 64 bits.

    1, 1.0 and "1" are the same id. What is no such number gets a code below ``_LEAST`` until all ids are known; then
    ``settle`` gives it a number of its own.
    """

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}  # text -> code
        self.numbers: dict[str, int] = {}  # text -> number, when it is settled
        self._shown: dict[int, str] = {}
        self._listed: list[str] = []

    def code(self, value: Any) -> int | None:
        """The number or the code of an id; None of what is none: a list, true, an empty text."""
        if type(value) is int and _LEAST < value < -_TEXTS:
            return value
        if type(value) is float and value == value // 1 and abs(value) < 2**53:
            return int(value)
        if type(value) not in (int, float, str) or value != value or value in (float("inf"), float("-inf")):
            return None
        text = value if isinstance(value, str) else _written(value)
        if not text.strip():
            return None
        if _PLAIN.fullmatch(text):
            return int(text)
        return self.texts.setdefault(text, _TEXTS + len(self.texts))

    def settle(self, codes: Int64[np.ndarray, "M"], referred: Iterable[Int64[np.ndarray, "K"]] = ()) -> None:
        """Give numbers to the texts among ``codes``, which are the ids of all records of the section.

        "0001" gets 1 where nothing else has it, other texts the first numbers from 1 on, in their order, that no record
        has and that none of the ids in ``referred`` means.
        """
        if not self.texts:
            return
        taken = set(codes[codes > _LEAST].tolist())
        listed = list(self.texts)
        known = [listed[index] for index in dict.fromkeys((codes[codes < _TEXTS_END] - _TEXTS).tolist())]
        for text in known:
            number = _number(text)
            if number is not None and number not in taken:
                self.numbers[text] = number
                taken.add(number)
        for part in referred:
            taken.update(part[part > _LEAST].tolist())
        taken.update(number for text in self.texts if (number := _number(text)) is not None)
        free = 1
        for text in known:
            if text in self.numbers:
                continue
            while free in taken:
                free += 1
            taken.add(free)
            self.numbers[text] = free
        self.numbers = {text: self.numbers[text] for text in known}  # in their order
        self._shown = {number: text for text, number in self.numbers.items()}

    def numbered(self, codes: Int64[np.ndarray, "N"]) -> Int64[np.ndarray, "N"]:
        """The same ids with the numbers of their texts; a text that no record has is taken as the number it says."""
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
        """Which codes are those of texts."""
        return np.asarray(codes < _TEXTS_END)

    def are_none(self, codes: Int64[np.ndarray, "N"]) -> Bool[np.ndarray, "N"]:
        """Which codes are those of records without an id."""
        return np.asarray((codes >= _TEXTS_END) & (codes <= _NONE))

    def show(self, number: int) -> str:
        """An id as the source has it, for a message, cut where it is long."""
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
    """Whether whole numbers all stand for themselves."""
    return min(ids) > _LEAST and max(ids) < -_TEXTS


def without_id(index: int) -> int:
    """The code of a record that has no id."""
    return _NONE - index


def index_of(code: int) -> int | None:
    """The index of a record that has no id, None of the others."""
    return _NONE - code if _TEXTS_END <= code <= _NONE else None


def _written(value: float) -> str:
    """An id as JSON has it; Python refuses to write a number of thousands of digits."""
    try:
        return str(value)
    except ValueError:
        return ""


def _number(text: str) -> int | None:
    """The number that a text such as "0001" or "1.0" says."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        return None
    return -int(found[1]) if text.strip().startswith("-") else int(found[1])
