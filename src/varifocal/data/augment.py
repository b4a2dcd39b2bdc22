"""Augmentation of one training image: crop, resize, orientation and colors.

All randomness comes from the generators that are passed in, so an example depends only on its seed, whatever the number
of workers or processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from pydantic import Field
from torch import Tensor

from varifocal.data.photometric import (
    apply_transforms,
    build_transforms,
    color_jitter,
    cutout,
    fork_torch_rng,
    random_erasing,
)
from varifocal.data.preprocess import resize
from varifocal.ops.boxes import box_area
from varifocal.structures import Targets
from varifocal.types import Preprocess, Sample, resize_factor, resized_shape
from varifocal.utils.errors import ConfigError

Fraction = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(gt=0)]
Side = Annotated[int, Field(ge=0)]

PART_TRIES = 20  # draws of a random crop until one shows an object


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images.

    ``crop``: side in pixels of a square crop of the resized image; 0 takes the whole image. ``crop_on_box_prob``:
    probability that the crop contains a randomly drawn box; otherwise it is anywhere. ``scale_jitter``: the resize
    factor is multiplied by a log-uniform number between these two. ``hflip`` and ``vflip``: probabilities of a
    horizontal and a vertical flip. ``rot90``: one of the eight orientations instead, for images without up and down.
    ``color_jitter``: strength of brightness, contrast and saturation jitter, and of a tenth of it for hue.
    ``min_visible``: a box cut by the crop is an object if that fraction of its area remains; otherwise, by
    ``truncated_boxes``, the rest is neither object nor background ("ignore"), or background, for data in which such
    rests are not labeled at the image border.

    Without a crop: the limits of the shorter and of the longer side are drawn each time, independently, as integers
    between the two of ``short_range`` and the two of ``long_range`` ("range" of mmdetection; 0, 0 keeps the limit of
    the recipe), or the limit of the shorter side is one of ``short_choices`` ("value"). ``random_crop`` is the
    probability that only a part of the image is taken, anywhere in it, whose height and width are fractions of the
    image's drawn between the two of ``random_crop_scale``. A part without any of the image's objects is drawn again;
    after twenty draws the whole image is taken.

    ``iou_crop`` is the probability of a crop as in SSD (torchvision's RandomIoUCrop): 0.3 to 1 of each side, so that it
    overlaps some object by an IoU of at least 0 to .9, which is drawn, too. Cut boxes count by ``min_visible``, not by
    their centers.

    ``cutout`` is the probability of black rectangles in the resized image, as many as between the two of
    ``cutout_holes``, each of one of thirteen sizes of 4 to 48 pixels; boxes stay. ``random_erasing`` is the probability
    that one rectangle of 2 to 33 % of the image is filled with the mean color (torchvision's RandomErasing); a box of
    which less than ``min_visible`` remains is treated as cut. ``extra_transforms`` names further transforms of
    torchvision.transforms.v2 that leave boxes alone (``photometric.BY_NAME``), with their arguments and the probability
    ``p``, applied in this order: {RandomPhotometricDistort: {p: 0.5}, GaussianBlur: {kernel_size: 5, p: 0.1}}.

    Probabilities of combining several images, each augmented as above first: ``mosaic`` of four around a point in the
    middle half, scaled by a number between the two of ``mosaic_scale`` and cut to the first one's size; ``copy_paste``
    of as many objects of another image as between the two of ``num_pastes``, as rectangles, because there are no
    outlines; ``mixup`` of a second image at half strength, with all boxes of both. The other images come from the same
    epoch. With ``mixing_epochs`` only the first epochs are mixed, so that the last ones are like the images in
    prediction.
    """

    crop: Side = 0
    crop_on_box_prob: Fraction = 0.0
    scale_jitter: tuple[Factor, Factor] = (1.0, 1.0)
    short_range: tuple[Side, Side] = (0, 0)
    long_range: tuple[Side, Side] = (0, 0)
    short_choices: tuple[Side, ...] = ()
    random_crop: Fraction = 0.0
    random_crop_scale: tuple[Fraction, Fraction] = (0.75, 1.0)
    iou_crop: Fraction = 0.0
    cutout: Fraction = 0.0
    cutout_holes: tuple[Side, Side] = (5, 10)
    random_erasing: Fraction = 0.0
    hflip: Fraction = 0.5
    vflip: Fraction = 0.0
    rot90: bool = False
    color_jitter: Annotated[float, Field(ge=0)] = 0.0
    extra_transforms: dict[str, dict[str, Any]] = field(default_factory=dict)
    mosaic: Fraction = 0.0
    mosaic_scale: tuple[Factor, Factor] = (0.5, 1.0)
    copy_paste: Fraction = 0.0
    num_pastes: tuple[Side, Side] = (1, 5)
    mixup: Fraction = 0.0
    mixing_epochs: Side = 0
    min_visible: Fraction = 0.4
    truncated_boxes: Literal["ignore", "background"] = "ignore"

    RENAMED: ClassVar = {
        "near_box": "crop_on_box_prob",
        "jitter": "scale_jitter",
        "short": "short_range",
        "long": "long_range",
        "short_values": "short_choices",
        "part": "random_crop",
        "part_sides": "random_crop_scale",
        "holes": "cutout_holes",
        "erase": "random_erasing",
        "flip": "hflip",
        "vertical_flip": "vflip",
        "quarter_turns": "rot90",
        "color": "color_jitter",
        "torchvision": "extra_transforms",
        "pastes": "num_pastes",
        "mix_epochs": "mixing_epochs",
        "slivers": "truncated_boxes",
        "colour": "color_jitter",
    }

    def __post_init__(self) -> None:
        if self.short_choices and self.short_range != (0, 0):
            raise ConfigError(
                "augment: short_range and short_choices both define how the shorter side is drawn; give one.",
                code="short-side-drawn-twice",
            )
        if self.iou_crop and (self.crop or self.random_crop):
            raise ConfigError(
                "augment: iou_crop, crop and random_crop all define which part is taken; give one.",
                code="crops-combined",
            )
        if self.extra_transforms:
            build_transforms(self.extra_transforms)

    @property
    def one_size(self) -> bool:
        """Whether every image is always taken whole and resized in the same way."""
        default = Augmentation()
        names = (
            "crop",
            "scale_jitter",
            "short_range",
            "long_range",
            "short_choices",
            "random_crop",
            "iou_crop",
            "mosaic",
        )
        return all(getattr(self, name) == getattr(default, name) for name in names)

    def mixes(self, epoch: int) -> bool:
        """Return whether images of that epoch, counted from 0, may be combined."""
        several = self.mosaic or self.copy_paste or self.mixup
        return bool(several) and (self.mixing_epochs == 0 or epoch < self.mixing_epochs)


