"""What a row gives, written over what was predicted at the positives."""

from __future__ import annotations

from varifocal.oracle.positives import Positives
from varifocal.oracle.rows import Given
from varifocal.types import Decoded


def overwrite(decoded: Decoded, at: Positives, given: Given) -> Decoded:
    """A copy with what is given at the positives; all else is as it was."""
    boxes, scores = decoded.boxes.clone(), decoded.scores.clone()
    quality = None if decoded.quality is None else decoded.quality.clone()
    for values, value, place in (
        (boxes, given.box, (at.image, at.point)),
        (scores, given.scores, (at.image, at.point)),
        (scores, given.score, (at.image, at.point, at.labels)),
        (quality, given.centerness, (at.image, at.point)),
    ):
        if values is not None and value is not None:
            values[place] = value(at).to(values.dtype)
    return Decoded(boxes, scores, decoded.counts, quality)
