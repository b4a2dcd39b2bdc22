"""What belongs to a model beside its network: how pictures come to it and which of its boxes are kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from varifocal.errors import ConfigError

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Preprocess:
    """How a picture is resized and normalised before the network.

    With ``scale`` the picture is resized by that factor whatever its size: right for aerial pictures, where a pixel
    has a fixed size on the ground. Without it, the shorter side becomes ``short`` unless the longer one would pass
    ``long`` (the COCO rule, 800 and 1333). ``max_side`` bounds the longer side of a whole picture, for the sake of
    memory; training crops are not touched by it. ``mean`` and ``std`` are on 0..255 in the order of the channels as
    the network sees them: red, green, blue, or with ``bgr`` blue, green, red, as weights that come from Caffe want it.
    """

    short: int = 800
    long: int = 1333
    scale: float | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    divisor: int = 32
    max_side: int = 4096
    bgr: bool = False


def resized_shape(height: int, width: int, config: Preprocess) -> tuple[int, int]:
    """(height, width) after the resize; never above ``max_side``, never below one pixel."""
    long = max(height, width)
    factor = min(resize_factor(height, width, config), config.max_side / long)
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def resize_factor(height: int, width: int, config: Preprocess) -> float:
    """What a picture of that size is scaled by, before ``max_side`` bounds it."""
    return config.scale or min(config.long / max(height, width), config.short / min(height, width))


@dataclass(frozen=True)
class PostProcess:
    """How many boxes are looked at and which are kept.

    ``select`` says what is counted against ``per_level``: "pairs" of box and class over the threshold (mmdetection
    from 2.13 on) or "points" by their best class, each with all its classes (the VFNet authors). Pairs are the
    default because no box is lost to the weak classes of another. Published numbers differ by less than 0.1 AP.

    ``method`` "nms" drops a box that overlaps a better one of its class by more than ``iou``; "soft-nms" (Bodla et al.,
    ICCV 2017, linear) multiplies its score by 1 - IoU from ``iou`` on, and drops it when the score falls below
    ``min_score``.
    """

    score_threshold: float = 0.05
    per_level: int = 1000
    iou: float = 0.6
    max_detections: int = 100
    select: Literal["pairs", "points"] = "pairs"
    method: Literal["nms", "soft-nms"] = "nms"
    min_score: float = 1e-3


@dataclass(frozen=True)
class Views:
    """How often a picture is looked at: once for each of ``scales``, and with ``flip`` once more mirrored.

    A scale multiplies the model's own resize: its limits of the shorter and the longer side, or its fixed factor. The
    default is one plain look.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ConfigError(f"scales={list(self.scales)}: name at least one, and all above 0.")

    @property
    def count(self) -> int:
        """How many looks that is."""
        return len(self.scales) * (1 + self.flip)


# The authors' eight passes (vfnet_r50_fpn_1x_coco_tta.py) have shorter sides of 800, 900, 1000 and 1200, as these
# have for a model of 800. Their limits of the longer side, 1200 to 1600, bind less than ours where a picture is
# longer than 4 x 3.
PAPER_VIEWS = Views((1.0, 1.125, 1.25, 1.5), flip=True)


def scaled(preprocess: Preprocess, scale: float) -> Preprocess:
    """The model's own resize, ``scale`` times as large."""
    return replace(
        preprocess,
        short=round(preprocess.short * scale),
        long=round(preprocess.long * scale),
        scale=None if preprocess.scale is None else preprocess.scale * scale,
    )
