"""What eight bits cost: AP before and after, and how many of torch's detections the file finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from varifocal.analysis.matching import count_partners
from varifocal.types import Detections

if TYPE_CHECKING:
    from rich.table import Table

SAME_IOU = 0.5  # of two boxes that are one detection
CONFIDENT = 0.3  # score from which torch's detections are looked for
MATCHED = 0.9  # of them are found at least, if there are as many as
MANY = 20
ROUNDING = 1e-9


@dataclass(frozen=True)
class Accuracy:
    """On ``images`` AP (0..1) was ``ap_before`` with torch, ``ap_after`` with the file.

    It may drop by ``max_drop`` points (of 100); ``calibrated`` images, or windows, were what eight bits were laid out
    on.

    ``matched`` of torch's ``detections`` with a score of at least 0.3 have a partner of the same class and an IoU of at
    least 0.5 in the file, whatever its score; ``exported`` is how many of such a score the file has. ``kept`` modules
    are in floating point.
    """

    images: int
    calibrated: int
    ap_before: float
    ap_after: float
    max_drop: float
    detections: int
    exported: int
    matched: int
    kept: tuple[str, ...] = ()
    precision: str = "int8"

    @property
    def drop(self) -> float:
        """In points; below zero where the file is better."""
        return 100 * (self.ap_before - self.ap_after)

    @property
    def sound(self) -> bool:
        """Whether AP and the detections are within their bounds."""
        return self.drop <= self.max_drop + ROUNDING and (
            self.detections < MANY or self.matched >= MATCHED * self.detections
        )

    def complaint(self) -> str:
        """What is out of bounds, in words."""
        if self.drop <= self.max_drop + ROUNDING:
            return f"only {self.matched} of {self.detections} detections are found in int8 (at least {MATCHED:.0%})"
        both = f"{100 * self.ap_before:.1f} with torch, {100 * self.ap_after:.1f} now"
        return f"int8 costs {self.drop:.1f} points of AP ({both}; at most {self.max_drop:g})"

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the bounds."""
        bound = {"drop": self.max_drop, "matched": MATCHED, "iou": SAME_IOU, "score": CONFIDENT}
        return {**asdict(self), "kept": list(self.kept), "bound": bound}

    def table(self) -> Table:
        """For the terminal."""
        from rich.table import Table

        title = f"{self.images} images, int8 from {self.calibrated}"
        table = Table("", "torch, fp32", "int8", "bound", title=title)
        table.add_row("AP", f"{100 * self.ap_before:.1f}", f"{100 * self.ap_after:.1f}", f"-{self.max_drop:g}")
        counts = f"{self.matched} of {self.detections} matched"
        table.add_row(f"score over {CONFIDENT:g}", str(self.detections), str(self.exported), "")
        table.add_row("", "", counts, f"{MATCHED:.0%}")
        return table


def count_matched(truth: Sequence[Detections], found: Sequence[Detections]) -> tuple[int, int, int]:
    """Return the confident detections in ``truth``, those in ``found``, and how many of the first have a partner."""
    counts = np.zeros(3, int)
    for expected, detected in zip(truth, found, strict=True):
        confident = expected.filter(CONFIDENT)
        counts += len(confident), len(detected.filter(CONFIDENT)), count_partners(confident, detected, SAME_IOU)
    return int(counts[0]), int(counts[1]), int(counts[2])
