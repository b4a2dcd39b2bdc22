"""What is wrong with classes: without boxes, rare, probably twins, missing in a split; and how many boxes each has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from varifocal.tools.check.findings import Finding, Findings
from varifocal.tools.check.similar_names import SimilarNames, find_twins
from varifocal.tools.check.split import Split

RARE = 20  # boxes in all splits below which a class is rare
_HOW = {"case": "case, spaces or signs", "number": "singular and plural", "spelling": "one letter"}


@dataclass(frozen=True)
class ClassRow:
    """One class: of each split its boxes, the images it is on, and which of the boxes are crowd or difficult.

    Regions to be ignored for several classes are no boxes of any of them.
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
    """A row for each class name of any split, as they first come."""
    names = list(dict.fromkeys(category.name for split in splits for category in split.raw.categories))
    index_of = {name: index for index, name in enumerate(names)}
    boxes, images = ({split.name: np.zeros(len(names), np.int64) for split in splits} for _ in range(2))
    crowd, difficult = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
    sides: list[list[np.ndarray]] = [[] for _ in names]
    for split in splits:
        own = np.array([index_of[category.name] for category in split.raw.categories], np.int64)
        labels, owners = split.raw.boxes.labels, split.raw.boxes.images
        known = (labels >= 0) & (split.regions < 0)
        count, many = len(own), len(split.raw.images)
        np.add.at(boxes[split.name], own, np.bincount(labels[known], minlength=count)[:count])
        seen = np.unique(labels[known] * max(many, 1) + owners[known]) // max(many, 1)
        np.add.at(images[split.name], own, np.bincount(seen, minlength=count)[:count])
        np.add.at(crowd, own, np.bincount(labels[known & split.raw.boxes.crowd], minlength=count)[:count])
        np.add.at(difficult, own, np.bincount(labels[known & split.raw.boxes.difficult], minlength=count)[:count])
        order = np.argsort(split.sound_labels, kind="stable")
        edges = np.searchsorted(split.sound_labels[order], np.arange(count + 1))
        for label in range(count):
            sides[own[label]].append(split.sides[order[edges[label] : edges[label + 1]]])
    medians = [float(np.median(np.concatenate(part))) if sum(map(len, part)) else 0.0 for part in sides]
    return [
        ClassRow(
            name,
            {split.name: int(boxes[split.name][i]) for split in splits},
            {split.name: int(images[split.name][i]) for split in splits},
            int(crowd[i]),
            int(difficult[i]),
            medians[i],
        )
        for i, name in enumerate(names)
    ]


def find_in_classes(found: Findings, splits: Sequence[Split], rows: Sequence[ClassRow]) -> None:
    """Find classes without boxes, rare ones, twins, and classes that one split has and another has not.

    A class without boxes is not reported where objects of it were refused, which is the cause and is reported.
    """
    total = "+".join(split.name for split in splits)
    file = str(splits[0].raw.source)

    def say(kind: str, text: str, rank: float = 0.0) -> Finding:
        return Finding(kind, total, text, file, rank=rank)

    refused = {name for split in splits for name in split.raw.problems.refused_classes}
    empty = [row for row in rows if row.total == 0 and row.name not in refused]
    found.add("empty-class", total, empty, lambda row: say("empty-class", f"the class {row.name!r} has no boxes"))
    rare = sorted((row for row in rows if 0 < row.total < RARE), key=lambda row: row.total)
    found.add(
        "rare-class", total, rare, lambda row: say("rare-class", f"the class {row.name!r} has {_boxes(row.total)}")
    )

    def twins(pair: SimilarNames) -> Finding:
        first, second = rows[pair.first], rows[pair.second]
        text = f"{first.name!r} ({_boxes(first.total)}) and {second.name!r} ({_boxes(second.total)})"
        return say("twin-classes", f"{text} differ in {_HOW[pair.how]} alone")

    found.add("twin-classes", total, find_twins([row.name for row in rows]), twins)
    _mismatches(found, splits)


def _mismatches(found: Findings, splits: Sequence[Split]) -> None:
    """Training refuses boxes of a class that its own split does not name, and cannot learn one without boxes there."""
    training = next((split for split in splits if split.name.startswith("train")), None)
    if training is None:
        return
    named = {category.name for category in training.raw.categories}
    for split in splits:
        strange = [one.name for one in split.raw.categories if one.name in split.used_names - training.used_names]
        lonely_names = [one for one in strange if one in named - training.raw.problems.refused_classes]

        def make(one: str, split: Split = split) -> Finding:
            text = f"the class {one!r} is not among those of {training.name}"
            return Finding("class-mismatch", split.name, text, str(split.raw.source))

        def lonely(one: str, split: Split = split) -> Finding:
            text = f"the class {one!r} has boxes here and none in {training.name}"
            return Finding("unlearned-class", split.name, text, str(split.raw.source))

        found.add("class-mismatch", split.name, [one for one in strange if one not in named], make)
        found.add("unlearned-class", split.name, lonely_names, lonely)


def _boxes(count: int) -> str:
    return "1 box" if count == 1 else f"{count} boxes"
