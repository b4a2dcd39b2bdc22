"""Several looks at one picture, at other sizes and mirrored, whose boxes are joined before suppression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from varifocal.settings import PAPER_VIEWS as PAPER_VIEWS
from varifocal.settings import Views as Views
from varifocal.settings import scaled as scaled
from varifocal.types import Decoded


def mirror(boxes: Float[Tensor, "N 4"], width: float) -> Float[Tensor, "N 4"]:
    """xyxy boxes of a picture that was flipped left to right, in the picture as it stands."""
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def join(looks: Sequence[Decoded]) -> Decoded:
    """All boxes of several looks in one list; each level of each look remains a level of its own."""
    if len(looks) == 1:
        return looks[0]
    qualities = [look.quality for look in looks if look.quality is not None]
    return Decoded(
        torch.cat([look.boxes for look in looks], dim=1),
        torch.cat([look.scores for look in looks], dim=1),
        tuple(count for look in looks for count in look.counts),
        torch.cat(qualities, dim=1) if qualities else None,
    )
