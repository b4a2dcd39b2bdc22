"""An exported model that predicts as a checkpoint does, with NumPy, Pillow and its runtime alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from jaxtyping import Float
from PIL import Image

from varifocal.inference.boxes_numpy import multiclass_nms
from varifocal.inference.exported.formats import open_exported
from varifocal.inference.exported.info import ExportInfo
from varifocal.inference.exported.onnx_session import InferenceSession
from varifocal.inference.pipeline import BATCH, ImageLike, is_one, run_pipeline
from varifocal.types import Category, Detections, PostProcess, Preprocess, resized_shape, scaled_resize
from varifocal.utils.errors import ConfigError


class ScoredCandidates(NamedTuple):
    """The boxes of one image before suppression, in its own pixels; ``counts`` of each level."""

    boxes: Float[np.ndarray, "N 4"]
    scores: Float[np.ndarray, "N C"]
    counts: tuple[int, ...]
    quality: Float[np.ndarray, "N"] | None


class ExportedModel:
    """A graph with its classes and its pre- and post-processing; used like :class:`varifocal.inference.model.Model`."""

    def __init__(self, session: InferenceSession, info: ExportInfo, device: str = "cpu") -> None:
        self.session, self.info, self.device = session, info, device

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes that labels index."""
        return self.info.categories

    @overload  # a string is a sequence of strings, but a path all the same
    def predict(  # type: ignore[overload-overlap]
        self, images: ImageLike, *, score_threshold: float | None = ..., max_detections: int | None = ...
    ) -> Detections: ...

    @overload
    def predict(
        self, images: Sequence[ImageLike], *, score_threshold: float | None = ..., max_detections: int | None = ...
    ) -> list[Detections]: ...

    def predict(
        self,
        images: Any,  # what else is given gets a sentence
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> Detections | list[Detections]:
        """Detect in one image or a list of them, as :meth:`varifocal.inference.model.Model.predict` does.

        A file of a fixed input size gets every image scaled down until it fits, never up beyond the model's own
        resize; the sides keep their ratio.

        Raises:
            DataError: a file cannot be read as an image, or something else is given.
            ConfigError: the file suppresses by itself, and a lower threshold or more boxes are asked for than it was
                exported with, or several views.
        """
        if is_one(images):
            return self.predict([images], score_threshold=score_threshold, max_detections=max_detections)[0]
        self._check(score_threshold, max_detections)
        return run_pipeline(self._detect, self.info, images, score_threshold, max_detections)

    def _check(self, score_threshold: float | None, max_detections: int | None) -> None:
        own, graph, views = self.info.postprocess, self.info.graph, self.info.tta
        if views.count > 1 and (graph.nms == "graph" or graph.size is not None):
            raise ConfigError(
                f"{self.session.name}: several views need a file exported with --dynamic and --nms host; leave --tta."
            )
        low = score_threshold is not None and score_threshold < own.score_threshold
        many = max_detections is not None and max_detections > own.max_detections
        if graph.nms == "graph" and (low or many):
            raise ConfigError(
                f"{self.session.name}: suppresses by itself at a score of {own.score_threshold} and "
                f"{own.max_detections} boxes; export it with --nms host for a lower threshold or more boxes."
            )

    def _detect(self, images: list[Image.Image], settings: PostProcess) -> list[Detections]:
        if self.info.graph.nms == "graph":
            return self._detect_suppressed(images, settings)
        views = self.info.tta
        at_once = max(BATCH // views.count, 1)
        found: list[Detections] = []
        for start in range(0, len(images), at_once):
            few = images[start : start + at_once]
            looks = [
                self._look(few, scaled_resize(self.info.preprocess, scale), flip=flip)
                for scale in views.scales
                for flip in ((False, True) if views.flip else (False,))
            ]
            found += [self.select([look[i] for look in looks], settings) for i in range(len(few))]
        return found

    def _look(self, images: list[Image.Image], preprocess: Preprocess, *, flip: bool) -> list[ScoredCandidates]:
        shapes = [self.fitted_shape(image, preprocess) for image in images]
        batch = self.batch(images, shapes, flip=flip)
        return self.scored(self.session.run(batch), images, shapes, batch, flip=flip)

    def scored(
        self,
        outputs: dict[str, np.ndarray],
        images: Sequence[Image.Image],
        shapes: Sequence[tuple[int, int]],
        batch: Float[np.ndarray, "B 3 H W"],
        *,
        flip: bool = False,
    ) -> list[ScoredCandidates]:
        """What the graph says of a batch, for each image in its own pixels."""
        found = []
        for i, (image, shape) in enumerate(zip(images, shapes, strict=True)):
            boxes = self._to_image(outputs["boxes"][i], image, shape)
            if flip:
                left, top, right, bottom = boxes.T
                boxes = np.stack([image.width - right, top, image.width - left, bottom], axis=1)
            quality = outputs["quality"][i] if "quality" in outputs else None
            found.append(
                ScoredCandidates(boxes, outputs["scores"][i], self.info.graph.counts(*batch.shape[2:]), quality)
            )
        return found

    def _to_image(self, boxes: np.ndarray, image: Image.Image, shape: tuple[int, int]) -> np.ndarray:
        """Boxes of the input, clipped to the image's part of it, in pixels of the image."""
        height, width = (side - self.info.graph.border for side in shape)
        inside = np.clip(boxes, np.float32(0), np.array([width, height] * 2, np.float32))
        factor = np.array([image.width / shape[1], image.height / shape[0]] * 2, np.float32)
        found: np.ndarray = inside * factor
        return found

    def select(self, looks: Sequence[ScoredCandidates], settings: PostProcess) -> Detections:
        """The detections of an image that was looked at so often."""
        qualities = [look.quality for look in looks if look.quality is not None]
        box, score, label = multiclass_nms(
            np.concatenate([look.boxes for look in looks]),
            np.concatenate([look.scores for look in looks]),
            tuple(count for look in looks for count in look.counts),
            settings,
            np.concatenate(qualities) if qualities else None,
        )
        return Detections(box, score, label, self.categories)

    def _detect_suppressed(self, images: list[Image.Image], settings: PostProcess) -> list[Detections]:
        shapes = [self.fitted_shape(image, self.info.preprocess) for image in images]
        return self.suppressed(self.session.run(self.batch(images, shapes)), images, shapes, settings)

    def suppressed(
        self,
        outputs: dict[str, np.ndarray],
        images: Sequence[Image.Image],
        shapes: Sequence[tuple[int, int]],
        settings: PostProcess,
    ) -> list[Detections]:
        """What a graph that suppresses by itself says of a batch."""
        found = []
        for i, (image, shape) in enumerate(zip(images, shapes, strict=True)):
            box, score = self._to_image(outputs["boxes"][i], image, shape), outputs["scores"][i]
            label = outputs["labels"][i].astype(np.int64)  # ONNX Runtime has another name for the same type
            keep = label >= 0
            if settings.topk_mode == "pairs":  # as everywhere: of these a box needs an area, and none is in the padding
                keep &= (box[:, 2:] > box[:, :2]).all(axis=1)
            keep = np.flatnonzero(keep)[: settings.max_detections]
            found.append(Detections(box[keep], score[keep], label[keep], self.categories))
        return found

    def fitted_shape(self, image: Image.Image, preprocess: Preprocess) -> tuple[int, int]:
        """(height, width) to which an image is resized: the model's own rule, and less where the input is smaller."""
        height, width = resized_shape(image.height, image.width, preprocess)
        if self.info.graph.size is None:
            return height, width
        factor = min(1.0, self.info.graph.size[0] / height, self.info.graph.size[1] / width)
        return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)

    def batch(
        self, images: Sequence[Image.Image], shapes: Sequence[tuple[int, int]], *, flip: bool = False
    ) -> Float[np.ndarray, "B 3 H W"]:
        """The graph's input: each image resized at the top left, the file's ``pad`` elsewhere."""
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
    """Antialiased bilinear, on bytes; torch's, which a checkpoint uses, differs by one gray level in a few pixels."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return rgb if rgb.size == (width, height) else rgb.resize((width, height), Image.Resampling.BILINEAR)


def load_exported(
    path: Path | str, device: str = "cpu", precision: str = "fp32", threads: int | None = None
) -> ExportedModel:
    """The model of an exported file, ready to predict; torch is not needed.

    ``precision`` "bf16" is for files of OpenVINO; ``threads`` None leaves their number to the runtime.

    Raises:
        ConfigError: the runtime is missing or too old, or has no such device or precision.
        CheckpointError: not an exported model of this package, damaged, or of a newer version.
    """
    opened = open_exported(Path(path), device, precision, threads)
    return ExportedModel(opened.session, opened.info, device)
