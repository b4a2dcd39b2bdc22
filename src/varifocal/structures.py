"""The nouns of the package. Shapes, units and orders are stated here, once.

Boxes are always xyxy in pixels with width = x2 - x1; distances are always left, top, right, bottom.
Labels run from 0 to C - 1; there is no background label. Those that need no torch stand in ``records``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Targets:
    """What one image of a batch should give, in pixels of the network's input.

    ``size`` is (height, width) of the image inside its padded slot in the batch. ``crowd`` marks regions that
    are neither object nor background.
    """

    boxes: Float[Tensor, "N 4"]
    labels: Int64[Tensor, "N"]
    crowd: Bool[Tensor, "N"]
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Batch:
    """Images padded at the right and the bottom to a common size, their targets, and the files they came from.

    Images are RGB bytes, as they travel between processes and to the device; ``data.preprocess.normalize`` makes of
    them what a network takes. ``bad`` has the index and the reason of each image of the data set that could not be
    read and was replaced by another.
    """

    images: UInt8[Tensor, "B 3 H W"]
    targets: tuple[Targets, ...]
    files: tuple[str, ...]
    bad: tuple[tuple[int, str], ...] = ()

    def pin_memory(self) -> Batch:
        """The same with images in page-locked memory; torch's loader calls it where there is a CUDA device."""
        return replace(self, images=self.images.pin_memory())


@dataclass(frozen=True, eq=False)
class Priors:
    """The points of all levels in one list, finest level first, rows before columns.

    ``points`` are (x, y) in pixels, one stride apart in rows and columns, ``strides`` in pixels, ``shapes`` the
    (height, width) of each level in cells. ``anchors`` are the boxes, xyxy pixels, that the points stand for where a
    detector has such; a cell with several anchors, ``per_cell``, is in the list as often.
    """

    points: Float[Tensor, "N 2"]
    strides: Float[Tensor, "N"]
    shapes: tuple[tuple[int, int], ...]
    anchors: Float[Tensor, "N 4"] | None = None
    per_cell: int = 1

    @property
    def counts(self) -> tuple[int, ...]:
        """How many points each level has in the list."""
        return tuple(height * width * self.per_cell for height, width in self.shapes)


@dataclass(frozen=True, eq=False)
class Assignment:
    """For each prior the index of its ground-truth box, or -1 for background.

    ``ignored`` marks those of the background that the classification loss should not look at; None is none.
    """

    gt: Int64[Tensor, "N"]
    ignored: Bool[Tensor, "N"] | None = None


class Outputs(NamedTuple):
    """What a network says about every point: named tensors [B, N, ...], all levels in one list.

    ``shapes`` holds (height, width) of each level, finest first. The names are the detector's own and are stated
    where it makes them. A named tuple, because gradient hooks and exporters look inside tuples.
    """

    tensors: dict[str, Tensor]
    shapes: tuple[tuple[int, int], ...]


class Candidates(NamedTuple):
    """Scored boxes of a batch before suppression, all levels in one list.

    ``boxes`` are xyxy in pixels of the input, ``scores`` class probabilities; ``counts`` is the number of boxes of
    each level. ``quality`` is what a detector with a separate score for the box, such as centerness, multiplies the
    scores by after the threshold.
    """

    boxes: Float[Tensor, "B N 4"]
    scores: Float[Tensor, "B N C"]
    counts: tuple[int, ...]
    quality: Float[Tensor, "B N"] | None = None

    def of_image(self, i: int) -> Candidates:
        """Return the candidates of one image of the batch, as a batch of one."""
        quality = None if self.quality is None else self.quality[i : i + 1]
        return Candidates(self.boxes[i : i + 1], self.scores[i : i + 1], self.counts, quality)
