"""A detector with its description: created, saved, loaded, and run as the stages of the pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from varifocal.data.preprocess import normalize, pad_batch, pil_to_tensor, resize
from varifocal.inference.pipeline import MOST_CALLS, PassInput, Pipeline
from varifocal.models import DETECTORS
from varifocal.models.backbone import mean_and_std, without_pretrained
from varifocal.models.checkpoint import load_state_dict_strict, read_checkpoint, write_checkpoint
from varifocal.models.layers import at_least_float32
from varifocal.models.optimize import OptimizedCache, Precision, autocast, check_precision
from varifocal.ops.nms import multiclass_nms
from varifocal.structures import Candidates, Outputs
from varifocal.types import TTA, Category, Detections, PostProcess, Preprocess, Tiling, resized_shape
from varifocal.utils.config import from_dict, stored, to_dict
from varifocal.utils.errors import CheckpointError, ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class ModelInfo:
    """Everything that builds a detector and that gives its scores and boxes a meaning.

    ``name`` and ``config`` build the detector, ``categories`` are the classes that its labels index. ``recipe`` and
    ``metrics`` record how it was trained and how good it was.
    """

    name: str
    config: Any
    categories: tuple[Category, ...]
    preprocess: Preprocess = field(default_factory=Preprocess)
    postprocess: PostProcess = field(default_factory=PostProcess)
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tiling: Tiling = field(default_factory=Tiling)
    tta: TTA = field(default_factory=TTA)

    RENAMED: ClassVar = {"views": "tta"}


@dataclass(frozen=True, eq=False)
class ForwardPass:
    """The network's outputs for one pass over a batch of images.

    ``shapes`` are the (height, width) of each image inside the network's input; with ``flip`` the input is mirrored.
    """

    outputs: Outputs
    shapes: list[tuple[int, int]]
    flip: bool

    def to_images(self, candidates: Candidates, images: Sequence[Image.Image]) -> list[Candidates]:
        """Return the candidates of each image, a batch of one each, with boxes in pixels of the unmirrored image."""
        found = []
        for i, (image, (height, width)) in enumerate(zip(images, self.shapes, strict=True)):
            # before suppression, since rounding may have scaled the two axes by slightly different factors
            boxes = at_least_float32(candidates.boxes[i])
            boxes = boxes * boxes.new_tensor([image.width / width, image.height / height] * 2)
            if self.flip:
                boxes = hflip_boxes(boxes, image.width)
            quality = None if candidates.quality is None else at_least_float32(candidates.quality[i])[None]
            scores = at_least_float32(candidates.scores[i])[None]
            found.append(Candidates(boxes[None], scores, candidates.counts, quality))
        return found


def hflip_boxes(boxes: Float[Tensor, "N 4"], width: float) -> Float[Tensor, "N 4"]:
    """Return xyxy boxes of an image that was mirrored left to right, in pixels of the unmirrored image."""
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def concat_candidates(passes: Sequence[Candidates]) -> Candidates:
    """Return the candidates of several passes in one list, in which each level of each pass remains a level."""
    if len(passes) == 1:
        return passes[0]
    qualities = [candidates.quality for candidates in passes if candidates.quality is not None]
    return Candidates(
        torch.cat([candidates.boxes for candidates in passes], dim=1),
        torch.cat([candidates.scores for candidates in passes], dim=1),
        tuple(count for candidates in passes for count in candidates.counts),
        torch.cat(qualities, dim=1) if qualities else None,
    )


class Model(Pipeline, nn.Module):
    """A detector (``model.detector``) with its classes and its pre- and post-processing.

    ``model(images)`` returns the detector's raw outputs; :meth:`predict` goes from images to detections.
    """

    info: ModelInfo

    def __init__(self, detector: nn.Module, info: ModelInfo) -> None:
        super().__init__()
        self.detector, self.info = detector, info
        self.precision: Precision = "fp32"  # of prediction
        self._optimized = OptimizedCache()

    @property
    def device(self) -> str:
        """The device of the weights: "cpu", "cuda:0", ..."""
        return next((str(weight.device) for weight in self.parameters()), "cpu")

    @property
    def calls_at_once(self) -> int:
        """How many calls of :meth:`predict` at the same time use the device best: on a CPU as many as threads."""
        return min(torch.get_num_threads(), MOST_CALLS) if self.device == "cpu" else 1

    def for_calls(self, calls: int) -> Model:
        """Return this model, whose optimized copy exists now, so that no two calls make it."""
        self.optimized()
        return self

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Outputs:
        """Return the detector's outputs for a normalized batch."""
        return self.detector(images)

    def train(self, mode: bool = True) -> Model:
        """Switch between training and evaluation as in any module; training drops the optimized network."""
        if mode:
            self._optimized = OptimizedCache()
        return super().train(mode)

    def optimized(self) -> nn.Module:
        """Return the copy of the detector that prediction calls, made by
        :func:`varifocal.models.optimize.optimize_for_inference`.
        """
        return self._optimized.network(self.detector, self.precision)

    def forward_optimized(self, images: Float[Tensor, "B 3 H W"]) -> Outputs:
        """Return the detector's outputs as prediction computes them: without gradients, in ``self.precision``."""
        network = self.optimized()
        with torch.inference_mode(), autocast(self.precision, images.device.type):
            return network(images)

    def candidates(self, batch: PassInput) -> list[Candidates]:
        """Run the network over a batch and return the candidates of each crop, in pixels of the crop."""
        forward = self.forward_pass(batch)
        with torch.inference_mode():
            return forward.to_images(self.decode(forward), batch.images)

    def forward_pass(self, batch: PassInput) -> ForwardPass:
        """Resize, mirror and normalize the crops of a batch, and run the network over them."""
        preprocess = batch.preprocess
        shapes = [resized_shape(image.height, image.width, preprocess) for image in batch.images]
        tensors = [resize(pil_to_tensor(image), *shape) for image, shape in zip(batch.images, shapes, strict=True)]
        if batch.flip:
            tensors = [tensor.flip(2) for tensor in tensors]
        padded = pad_batch(tensors, preprocess.size_divisor).to(self.device)
        return ForwardPass(self.forward_optimized(normalize(padded, shapes, preprocess)), shapes, batch.flip)

    def decode(self, forward: ForwardPass) -> Candidates:
        """Return the scored boxes of a pass, clipped to its images, in pixels of the network's input."""
        candidates: Candidates = self.detector.decode(forward.outputs, forward.shapes)  # type: ignore[operator]
        return candidates

    @torch.inference_mode()
    def postprocess(self, passes: Sequence[Candidates], settings: PostProcess) -> Detections:
        """Return the detections of one image from the candidates of all passes: threshold, selection, suppression."""
        found = concat_candidates(passes)
        quality = None if found.quality is None else found.quality[0]
        box, score, label = multiclass_nms(found.boxes[0], found.scores[0], found.counts, settings, quality)
        return Detections(box.cpu().numpy(), score.cpu().numpy(), label.cpu().numpy(), self.categories)