@dataclass(frozen=True)
class Window:
    """A rectangle of the original image in pixels, and the (height, width) to which it is resized."""

    left: int
    top: int
    width: int
    height: int
    size: tuple[int, int]


def sample_crop(sample: Sample, preprocess: Preprocess, config: Augmentation, rng: np.random.Generator) -> Window:
    """Return the part of an image that is trained on, drawn from ``rng``."""
    height, width = sample.height, sample.width
    low, high = sorted(config.scale_jitter)
    jitter = math.exp(rng.uniform(math.log(low), math.log(high)))
    if not config.crop:
        return _without_crop(sample, preprocess, config, jitter, rng)
    factor = jitter * resize_factor(height, width, preprocess)
    side = max(round(config.crop / factor), 1)
    window_width, window_height = min(side, width), min(side, height)
    box = None
    if rng.random() < config.crop_on_box_prob and len(sample.boxes):
        box = sample.boxes[rng.integers(len(sample.boxes))].tolist()
    left = _start(window_width, width, None if box is None else (box[0], box[2]), rng)
    top = _start(window_height, height, None if box is None else (box[1], box[3]), rng)
    zoom = config.crop / side
    shape = max(round(zoom * window_height), 1), max(round(zoom * window_width), 1)
    return Window(left, top, window_width, window_height, shape)


def _start(length: int, side: int, extent: tuple[float, float] | None, rng: np.random.Generator) -> int:
    """Draw the start of a window of that length on a side, so that it contains (the middle of) an extent."""
    low, high = 0, side - length
    if extent is not None:
        first, last = extent if extent[1] - extent[0] <= length else (sum(extent) / 2, sum(extent) / 2)
        low, high = max(math.ceil(last) - length, low), min(math.floor(first), high)
    return int(rng.integers(low, max(high, low) + 1))


