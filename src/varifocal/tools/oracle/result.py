"""The results of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from varifocal.evaluation.coco_ap import CocoMetrics

BASELINE = "nothing"


@dataclass(frozen=True)
class OracleRow:
    """The result of one row.

    ``centerness`` says whether scores are multiplied by centerness, None for a detector without it. ``gain`` is the AP
    minus that of the baseline with the same scores, in 0..1.
    """

    name: str
    meaning: str
    centerness: bool | None
    metrics: CocoMetrics
    gain: float


@dataclass(frozen=True)
class OracleStudy:
    """All rows of a detector on a data set, the baseline ``nothing`` first.

    ``assign`` is the assignment of the positives: "detector" or "atss top-k 9". ``positives`` is their number in all
    forward passes and tiles. ``absent`` has the names of the rows that the detector does not have, with the reason.
    """

    detector: str
    data: str
    images: int
    objects: int
    assign: str
    positives: int
    rows: tuple[OracleRow, ...]
    absent: Mapping[str, str]

    def row(self, name: str, *, centerness: bool | None = None) -> OracleRow:
        """Return the row of this name; with ``centerness`` None the one with the detector's own scores.

        Raises:
            KeyError: there is no such row.
        """
        found = {row.centerness: row for row in self.rows if row.name == name}
        expected = centerness if centerness is not None or None in found else True
        if expected not in found:
            raise KeyError(f"no row {name!r} with centerness={expected}")
        return found[expected]

    def to_json(self) -> dict[str, Any]:
        """Return plain values; metrics are in 0..1."""
        return {"kind": "oracle", **asdict(self), "absent": dict(self.absent)}
