"""A detector with everything that turns a picture into detections: resize, network, decode, suppress, scale back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from varifocal.config import from_dict
from varifocal.data.images import read_image, upright_rgb
from varifocal.data.preprocess import (
    Preprocess,
    image_to_tensor,
    normalise,
    pad_together,
    resize,
    resized_shape,
)
from varifocal.errors import ConfigError, DataError
from varifocal.models import DETECTORS
from varifocal.models.backbone import pixel_statistics, without_weights
from varifocal.models.dense import wide
from varifocal.models.fuse import Precision, Prepared, check_precision, computing
from varifocal.models.info import ModelInfo, describe, from_description
from varifocal.models.weights import load_into, read_checkpoint, write_checkpoint
from varifocal.ops.nms import PostProcess, select_detections
from varifocal.tiles import Tiling, merge, windows
from varifocal.types import Category, Decoded, Detections, Outputs
from varifocal.views import join, mirror, scaled

BATCH = 8  # pictures of a list, or windows of a large one, that are in memory together

Picture = str | Path | Image.Image | np.ndarray


class Model(nn.Module):
    """A detector (``model.detector``) with its classes and its pre- and post-processing.

    ``model(images)`` gives the detector's raw outputs; :meth:`predict` goes from pictures to detections.
    """

    def __init__(self, detector: nn.Module, info: ModelInfo) -> None:
        super().__init__()
        self.detector, self.info = detector, info
        self.precision: Precision = "fp32"  # of prediction
        self._prepared = Prepared()

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes that labels index."""
        return self.info.categories

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Outputs:
        """The detector's outputs for a normalised batch."""
        return self.detector(images)

    def train(self, mode: bool = True) -> Model:
        """As of any module; what prediction has prepared is forgotten."""
        if mode:
            self._prepared = Prepared()
        return super().train(mode)

    def fast_network(self) -> nn.Module:
        """The copy of the detector that prediction calls: see :func:`varifocal.models.fuse.prediction_network`."""
        return self._prepared.network(self.detector, self.precision)

    def fast_forward(self, images: Float[Tensor, "B 3 H W"]) -> Outputs:
        """The detector's outputs as prediction computes them: without gradients, in ``self.precision``."""
        network = self.fast_network()
        with torch.inference_mode(), computing(self.precision, images.device.type):
            return network(images)

    @overload  # a string is a sequence of strings, but a path all the same
    def predict(  # type: ignore[overload-overlap]
        self, pictures: Picture, *, score_threshold: float | None = ..., max_detections: int | None = ...
    ) -> Detections: ...

    @overload
    def predict(
        self, pictures: Sequence[Picture], *, score_threshold: float | None = ..., max_detections: int | None = ...
    ) -> list[Detections]: ...

    def predict(
        self,
        pictures: Picture | Sequence[Picture],
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> Detections | list[Detections]:
        """Detect in one picture or a list of them.

        Args:
            pictures: a path, a Pillow image, an array [H, W, 3] of RGB bytes, or a list of these. A list is run
                in batches. A model with ``info.tiling`` reads a larger picture in overlapping windows, one with
                ``info.views`` looks at each picture or window several times.
            score_threshold: least score; the model's own threshold (0.05 as a rule) when left out, which a detector
                with centerness applies to the class score alone.
            max_detections: most boxes a picture; the model's own (100 as a rule) when left out.

        Returns:
            :class:`Detections` in pixels of the picture as it stands upright, or a list of them.

        Raises:
            DataError: a file cannot be read as a picture.
        """
        if isinstance(pictures, (str, Path, Image.Image, np.ndarray)):
            return self.predict([pictures], score_threshold=score_threshold, max_detections=max_detections)[0]
        settings = self.info.postprocess
        if score_threshold is not None:
            # never above the model's own, so that what is asked for sorts out boxes but moves none
            settings = replace(settings, score_threshold=min(score_threshold, settings.score_threshold))
        if max_detections is not None:
            settings = replace(settings, max_detections=max_detections)
        found = self._detect_all(pictures, settings)
        return found if score_threshold is None else [one.filter(score_threshold) for one in found]

    def _detect_all(self, pictures: Sequence[Picture], settings: PostProcess) -> list[Detections]:
        if self.info.tiling.size:
            return [self._detect_tiled(_open(picture), settings) for picture in pictures]
        found: list[Detections] = []
        for start in range(0, len(pictures), BATCH):
            found += self._detect([_open(picture) for picture in pictures[start : start + BATCH]], settings)
        return found

    def _detect_tiled(self, image: Image.Image, settings: PostProcess) -> Detections:
        tiling: Tiling = self.info.tiling
        places = windows(image.height, image.width, tiling)
        parts: list[Detections] = []
        for start in range(0, len(places), BATCH):
            parts += self._detect([image.crop(place) for place in places[start : start + BATCH]], settings)
        if len(places) == 1 and not tiling.vote:
            return parts[0]  # suppressed already, and scores that soft suppression lowered must not meet it twice
        return merge(parts, places, image.height, image.width, tiling, settings.iou, settings.max_detections)

    @torch.inference_mode()
    def _detect(self, images: list[Image.Image], settings: PostProcess) -> list[Detections]:
        views = self.info.views
        at_once = max(BATCH // views.count, 1)  # the boxes of all views are in memory together
        found: list[Detections] = []
        for start in range(0, len(images), at_once):
            few = images[start : start + at_once]
            looks = [
                self._look(few, scaled(self.info.preprocess, scale), flip=flip)
                for scale in views.scales
                for flip in ((False, True) if views.flip else (False,))
            ]
            found += [self._finish(join([look[i] for look in looks]), settings) for i in range(len(few))]
        return found

    def _look(self, images: list[Image.Image], preprocess: Preprocess, *, flip: bool) -> list[Decoded]:
        """What the network says of each picture, a batch of one each, in pixels of the picture as it stands."""
        device = next(self.parameters()).device
        shapes = [resized_shape(image.height, image.width, preprocess) for image in images]
        tensors = [resize(image_to_tensor(image), *shape) for image, shape in zip(images, shapes, strict=True)]
        if flip:
            tensors = [tensor.flip(2) for tensor in tensors]
        batch = normalise(pad_together(tensors, preprocess.divisor).to(device), shapes, preprocess)
        decoded: Decoded = self.detector.decode(self.fast_forward(batch), shapes)  # type: ignore[operator]
        return [
            _one_of(decoded, i, image, shape, flip=flip)
            for i, (image, shape) in enumerate(zip(images, shapes, strict=True))
        ]

    def _finish(self, decoded: Decoded, settings: PostProcess) -> Detections:
        quality = None if decoded.quality is None else decoded.quality[0]
        box, score, label = select_detections(decoded.boxes[0], decoded.scores[0], decoded.counts, settings, quality)
        return Detections(box.cpu().numpy(), score.cpu().numpy(), label.cpu().numpy(), self.categories)


def _one_of(decoded: Decoded, i: int, image: Image.Image, shape: tuple[int, int], *, flip: bool) -> Decoded:
    """The boxes of one picture of a batch, in pixels of that picture."""
    # to the original pixels before suppression: the two axes may have been scaled a little differently
    boxes = wide(decoded.boxes[i])
    boxes = boxes * boxes.new_tensor([image.width / shape[1], image.height / shape[0]] * 2)
    if flip:
        boxes = mirror(boxes, image.width)
    quality = None if decoded.quality is None else wide(decoded.quality[i])[None]
    return Decoded(boxes[None], wide(decoded.scores[i])[None], decoded.counts, quality)


def _open(picture: Picture) -> Image.Image:
    if isinstance(picture, Image.Image):
        try:
            return upright_rgb(picture, "picture")
        except OSError as error:  # Pillow decodes an opened file only now
            raise DataError(f"picture: cannot be decoded ({error}); open another copy of it.") from error
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise DataError(
                f"picture: an array of {picture.dtype} and shape {picture.shape}; give RGB bytes, uint8 [H, W, 3]."
            )
        return Image.fromarray(picture)
    return read_image(Path(picture))


def save(model: Model, path: Path | str, metrics: dict[str, float] | None = None) -> None:
    """Write weights and description to one safetensors file, in one step.

    Raises:
        CheckpointError: it cannot be written; what was there is kept.
    """
    info = model.info if metrics is None else replace(model.info, metrics=metrics)
    write_checkpoint(Path(path), model.detector.state_dict(), describe(info))


def load(path: Path | str, device: str = "cpu", precision: Precision = "fp32") -> Model:
    """The model of a checkpoint, ready to predict.

    ``precision`` is that of prediction: "bf16" halves the time on processors that compute it, at a cost of about a
    hundredth of each raw output; "fp16" is for GPUs. Weights and coordinates stay float32.

    Raises:
        ConfigError: a precision that the device has not.
        CheckpointError: not a checkpoint of this package, damaged, or of a newer version.
    """
    check_precision(precision, device)
    tensors, description = read_checkpoint(Path(path))
    model = build(from_description(description, str(path)))
    load_into(model.detector, tensors, path)
    model.precision = precision
    return model.to(device).eval()


def build(info: ModelInfo) -> Model:
    """A model with fresh weights; the backbone's are not looked for, since a checkpoint replaces them."""
    bare = replace(info.config, backbone=without_weights(info.config.backbone))
    detector = DETECTORS[info.name][0](bare)
    model = Model(detector, replace(info, config=bare))
    return model.to(memory_format=torch.channels_last)


def create(
    name: str,
    *,
    backbone: str = "resnet50",
    num_classes: int | None = None,
    classes: Sequence[str] = (),
    pretrained: bool | Literal["none", "timm", "package"] = False,
    **options: Any,
) -> Model:
    """A new model with random weights, or with a pretrained backbone.

    Args:
        name: a detector, for example ``"vfnet"``.
        backbone: any timm model with maps of strides 8, 16 and 32, by name.
        num_classes: how many classes; may be left out when ``classes`` names them.
        classes: class names in the order of the labels; their category ids are 1, 2, ...
        pretrained: True (or ``"timm"``) downloads the backbone weights that timm names, ``"package"`` takes those of
            an installed package; the default fetches nothing.
        options: any other field of the detector's config, for example ``star=False``.

    Raises:
        ConfigError: an unknown detector, backbone or option, or class names that are not ``num_classes``.
    """
    if name not in DETECTORS:
        raise ConfigError(f"detector {name!r}: there is no such one; choose from {', '.join(sorted(DETECTORS))}.")
    if isinstance(pretrained, bool):
        pretrained = "timm" if pretrained else "none"
    names = list(classes) or [f"class {i}" for i in range(num_classes or 0)]
    if not names or (num_classes is not None and num_classes != len(names)):
        raise ConfigError(
            f"create: num_classes={num_classes} does not fit {len(classes)} class names; give one of both."
        )
    values = {"num_classes": len(names), "backbone": {"name": backbone, "pretrained": pretrained}, **options}
    detector, config_type = DETECTORS[name]
    config = from_dict(config_type, values, "create")
    categories = tuple(Category(i, text) for i, text in enumerate(names, start=1))
    network = detector(config)
    mean, std = pixel_statistics(config.backbone)
    model = Model(network, ModelInfo(name, config, categories, Preprocess(mean=mean, std=std)))
    return model.to(memory_format=torch.channels_last).eval()
