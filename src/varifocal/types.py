"""The types of data sets, results and settings; none needs torch.

Boxes are always xyxy in pixels with width = x2 - x1. Labels run from 0 to C - 1; there is no background label.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.utils.errors import ConfigError


@dataclass(frozen=True)
class Category:
    """One class of a data set: its id in the data set, any integer, and its name."""

    id: int
    name: str


@runtime_checkable
class FileLike(Protocol):
    """A file: a ``Path``, or an object for a file inside an archive.

    It can be hashed, compared and sent to another process, and keeps nothing open; its ``str`` is for messages.
    """

    @property
    def name(self) -> str:
        """The last part of the path."""

    @property
    def stem(self) -> str:
        """The name without its suffix."""

    def open(self, mode: Literal["rb"]) -> io.BufferedReader | io.BytesIO:
        """Open the file for reading; the caller closes it."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One image of a data set, not decoded yet, with its boxes in pixels of the upright image.

    ``areas`` are in square pixels, of the outline where the data set has one; COCO sorts boxes into small, medium and
    large by them. None means width times height.
    """

    file: FileLike
    image_id: int
    width: int
    height: int
    boxes: Float[np.ndarray, "N 4"]
    labels: Int64[np.ndarray, "N"]
    crowd: Bool[np.ndarray, "N"]
    areas: Float[np.ndarray, "N"] | None = None


@dataclass(frozen=True)
class SourceIds:
    """How the source writes the ids that are whole numbers here.

    ``images`` and ``classes`` give the number of an id that is another text there, such as "abc". ``counted``: the
    format has no ids of images, these count from 1.
    """

    images: Mapping[str, int] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    counted: bool = False


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples and the classes that their labels index: ``categories[label]``.

    ``notes`` are sentences for the user: what was clipped or left out while reading, with counts.
    """

    samples: Sequence[Sample]
    categories: tuple[Category, ...]
    source: FileLike
    notes: tuple[str, ...] = ()
    ids: SourceIds = field(default_factory=SourceIds)


