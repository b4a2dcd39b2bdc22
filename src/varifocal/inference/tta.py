"""Several looks at one image, at other sizes and mirrored, whose boxes are joined before suppression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from varifocal.structures import Candidates


def hflip_boxes(boxes: Float[Tensor, "N 4"], width: float) -> Float[Tensor, "N 4"]:
    """xyxy boxes of an image that was flipped left to right, in the image as it stands."""
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def concat_candidates(looks: Sequence[Candidates]) -> Candidates:
    """All boxes of several looks in one list; each level of each look remains a level of its own."""
    if len(looks) == 1:
        return looks[0]
    qualities = [look.quality for look in looks if look.quality is not None]
    return Candidates(
        torch.cat([look.boxes for look in looks], dim=1),
        torch.cat([look.scores for look in looks], dim=1),
        tuple(count for look in looks for count in look.counts),
        torch.cat(qualities, dim=1) if qualities else None,
    )
