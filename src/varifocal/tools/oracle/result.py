"""What a study found, in plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from varifocal.evaluation.coco_ap import CocoMetrics

BASELINE = "nothing"


@dataclass(frozen=True)
class OracleRow:
    """One row: what was given, whether scores were multiplied by centerness, and the metrics.

    ``centerness`` is None for a detector without one. ``gain`` is the AP over the baseline of the same column, 0..1.
    """

    name: str
    meaning: str
    centerness: bool | None
    metrics: CocoMetrics
    gain: float


@dataclass(frozen=True)
class OracleStudy:
    """All rows of a detector on a data set, the baseline ``nothing`` first.

    ``assign`` says what found the positives: "detector" or "atss top-k 9". ``absent`` has, by name, why a row is not
    there. ``positives`` is their number at the study's assignment, in all looks and windows.
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
        """The row of that name; with ``centerness`` None the one that the detector itself would use.

        Raises:
            KeyError: there is none.
        """
        found = {row.centerness: row for row in self.rows if row.name == name}
        expected = centerness if centerness is not None or None in found else True
        if expected not in found:
            raise KeyError(f"no row {name!r} with centerness={expected}")
        return found[expected]

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists, numbers and words; metrics in 0..1."""
        return {"kind": "oracle", **asdict(self), "absent": dict(self.absent)}
