"""The second pass of a detector that refines a first box, had that box been the object's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from varifocal.boxes import bbox2distance
from varifocal.inference.model import ForwardPass, Model
from varifocal.models.optimize import autocast
from varifocal.structures import Candidates
from varifocal.tools.oracle.positives import AtPoints, Positives


class Pyramid:
    """The maps that the head of a network was last given, so that it can be asked again without a second pass."""

    def __init__(self) -> None:
        self.levels: Sequence[Tensor] = ()

    def keep(self, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        """Called with the head's arguments whenever it runs."""
        self.levels = arguments[0]


@contextmanager
def kept_pyramid(model: Model) -> Iterator[Pyramid]:
    """What prediction's head is given while the block runs."""
    pyramid = Pyramid()
    with model.optimized().get_submodule("head").register_forward_pre_hook(pyramid.keep):
        yield pyramid


def refine_given_boxes(
    model: Model, forward: ForwardPass, pyramid: Pyramid, decoded: Candidates, at: Positives
) -> Positives:
    """The positives with what the head says of the objects' own boxes; all other first boxes stay as predicted.

    Everything behind the first box follows from it: where the star looks, so all scores of the point, and what is
    refined.
    """
    network: Any = model.optimized()
    initial = decoded.boxes.new_zeros(decoded.boxes.shape)
    initial[at.image, at.point] = bbox2distance(at.points, at.truth)
    levels, pyramid.levels = pyramid.levels, ()
    with autocast(model.precision, initial.device.type):
        outputs = network.refine_given_boxes(levels, initial)
    again = model.decode(replace(forward, outputs=outputs))
    return replace(at, again=AtPoints(again.boxes[at.image, at.point], again.scores[at.image, at.point]))
