"""An exported model that predicts like a checkpoint, with NumPy, Pillow and its runtime alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64
from PIL import Image

from varifocal.inference.boxes_numpy import multiclass_nms
from varifocal.inference.exported.formats import Cores, open_exported, usable_cores
from varifocal.inference.exported.info import ExportInfo
from varifocal.inference.exported.onnx_session import InferenceSession
from varifocal.inference.pipeline import MOST_CALLS, PassInput, Pipeline
from varifocal.types import Detections, PostProcess, Preprocess, resized_shape
from varifocal.utils.errors import ConfigError


class ScoredBoxes(NamedTuple):
    """The boxes that the graph returns for one image, in pixels of the image; ``counts`` is their number per level.

    ``scores`` are [N, C], or [N] with ``labels`` where the graph suppresses by itself.
    """

    boxes: Float[np.ndarray, "N 4"]
    scores: Float[np.ndarray, "N *C"]
    counts: tuple[int, ...] = ()
    quality: Float[np.ndarray, "N"] | None = None
    labels: Int64[np.ndarray, "N"] | None = None


class ExportedModel(Pipeline):
    """A graph with its classes and its pre- and post-processing; used like :class:`varifocal.inference.model.Model`.

    A graph of a fixed input size gets every image scaled down until it fits, never up beyond the model's own resize;
    the sides keep their ratio.
    """

    info: ExportInfo

    def __init__(
        self,
        session: InferenceSession,
        info: ExportInfo,
        device: str = "cpu",
        reopen: Callable[[int], InferenceSession] | None = None,
        cores: int = 1,
    ) -> None:
        """``reopen`` returns a session for so many calls at once, which share the ``cores``."""
        self.session, self.info, self.device = session, info, device
        self._reopen, self._cores = reopen, cores
        self._sessions: dict[int, InferenceSession] = {}  # by the number of calls

    @property
    def calls_at_once(self) -> int:
        """How many calls of :meth:`predict` at the same time use the processor best."""
        return min(self._cores, MOST_CALLS) if self._reopen is not None and self.device == "cpu" else 1

    def for_calls(self, calls: int) -> ExportedModel:
        """Return a model for so many calls at the same time."""
        if self._reopen is None or calls == 1:
            return self
        if calls not in self._sessions:
            self._sessions[calls] = self._reopen(calls)
        return ExportedModel(self._sessions[calls], self.info, self.device)

    def check_limits(self, score_threshold: float | None, max_detections: int | None) -> None:
        """Raise ConfigError if the graph cannot follow a threshold, a number of detections or its own info.tta."""
        own, graph = self.info.postprocess, self.info.graph
        if self.info.tta.count > 1 and (graph.nms == "graph" or graph.size is not None):
            raise ConfigError(
                f"{self.session.name}: test-time augmentation needs a file exported with --dynamic and --nms host; "
                "leave out --tta.",
                code="tta-fixed-graph",
            )
        low = score_threshold is not None and score_threshold < own.score_threshold
        many = max_detections is not None and max_detections > own.max_detections
        if graph.nms == "graph" and (low or many):
            raise ConfigError(
                f"{self.session.name}: suppresses by itself at a score of {own.score_threshold} and "
                f"{own.max_detections} boxes; export it with --nms host for a lower threshold or more boxes.",
                code="graph-nms-limits",
            )
        super().check_limits(score_threshold, max_detections)

    def candidates(self, batch: PassInput) -> list[ScoredBoxes]:
        """Run the graph over a batch and return the boxes of each crop, in pixels of the crop."""
        shapes = [self.fitted_shape(image, batch.preprocess) for image in batch.images]
        pixels = self.batch(batch.images, shapes, flip=batch.flip)
        return self.decode(self.session.run(pixels), batch.images, shapes, pixels.shape[2:], flip=batch.flip)

    def decode(
        self,
        outputs: dict[str, np.ndarray],
        images: Sequence[Image.Image],
        shapes: Sequence[tuple[int, int]],
        size: Sequence[int],
        *,
        flip: bool = False,
    ) -> list[ScoredBoxes]:
        """Return the boxes of each image of a batch whose input had ``size`` (height, width)."""
        graph, found = self.info.graph, []
        for i, (image, shape) in enumerate(zip(images, shapes, strict=True)):
            boxes = self._to_image(outputs["boxes"][i], image, shape)
            if flip:
                left, top, right, bottom = boxes.T
                boxes = np.stack([image.width - right, top, image.width - left, bottom], axis=1)
            quality = outputs["quality"][i] if "quality" in outputs else None
            if graph.nms == "graph":
                # ONNX Runtime has another name for the same type
                labels = outputs["labels"][i].astype(np.int64)
                found.append(ScoredBoxes(boxes, outputs["scores"][i], labels=labels))
            else:
                found.append(ScoredBoxes(boxes, outputs["scores"][i], graph.counts(*size), quality))
        return found

    def _to_image(self, boxes: np.ndarray, image: Image.Image, shape: tuple[int, int]) -> np.ndarray:
        """Return boxes of the input, clipped to the image's part of it, in pixels of the image."""
        height, width = (side - self.info.graph.border for side in shape)
        inside = np.clip(boxes, np.float32(0), np.array([width, height] * 2, np.float32))
        factor = np.array([image.width / shape[1], image.height / shape[0]] * 2, np.float32)
        found: np.ndarray = inside * factor
        return found

    def postprocess(self, passes: Sequence[ScoredBoxes], settings: PostProcess) -> Detections:
        """Return the detections of one image from the boxes of all passes: threshold, selection, suppression."""
        if passes[0].labels is not None:
            return self._trimmed(passes[0], passes[0].labels, settings)
        qualities = [found.quality for found in passes if found.quality is not None]
        box, score, label = multiclass_nms(
            np.concatenate([found.boxes for found in passes]),
            np.concatenate([found.scores for found in passes]),
            tuple(count for found in passes for count in found.counts),
            settings,
            np.concatenate(qualities) if qualities else None,
        )
        return Detections(box, score, label, self.categories)

    def _trimmed(self, found: ScoredBoxes, labels: np.ndarray, settings: PostProcess) -> Detections:
        """Return the detections of a graph that suppresses by itself, without the rows that only fill its output."""
        keep = labels >= 0
        if settings.topk_mode == "pairs":  # here, too, a box needs an area; in the padding it has none
            keep &= (found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1)
        rows = np.flatnonzero(keep)[: settings.max_detections]
        return Detections(found.boxes[rows], found.scores[rows], labels[rows], self.categories)

    def fitted_shape(self, image: Image.Image, preprocess: Preprocess) -> tuple[int, int]:
        """Return the (height, width) to which an image is resized: the model's own rule, or less where it must fit."""
        height, width = resized_shape(image.height, image.width, preprocess)
        if self.info.graph.size is None:
            return height, width
        factor = min(1.0, self.info.graph.size[0] / height, self.info.graph.size[1] / width)
        return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)

    def batch(
        self, images: Sequence[Image.Image], shapes: Sequence[tuple[int, int]], *, flip: bool = False
    ) -> Float[np.ndarray, "B 3 H W"]:
        """Return the graph's input: each image resized at the top left, the file's ``pad`` color elsewhere."""
        graph = self.info.graph
        height, width = graph.size or (
            -(-max(shape[axis] for shape in shapes) // graph.multiple) * graph.multiple for axis in (0, 1)
        )
        batch = np.empty((len(images), 3, height, width), np.float32)
        batch[:] = np.array(self.info.pad_color, np.float32)[:, None, None]
        for slot, image, shape in zip(batch, images, shapes, strict=True):
            pixels = np.asarray(resize(image, *shape)).transpose(2, 0, 1)
            slot[:, : shape[0], : shape[1]] = pixels[:, :, ::-1] if flip else pixels
        return batch


def resize(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resize an image by antialiased bilinear interpolation; torch's, which a checkpoint uses, differs by one gray
    level in a few pixels.
    """
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return rgb if rgb.size == (width, height) else rgb.resize((width, height), Image.Resampling.BILINEAR)


def load_exported(
    path: Path | str, device: str = "cpu", precision: str = "fp32", threads: int | None = None
) -> ExportedModel:
    """Load the model of an exported file, ready to predict; torch is not needed.

    ``precision`` "bf16" is for files of OpenVINO; ``threads`` None leaves their number to the runtime.

    Raises:
        ConfigError: the runtime is missing or too old, or has no such device or precision.
        CheckpointError: the file is not an exported model of this package, is damaged, or is of a newer version.
    """
    opened = open_exported(Path(path), device, precision, Cores(threads))

    def reopen(calls: int) -> InferenceSession:
        return open_exported(Path(path), device, precision, Cores(threads, calls)).session

    return ExportedModel(opened.session, opened.info, device, reopen, threads or usable_cores())
