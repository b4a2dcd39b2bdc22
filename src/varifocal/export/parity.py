"""Whether an exported network says what the checkpoint says, on real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from varifocal.analysis.matching import count_partners
from varifocal.data.preprocess import normalize
from varifocal.inference.exported.model import ExportedModel
from varifocal.inference.model import Model
from varifocal.ops.nms import multiclass_nms
from varifocal.structures import Candidates
from varifocal.types import TTA, Detections, Tiling
from varifocal.utils.errors import ExportError

if TYPE_CHECKING:
    from rich.table import Table

SAME_IOU = 0.99  # of two boxes that are one detection


class Bound(NamedTuple):
    """The most by which a score may differ, a box (in parts of its longer side, at least of ``SIDE`` pixels), and how
    many of the detections may lack a partner.

    Float32 differs by rounding alone, 1e-5 as a rule: ten times that is a defect. Half precision has eleven bits, which
    fifty layers make less.
    """

    score: float
    box: float
    unmatched: float


SIDE = 100.0
SAID_MANY = 20
BOUNDS = {"fp32": Bound(1e-4, 1e-4, 0.01), "fp16": Bound(2e-2, 5e-2, 0.1)}


@dataclass(frozen=True)
class Parity:
    """What the comparison found: the largest deviations of raw outputs, and the detections of both.

    ``box_pixels`` is the largest deviation of a side, ``box`` the largest in parts of the box's longer side (at least
    100 pixels), ``score`` that of a class score or quality; they are None where the graph suppresses by itself.
    ``matched`` of torch's ``detections`` have a partner of the same class, an IoU of 0.99 and a score within the bound.
    """

    images: int
    precision: str
    box_pixels: float | None
    box: float | None
    score: float | None
    detections: int
    exported: int
    matched: int

    @property
    def bound(self) -> Bound:
        """What may differ in this precision."""
        return BOUNDS[self.precision]

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the bounds."""
        return {**asdict(self), "bound": self.bound._asdict()}

    def check(self, name: Path) -> None:
        """Raises ExportError: something differs by more than it may."""
        bound = self.bound
        far = []
        if self.score is not None and not self.score <= bound.score:
            far.append(f"scores by {self.score:.2g} (at most {bound.score:g})")
        if self.box is not None and not self.box <= bound.box:
            far.append(f"boxes by {self.box:.2g} of their size (at most {bound.box:g})")
        lost = max(self.detections, self.exported) - self.matched
        # of many a borderline one may change sides
        if lost > bound.unmatched * self.detections + (1 if self.detections >= SAID_MANY else 0):
            far.append(f"{lost} detections of {self.detections} have no partner")
        if far:
            others = ["--nms host"] if self.score is None else []
            others += ["--precision fp32"] if self.precision != "fp32" else []
            raise ExportError(
                f"{name}: is not kept, because it differs from torch: {', '.join(far)}; try "
                f"{' or '.join([*others, 'another --deform-op'])}."
            )

    def table(self) -> Table:
        """For the terminal."""
        from rich.table import Table

        table = Table("against torch", "largest", "at most", title=f"{self.images} images, {self.precision}")
        if self.box is not None and self.box_pixels is not None and self.score is not None:
            table.add_row("box, pixels", f"{self.box_pixels:.2g}", "")
            table.add_row("box, of its size", f"{self.box:.2g}", f"{self.bound.box:g}")
            table.add_row("score", f"{self.score:.2g}", f"{self.bound.score:g}")
        table.add_row("detections", f"{self.matched} of {self.detections} matched", f"{self.exported} exported")
        return table


def compare(model: Model, exported: ExportedModel, images: Sequence[Image.Image]) -> Parity:
    """Both on the same pixels, an image at a time: the network in float32 as it was trained, against the file."""
    network, graph = model.detector.eval(), exported.info.graph
    pixels, relative, score = [0.0], [0.0], [0.0]
    counts = np.zeros(3, int)
    for image in images:
        shape = exported.fitted_shape(image, model.info.preprocess)
        batch = exported.batch([image], [shape])
        truth = _decode(network, model, batch, shape)
        if graph.nms == "host":
            outputs = exported.session.run(batch)
            height, width = (side - graph.border for side in shape)
            expected = truth.boxes[0].numpy()
            found = np.clip(outputs["boxes"][0], 0, [width, height, width, height])
            off = np.abs(found - expected)
            pixels.append(_largest(off))
            sides = np.maximum((expected[:, 2:] - expected[:, :2]).max(axis=1), SIDE)
            relative.append(_largest(off / sides[:, None]))
            score.append(_largest(np.abs(outputs["scores"][0] - truth.scores[0].numpy())))
            if truth.quality is not None:
                score.append(_largest(np.abs(outputs["quality"][0] - truth.quality[0].numpy())))
        counts += _matched(_select(truth, model, image, shape), exported, image)
    raw = graph.nms == "host"
    return Parity(
        len(images),
        graph.precision,
        max(pixels) if raw else None,
        max(relative) if raw else None,
        max(score) if raw else None,
        *(int(count) for count in counts),
    )


def _largest(values: np.ndarray) -> float:
    """With no number where there is one that is none."""
    return float(values.max(initial=0.0))


@torch.no_grad()
def _decode(network: Any, model: Model, batch: np.ndarray, shape: tuple[int, int]) -> Candidates:
    pixels = torch.from_numpy(batch).round().byte()
    images = normalize(pixels, [shape], model.info.preprocess)
    decoded: Candidates = network.decode(network(images), [shape])
    return decoded


def _select(decoded: Candidates, model: Model, image: Image.Image, shape: tuple[int, int]) -> Detections:
    boxes = decoded.boxes[0] * torch.tensor([image.width / shape[1], image.height / shape[0]] * 2)
    quality = None if decoded.quality is None else decoded.quality[0]
    box, score, label = multiclass_nms(boxes, decoded.scores[0], decoded.counts, model.info.postprocess, quality)
    return Detections(box.numpy(), score.numpy(), label.numpy(), model.categories)


def _matched(truth: Detections, exported: ExportedModel, image: Image.Image) -> tuple[int, int, int]:
    """Return the number of torch's detections, that of the file's, and how many of the first have a partner."""
    # without tiles and in one pass, like torch's
    plain = replace(exported.info, tiling=Tiling(), tta=TTA())
    found = ExportedModel(exported.session, plain).predict(image)
    bound = BOUNDS[exported.info.graph.precision].score
    return len(truth), len(found), count_partners(truth, found, SAME_IOU, bound)
