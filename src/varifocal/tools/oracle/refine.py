"""The refinement of a detector with the object's box as the first box."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from varifocal.inference.model import ForwardPass, Model
from varifocal.models.optimize import autocast
from varifocal.ops.boxes import bbox2distance
from varifocal.structures import Candidates
from varifocal.tools.oracle.positives import AtPoints, Positives


class Pyramid:
    """The last input of a network's head, so that the head can run again without the backbone."""

    def __init__(self) -> None:
        self.levels: Sequence[Tensor] = ()

    def keep(self, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        """Store the arguments of the head; a forward hook."""
        self.levels = arguments[0]


@contextmanager
def kept_pyramid(model: Model) -> Iterator[Pyramid]:
    """Yield the input of the head of the model's network while the block runs."""
    pyramid = Pyramid()
    with model.optimized().get_submodule("head").register_forward_pre_hook(pyramid.keep):
        yield pyramid


def refine_given_boxes(
    model: Model, forward: ForwardPass, pyramid: Pyramid, decoded: Candidates, positives: Positives
) -> Positives:
    """Return the positives with the predictions of the head for the objects' own boxes as first boxes.

    The points that the star samples, hence all scores of the point, and the refined box follow from the first box.
    """
    network: Any = model.optimized()
    initial = decoded.boxes.new_zeros(decoded.boxes.shape)
    initial[positives.image, positives.point] = bbox2distance(positives.points, positives.truth)
    levels, pyramid.levels = pyramid.levels, ()
    with autocast(model.precision, initial.device.type):
        outputs = network.refine_given_boxes(levels, initial)
    refined = model.decode(replace(forward, outputs=outputs))
    index = positives.image, positives.point
    return replace(positives, refined=AtPoints(refined.boxes[index], refined.scores[index]))
