"""A detector with everything that turns a picture into detections: resize, network, decode, suppress, scale back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, overload

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from varifocal.config import from_dict
from varifocal.data.preprocess import (
    Preprocess,
    image_to_tensor,
    normalise,
    pad_together,
    resize,
    resized_shape,
)
from varifocal.errors import ConfigError
from varifocal.models import DETECTORS
from varifocal.models.backbone import pixel_statistics, without_weights
from varifocal.models.dense import wide
from varifocal.models.fuse import Precision, Prepared, check_precision, computing
from varifocal.models.info import ModelInfo, describe, from_description
from varifocal.models.weights import load_into, read_checkpoint, write_checkpoint
from varifocal.ops.nms import PostProcess, select_detections
from varifocal.pictures import BATCH, Picture, is_one, predict_pictures
from varifocal.types import Category, Decoded, Detections, Outputs
from varifocal.views import join, mirror, scaled


@dataclass(frozen=True, eq=False)
class Look:
    """What the network says of a batch of pictures in one of a model's views.

    ``shapes`` are (height, width) of each picture in the network's input; with ``flip`` it stands mirrored there.
    """

    outputs: Outputs
    shapes: list[tuple[int, int]]
    flip: bool

    def to_pictures(self, decoded: Decoded, images: Sequence[Image.Image]) -> list[Decoded]:
        """The boxes of each picture, a batch of one each, in pixels of the picture as it stands."""
        return [
            _one_of(decoded, i, image, shape, flip=self.flip)
            for i, (image, shape) in enumerate(zip(images, self.shapes, strict=True))
        ]


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

    @property
    def device(self) -> str:
        """Where the weights are: "cpu", "cuda:0", ..."""
        return next((str(weight.device) for weight in self.parameters()), "cpu")

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
        pictures: Any,  # what else is given gets a sentence
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> Detections | list[Detections]:
        """Detect in one picture or a list of them.

        Args:
            pictures: a path, the bytes of a file or a file opened with "rb", a Pillow image, an array [H, W, 3] of
                RGB (uint8 or uint16; alpha is dropped) or [H, W] of grey values, or a list of these. A list is run in
                batches. A model with ``info.tiling`` reads a larger picture in overlapping windows, one with
                ``info.views`` looks at each picture or window several times.
            score_threshold: least score; the model's own threshold (0.05 as a rule) when left out, which a detector
                with centerness applies to the class score alone.
            max_detections: most boxes a picture; the model's own (100 as a rule) when left out.

        Returns:
            :class:`Detections` in pixels of the picture as it stands upright, or a list of them.

        Raises:
            DataError: a file cannot be read as a picture, or something else is given.
            ConfigError: the least score is not between 0 and 1, or there are to be fewer than 1 detections.
        """
        if is_one(pictures):
            return self.predict([pictures], score_threshold=score_threshold, max_detections=max_detections)[0]
        return predict_pictures(self._detect, self.info, pictures, score_threshold, max_detections)

    @torch.inference_mode()
    def _detect(self, images: list[Image.Image], settings: PostProcess) -> list[Detections]:
        views = self.info.views
        at_once = max(BATCH // views.count, 1)  # the boxes of all views are in memory together
        found: list[Detections] = []
        for start in range(0, len(images), at_once):
            few = images[start : start + at_once]
            looks = [look.to_pictures(self.decode(look), few) for look in self.looks(few)]
            found += [self.finish(join([look[i] for look in looks]), settings) for i in range(len(few))]
        return found

    def looks(self, images: list[Image.Image]) -> Iterator[Look]:
        """What the network says of the pictures in each of the model's views; a single one as a rule."""
        views = self.info.views
        for scale in views.scales:
            for flip in (False, True) if views.flip else (False,):
                yield self._look(images, scaled(self.info.preprocess, scale), flip=flip)

    def _look(self, images: list[Image.Image], preprocess: Preprocess, *, flip: bool) -> Look:
        device = next(self.parameters()).device
        shapes = [resized_shape(image.height, image.width, preprocess) for image in images]
        tensors = [resize(image_to_tensor(image), *shape) for image, shape in zip(images, shapes, strict=True)]
        if flip:
            tensors = [tensor.flip(2) for tensor in tensors]
        batch = normalise(pad_together(tensors, preprocess.divisor).to(device), shapes, preprocess)
        return Look(self.fast_forward(batch), shapes, flip)

    def decode(self, look: Look) -> Decoded:
        """The scored boxes of a look, clipped to its pictures, in pixels of the network's input."""
        decoded: Decoded = self.detector.decode(look.outputs, look.shapes)  # type: ignore[operator]
        return decoded

    def finish(self, decoded: Decoded, settings: PostProcess) -> Detections:
        """The detections of one picture: threshold, selection, suppression."""
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