@dataclass(frozen=True, eq=False)
class Detections:
    """The boxes found in one image, best first, in pixels of the original image.

    ``labels`` index ``categories``, which carry the names and the ids of the data set the model was trained on.
    """

    boxes: Float[np.ndarray, "N 4"]
    scores: Float[np.ndarray, "N"]
    labels: Int64[np.ndarray, "N"]
    categories: tuple[Category, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.scores)

    def __getattr__(self, name: str) -> Any:
        new = {"names": "class_names", "draw": "varifocal.draw_detections(image, detections)"}.get(name)
        raise AttributeError(f"Detections has no {name!r}" + (f"; it is called {new} now." if new else "."))

    @property
    def class_names(self) -> list[str]:
        """The class name of each box, N strings."""
        return [self.categories[label].name for label in self.labels]

    def filter(self, min_score: float) -> Detections:
        """Return the boxes whose score is at least ``min_score``, in the same order."""
        keep = self.scores >= min_score
        return Detections(self.boxes[keep], self.scores[keep], self.labels[keep], self.categories)

    def to_coco(self, image_id: int, file_name: str) -> list[dict[str, Any]]:
        """Return entries of a COCO results file, in plain Python numbers; ``bbox`` is x, y, width, height in pixels.

        Nothing is rounded, so that an evaluation of the file gives the numbers of an evaluation in memory.
        """
        entries = []
        for box, score, label in zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True):
            x1, y1, x2, y2 = box
            entries.append(
                {
                    "file_name": file_name,
                    "image_id": image_id,
                    "category_id": self.categories[label].id,
                    "category_name": self.categories[label].name,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
            )
        return entries

    def to_supervision(self) -> Any:
        """Return the boxes as ``supervision.Detections``, with class names in ``data["class_name"]``.

        Raises:
            ConfigError: the package supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise ConfigError(
                'to_supervision needs the package supervision: pip install "varifocal[supervision]"',
                code="supervision-missing",
            ) from error
        return supervision.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.labels,
            data={"class_name": np.array(self.class_names, str)},
        )


IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

# The values of an image of more than 8 bits that become black and white: two numbers, or the least and the largest
# value of each image ("image"), or its 1st and 99th percentile.
Levels = tuple[float, float] | Literal["image", "percentile"]


@dataclass(frozen=True)
class Preprocess:
    """How an image is resized and normalized before the network.

    With ``scale`` the image is resized by that factor whatever its size: right for aerial images, where a pixel
    has a fixed size on the ground. Without it, the shorter side becomes ``short_side`` unless the longer one would pass
    ``max_long_side`` (the COCO rule, 800 and 1333). ``max_size`` bounds the longer side of a whole image, for the sake
    of memory; training crops are not touched by it. ``mean`` and ``std`` are on 0..255 in the order of the channels as
    the network sees them: red, green, blue, or with ``bgr`` blue, green, red, as weights from Caffe need it.

    ``range`` applies only to images of more than 8 bits: (low, high) are the values that become 0 and
    255, for all images alike; "image" takes the least and the largest value of each image, "percentile" its
    1st and 99th percentile, which a few dead pixels do not move. Without it 16 bits are scaled from 0..65535, but from
    0..4095 where an image has no larger value, and floating-point numbers are refused.
    """

    short_side: int = 800
    max_long_side: int = 1333
    scale: float | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    size_divisor: int = 32
    max_size: int = 4096
    bgr: bool = False
    range: Levels | None = None

    RENAMED: ClassVar = {
        "short": "short_side",
        "long": "max_long_side",
        "max_side": "max_size",
        "divisor": "size_divisor",
    }

    def __post_init__(self) -> None:
        bounds = self.range
        if bounds is None or bounds in ("image", "percentile"):
            return
        numbers = isinstance(bounds, tuple) and len(bounds) == 2 and all(map(_is_finite, bounds))
        if not numbers or bounds[0] >= bounds[1]:  # type: ignore[operator]
            raise ConfigError(
                f"preprocess: range={bounds}: give two numbers, the lower first, such as [0, 4095], or one of "
                "the words image and percentile.",
                code="preprocess-range",
            )


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def resized_shape(height: int, width: int, config: Preprocess) -> tuple[int, int]:
    """Return (height, width) after the resize, at most ``max_size`` and at least one pixel."""
    long = max(height, width)
    factor = min(resize_factor(height, width, config), config.max_size / long)
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def resize_factor(height: int, width: int, config: Preprocess) -> float:
    """Return the factor by which an image of that size is scaled, before ``max_size`` bounds it."""
    return config.scale or min(config.max_long_side / max(height, width), config.short_side / min(height, width))


@dataclass(frozen=True)
class PostProcess:
    """How candidates are selected and suppressed.

    ``topk_mode`` says what is counted against ``nms_pre``: "pairs" of box and class over the threshold (mmdetection
    from 2.13 on) or "points" by their best class, each with all its classes (the VFNet authors). Pairs are the
    default because no box is lost to the weak classes of another. Published numbers differ by less than 0.1 AP.

    ``nms_type`` "nms" drops a box that overlaps a better one of its class by more than ``nms_iou``; "soft-nms" (Bodla
    et al., ICCV 2017, linear) multiplies its score by 1 - IoU from ``nms_iou`` on, and drops it when the score falls
    below ``min_score``.
    """

    score_threshold: float = 0.05
    nms_pre: int = 1000
    nms_iou: float = 0.6
    max_detections: int = 100
    topk_mode: Literal["pairs", "points"] = "pairs"
    nms_type: Literal["nms", "soft-nms"] = "nms"
    min_score: float = 1e-3

    RENAMED: ClassVar = {
        "per_level": "nms_pre",
        "iou": "nms_iou",
        "select": "topk_mode",
        "method": "nms_type",
    }


@dataclass(frozen=True)
class TTA:
    """Test-time augmentation: one forward pass for each of ``scales``, and with ``flip`` one more, mirrored.

    A scale multiplies the model's own resize: its limits of the shorter and the longer side, or its fixed factor. The
    default is one plain pass.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ConfigError(
                f"scales={list(self.scales)}: give at least one scale, and only scales above 0.", code="tta-scales"
            )

    @property
    def count(self) -> int:
        """The number of forward passes."""
        return len(self.scales) * len(self.flips)

    @property
    def flips(self) -> tuple[bool, ...]:
        """Whether the input is mirrored, for each pass at one scale."""
        return (False, True) if self.flip else (False,)


# The authors' eight passes (vfnet_r50_fpn_1x_coco_tta.py) have shorter sides of 800, 900, 1000 and 1200, as these
# have for a model of 800. Their limits of the longer side, 1200 to 1600, bind less than ours where an image is
# longer than 4 x 3.
PAPER_TTA = TTA((1.0, 1.125, 1.25, 1.5), flip=True)


def scaled_resize(preprocess: Preprocess, scale: float) -> Preprocess:
    """Return the model's own resize, ``scale`` times as large."""
    return replace(
        preprocess,
        short_side=round(preprocess.short_side * scale),
        max_long_side=round(preprocess.max_long_side * scale),
        scale=None if preprocess.scale is None else preprocess.scale * scale,
    )


@dataclass(frozen=True)
class Tiling:
    """Square windows of ``size`` pixels of the image that overlap by at least ``overlap``; 0 takes it whole.

    An overlap of the longest object's side has every object whole in some window. Right for aerial images and
    others that are much larger than what the detector was trained on. With ``vote`` a box that suppression keeps
    becomes the mean, weighted by score, of all boxes of its class that overlap it with at least that IoU: what
    several windows say of an object is more exact than what the most confident says (box voting, Gidaris and
    Komodakis, ICCV 2015, section 5). 0 leaves the best box as it is.
    """

    size: int = 0
    overlap: int = 0
    vote: float = 0.0

    def __post_init__(self) -> None:
        if self.size < 0 or self.overlap < 0 or (self.size and self.overlap >= self.size):
            raise ConfigError(
                f"tiling: size={self.size}, overlap={self.overlap}; the overlap must be less than the size, and "
                "neither is below 0.",
                code="tiling-overlap",
            )
        if not 0 <= self.vote <= 1:
            raise ConfigError(f"tiling: vote={self.vote}; an IoU lies between 0 and 1.", code="tiling-vote")
