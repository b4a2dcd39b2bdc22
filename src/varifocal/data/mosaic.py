"""Augmentation that combines several examples into one: mosaic, copy-paste of rectangles, MixUp.

All randomness comes from the generator that is passed in. A box that is cut or covered is treated as in
``augment.crop_targets``. The images that are passed in are not modified, because they may be cached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from varifocal.data.augment import Augmentation, filter_visible, occlude
from varifocal.structures import Targets

MixedImage = tuple[Tensor, Targets]
POSITION_TRIES = 10  # draws of a free position for a pasted rectangle


def mix_images(
    take: Callable[[int, float], MixedImage],
    size: Callable[[], tuple[int, int]],
    config: Augmentation,
    fill: tuple[int, int, int],
    rng: np.random.Generator,
) -> MixedImage:
    """Return the example 0 of an epoch, randomly combined with others as the config says.

    ``take(number, zoom)`` returns an example of one image; ``size()`` returns the (height, width) of number 0 without
    zoom, once it has been taken.
    """
    if config.mosaic and rng.random() < config.mosaic:
        zoom = float(rng.uniform(min(config.mosaic_scale), max(config.mosaic_scale)))
        tiles = [take(number, zoom) for number in range(4)]
        height, width = size()
        center = (round(width * rng.uniform(0.25, 0.75)), round(height * rng.uniform(0.25, 0.75)))
        image = mosaic([tiles[i] for i in rng.permutation(4)], (height, width), center, fill, config)
    else:
        image = take(0, 1.0)
    if config.copy_paste and rng.random() < config.copy_paste:
        image = copy_paste(image, take(4, 1.0), config, rng)
    if config.mixup and rng.random() < config.mixup:
        image = mixup(image, take(5, 1.0), config, rng)
    return image


def mosaic(
    tiles: Sequence[MixedImage],
    size: tuple[int, int],
    center: tuple[int, int],
    fill: tuple[int, int, int],
    config: Augmentation,
) -> MixedImage:
    """Return four images around the pixel ``center`` (x, y) of a new one of that (height, width), as in YOLOv4.

    They are the upper left, upper right, lower left and lower right one; each shows its corner at the center, cropped
    to its quarter. Pixels that no image covers get the color ``fill``.
    """
    height, width = size
    x, y = center
    board = torch.from_numpy(np.full((height, width, 3), fill, np.uint8)).permute(2, 0, 1)
    shown = []
    for index, (image, targets) in enumerate(tiles):
        tile_height, tile_width = targets.size
        right, below = index % 2 == 1, index >= 2
        wide, high = min(tile_width, width - x if right else x), min(tile_height, height - y if below else y)
        # the corner of the visible part, in the tile and on the board
        left, top = (0 if right else tile_width - wide), (0 if below else tile_height - high)
        to_left, to_top = (x if right else x - wide), (y if below else y - high)
        board[:, to_top : to_top + high, to_left : to_left + wide] = image[:, top : top + high, left : left + wide]
        shown.append(shift_targets(filter_visible(targets, left, top, wide, high, config), to_left, to_top))
    return board, concat_targets(shown, size)


def copy_paste(image: MixedImage, donor: MixedImage, config: Augmentation, rng: np.random.Generator) -> MixedImage:
    """Return the image with objects of the donor pasted anywhere, as rectangles that do not overlap each other.

    Ghiasi et al. (CVPR 2021) paste outlines, which are not known here, so a rectangle includes its background and other
    objects in it. A rectangle that does not fit into the image, or has no free position, is left out.
    """
    pixels, targets = image
    height, width = targets.size
    objects = donor[1].boxes[~donor[1].crowd]
    count = min(int(rng.integers(min(config.num_pastes), max(config.num_pastes) + 1)), len(objects))
    pixels, taken, pasted = pixels.clone(), list[tuple[int, int, int, int]](), list[Targets]()
    limit = torch.tensor(donor[1].size[::-1])
    for number in rng.permutation(len(objects))[:count]:
        x1, y1 = objects[number, :2].floor().int().tolist()
        x2, y2 = torch.minimum(objects[number, 2:].ceil().int(), limit).tolist()
        position = _free_position(x2 - x1, y2 - y1, width, height, taken, rng)
        if position is None:
            continue
        taken.append(position)
        pixels[:, position[1] : position[3], position[0] : position[2]] = donor[0][:, y1:y2, x1:x2]
        pasted.append(
            shift_targets(filter_visible(donor[1], x1, y1, x2 - x1, y2 - y1, config), position[0], position[1])
        )
    return pixels, concat_targets([occlude(targets, taken, config), *pasted], targets.size)


def _free_position(
    wide: int,
    high: int,
    width: int,
    height: int,
    taken: Sequence[tuple[int, int, int, int]],
    rng: np.random.Generator,
) -> tuple[int, int, int, int] | None:
    if wide > width or high > height:
        return None
    for _ in range(POSITION_TRIES):
        x, y = int(rng.integers(width - wide + 1)), int(rng.integers(height - high + 1))
        if all(x >= x2 or x + wide <= x1 or y >= y2 or y + high <= y1 for x1, y1, x2, y2 in taken):
            return x, y, x + wide, y + high
    return None


def mixup(image: MixedImage, other: MixedImage, config: Augmentation, rng: np.random.Generator) -> MixedImage:
    """Return the mean of two images where they overlap, with all boxes of both (Zhang et al., 2019, as in YOLOX).

    The result has the size of the first image. The other is put anywhere in it, or a random part of it where it is
    larger; it is not resized.
    """
    (pixels, targets), (second, others) = image, other
    starts, lengths = [], []  # starts in the other and in the first image, and lengths; x, then y
    for room, side in zip(targets.size[::-1], others.size[::-1], strict=True):
        shift = int(rng.integers(abs(room - side) + 1))
        starts.append((shift, 0) if side > room else (0, shift))
        lengths.append(min(room, side))
    (left, to_left), (top, to_top) = starts
    wide, high = lengths
    part = second[:, top : top + high, left : left + wide]
    pixels = pixels.clone()
    under = pixels[:, to_top : to_top + high, to_left : to_left + wide]
    under.copy_(average_images(under, part))
    seen = shift_targets(filter_visible(others, left, top, wide, high, config), to_left, to_top)
    return pixels, concat_targets([targets, seen], targets.size)


def average_images(first: UInt8[Tensor, "3 H W"], second: UInt8[Tensor, "3 H W"]) -> UInt8[Tensor, "3 H W"]:
    """Return (a + b) / 2 of bytes, rounded down."""
    return first // 2 + second // 2 + (first & second & 1)


def shift_targets(targets: Targets, right: int, down: int) -> Targets:
    """Return the boxes moved by that many pixels."""
    boxes = targets.boxes + targets.boxes.new_tensor([right, down, right, down])
    return Targets(boxes, targets.labels, targets.crowd, targets.size)


def concat_targets(parts: Sequence[Targets], size: tuple[int, int]) -> Targets:
    """Return the boxes of all parts in an image of that (height, width)."""
    boxes, labels, crowd = (torch.cat([getattr(part, name) for part in parts]) for name in ("boxes", "labels", "crowd"))
    return Targets(boxes, labels, crowd, size)