def save(model: Model, path: Path | str, metrics: dict[str, float] | None = None) -> None:
    """Write the weights and the description of a model to one safetensors file, in one step.

    Raises:
        CheckpointError: the file cannot be written; a file that was there is kept.
    """
    info = model.info if metrics is None else replace(model.info, metrics=metrics)
    write_checkpoint(Path(path), model.detector.state_dict(), to_metadata(info))


def load(path: Path | str, device: str = "cpu", precision: Precision = "fp32") -> Model:
    """Load the model of a checkpoint, ready to predict.

    ``precision`` is the type in which it predicts: "bf16" halves the time on processors that support it, at a cost of
    about one hundredth of each raw output; "fp16" is for GPUs. Weights and coordinates stay float32.

    Raises:
        ConfigError: the device does not support the precision.
        CheckpointError: the file is not a checkpoint of this package, is damaged, or is of a newer version.
    """
    check_precision(precision, device)
    tensors, description = read_checkpoint(Path(path))
    model = build(from_metadata(description, str(path)))
    load_state_dict_strict(model.detector, tensors, path)
    model.precision = precision
    return model.to(device).eval()


def build(info: ModelInfo) -> Model:
    """Return a model with fresh weights, without loading a pretrained backbone, which a checkpoint would replace."""
    bare = replace(info.config, backbone=without_pretrained(info.config.backbone))
    detector = DETECTORS[info.name][0](bare)
    model = Model(detector, replace(info, config=bare))
    return model.to(memory_format=torch.channels_last)


