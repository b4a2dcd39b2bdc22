"""What a row gives, written over what was predicted at the positives."""

from __future__ import annotations

from varifocal.structures import Candidates
from varifocal.tools.oracle.positives import Positives
from varifocal.tools.oracle.rows import Override


def apply_override(decoded: Candidates, at: Positives, given: Override) -> Candidates:
    """A copy with what is given at the positives; all else is as it was."""
    boxes, scores = decoded.boxes.clone(), decoded.scores.clone()
    quality = None if decoded.quality is None else decoded.quality.clone()
    for values, value, index in (
        (boxes, given.box, (at.image, at.point)),
        (scores, given.scores, (at.image, at.point)),
        (scores, given.score, (at.image, at.point, at.labels)),
        (quality, given.centerness, (at.image, at.point)),
    ):
        if values is not None and value is not None:
            values[index] = value(at).to(values.dtype)
    return Candidates(boxes, scores, decoded.counts, quality)
