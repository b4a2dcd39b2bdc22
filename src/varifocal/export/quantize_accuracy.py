"""The cost of int8: AP before and after, and how many of torch's detections the file finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from varifocal.analysis.matching import count_partners
from varifocal.types import Detections

if TYPE_CHECKING:
    from rich.table import Table

SAME_IOU = 0.5  # minimum IoU of boxes that count as the same detection
CONFIDENT = 0.3  # minimum score of torch's detections that the file has to find
MATCHED = 0.9  # fraction of them that it has to find,
MANY = 20  # if there are at least so many
ROUNDING = 1e-9


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of an int8 file on ``images`` after calibration on ``calibrated`` images or tiles.

    The AP (0..1) is ``ap_before`` with torch and ``ap_after`` with the file; it may drop by ``max_drop`` points (of
    100). ``matched`` of torch's ``detections`` with a score of at least 0.3 have a match of the same class with an IoU
    of at least 0.5 in the file, whatever its score; ``exported`` is the number of such confident detections of the
    file. ``kept`` modules are in floating point.
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
        """Return the loss of AP in points, negative if the file is better."""
        return 100 * (self.ap_before - self.ap_after)

    @property
    def sound(self) -> bool:
        """Return whether AP and detections are within their bounds."""
        return self.drop <= self.max_drop + ROUNDING and (
            self.detections < MANY or self.matched >= MATCHED * self.detections
        )

    def complaint(self) -> str:
        """Return which bound is exceeded, as part of a sentence."""
        if self.drop <= self.max_drop + ROUNDING:
            return f"only {self.matched} of {self.detections} detections are found in int8 (at least {MATCHED:.0%})"
        both = f"{100 * self.ap_before:.1f} with torch, {100 * self.ap_after:.1f} now"
        return f"int8 costs {self.drop:.1f} points of AP ({both}; at most {self.max_drop:g})"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON, with the bounds."""
        bound = {"drop": self.max_drop, "matched": MATCHED, "iou": SAME_IOU, "score": CONFIDENT}
        return {**asdict(self), "kept": list(self.kept), "bound": bound}

    def table(self) -> Table:
        """Return a table for the terminal."""
        from rich.table import Table

        title = f"{self.images} images, int8 from {self.calibrated}"
        table = Table("", "torch, fp32", "int8", "bound", title=title)
        table.add_row("AP", f"{100 * self.ap_before:.1f}", f"{100 * self.ap_after:.1f}", f"-{self.max_drop:g}")
        counts = f"{self.matched} of {self.detections} matched"
        table.add_row(f"score over {CONFIDENT:g}", str(self.detections), str(self.exported), "")
        table.add_row("", "", counts, f"{MATCHED:.0%}")
        return table


def count_matched(truth: Sequence[Detections], found: Sequence[Detections]) -> tuple[int, int, int]:
    """Return the number of confident detections in ``truth``, in ``found``, and of those in ``truth`` with a match."""
    counts = np.zeros(3, int)
    for expected, actual in zip(truth, found, strict=True):
        confident = expected.filter(CONFIDENT)
        counts += len(confident), len(actual.filter(CONFIDENT)), count_partners(confident, actual, SAME_IOU)
    return int(counts[0]), int(counts[1]), int(counts[2])
