"""The network as a graph sees it: raw pixels in, boxes and scores out."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from varifocal.export.config import ExportSettings, check_backbone, multiple_of
from varifocal.export.lowering import lower
from varifocal.export.nms import select_in_graph
from varifocal.export.position_embeddings import fix_positions
from varifocal.export.same_padding import fix_padding
from varifocal.inference.exported.info import OUTSIDE, ExportInfo, GraphInfo
from varifocal.inference.model import Model, ModelInfo, build
from varifocal.models.flops import count_flops
from varifocal.models.optimize import autocast, optimize_for_inference
from varifocal.structures import Candidates
from varifocal.types import PostProcess, Preprocess
from varifocal.utils.errors import ConfigError

BATCH = 2  # of the example: torch takes one of anything for a constant
COUNTED = (800, 1216)  # where the work of a graph of any size is counted
MOST = 1024  # images, and steps of a side: a bound that torch wants


class DetectorGraph(nn.Module):
    """Pixels 0..255, RGB, float32 [B, 3, H, W], to ``boxes``, ``scores`` and, if there is such, ``quality``.

    All of them: ``boxes`` [B, N, 4], ``scores`` [B, N, C] and ``quality`` [B, N]. Boxes are xyxy pixels of the input,
    which alone clips them.

    With ``select`` they are suppressed: ``boxes`` [B, K, 4], ``scores`` and ``labels`` [B, K]. Boxes are clipped before
    that, to what each image covers of its input, less the ``border``: an image ends where all that follows, to the
    right or below, is ``OUTSIDE``.
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
        """See the class."""
        pixels = images.flip(1) if self.bgr else images
        if self.select is not None:  # beside an image is the mean color, as in training
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
        """Height and width [B, 1] in which boxes of each image may lie."""
        rows, columns = ((images.amax(dim=(1, axis)) > OUTSIDE / 2).sum(dim=1, keepdim=True) for axis in (3, 2))
        return rows - self.border, columns - self.border


def _clipped(boxes: Tensor, height: Any, width: Any) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(dim=2)
    sides = [(x1, width), (y1, height), (x2, width), (y2, height)]
    if isinstance(height, Tensor):
        return torch.stack([side.clamp(min=0).minimum(limit.to(side.dtype)) for side, limit in sides], dim=2)
    return torch.stack([side.clamp(0, limit) for side, limit in sides], dim=2)


def output_names(info: ModelInfo, settings: ExportSettings) -> list[str]:
    """Of the graph's outputs, in order."""
    if settings.nms == "graph":
        return ["boxes", "scores", "labels"]
    return ["boxes", "scores", *(["quality"] if _has_quality(info) else [])]


def _has_quality(info: ModelInfo) -> bool:
    return info.name == "fcos" or bool(getattr(info.config, "centerness", False))


def capture(model: Model, settings: ExportSettings, graph: GraphInfo) -> ExportedProgram:
    """The network in plain operators and, for "deformconv" and suppression, the package's own two.

    Of "fp16" the program holds the weights, but the casts between the types only where torch notes them: it is to be
    taken apart under :func:`varifocal.models.optimize.autocast`, too.

    Raises:
        ConfigError: the backbone does something that depends on the values of pixels or sizes.
    """
    check_backbone(settings, model.detector, model.info.config.backbone.name)
    network: Any = optimize_for_inference(model.detector, settings.computed)
    lower(network, settings.form)
    multiple = graph.multiple
    if graph.size is not None:
        size = graph.size
        shapes: dict[int, Any] = {0: Dim("batch", min=1, max=MOST)}
    else:
        # several cells on either side of every level, and other numbers of rows than of columns
        least = -(-2 * graph.strides[-1] // multiple)
        size = ((least + 1) * multiple, (2 * least + 1) * multiple)
        sides = {axis: multiple * Dim(f"{name}_{multiple}", min=1, max=MOST) for axis, name in ((2, "h"), (3, "w"))}
        shapes = {0: Dim("batch", min=1, max=MOST), **sides}
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
        kind, hint = ("any size", "--size 800x1216") if graph.size is None else ("one size", "another size")
        raise ConfigError(f"{name}: cannot be exported for {kind} ({reason}); try {hint}.") from error


def graph_info(model: Model, settings: ExportSettings, opset: int) -> GraphInfo:
    """What the graph takes and gives, with the rule of its levels tried on the network.

    Raises:
        ConfigError: the levels of this backbone follow another rule.
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
                f"{config.backbone.name}: an input of {size[0]}x{size[1]} has levels of {counts} cells and not of "
                f"{info.counts(*size)}; this backbone cannot be exported."
            )
    return info


def export_info(model: Model, graph: GraphInfo, *packages: str) -> ExportInfo:
    """The description of a file, with the versions of the ``packages`` that wrote it beside torch's and our own."""
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
        info.tta,
        versions,
        work=(*size, operations),
        pad=(OUTSIDE,) * 3 if graph.nms == "graph" else None,
    )
