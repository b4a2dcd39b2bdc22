"""Comparison of an exported network with the checkpoint on real images, before its files are written."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from varifocal.analysis.matching import count_partners
from varifocal.data.preprocess import normalize
from varifocal.inference.exported.info import ExportInfo, sidecar_path, to_json
from varifocal.inference.exported.model import ExportedModel
from varifocal.inference.exported.onnx_session import InferenceSession
from varifocal.inference.model import Model
from varifocal.ops.nms import multiclass_nms
from varifocal.structures import Candidates
from varifocal.types import TTA, Detections, Tiling
from varifocal.utils.atomic_write import atomic_write_all
from varifocal.utils.errors import ExportError

if TYPE_CHECKING:
    from rich.table import Table

SAME_IOU = 0.99  # minimum IoU of boxes that count as the same detection


class Bound(NamedTuple):
    """Largest acceptable differences: of a score, of a box, and the fraction of detections without a match.

    The difference of a box is a fraction of its longer side, or of ``SIDE`` pixels if it is shorter. In float32 only
    rounding differs, typically by 1e-5: ten times that is a defect. Half precision has eleven bits, fewer after fifty
    layers.
    """

    score: float
    box: float
    unmatched: float


SIDE = 100.0
MANY = 20  # detections of which one may always lack a match
BOUNDS = {"fp32": Bound(1e-4, 1e-4, 0.01), "fp16": Bound(2e-2, 5e-2, 0.1)}


@dataclass(frozen=True)
class Parity:
    """The result of a comparison: the largest differences of raw outputs, and the detections of both.

    ``box_pixels`` is the largest difference of a coordinate, ``box`` the largest one as a fraction of the box's longer
    side (at least 100 pixels), ``score`` that of a class score or quality; they are None if the graph runs NMS itself.
    ``matched`` of torch's ``detections`` have a match of the same class with an IoU of at least 0.99 and a score within
    the bound.
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
        """Return the largest acceptable differences in this precision."""
        return BOUNDS[self.precision]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON, with the bounds."""
        return {**asdict(self), "bound": self.bound._asdict()}

    def check(self, name: Path) -> None:
        """Raise ExportError if a difference is above its bound; ``name`` is the file in the message."""
        bound = self.bound
        problems = []
        if self.score is not None and not self.score <= bound.score:
            problems.append(f"scores by {self.score:.2g} (at most {bound.score:g})")
        if self.box is not None and not self.box <= bound.box:
            problems.append(f"boxes by {self.box:.2g} of their size (at most {bound.box:g})")
        lost = max(self.detections, self.exported) - self.matched
        # one of many may lie on the threshold
        if lost > bound.unmatched * self.detections + (1 if self.detections >= MANY else 0):
            problems.append(f"{lost} detections of {self.detections} have no match")
        if problems:
            fixes = ["--nms host"] if self.score is None else []
            fixes += ["--precision fp32"] if self.precision != "fp32" else []
            raise ExportError(
                f"{name}: is not kept, because it differs from torch: {', '.join(problems)}; try "
                f"{' or '.join([*fixes, 'another --deform-op'])}.",
                code="differs-from-torch",
            )

    def table(self) -> Table:
        """Return a table for the terminal."""
        from rich.table import Table

        table = Table("against torch", "largest", "at most", title=f"{self.images} images, {self.precision}")
        if self.box is not None and self.box_pixels is not None and self.score is not None:
            table.add_row("box, pixels", f"{self.box_pixels:.2g}", "")
            table.add_row("box, of its size", f"{self.box:.2g}", f"{self.bound.box:g}")
            table.add_row("score", f"{self.score:.2g}", f"{self.bound.score:g}")
        table.add_row("detections", f"{self.matched} of {self.detections} matched", f"{self.exported} exported")
        return table


class Built(NamedTuple):
    """An exported network that is ready to run; ``files`` returns the content of each file, given a description."""

    runner: InferenceSession
    info: ExportInfo
    files: Callable[[ExportInfo], dict[Path, bytes]]


def sidecar(target: Path, info: ExportInfo) -> dict[Path, bytes]:
    """Return the path and the content of the description beside a file."""
    return {sidecar_path(target): json.dumps(to_json(info), indent=1).encode()}


def write_compared(model: Model, built: Built, target: Path, images: Sequence[Image.Image]) -> Parity:
    """Compare an exported network with torch, and write its files with the result in their description.

    Raises:
        ExportError: their results differ; nothing is written.
        CheckpointError: a file cannot be written.
    """
    parity = compare(model, ExportedModel(built.runner, built.info), images)
    parity.check(target)
    atomic_write_all(built.files(replace(built.info, parity=parity.to_json())))
    return parity


def compare(model: Model, exported: ExportedModel, images: Sequence[Image.Image]) -> Parity:
    """Compare the network in float32 with the exported file, on the same pixels, one image at a time."""
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
            difference = np.abs(found - expected)
            pixels.append(_largest(difference))
            sides = np.maximum((expected[:, 2:] - expected[:, :2]).max(axis=1), SIDE)
            relative.append(_largest(difference / sides[:, None]))
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
    """Return the largest value, NaN if there is one, 0 without values."""
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
    """Return the number of detections of torch, of the file, and of those that match."""
    # without tiling and test-time augmentation, as in _decode
    plain = replace(exported.info, tiling=Tiling(), tta=TTA())
    found = ExportedModel(exported.session, plain).predict(image)
    bound = BOUNDS[exported.info.graph.precision].score
    return len(truth), len(found), count_partners(truth, found, SAME_IOU, bound)
