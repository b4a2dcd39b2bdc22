"""What a training picture goes through: a window of the picture, turned and coloured anew each time.

All chance comes from the generators that are passed in, so a sample depends on its seed alone, whatever the number
of workers or processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from pydantic import Field
from torch import Tensor

from varifocal.boxes import areas
from varifocal.data.preprocess import Preprocess, resize, resize_factor, resized_shape
from varifocal.errors import ConfigError
from varifocal.types import Sample, Targets

Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(gt=0)]
Side = Annotated[int, Field(ge=0)]

PART_TRIES = 20  # draws of a part until one shows a box
# (width, height) of the squares and oblongs that are blackened (VFNet-X, configs/vfnet/vfnetx_*.py)
SMALL_HOLES = ((4, 4), (4, 8), (8, 4), (8, 8), (16, 8), (8, 16), (16, 16))
HOLES = (*SMALL_HOLES, (16, 32), (32, 16), (32, 32), (32, 48), (48, 32), (48, 48))


@dataclass(frozen=True)
class Augment:
    """How training pictures vary.

    ``crop``: side in pixels of a square window of the resized picture; 0 takes the whole picture. ``near_box``: share
    of the windows that are placed to hold a box drawn by chance; the others fall anywhere. ``jitter``: the
    resize factor is multiplied by a log-uniform number between these two. ``flip``: chance of a
    left-right flip. ``quarter_turns``: any of the eight orientations, right where the picture has no up and down.
    ``colour``: strength of brightness, contrast, saturation (and a tenth of it hue) jitter. ``min_visible``: a box
    cut by the window counts when that share of its area is left; a smaller rest is, by ``slivers``, neither object nor
    background ("ignore"), or background, right where such rests are not labelled at the edge of pictures either.

    Without a crop: the limits of the shorter and of the longer side are drawn anew each time, independently, as whole
    numbers between the two of ``short`` and the two of ``long`` ("range" of mmdetection; 0, 0 keeps the recipe's
    limit), or that of the shorter side is one of ``short_values`` ("value"). ``part`` is the chance that only a
    part of the picture is taken, anywhere in it, whose height and width are shares of the picture's drawn between the
    two of ``part_sides``; one that shows none of the picture's objects is drawn again, and after twenty the
    picture is taken whole.

    ``cutout`` is the chance that as many holes as a number between the two of ``holes`` are blackened in the resized
    picture, each of one of thirteen sizes of 4 to 48 pixels; boxes stay.
    """

    crop: Side = 0
    near_box: Share = 0.0
    jitter: tuple[Factor, Factor] = (1.0, 1.0)
    short: tuple[Side, Side] = (0, 0)
    long: tuple[Side, Side] = (0, 0)
    short_values: tuple[Side, ...] = ()
    part: Share = 0.0
    part_sides: tuple[Share, Share] = (0.75, 1.0)
    cutout: Share = 0.0
    holes: tuple[Side, Side] = (5, 10)
    flip: Share = 0.5
    quarter_turns: bool = False
    colour: Annotated[float, Field(ge=0)] = 0.0
    min_visible: Share = 0.4
    slivers: Literal["ignore", "background"] = "ignore"

    def __post_init__(self) -> None:
        if self.short_values and self.short != (0, 0):
            raise ConfigError("augment: short and short_values both say how the shorter side is drawn; give one.")


@dataclass(frozen=True)
class Window:
    """A rectangle of the original picture, pixels, and the (height, width) it is resized to."""

    left: int
    top: int
    width: int
    height: int
    size: tuple[int, int]


def choose_window(sample: Sample, preprocess: Preprocess, config: Augment, rng: np.random.Generator) -> Window:
    """The part of a picture that is trained on this time."""
    height, width = sample.height, sample.width
    low, high = sorted(config.jitter)
    jitter = math.exp(rng.uniform(math.log(low), math.log(high)))
    if not config.crop:
        return _without_crop(sample, preprocess, config, jitter, rng)
    factor = jitter * resize_factor(height, width, preprocess)
    side = max(round(config.crop / factor), 1)
    window_width, window_height = min(side, width), min(side, height)
    box = None
    if rng.random() < config.near_box and len(sample.boxes):
        box = sample.boxes[rng.integers(len(sample.boxes))].tolist()
    left = _start(window_width, width, None if box is None else (box[0], box[2]), rng)
    top = _start(window_height, height, None if box is None else (box[1], box[3]), rng)
    zoom = config.crop / side
    shape = max(round(zoom * window_height), 1), max(round(zoom * window_width), 1)
    return Window(left, top, window_width, window_height, shape)


def _start(length: int, side: int, extent: tuple[float, float] | None, rng: np.random.Generator) -> int:
    """Where a window of that length begins on a side: anywhere, or so that it holds (the middle of) an extent."""
    low, high = 0, side - length
    if extent is not None:
        first, last = extent if extent[1] - extent[0] <= length else (sum(extent) / 2, sum(extent) / 2)
        low, high = max(math.ceil(last) - length, low), min(math.floor(first), high)
    return int(rng.integers(low, max(high, low) + 1))


def _without_crop(
    sample: Sample, preprocess: Preprocess, config: Augment, jitter: float, rng: np.random.Generator
) -> Window:
    """The whole picture, or a part of it, at limits of its own."""
    left, top, width, height = 0, 0, sample.width, sample.height
    if config.part and rng.random() < config.part:
        left, top, width, height = _draw_part(sample, config, rng)
    size = resized_shape(height, width, _redrawn(preprocess, config, rng))
    return Window(left, top, width, height, (max(int(size[0] * jitter), 1), max(int(size[1] * jitter), 1)))


def _draw_part(sample: Sample, config: Augment, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, width and height of a part that shows an object, if the picture has one."""
    objects = torch.from_numpy(sample.boxes[~sample.crowd])
    low, high = sorted(config.part_sides)
    for _ in range(PART_TRIES):
        height, width = (max(int(side * rng.uniform(low, high) + 0.5), 1) for side in (sample.height, sample.width))
        left, top = (int(rng.integers(room + 1)) for room in (sample.width - width, sample.height - height))
        visible = _visible(objects, _inside(objects, left, top, width, height))
        if not len(objects) or bool(((visible > 0) & (visible >= config.min_visible)).any()):
            return left, top, width, height
    return 0, 0, sample.width, sample.height