def create_model(
    name: str,
    *,
    backbone: str = "resnet50",
    num_classes: int | None = None,
    classes: Sequence[str] = (),
    pretrained: bool | Literal["none", "timm", "package"] = False,
    **options: Any,
) -> Model:
    """Create a model with random weights, or with a pretrained backbone.

    Args:
        name: a detector, for example ``"vfnet"``.
        backbone: the name of any timm model with maps of strides 8, 16 and 32.
        num_classes: the number of classes; may be left out when ``classes`` names them.
        classes: class names in the order of the labels; their category ids are 1, 2, ...
        pretrained: True (or ``"timm"``) downloads the backbone weights that timm names, ``"package"`` takes those of
            an installed package; the default fetches nothing.
        options: any other field of the detector's config, for example ``star=False``.

    Raises:
        ConfigError: the detector, the backbone or an option is unknown, or ``classes`` does not have ``num_classes``
            names.
    """
    if name not in DETECTORS:
        raise ConfigError(
            f"detector {name!r}: there is no such detector; choose from {', '.join(sorted(DETECTORS))}.",
            code="detector-unknown",
        )
    if isinstance(pretrained, bool):
        pretrained = "timm" if pretrained else "none"
    names = list(classes) or [f"class {i}" for i in range(num_classes or 0)]
    if not names or num_classes not in (None, len(names)):
        raise ConfigError(
            f"create_model: num_classes={num_classes} does not fit {len(classes)} class names; give one of the two.",
            code="class-count",
        )
    values = {"num_classes": len(names), "backbone": {"name": backbone, "pretrained": pretrained}, **options}
    detector, config_type = DETECTORS[name]
    config = from_dict(config_type, values, "create_model")
    categories = tuple(Category(i, text) for i, text in enumerate(names, start=1))
    network = detector(config)
    mean, std = mean_and_std(config.backbone)
    model = Model(network, ModelInfo(name, config, categories, Preprocess(mean=mean, std=std)))
    return model.to(memory_format=torch.channels_last).eval()


def to_metadata(info: ModelInfo) -> dict[str, Any]:
    """Return the description as plain values for the checkpoint's JSON."""
    return {
        "kind": "model",
        "version": version("varifocal"),
        "detector": info.name,
        "config": to_dict(info.config),
        "categories": [[category.id, category.name] for category in info.categories],
        "preprocess": to_dict(info.preprocess),
        "postprocess": to_dict(info.postprocess),
        "tiling": to_dict(info.tiling),
        "tta": to_dict(info.tta),
        "recipe": info.recipe,
        "metrics": info.metrics,
    }


def from_metadata(values: Mapping[str, Any], source: str) -> ModelInfo:
    """Return the description that :func:`to_metadata` or an older version of it wrote; ``source`` is named in errors.

    Raises:
        CheckpointError: it describes no model, a detector that this version does not know, or class names that do not
            fit the network.
    """
    if values.get("kind") == "backbone":
        raise CheckpointError(
            f"{source}: holds the weights of a backbone ({values.get('name')}) and not of a detector; train a detector "
            f"from it with model.backbone.weights={source}.",
            code="checkpoint-backbone-only",
        )
    if values.get("kind") != "model" or str(values.get("detector")) not in DETECTORS:
        kind = values.get("detector", values.get("kind"))
        raise CheckpointError(
            f"{source}: holds {kind!r}, which is no model that this version knows.", code="checkpoint-kind-unknown"
        )
    try:
        info = _read_info(values, source)
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise CheckpointError(
            f"{source}: its description, written by varifocal {values.get('version', 'of an unknown version')}, cannot "
            f"be read by varifocal {version('varifocal')} ({' '.join(str(error).split())}).",
            code="checkpoint-description",
        ) from error
    if len(info.categories) != info.config.num_classes:
        raise CheckpointError(
            f"{source}: names {len(info.categories)} classes, but its network has {info.config.num_classes}.",
            code="checkpoint-class-count",
        )
    return info


def _read_info(values: Mapping[str, Any], source: str) -> ModelInfo:
    def read(kind: type[T], part: Mapping[str, Any]) -> T:
        return from_dict(kind, stored(kind, part), source)

    return ModelInfo(
        values["detector"],
        read(DETECTORS[values["detector"]][1], values["config"]),
        tuple(Category(int(number), name) for number, name in values["categories"]),
        read(Preprocess, values["preprocess"]),
        read(PostProcess, values["postprocess"]),
        values["recipe"],
        values["metrics"],
        read(Tiling, values.get("tiling", {})),
        read(TTA, values.get("tta", values.get("views", {}))),
    )
