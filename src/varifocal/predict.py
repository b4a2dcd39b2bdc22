"""A detector with everything that turns a picture into detections: resize, network, decode, suppress, scale back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from varifocal.config import from_dict, to_dict
from varifocal.data.images import read_image
from varifocal.data.preprocess import Preprocess, image_to_tensor, normalise, pad_together, resize, resized_shape
from varifocal.errors import CheckpointError
from varifocal.models import DETECTORS
from varifocal.models.dense import wide
from varifocal.models.weights import load_into, read_checkpoint, read_info, write_checkpoint
from varifocal.ops.nms import PostProcess, select_detections
from varifocal.types import Category, Detections, Outputs

Picture = str | Path | Image.Image | np.ndarray


@dataclass(frozen=True)
class ModelInfo:
    """What a checkpoint says beside its weights: what the scores and boxes of this model mean.

    ``name`` and ``config`` build the detector; ``recipe`` and ``metrics`` tell how it was trained and how good it
    was.
    """

    name: str
    config: Any
    categories: tuple[Category, ...]
    preprocess: Preprocess = field(default_factory=Preprocess)
    postprocess: PostProcess = field(default_factory=PostProcess)
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


class Model(nn.Module):
    """A detector (``model.detector``) with its classes and its pre- and post-processing.

    ``model(images)`` gives the detector's raw outputs; :meth:`predict` goes from pictures to detections.
    """

    def __init__(self, detector: nn.Module, info: ModelInfo) -> None:
        super().__init__()
        self.detector, self.info = detector, info

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes that labels index."""
        return self.info.categories

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Outputs:
        """The detector's outputs for a normalised batch."""
        return self.detector(images)

    @overload
    def predict(self, pictures: Picture, **options: Any) -> Detections: ...

    @overload
    def predict(self, pictures: Sequence[Picture], **options: Any) -> list[Detections]: ...

    def predict(
        self,
        pictures: Picture | Sequence[Picture],
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> Detections | list[Detections]:
        """Detect in one picture or a list of them.

        Args:
            pictures: a path, a Pillow image, an array [H, W, 3] of RGB bytes, or a list of these. A list is run as
                one batch.
            score_threshold: least score; the model's own (0.05 as a rule) when left out.
            max_detections: most boxes a picture; the model's own (100 as a rule) when left out.

        Returns:
            :class:`Detections` in pixels of the picture as it stands upright, or a list of them.

        Raises:
            DataError: a file cannot be read as a picture.
        """
        single = isinstance(pictures, (str, Path, Image.Image, np.ndarray))
        images = [_open(picture) for picture in ([pictures] if single else pictures)]  # type: ignore[list-item]
        change = {"score_threshold": score_threshold, "max_detections": max_detections}
        settings = replace(self.info.postprocess, **{k: v for k, v in change.items() if v is not None})
        found = self._detect(images, settings) if images else []
        return found[0] if single else found

    @torch.inference_mode()
    def _detect(self, images: list[Image.Image], settings: PostProcess) -> list[Detections]:
        was_training, device = self.training, next(self.parameters()).device
        shapes = [resized_shape(image.height, image.width, self.info.preprocess) for image in images]
        tensors = [
            normalise(resize(image_to_tensor(image), *shape), self.info.preprocess)
            for image, shape in zip(images, shapes, strict=True)
        ]
        batch = pad_together(tensors, self.info.preprocess.divisor).to(device, memory_format=torch.channels_last)
        self.eval()
        try:
            outputs = self(batch)
        finally:
            self.train(was_training)
        boxes, scores = self.detector.decode(outputs, shapes)  # type: ignore[operator]
        counts = [height * width for height, width in outputs.shapes]
        return [
            self._finish(wide(box), wide(score), counts, settings, image, shape)
            for box, score, image, shape in zip(boxes, scores, images, shapes, strict=True)
        ]

    def _finish(
        self,
        boxes: Float[Tensor, "N 4"],
        scores: Float[Tensor, "N C"],
        counts: list[int],
        settings: PostProcess,
        image: Image.Image,
        shape: tuple[int, int],
    ) -> Detections:
        # to the original pixels before suppression: the two axes may have been scaled a little differently
        scale = boxes.new_tensor([image.width / shape[1], image.height / shape[0]] * 2)
        box, score, label = select_detections(boxes * scale, scores, counts, settings)
        return Detections(box.cpu().numpy(), score.cpu().numpy(), label.cpu().numpy(), self.categories)


def _open(picture: Picture) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    if isinstance(picture, np.ndarray):
        return Image.fromarray(picture).convert("RGB")
    return read_image(Path(picture))


def save(model: Model, path: Path, metrics: dict[str, float] | None = None) -> None:
    """Write weights and description to one safetensors file, in one step.

    Raises:
        CheckpointError: it cannot be written; what was there is kept.
    """
    info = model.info if metrics is None else replace(model.info, metrics=metrics)
    described = {
        "kind": "model",
        "version": version("varifocal"),
        "detector": info.name,
        "config": to_dict(info.config),
        "categories": [[category.id, category.name] for category in info.categories],
        "preprocess": to_dict(info.preprocess),
        "postprocess": to_dict(info.postprocess),
        "recipe": info.recipe,
        "metrics": info.metrics,
    }
    write_checkpoint(path, model.detector.state_dict(), described)


def read_model_info(path: Path | str) -> ModelInfo:
    """What a checkpoint says beside its weights.

    Raises:
        CheckpointError: not a checkpoint of this package, or of a newer version.
    """
    path = Path(path)
    info = read_info(path)
    if info.get("kind") != "model" or info["detector"] not in DETECTORS:
        raise CheckpointError(
            f"{path}: holds {info.get('detector', info.get('kind'))!r}, not a model that this version knows."
        )
    return ModelInfo(
        info["detector"],
        from_dict(DETECTORS[info["detector"]][1], info["config"], str(path)),
        tuple(Category(int(number), name) for number, name in info["categories"]),
        from_dict(Preprocess, info["preprocess"], str(path)),
        from_dict(PostProcess, info["postprocess"], str(path)),
        info["recipe"],
        info["metrics"],
    )


def load(path: Path | str, device: str = "cpu") -> Model:
    """The model of a checkpoint, ready to predict.

    Raises:
        CheckpointError: not a checkpoint of this package, damaged, or of a newer version.
    """
    info = read_model_info(path)
    tensors, _ = read_checkpoint(Path(path))
    model = build(info)
    load_into(model.detector, tensors, path)
    return model.to(device).eval()


def build(info: ModelInfo) -> Model:
    """A model with fresh weights; the backbone's are not looked for, since a checkpoint replaces them."""
    bare = replace(info.config, backbone=replace(info.config.backbone, pretrained="no"))
    detector = DETECTORS[info.name][0](bare)
    model = Model(detector, replace(info, config=bare))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