def _redrawn(preprocess: Preprocess, config: Augment, rng: np.random.Generator) -> Preprocess:
    """The limits of the resize, those that vary drawn anew."""
    drawn: dict[str, Any] = {}
    for side, (first, last) in (("long", config.long), ("short", config.short)):
        if (first, last) != (0, 0):
            drawn[side] = int(rng.integers(min(first, last), max(first, last) + 1))
    if config.short_values:
        drawn["short"] = config.short_values[int(rng.integers(len(config.short_values)))]
    return replace(preprocess, scale=None, **drawn) if drawn else preprocess


def _inside(boxes: Tensor, left: int, top: int, width: int, height: int) -> Tensor:
    """What a window leaves of boxes [N, 4], from its corner."""
    corner, limit = boxes.new_tensor([left, top]), boxes.new_tensor([width, height])
    return torch.minimum((boxes.view(-1, 2, 2) - corner).clamp(min=0), limit).view(-1, 4)


def _visible(boxes: Tensor, inside: Tensor) -> Tensor:
    """The share of each box's area that is inside."""
    return areas(inside) / areas(boxes).clamp(min=1e-6)


def cut(
    image: UInt8[Tensor, "3 H W"], sample: Sample, window: Window, config: Augment
) -> tuple[UInt8[Tensor, "3 h w"], Targets]:
    """The window, resized, and the boxes in it; the config says what becomes of boxes that are almost cut away."""
    right, bottom = window.left + window.width, window.top + window.height
    height, width = window.size
    part = resize(image[:, window.top : bottom, window.left : right], height, width)
    boxes, crowd = torch.from_numpy(sample.boxes), torch.from_numpy(sample.crowd)
    inside = _inside(boxes, window.left, window.top, window.width, window.height)
    visible = _visible(boxes, inside)
    sliver = visible < config.min_visible
    kept = (visible > 0) & (crowd | ~sliver if config.slivers == "background" else True)
    scale = boxes.new_tensor([width / window.width, height / window.height] * 2)
    labels = torch.from_numpy(sample.labels)
    return part, Targets(inside[kept] * scale, labels[kept], (crowd | sliver)[kept], (height, width))


def turn(
    image: UInt8[Tensor, "3 _ _"], targets: Targets, *, flip: bool, upside_down: bool, transpose: bool
) -> tuple[UInt8[Tensor, "3 _ _"], Targets]:
    """One of the eight orientations of a picture and its boxes; exact, nothing is resampled."""
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


def blacken(image: UInt8[Tensor, "3 H W"], holes: tuple[int, int], rng: np.random.Generator) -> UInt8[Tensor, "3 H W"]:
    """A copy with as many black rectangles as between the two ``holes``, they begin anywhere (DeVries, Taylor 2017)."""
    image = image.clone()
    for _ in range(int(rng.integers(min(holes), max(holes) + 1))):
        left, top = int(rng.integers(image.shape[2])), int(rng.integers(image.shape[1]))
        width, height = HOLES[int(rng.integers(len(HOLES)))]
        image[:, top : top + height, left : left + width] = 0
    return image


def augment(
    image: UInt8[Tensor, "3 H W"], sample: Sample, preprocess: Preprocess, config: Augment, seed: list[int]
) -> tuple[UInt8[Tensor, "3 h w"], Targets]:
    """A training example; the same ``seed`` gives the same one."""
    rng = np.random.default_rng(seed)
    window = choose_window(sample, preprocess, config, rng)
    part, targets = cut(image, sample, window, config)
    if config.cutout and rng.random() < config.cutout:
        part = blacken(part, config.holes, rng)
    coins = rng.random(3)
    flip = bool(coins[0] < config.flip)
    upside_down, transpose = (bool(coin < 0.5) and config.quarter_turns for coin in coins[1:])
    part, targets = turn(part, targets, flip=flip, upside_down=upside_down, transpose=transpose)
    return _recolour(part, config.colour, rng), targets


def _recolour(image: UInt8[Tensor, "3 H W"], strength: float, rng: np.random.Generator) -> UInt8[Tensor, "3 H W"]:
    if strength == 0:
        return image
    from torchvision.transforms import v2  # here, because it takes as long to import as torch

    jitter = v2.ColorJitter(strength, strength, strength, min(strength / 10, 0.5))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**62)))
        return jitter(image)
