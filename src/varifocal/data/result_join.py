"""Image and class of each entry of a results file, by name if the entry has one, else by id.

Ids of a results file often differ from those of the data set: a program numbers the images of a folder as it finds
them, takes the number in a file name, or counts classes from 0.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import numpy as np
from jaxtyping import Int64

from varifocal.data.paths import is_image
from varifocal.data.readers.coco_ids import Ids, without_id
from varifocal.types import Dataset, FileLike
from varifocal.utils.text import short, short_list

_NOTHING, _SEVERAL = -1, -2


@dataclass
class Column:
    """The images or the classes of entries: ids as codes of ``ids``, names as indices into ``names``, or -1."""

    ids: Ids
    codes: list[Int64[np.ndarray, "n"]] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    name_of: list[Int64[np.ndarray, "n"]] = field(default_factory=list)

    def take(self, ids: Sequence[Any], names: Sequence[Any], *, plain: bool) -> None:
        """Add entries; ``plain`` says that all ids are integers and their own codes."""
        codes = ids if plain else [without_id(0) if id is None else self.ids.code(id) for id in ids]
        self.codes.append(np.array(codes, np.int64))
        known = self.names
        indices = [known.setdefault(name, len(known)) if type(name) is str and name else -1 for name in names]
        self.name_of.append(np.array(indices, np.int32))

    def all_codes(self) -> Int64[np.ndarray, "N"]:
        """Return the codes of all entries."""
        return np.concatenate([np.empty(0, np.int64), *self.codes])

    def through(self, indices: Sequence[int]) -> Int64[np.ndarray, "N"]:
        """Return for each entry the element of ``indices`` for its name, -1 if it has no name."""
        return np.append(np.array(indices, np.int64), _NOTHING)[np.concatenate([np.empty(0, np.int32), *self.name_of])]

    @property
    def named(self) -> np.ndarray:
        """A mask of the entries that have a name."""
        return np.asarray(np.concatenate([np.empty(0, np.int32), *self.name_of]) >= 0)


@dataclass(frozen=True, eq=False)
class Joined:
    """The index in the data set of each entry's image or class, -1 for entries that are left out.

    ``unknown`` is the index and the id of the first entry whose id the data set does not have, if that is an error;
    ``hint`` says what the ids look like.
    """

    indices: Int64[np.ndarray, "N"]
    notes: tuple[str, ...] = ()
    unknown: tuple[int, str] | None = None
    hint: str = ""


def join_images(column: Column, data: Dataset) -> Joined:
    """Join entries to images by their file names if the data set has any of these, else by their ids.

    Ids that the data set does not have, or cannot have because its format has none, are compared with the file names:
    as the name itself, its stem, or the number that is its stem.
    """
    files = FileNames([sample.file for sample in data.samples])
    by_id = {sample.image_id: index for index, sample in enumerate(data.samples)}
    codes = column.all_codes()
    indices = _look_up(column.ids, codes, {**data.ids.images}, by_id)
    notes: list[str] = []
    found = files.find_all(list(column.names))
    if not column.named.any() or all(location == _NOTHING for location in found):
        if column.named.any() and len(codes):
            notes.append("none of its file names is that of an image of the data set, so only ids were used.")
        return _by_stems(column, codes, indices, files, data, notes)
    named = column.through(found)
    listed, name_of = list(column.names), column.through(range(len(found)))
    for entry in np.flatnonzero(named == _SEVERAL).tolist():
        fits = files.fits(listed[name_of[entry]], int(indices[entry]))
        named[entry] = indices[entry] if fits else _SEVERAL
    return _by_names(column, codes, indices, named, "image", "file name")


def join_classes(column: Column, data: Dataset) -> Joined:
    """Join entries to classes by their class names if the data set has any of these, else by their ids."""
    by_name = {category.name: index for index, category in enumerate(data.categories)}
    by_id = {category.id: position for position, category in enumerate(data.categories)}
    codes = column.all_codes()
    indices = _look_up(column.ids, codes, {**data.ids.classes}, by_id)
    if any(name in by_name for name in column.names):
        named = column.through([by_name.get(name, _NOTHING) for name in column.names])
        return _by_names(column, codes, indices, named, "class", "class name")
    notes: tuple[str, ...] = ()
    if column.named.any():
        notes = ("none of its class names is one of the data set, so only ids were used.",)
    texts = _texts_as_names(column.ids, codes, by_name)
    indices = np.where(indices < 0, texts, indices)
    step = _step(column, codes, indices, list(by_id))
    if step:
        notes = (
            *notes,
            f"its class ids count from {(1 - step) // 2} and those of the data set from {(1 + step) // 2}; they were "
            f"shifted, so that {min(by_id) - step} is {data.categories[by_id[min(by_id)]].name}.",
        )
        return Joined(_look_up(column.ids, codes + step, {}, by_id), notes)
    return _refused(column, codes, indices, notes, hint=_offset(codes[~column.ids.are_texts(codes)], list(by_id)))


def _by_names(
    column: Column,
    codes: Int64[np.ndarray, "N"],
    by_id: Int64[np.ndarray, "N"],
    named: Int64[np.ndarray, "N"],
    what: str,
    name: str,
) -> Joined:
    """Join entries with a name by that, at the indices ``named``, and entries without one by their ids."""
    chosen = np.where(column.named, named, by_id)
    notes = []
    contradicting = column.named & (named >= 0) & (by_id != named) & ~column.ids.are_none(codes)
    wrong = int(contradicting.sum())
    if wrong:
        notes.append(
            f"{entries_of(wrong)} {'has' if wrong == 1 else 'have'} the {what} id of another {what} than the {name} "
            "says; the names were used."
        )
    of = f"{what}es" if what == "class" else f"{what}s"
    for code, which in (
        (_NOTHING, f"of {of} that the data set does not have"),
        (_SEVERAL, f"that may be of several {of}"),
    ):
        strange = column.named & (chosen == code)
        if strange.any():
            listed = list(column.names)
            names = dict.fromkeys(listed[index] for index in column.through(range(len(listed)))[strange].tolist())
            notes.append(f"{entries_of(int(strange.sum()))} {which} left out: {short_list(names, 4)}.")
    return _refused(column, codes, chosen, tuple(notes), excused=column.named)


def _by_stems(
    column: Column,
    codes: Int64[np.ndarray, "N"],
    indices: Int64[np.ndarray, "N"],
    files: FileNames,
    data: Dataset,
    notes: Sequence[str],
) -> Joined:
    """Join entries by their ids, or all of them by file names if only so every entry has an image."""
    texts = _texts_as_names(column.ids, codes, files)
    numbers = files.numbers()
    stems = np.array([numbers.get(code, _NOTHING) for code in codes.tolist()] if numbers else texts, np.int64)
    stems = np.where(texts >= 0, texts, stems)
    everywhere = len(codes) and (stems >= 0).all()
    if everywhere and (stems != indices).any() and (data.ids.counted or (indices < 0).any()):
        notes = (*notes, "its image ids are names of files and are used as such.")
        return Joined(stems, tuple(notes))
    return _refused(column, codes, np.where(indices < 0, texts, indices), tuple(notes))


def _refused(
    column: Column,
    codes: Int64[np.ndarray, "N"],
    indices: Int64[np.ndarray, "N"],
    notes: tuple[str, ...] = (),
    *,
    excused: np.ndarray | None = None,
    hint: str = "",
) -> Joined:
    """Return the indices, with the first entry whose id is unknown; entries in ``excused`` do not count."""
    bad = np.flatnonzero((indices < 0) if excused is None else (indices < 0) & ~excused)
    if not len(bad):
        return Joined(indices, notes)
    code = int(codes[bad[0]])
    shown = column.ids.show(code)
    return Joined(indices, notes, (int(bad[0]), shown if shown.lstrip("-").isdigit() else short(shown)), hint)


def _look_up(
    ids: Ids, codes: Int64[np.ndarray, "N"], texts: Mapping[str, int], index_of: Mapping[int, int]
) -> Int64[np.ndarray, "N"]:
    """Return the index of each id, -1 if it is unknown; ``texts`` maps ids that are texts to numbers."""
    used, index = np.unique(codes, return_inverse=True)
    numbers = ids.numbered(used).tolist()
    known = [texts.get(ids.show(code), number) for code, number in zip(used.tolist(), numbers, strict=True)]
    return np.array([index_of.get(number, _NOTHING) for number in known], np.int64)[index.reshape(-1)]


def _texts_as_names(ids: Ids, codes: Int64[np.ndarray, "N"], names: Mapping[str, int] | FileNames) -> np.ndarray:
    """Return the index of the image or class whose name an id is, -1 for ids that are numbers."""
    find = names.find if isinstance(names, FileNames) else lambda name: names.get(name, _NOTHING)
    used, index = np.unique(codes, return_inverse=True)
    texts = zip(used.tolist(), ids.are_texts(used).tolist(), strict=True)
    found = [max(find(ids.show(code)), _NOTHING) if text else _NOTHING for code, text in texts]
    return np.array(found, np.int64)[index.reshape(-1)]


def _step(column: Column, codes: Int64[np.ndarray, "N"], indices: Int64[np.ndarray, "N"], known: Sequence[int]) -> int:
    """Return what to add to class ids that count from 1 while those of the data set count from 0, or vice versa.

    It is 0 if some ids are anything else, or all are known. YOLO's data counts from 0, and its trainers write results
    from 1.
    """
    if not len(codes) or (indices >= 0).all() or column.ids.are_texts(codes).any():
        return 0
    first = min(known)
    if first not in (0, 1) or sorted(known) != list(range(first, first + len(known))):
        return 0
    step = 2 * first - 1
    return step if np.isin(codes + step, known).all() else 0


def _offset(used: Int64[np.ndarray, "N"], known: Sequence[int]) -> str:
    """Return a hint if class ids that are not all known seem to be one off, or indices in the list of classes."""
    used = np.unique(used)
    if not len(used) or np.isin(used, known).all():
        return ""
    for step, text in ((1, "low; add 1 to each"), (-1, "high; subtract 1 from each")):
        if np.isin(used + step, known).all():
            return f", and all of them seem one too {text}"
    for first in (0, 1):
        if used[0] >= first and used[-1] < first + len(known):
            return f", and all of them seem to count the classes from {first}; give them the ids of the data set"
    return ""


def entries_of(count: int) -> str:
    """Return the number of entries, as the beginning of a sentence."""
    return "1 entry" if count == 1 else f"{count:,} entries"


class FileNames:
    """Finds images by the end of their path: with folders, by the file name, or by the name without its suffix."""

    def __init__(self, files: Sequence[FileLike]) -> None:
        self._paths = [_parts(str(file)) for file in files]
        self._names: dict[str, list[int]] = {}
        self._stems: dict[str, list[int]] = {}
        for index, file in enumerate(files):
            self._names.setdefault(file.name, []).append(index)
            self._stems.setdefault(file.stem, []).append(index)
        self._found: dict[str, int] = {}
        self._by_fold: dict[str, list[int]] = {}

    def find(self, name: str) -> int:
        """Return the index of the image that a path means, -1 for none, -2 for several."""
        if name not in self._found:
            self._found[name] = self._find(_parts(name))
        return self._found[name]

    def find_all(self, names: Sequence[str]) -> list[int]:
        """Return the index of the image of each name, -1 for none, -2 for several.

        A name that fits an image worse than another one, with other folders or another suffix, gets -1: "val/1.jpg"
        beside "train/1.jpg".
        """
        found = [self.find(name) for name in names]
        best: dict[int, int] = {}
        for name, index in zip(names, found, strict=True):
            if index >= 0:
                best[index] = max(best.get(index, 0), self._fit(name, index))
        return [
            _NOTHING
            if location >= 0 and self._contradicts(name, self._fit(name, location), best[location])
            else location
            for name, location in zip(names, found, strict=True)
        ]

    def _fit(self, name: str, index: int) -> int:
        return _shared(self._paths[index], _parts(name))

    def _contradicts(self, name: str, fit: int, best: int) -> bool:
        parts = _parts(name)
        return fit < best and (len(parts) > max(fit, 1) or (fit == 0 and is_image(parts[0])))

    def fits(self, name: str, index: int) -> bool:
        """Return whether the image of that index has the file name of a path; False for index -1."""
        parts = _parts(name)
        return index >= 0 and bool(parts) and self._paths[index][:1] == parts[:1]

    def numbers(self) -> dict[int, int]:
        """Return the indices of images by the number in their stem; empty unless all stems are different numbers."""
        if not all(stem.isascii() and stem.isdigit() and len(stem) < 18 for stem in self._stems):
            return {}
        numbers = {int(stem): indices[0] for stem, indices in self._stems.items()}
        return numbers if len(numbers) == len(self._paths) else {}

    def _folded(self) -> dict[str, list[int]]:
        """Return the indices by folded name and folded stem."""
        if not self._by_fold:
            for table in (self._stems, self._names):
                for name, indices in table.items():
                    known = self._by_fold.setdefault(_fold(name), [])
                    known += [index for index in indices if index not in known]
        return self._by_fold

    def _find(self, parts: list[str]) -> int:
        if not parts:
            return _NOTHING
        indices = self._names.get(parts[0])
        if indices is None:
            stem = os.path.splitext(parts[0])[0] if is_image(parts[0]) else parts[0]  # not for "scene.2"
            indices = (
                self._stems.get(stem) or self._folded().get(_fold(parts[0])) or self._folded().get(_fold(stem), [])
            )
        if len(indices) < 2:
            return indices[0] if indices else _NOTHING
        shared = [_shared(self._paths[index][1:], parts[1:]) for index in indices]
        best = max(shared)
        return indices[shared.index(best)] if shared.count(best) == 1 else _SEVERAL


def _fold(name: str) -> str:
    """Return a name for comparison: percent-decoded, without case, and with accents in one Unicode form."""
    return unicodedata.normalize("NFC", unquote(name)).casefold()


def _parts(path: str) -> list[str]:
    """Return the parts of a path, the last one first."""
    return [part for part in reversed(path.replace("\\", "/").split("/")) if part not in ("", ".")]


def _shared(a: Sequence[str], b: Sequence[str]) -> int:
    """Return how many parts two paths have in common, counted from their ends."""
    count = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        count += 1
    return count
