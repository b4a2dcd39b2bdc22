"""Everything a check found out, as one value: for the terminal, for JSON, for the page, for the cleaned copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from varifocal.tools.check.classes import ClassRow
from varifocal.tools.check.findings import Findings, kind_of
from varifocal.tools.check.image_scan import ScannedImages
from varifocal.tools.check.recommend_size import Advice
from varifocal.tools.check.split import Split
from varifocal.tools.check.statistics import Statistics
from varifocal.utils.config import to_dict

VERSION = 1  # of the JSON


@dataclass(frozen=True)
class MatchReport:
    """What the assignment of ``recipe`` gives: ``unmatched`` of ``boxes`` get no point at the recipe's size, and
    ``unmatched_then`` at the recommended one, where there is one.

    ``sampled``: only some images were looked at.
    """

    recipe: str
    boxes: int
    unmatched: int
    sampled: bool
    unmatched_then: int | None = None


@dataclass(frozen=True)
class Decoding:
    """Whether images were decoded, how many, and in how many seconds; estimated where they were not."""

    done: bool
    images: int
    seconds: float


@dataclass(frozen=True)
class ModelReport:
    """What a model was asked: how many images and labels it saw, and how many labels it found."""

    name: str
    images: int
    labels: int
    found: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Report:
    """The result of a check. ``splits`` and ``scans`` are what it was made of, for thumbnails and the cleaned copy."""

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
        """1 where training would stop, or lose data; 0 where not, warnings or not."""
        return 1 if self.findings.loses else 0

    def to_json(self) -> dict[str, Any]:
        """Plain values; of each kind and split at most a thousand findings are listed, all are counted."""
        return {
            "version": VERSION,
            "data": self.data,
            "training_would_lose_data": self.findings.loses,
            "counts": {kind: self._counts(kind) for kind in self.findings.kinds()},
            "findings": [one.to_json() for kind in self.findings.kinds() for one in self.findings.of(kind)],
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
