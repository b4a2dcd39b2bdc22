"""The network as a graph to export: pixels in, boxes and scores out."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from varifocal.export.config import ExportSettings, check_backbone, multiple_of
from varifocal.export.fix_backbone import fix_padding, fix_positions
from varifocal.export.lowering import lower
from varifocal.export.nms import select_in_graph
from varifocal.inference.exported.info import OUTSIDE, ExportInfo, GraphInfo
from varifocal.inference.model import Model, ModelInfo, build
from varifocal.models.flops import count_flops
from varifocal.models.optimize import autocast, optimize_for_inference
from varifocal.structures import Candidates
from varifocal.types import TTA, PostProcess, Preprocess
from varifocal.utils.errors import ConfigError

BATCH = 2  # size of the example batch: torch treats a size of one as a constant
COUNTED = (800, 1216)  # size at which the FLOPs of a graph of any size are counted
MAX_SIZE = 1024  # upper bound that torch needs for the batch size and for a side in multiples


class DetectorGraph(nn.Module):
    """Maps RGB pixels 0..255, float32 [B, 3, H, W], to boxes and scores.

    Without ``select`` the outputs are those of all points: ``boxes`` [B, N, 4], ``scores`` [B, N, C] and, for detectors
    that have it, ``quality`` [B, N]. Boxes are xyxy pixels of the input, clipped to it.

    With ``select`` the graph runs NMS: ``boxes`` [B, K, 4], ``scores`` and ``labels`` [B, K]. Before that, boxes are
    clipped to the area that each image covers in its input, less the ``border``: all pixels to the right of an image
    and below it are ``OUTSIDE``.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, preprocess: Preprocess, select: PostProcess | None = None, border: int = 0
    ) -> None:
        super().__init__()
        self.network, self.bgr, self.select, self.border = network, preprocess.bgr, select, border
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).view(3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs that the class describes."""
        pixels = images.flip(1) if self.bgr else images
        if self.select is not None:  # the padding has the mean color, as in training
            pixels = torch.where(pixels > OUTSIDE / 2, pixels, self.mean)
        decoded: Candidates = self.network.decode(self.network((pixels - self.mean) / self.std), None)  # type: ignore[operator]
        if self.select is not None:
            boxes = _clipped(decoded.boxes, *self._covered(images))
            return select_in_graph(decoded._replace(boxes=boxes), self.select)
        boxes = _clipped(decoded.boxes, *images.shape[2:])
        if decoded.quality is None:
            return boxes, decoded.scores
        return boxes, decoded.scores, decoded.quality

    def _covered(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return height and width [B, 1] of the area in which boxes of each image may lie."""
        rows, columns = ((images.amax(dim=(1, axis)) > OUTSIDE / 2).sum(dim=1, keepdim=True) for axis in (3, 2))
        return rows - self.border, columns - self.border


def _clipped(boxes: Tensor, height: Any, width: Any) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(dim=2)
    sides = [(x1, width), (y1, height), (x2, width), (y2, height)]
    if isinstance(height, Tensor):
        return torch.stack([side.clamp(min=0).minimum(limit.to(side.dtype)) for side, limit in sides], dim=2)
    return torch.stack([side.clamp(0, limit) for side, limit in sides], dim=2)


def output_names(info: ModelInfo, settings: ExportSettings) -> list[str]:
    """Return the names of the graph's outputs, in order."""
    if settings.nms == "graph":
        return ["boxes", "scores", "labels"]
    return ["boxes", "scores", *(["quality"] if _has_quality(info) else [])]


def _has_quality(info: ModelInfo) -> bool:
    return info.name == "fcos" or bool(getattr(info.config, "centerness", False))


def capture(model: Model, settings: ExportSettings, graph: GraphInfo) -> ExportedProgram:
    """Return the network as a program of torch's own operators and, for "deformconv" and NMS, two of this package.

    With "fp16", the program holds the weights in half precision, but not all casts between the types: whatever
    translates it has to run under :func:`varifocal.models.optimize.autocast`, too.

    Raises:
        ConfigError: what the backbone computes depends on the values of pixels or sizes.
    """
    check_backbone(settings, model.detector, model.info.config.backbone.name)
    network: Any = optimize_for_inference(model.detector, settings.computed)
    lower(network, settings.form)
    multiple = graph.multiple
    if graph.size is not None:
        size = graph.size
        shapes: dict[int, Any] = {0: Dim("batch", min=1, max=MAX_SIZE)}
    else:
        # several points along each side of every level, and different numbers of rows and columns
        least = -(-2 * graph.strides[-1] // multiple)
        size = ((least + 1) * multiple, (2 * least + 1) * multiple)
        sides = {axis: multiple * Dim(f"{name}_{multiple}", min=1, max=MAX_SIZE) for axis, name in ((2, "h"), (3, "w"))}
        shapes = {0: Dim("batch", min=1, max=MAX_SIZE), **sides}
    example = torch.zeros(BATCH, 3, *size)
    with autocast(settings.computed, "cpu"):
        fix_padding(network.backbone, example)
    if graph.size is not None:
        fix_positions(network.backbone, size)
    select = model.info.postprocess if graph.nms == "graph" else None
    wrapped = DetectorGraph(network, model.info.preprocess, select, graph.border)
    try:
        with torch.no_grad(), autocast(settings.computed, "cpu"):
            return torch.export.export(wrapped.eval(), (example,), dynamic_shapes={"images": shapes}, strict=False)
    except torch._dynamo.exc.UserError as error:
        name, reason = model.info.config.backbone.name, " ".join(str(error).split())[:200]
        kind, hint = ("any size", "--size 800x1216") if graph.size is None else ("this size", "another size")
        raise ConfigError(
            f"{name}: cannot be exported for {kind} ({reason}); try {hint}.", code="backbone-not-exportable"
        ) from error


def graph_info(model: Model, settings: ExportSettings, opset: int) -> GraphInfo:
    """Return the description of the graph's input and outputs, after checking the sizes of its levels on the network.

    Raises:
        ConfigError: the feature maps of this backbone have other sizes than the input size divided by the strides.
    """
    detector: Any = model.detector
    config = model.info.config
    multiple = multiple_of(model.info)
    per_cell = len(config.ratios) * config.octave_steps if model.info.name == "retinanet" else 1
    info = GraphInfo(
        settings.size,
        tuple(detector.strides),
        per_cell,
        multiple,
        getattr(detector, "border", 0),
        settings.nms,
        settings.precision,
        settings.form,
        opset,
    )
    least = -(-2 * info.strides[-1] // multiple)
    for size in [settings.size] if settings.size else [(multiple * (least + 1), multiple * (2 * least + 1))]:
        with torch.no_grad():
            counts = detector.decode(detector(torch.zeros(1, 3, *size)), None).counts
        if counts != info.counts(*size):
            raise ConfigError(
                f"{config.backbone.name}: for an input of {size[0]}x{size[1]} the levels have {counts} points, not "
                f"{info.counts(*size)}; this backbone cannot be exported.",
                code="level-sizes",
            )
    return info


def export_info(model: Model, graph: GraphInfo, *packages: str) -> ExportInfo:
    """Return the description of a file, with the versions of torch, of this package and of the given ``packages``."""
    info = model.info
    versions = {name: version(name) for name in ("varifocal", "torch", *packages)}
    size = graph.size or COUNTED
    with torch.device("meta"):
        operations = count_flops(build(info).eval().detector, size)[""]
    return ExportInfo(
        info.name,
        info.categories,
        graph,
        info.preprocess,
        info.postprocess,
        info.tiling,
        TTA() if graph.size is not None or graph.nms == "graph" else info.tta,
        versions,
        work=(*size, operations),
        pad=(OUTSIDE,) * 3 if graph.nms == "graph" else None,
    )
