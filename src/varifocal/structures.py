"""The tensor types that packages pass to each other, with their shapes, units and orders.

Boxes are always xyxy in pixels with width = x2 - x1; distances are always left, top, right, bottom.
Labels run from 0 to C - 1; there is no background label. Types without tensors are in ``types``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Targets:
    """The ground truth of one image of a batch, in pixels of the network's input.

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

    Images are RGB bytes, which are sent between processes and to the device; ``data.preprocess.normalize`` turns them
    into a network's input. ``bad`` has the index of each image of the data set that could not be read and was replaced
    by another, and the reason.
    """

    images: UInt8[Tensor, "B 3 H W"]
    targets: tuple[Targets, ...]
    files: tuple[str, ...]
    bad: tuple[tuple[int, str], ...] = ()

    def pin_memory(self) -> Batch:
        """Return the batch with images in page-locked memory; torch's loader calls this if there is a CUDA device."""
        return replace(self, images=self.images.pin_memory())


@dataclass(frozen=True, eq=False)
class Priors:
    """The points of all levels in one list, finest level first, rows before columns.

    ``points`` are (x, y) in pixels, one stride apart in rows and columns, ``strides`` in pixels, ``shapes`` the
    (height, width) of each level in cells. ``anchors`` are the boxes, xyxy pixels, at the points of a
    detector that has them; a cell with several anchors, ``per_cell``, is listed as often.
    """

    points: Float[Tensor, "N 2"]
    strides: Float[Tensor, "N"]
    shapes: tuple[tuple[int, int], ...]
    anchors: Float[Tensor, "N 4"] | None = None
    per_cell: int = 1

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of points of each level in the list."""
        return tuple(height * width * self.per_cell for height, width in self.shapes)


@dataclass(frozen=True, eq=False)
class Assignment:
    """For each prior the index of its ground-truth box, or -1 for background.

    ``ignored`` marks background points that the classification loss ignores; None marks no point.
    """

    gt: Int64[Tensor, "N"]
    ignored: Bool[Tensor, "N"] | None = None


class Outputs(NamedTuple):
    """The raw outputs of a network at every point: named tensors [B, N, ...], all levels in one list.

    ``shapes`` holds (height, width) of each level, finest first. The names are the detector's own and are documented
    there. It is a named tuple, because gradient hooks and exporters look inside tuples.
    """

    tensors: dict[str, Tensor]
    shapes: tuple[tuple[int, int], ...]


class Candidates(NamedTuple):
    """Scored boxes of a batch before suppression, all levels in one list.

    ``boxes`` are xyxy in pixels of the input, ``scores`` class probabilities; ``counts`` is the number of boxes of
    each level. ``quality`` is a separate score of the box, such as centerness, by which some detectors multiply the
    scores after the threshold.
    """

    boxes: Float[Tensor, "B N 4"]
    scores: Float[Tensor, "B N C"]
    counts: tuple[int, ...]
    quality: Float[Tensor, "B N"] | None = None

    def of_image(self, i: int) -> Candidates:
        """Return the candidates of one image of the batch, as a batch of one."""
        quality = None if self.quality is None else self.quality[i : i + 1]
        return Candidates(self.boxes[i : i + 1], self.scores[i : i + 1], self.counts, quality)
