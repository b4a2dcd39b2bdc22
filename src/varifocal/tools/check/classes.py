"""Findings about classes, and the number of boxes of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from varifocal.tools.check.findings import Finding, Findings
from varifocal.tools.check.similar_names import SimilarNames, find_similar_names
from varifocal.tools.check.split import Split
from varifocal.utils.text import count_of

RARE = 20  # boxes in all splits below which a class is rare
_DIFFERENCES = {"case": "case, spaces or punctuation", "number": "singular and plural", "spelling": "one letter"}


@dataclass(frozen=True)
class ClassRow:
    """The numbers of a class: boxes and images in each split, crowd and difficult boxes, and the median side in pixels.

    Regions to be ignored for several classes are not counted as boxes of any of them.
    """

    name: str
    boxes: dict[str, int]
    images: dict[str, int]
    crowd: int
    difficult: int
    median_side: float

    @property
    def total(self) -> int:
        return sum(self.boxes.values())


def count_classes(splits: Sequence[Split]) -> list[ClassRow]:
    """Return a row for each class name of any split, in the order of their first appearance."""
    names = list(dict.fromkeys(category.name for split in splits for category in split.raw.categories))
    by_split = {split.name: _count_in_split(split) for split in splits}
    none = _Counts(0, 0, 0, 0, np.empty(0))
    return [_row(name, {split: counts.get(name, none) for split, counts in by_split.items()}) for name in names]


class _Counts(NamedTuple):
    """The numbers of a class in a split, and the mean sides of its sound boxes."""

    boxes: int
    images: int
    crowd: int
    difficult: int
    sides: np.ndarray


def _row(name: str, counts: Mapping[str, _Counts]) -> ClassRow:
    sides = np.concatenate([each.sides for each in counts.values()])
    return ClassRow(
        name,
        {split: each.boxes for split, each in counts.items()},
        {split: each.images for split, each in counts.items()},
        sum(each.crowd for each in counts.values()),
        sum(each.difficult for each in counts.values()),
        float(np.median(sides)) if len(sides) else 0.0,
    )


def _count_in_split(split: Split) -> dict[str, _Counts]:
    """Return the numbers of each class by its name."""
    raw, images = split.raw.boxes, max(len(split.raw.images), 1)
    names = list(dict.fromkeys(category.name for category in split.raw.categories))
    number = np.array([names.index(category.name) for category in split.raw.categories], np.int64)
    known = (raw.labels >= 0) & (split.regions < 0)
    of_images = np.unique(raw.labels[known] * images + raw.images[known]) // images
    labels = (raw.labels[known], of_images, raw.labels[known & raw.crowd], raw.labels[known & raw.difficult])
    columns = np.stack([np.bincount(number[each], minlength=len(names)) for each in labels], axis=1).tolist()
    order = np.argsort(number[split.sound_labels], kind="stable")
    edges = np.searchsorted(number[split.sound_labels][order], np.arange(len(names) + 1))
    sides = [split.sides[order[start:end]] for start, end in pairwise(edges)]
    return {name: _Counts._make((*columns[k], sides[k])) for k, name in enumerate(names)}


def add_class_findings(findings: Findings, splits: Sequence[Split], rows: Sequence[ClassRow]) -> None:
    """Add classes without boxes, rare classes, similar names, and classes that are missing in the training split.

    A class without boxes is not reported if objects of it were refused: that is the cause, and is reported itself.
    """
    total = "+".join(split.name for split in splits)
    file = str(splits[0].raw.source)

    def add(kind: str, texts: Sequence[str]) -> None:
        findings.add_many((kind, total), texts, lambda text: Finding(kind, total, text, file))

    def similar(pair: SimilarNames) -> str:
        first, second = (f"{rows[i].name!r} ({count_of(rows[i].total, 'box')})" for i in (pair.first, pair.second))
        return f"{first} and {second} differ only in {_DIFFERENCES[pair.difference]}"

    refused = set().union(*(split.raw.problems.refused_classes for split in splits))
    empty = [row.name for row in rows if row.total == 0 and row.name not in refused]
    add("empty-class", list(map("the class {!r} has no boxes".format, empty)))
    rare = sorted((row for row in rows if 0 < row.total < RARE), key=lambda row: row.total)
    add("rare-class", [f"the class {row.name!r} has {count_of(row.total, 'box')}" for row in rare])
    add("twin-classes", [similar(pair) for pair in find_similar_names([row.name for row in rows])])
    _add_mismatches(findings, splits)


def _add_mismatches(findings: Findings, splits: Sequence[Split]) -> None:
    """Add classes that training refuses, as its own split does not name them, or cannot learn without boxes there."""
    training = next((split for split in splits if split.name.startswith("train")), None)
    if training is None:
        return
    named = {category.name for category in training.raw.categories}
    texts = {
        "class-mismatch": f"the class {{!r}} is not among those of {training.name}",
        "unlearned-class": f"the class {{!r}} has boxes here and none in {training.name}",
    }
    for split in splits:
        unseen = split.used_names - training.used_names
        names = {
            "class-mismatch": unseen - named,
            "unlearned-class": (unseen & named) - training.raw.problems.refused_classes,
        }
        for kind, text in texts.items():
            listed = [category.name for category in split.raw.categories if category.name in names[kind]]
            made = [Finding(kind, split.name, text.format(name), str(split.raw.source)) for name in listed]
            findings.add_many((kind, split.name), made, lambda finding: finding)