def _without_crop(
    sample: Sample, preprocess: Preprocess, config: Augmentation, jitter: float, rng: np.random.Generator
) -> Window:
    """Return the whole image or a random part of it, resized to limits that are drawn, too."""
    left, top, width, height = 0, 0, sample.width, sample.height
    if config.random_crop and rng.random() < config.random_crop:
        left, top, width, height = _draw_part(sample, config, rng)
    elif config.iou_crop and rng.random() < config.iou_crop:
        left, top, width, height = _draw_iou_crop(sample, rng)
    size = resized_shape(height, width, _redrawn(preprocess, config, rng))
    return Window(left, top, width, height, (max(int(size[0] * jitter), 1), max(int(size[1] * jitter), 1)))


def _draw_part(sample: Sample, config: Augmentation, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return left, top, width and height of a random part that shows an object, if the image has one."""
    objects = torch.from_numpy(sample.boxes[~sample.crowd])
    low, high = sorted(config.random_crop_scale)
    for _ in range(PART_TRIES):
        height, width = (max(int(side * rng.uniform(low, high) + 0.5), 1) for side in (sample.height, sample.width))
        left, top = (int(rng.integers(room + 1)) for room in (sample.width - width, sample.height - height))
        visible = _visible(objects, _inside(objects, left, top, width, height))
        if not len(objects) or bool(((visible > 0) & (visible >= config.min_visible)).any()):
            return left, top, width, height
    return 0, 0, sample.width, sample.height


def _draw_iou_crop(sample: Sample, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return left, top, width and height of the part that RandomIoUCrop draws, or the whole image without objects."""
    objects = torch.from_numpy(sample.boxes[~sample.crowd])
    whole = {"left": 0, "top": 0, "width": sample.width, "height": sample.height}
    if not len(objects):
        return 0, 0, sample.width, sample.height
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    size = (sample.height, sample.width)
    boxes = tv_tensors.BoundingBoxes(objects, format="XYXY", canvas_size=size)
    with fork_torch_rng(rng):
        # without the image, which is cut and resized only once, later
        drawn = v2.RandomIoUCrop().make_params([boxes]) or whole
    return drawn["left"], drawn["top"], drawn["width"], drawn["height"]


def _redrawn(preprocess: Preprocess, config: Augmentation, rng: np.random.Generator) -> Preprocess:
    """Return the preprocessing with the limits of the resize that vary drawn again."""
    drawn: dict[str, Any] = {}
    for side, (first, last) in (("max_long_side", config.long_range), ("short_side", config.short_range)):
        if (first, last) != (0, 0):
            drawn[side] = int(rng.integers(min(first, last), max(first, last) + 1))
    if config.short_choices:
        drawn["short_side"] = config.short_choices[int(rng.integers(len(config.short_choices)))]
    return replace(preprocess, scale=None, **drawn) if drawn else preprocess


def _inside(boxes: Tensor, left: int, top: int, width: int, height: int) -> Tensor:
    """Return the boxes [N, 4] clipped to a window, relative to its corner."""
    corner, limit = boxes.new_tensor([left, top]), boxes.new_tensor([width, height])
    return torch.minimum((boxes.view(-1, 2, 2) - corner).clamp(min=0), limit).view(-1, 4)


def _visible(boxes: Tensor, inside: Tensor) -> Tensor:
    """Return the fraction of the area of each box that is inside."""
    return box_area(inside) / box_area(boxes).clamp(min=1e-6)


def crop_resize(
    image: UInt8[Tensor, "3 H W"], sample: Sample, window: Window, config: Augmentation
) -> tuple[UInt8[Tensor, "3 h w"], Targets]:
    """Return the window, resized, and the boxes in it; see :func:`crop_targets` for boxes that are cut."""
    right, bottom = window.left + window.width, window.top + window.height
    height, width = window.size
    part = resize(image[:, window.top : bottom, window.left : right], height, width)
    boxes = torch.from_numpy(sample.boxes)
    inside = _inside(boxes, window.left, window.top, window.width, window.height)
    scale = boxes.new_tensor([width / window.width, height / window.height] * 2)
    labels, crowd = torch.from_numpy(sample.labels), torch.from_numpy(sample.crowd)
    left = Targets(inside * scale, labels, crowd, (height, width))
    return part, crop_targets(left, _visible(boxes, inside), config)


def crop_targets(targets: Targets, visible: Tensor, config: Augmentation) -> Targets:
    """Return the targets after a crop that leaves the fractions ``visible`` [N] of the areas of the boxes.

    A box is kept, becomes an ignored region, or disappears, by ``min_visible`` and ``truncated_boxes``.
    """
    sliver = visible < config.min_visible
    kept = (visible > 0) & (targets.crowd | ~sliver if config.truncated_boxes == "background" else True)
    return Targets(targets.boxes[kept], targets.labels[kept], (targets.crowd | sliver)[kept], targets.size)


def filter_visible(targets: Targets, left: int, top: int, width: int, height: int, config: Augmentation) -> Targets:
    """Return the boxes of an example in a window of it, relative to the window's corner."""
    inside = _inside(targets.boxes, left, top, width, height)
    shown = Targets(inside, targets.labels, targets.crowd, (height, width))
    return crop_targets(shown, _visible(targets.boxes, inside), config)


def occlude(targets: Targets, rectangles: Sequence[tuple[int, int, int, int]], config: Augmentation) -> Targets:
    """Return the targets after covering rectangles, xyxy, that do not overlap."""
    hidden = targets.boxes.new_zeros(len(targets.boxes))
    for x1, y1, x2, y2 in rectangles:
        hidden += box_area(_inside(targets.boxes, x1, y1, x2 - x1, y2 - y1))
    return crop_targets(targets, 1 - hidden / box_area(targets.boxes).clamp(min=1e-6), config)


def flip_rot90(
    image: UInt8[Tensor, "3 _ _"], targets: Targets, *, flip: bool, upside_down: bool, transpose: bool
) -> tuple[UInt8[Tensor, "3 _ _"], Targets]:
    """Return one of the eight orientations of an image and its boxes, exactly, without resampling."""
    boxes, (height, width) = targets.boxes, targets.size
    if flip:
        image, boxes = (
            image.flip(2),
            torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1),
        )
    if upside_down:
        image, boxes = (
            image.flip(1),
            torch.stack([boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], dim=1),
        )
    if transpose:
        image, boxes, (height, width) = image.transpose(1, 2), boxes[:, [1, 0, 3, 2]], (width, height)
    return image, Targets(boxes, targets.labels, targets.crowd, (height, width))


