"""Where VFNet looked: of each detection the first box and the nine points of its star, in pixels of the image.

The network, the choice of the boxes and the joining of windows are those of prediction; beside each box travels only
the number of the point that predicted it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from varifocal.boxes import distance2bbox
from varifocal.inference.model import ForwardPass, Model
from varifocal.inference.pipeline import BATCH, ImageLike, join_windows_traced, open_image
from varifocal.inference.tiling import make_tiles
from varifocal.inference.tta import concat_candidates
from varifocal.models.dense import at_least_float32
from varifocal.models.vfnet import VFNet
from varifocal.ops.nms import multiclass_nms_indices
from varifocal.structures import Candidates
from varifocal.types import Detections, PostProcess


@dataclass(frozen=True, eq=False)
class Stars:
    """Of each detection of an image, in its order; pixels of the image as it stands.

    ``centers`` are (x, y) of the points that predicted them, ``initial`` the first boxes, xyxy, which may leave the
    image, and ``refined`` the boxes that the points give in the end, clipped. A detection's own box differs from the
    refined one where a model averages the boxes of several windows.
    """

    centers: Float[np.ndarray, "K 2"]
    initial: Float[np.ndarray, "K 4"]
    refined: Float[np.ndarray, "K 4"]

    @property
    def points(self) -> Float[np.ndarray, "K 9 2"]:
        """(x, y) of what the 3x3 kernel reads, row by row: corners, projections onto the sides, the point itself."""
        xs = np.stack([self.initial[:, 0], self.centers[:, 0], self.initial[:, 2]], axis=1)
        ys = np.stack([self.initial[:, 1], self.centers[:, 1], self.initial[:, 3]], axis=1)
        grid = np.broadcast_arrays(xs[:, None, :], ys[:, :, None])
        return np.stack(grid, axis=-1).reshape(-1, 9, 2)

    def take(self, indices: Int64[np.ndarray, "k"]) -> Stars:
        """Those of some detections."""
        return Stars(self.centers[indices], self.initial[indices], self.refined[indices])


def has_stars(model: Any) -> bool:
    """Whether the model is a VFNet that torch runs, with its star."""
    return isinstance(model, Model) and isinstance(model.detector, VFNet) and model.detector.config.star


def predict_with_stars(model: Model, image: ImageLike) -> tuple[Detections, Stars]:
    """What ``model.predict(image)`` gives, and the star of each detection.

    Raises:
        DataError: a file cannot be read as an image.
        ValueError: the model has no stars (:func:`has_stars`).
    """
    if not has_stars(model):
        raise ValueError("only a VFNet checkpoint with model.star has stars")
    tiling, settings = model.info.tiling, model.info.postprocess
    opened = open_image(image, model.info.preprocess.range, large=tiling.size > 0)
    tiles = make_tiles(opened.height, opened.width, tiling)
    crops = [opened.crop(tile) for tile in tiles] if tiling.size else [opened]
    at_once = max(BATCH // model.info.tta.count, 1)  # batches as prediction makes them
    parts = []
    for outer in range(0, len(crops), BATCH):
        few = crops[outer : outer + BATCH]
        for start in range(0, len(few), at_once):
            parts += _detect(model, few[start : start + at_once], settings)
    found = [one for one, _ in parts]
    detections, origins = join_windows_traced(found, tiles, (opened.height, opened.width), tiling, settings)
    shifts = [np.array(location[:2], np.float32) for location in tiles]
    return detections, _join([stars for _, stars in parts], shifts).take(origins)


def _join(parts: list[Stars], shifts: list[Float[np.ndarray, "2"]]) -> Stars:
    """Those of all windows, each moved to where its window lies."""
    pairs = list(zip(parts, shifts, strict=True))
    return Stars(
        np.concatenate([one.centers + shift for one, shift in pairs]),
        np.concatenate([one.initial + np.tile(shift, 2) for one, shift in pairs]),
        np.concatenate([one.refined + np.tile(shift, 2) for one, shift in pairs]),
    )


@torch.inference_mode()
def _detect(model: Model, images: list[Image.Image], settings: PostProcess) -> list[tuple[Detections, Stars]]:
    final: list[list[Candidates]] = []
    first: list[list[Candidates]] = []
    center: list[list[Candidates]] = []
    for look in model.looks(images):
        decoded = model.decode(look)
        points, initial = _first_boxes(model, look)
        final.append(look.to_images(decoded, images))
        first.append(look.to_images(decoded._replace(boxes=initial), images))
        # a point travels as a box without a size
        center.append(look.to_images(decoded._replace(boxes=torch.cat([points, points], dim=-1)), images))
    pairs = []
    for i in range(len(images)):
        one, initial_one, center_one = (
            concat_candidates([look[i] for look in looks]) for looks in (final, first, center)
        )
        pairs.append(_select(model, one, initial_one, center_one, settings))
    return pairs


def _first_boxes(model: Model, look: ForwardPass) -> tuple[Float[Tensor, "B N 2"], Float[Tensor, "B N 4"]]:
    """Points and first boxes of all levels in pixels of the network's input, not clipped: the star looks beyond the
    border too, and reads zeros there."""
    config: Any = model.detector.config
    distances = at_least_float32(look.outputs.tensors["initial"])
    priors = VFNet.labeling(config).grid(look.outputs.shapes, like=distances)
    points = priors.points.expand(distances.shape[0], -1, -1)
    return points, distance2bbox(points, distances)


def _select(
    model: Model, final: Candidates, first: Candidates, center: Candidates, settings: PostProcess
) -> tuple[Detections, Stars]:
    point, score, label = multiclass_nms_indices(final.boxes[0], final.scores[0], final.counts, settings)
    boxes = final.boxes[0, point].cpu().numpy()
    found = Detections(boxes, score.cpu().numpy(), label.cpu().numpy(), model.categories)
    return found, Stars(center.boxes[0, point, :2].cpu().numpy(), first.boxes[0, point].cpu().numpy(), boxes)
