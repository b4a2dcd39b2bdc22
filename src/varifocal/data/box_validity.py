"""What can be wrong with a single box: the judgment of training, checks and conversion alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from varifocal.data.annotations import NO_LABEL, RawDataset

# Each way in which a box can be wrong, in the order in which they are looked for.
BOX_ISSUES = {
    "no-label": "has no label (the name of its class)",
    "not-a-number": "holds something that is not a finite number, or too few or too many",
    "no-area": "has no area (width and height must be above 0)",
    "outside": "lies wholly outside its image",
}
_CHUNK = 1 << 19  # boxes judged at a time, so that what is made on the way stays small


@dataclass(frozen=True, eq=False)
class BoxValidity:
    """What can be said of each box of a set.

    ``boxes`` are xyxy in pixels, clipped to their images. ``faults`` has, for each kind of ``BOX_ISSUES``, which boxes
    have it; a box has at most one. ``clipped`` marks good ones that reached over the border by more than one pixel,
    ``unknown`` those of images without a known size, of which nothing can be said.
    """

    boxes: Float32[np.ndarray, "N 4"]
    faults: dict[str, Bool[np.ndarray, "N"]]
    clipped: Bool[np.ndarray, "N"]
    unknown: Bool[np.ndarray, "N"]

    @property
    def good(self) -> Bool[np.ndarray, "N"]:
        """Boxes that can be trained on."""
        return ~(np.logical_or.reduce(list(self.faults.values())) | self.unknown)


def validate_boxes(raw: RawDataset) -> BoxValidity:
    """Look at every box: is it finite, has it an area, lies it in its image."""
    total = len(raw.boxes)
    boxes = np.empty((total, 4), np.float32)
    faults = {kind: np.zeros(total, bool) for kind in BOX_ISSUES}
    clipped, unknown = np.zeros(total, bool), np.zeros(total, bool)
    for start in range(0, total, _CHUNK):
        part = slice(start, start + _CHUNK)
        free = raw.boxes.xyxy[part]
        sizes = raw.images.sizes[raw.boxes.images[part]].astype(np.float64)
        limit = np.concatenate([sizes, sizes], axis=1)
        unknown[part] = missing = (sizes <= 0).any(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            boxes[part] = inside = np.clip(free, 0, limit).astype(np.float32)
            finite = np.isfinite(free).all(axis=1)
            empty = (free[:, 2:] <= free[:, :2]).any(axis=1)
            outside = ~empty & ((free[:, :2] >= sizes) | (free[:, 2:] <= 0)).any(axis=1)
            # Too thin to be distinguished from nothing in float32.
            empty |= ~outside & (inside[:, 2:] <= inside[:, :2]).any(axis=1)
            over = ((free < -1) | (free > limit + 1)).any(axis=1)
        # one fault a box: that nobody knows what it is comes before where it lies
        faults["no-label"][part] = nameless = raw.boxes.labels[part] == NO_LABEL
        missing = missing | nameless
        faults["not-a-number"][part] = ~finite & ~missing
        faults["no-area"][part] = finite & empty & ~missing
        faults["outside"][part] = finite & outside & ~missing
        clipped[part] = finite & ~empty & ~outside & over & ~missing
    return BoxValidity(boxes, faults, clipped, unknown)