def augment(
    image: UInt8[Tensor, "3 H W"],
    sample: Sample,
    preprocess: Preprocess,
    config: Augmentation,
    seed: list[int],
    zoom: float = 1.0,
) -> tuple[UInt8[Tensor, "3 h w"], Targets]:
    """Return a training example of one image, scaled by ``zoom``; the same ``seed`` gives the same example."""
    rng = np.random.default_rng(seed)
    window = sample_crop(sample, preprocess, config, rng)
    if zoom != 1:
        height, width = window.size
        window = replace(window, size=(max(round(height * zoom), 1), max(round(width * zoom), 1)))
    part, targets = crop_resize(image, sample, window, config)
    if config.cutout and rng.random() < config.cutout:
        part = cutout(part, config.cutout_holes, rng)
    coins = rng.random(3)
    flip = bool(coins[0] < config.hflip)
    upside_down = bool(coins[1] < (0.5 if config.rot90 else config.vflip))
    transpose = bool(coins[2] < 0.5) and config.rot90
    part, targets = flip_rot90(part, targets, flip=flip, upside_down=upside_down, transpose=transpose)
    if config.color_jitter:
        part = color_jitter(part, config.color_jitter, rng)
    if config.extra_transforms:
        part = apply_transforms(part, build_transforms(config.extra_transforms), rng)
    if config.random_erasing and rng.random() < config.random_erasing:
        part, hole = random_erasing(part, mean_color(preprocess), rng)
        targets = occlude(targets, [hole], config)
    return part, targets


def mean_color(preprocess: Preprocess) -> tuple[int, int, int]:
    """Return the red, green and blue that normalization turns into zero, the color of padding."""
    red, green, blue = (round(value) for value in (preprocess.mean[::-1] if preprocess.bgr else preprocess.mean))
    return red, green, blue
