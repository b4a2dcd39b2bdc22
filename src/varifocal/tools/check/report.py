"""The report of a data check, from which the terminal, the JSON, the page and the cleaned copy are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from varifocal.data.recommend_size import Advice
from varifocal.tools.check.classes import ClassRow
from varifocal.tools.check.findings import Findings, kind_of
from varifocal.tools.check.image_scan import ScannedImages
from varifocal.tools.check.split import Split
from varifocal.tools.check.statistics import Statistics
from varifocal.utils.config import to_dict

VERSION = 1  # of the JSON


@dataclass(frozen=True)
class MatchReport:
    """The result of the assignment of ``recipe``: ``unmatched`` of ``boxes`` get no point at the recipe's size.

    ``unmatched_then`` is their number at the recommended size, None if no other size is recommended. If ``sampled``,
    only some images were assigned.
    """

    recipe: str
    boxes: int
    unmatched: int
    sampled: bool
    unmatched_then: int | None = None


@dataclass(frozen=True)
class Decoding:
    """Whether images were decoded, how many, and in how many seconds; an estimate if not ``done``."""

    done: bool
    images: int
    seconds: float


@dataclass(frozen=True)
class ModelReport:
    """The model that judged the labels: how many images and labels it saw, and how many labels it detected."""

    name: str
    images: int
    labels: int
    found: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Report:
    """The result of a check; ``splits`` and ``scans`` are its input, for thumbnails and the cleaned copy."""

    data: str
    splits: Sequence[Split]
    findings: Findings
    classes: Sequence[ClassRow]
    statistics: Statistics
    decoding: Decoding
    matching: MatchReport | None
    advice: Advice | None
    model: ModelReport | None = None
    notes: tuple[str, ...] = ()
    scans: Sequence[ScannedImages] = ()

    @property
    def exit_code(self) -> int:
        """1 if training would stop or lose data, else 0, with or without warnings."""
        return 1 if self.findings.loses else 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values; at most a thousand findings of each kind and split are listed, all are counted."""
        return {
            "version": VERSION,
            "data": self.data,
            "training_would_lose_data": self.findings.loses,
            "counts": {kind: self._counts(kind) for kind in self.findings.kinds()},
            "findings": [finding.to_json() for kind in self.findings.kinds() for finding in self.findings.of(kind)],
            "classes": [{**asdict(row), "total": row.total} for row in self.classes],
            "statistics": self.statistics.to_json(),
            "decoding": asdict(self.decoding),
            "matching": None if self.matching is None else asdict(self.matching),
            "advice": None if self.advice is None else to_dict(self.advice),
            "model": None if self.model is None else asdict(self.model),
            "notes": list(self.notes),
        }

    def _counts(self, kind: str) -> dict[str, Any]:
        known = kind_of(kind)
        splits = {split: count for (name, split), count in self.findings.counts.items() if name == kind and count}
        return {"level": known.level, "title": known.title, "count": sum(splits.values()), "splits": splits}
