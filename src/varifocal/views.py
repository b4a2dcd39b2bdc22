"""Several looks at one picture, at other sizes and mirrored, whose boxes are joined before suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from varifocal.data.preprocess import Preprocess
from varifocal.types import Decoded

Scale = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Views:
    """How often a picture is looked at: once for each of ``scales``, and with ``flip`` once more mirrored.

    A scale multiplies the model's own resize: its limits of the shorter and the longer side, or its fixed factor. The
    default is one plain look.
    """

    scales: Annotated[tuple[Scale, ...], Field(min_length=1)] = (1.0,)
    flip: bool = False

    @property
    def count(self) -> int:
        """How many looks that is."""
        return len(self.scales) * (1 + self.flip)


# The authors' eight passes (vfnet_r50_fpn_1x_coco_tta.py) have shorter sides of 800, 900, 1000 and 1200, as these
# have for a model of 800. Their limits of the longer side, 1200 to 1600, bind less than ours where a picture is
# longer than 4 x 3.
PAPER_VIEWS = Views((1.0, 1.125, 1.25, 1.5), flip=True)


def scaled(preprocess: Preprocess, scale: float) -> Preprocess:
    """The model's own resize, ``scale`` times as large."""
    return replace(
        preprocess,
        short=round(preprocess.short * scale),
        long=round(preprocess.long * scale),
        scale=None if preprocess.scale is None else preprocess.scale * scale,
    )


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
