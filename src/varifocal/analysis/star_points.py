"""The star of each detection of a VFNet: the first box and the nine points sampled from it, in pixels of the image.

The network, the choice of boxes and the merging of tiles are those of prediction; in addition each box carries the
index of the point that predicted it.
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
    """The stars of the K detections of an image, in their order and in pixels of the image.

    ``centers`` are the (x, y) of the points that predicted them, ``initial`` the first boxes (xyxy, not clipped) and
    ``refined`` the final boxes of these points (xyxy, clipped). A detection's own box differs from the refined one if
    the model averages the boxes of several tiles.
    """

    centers: Float[np.ndarray, "K 2"]
    initial: Float[np.ndarray, "K 4"]
    refined: Float[np.ndarray, "K 4"]

    @property
    def points(self) -> Float[np.ndarray, "K 9 2"]:
        """(x, y) of the nine points that the 3x3 kernel samples, row by row: corners, projections, center."""
        xs = np.stack([self.initial[:, 0], self.centers[:, 0], self.initial[:, 2]], axis=1)
        ys = np.stack([self.initial[:, 1], self.centers[:, 1], self.initial[:, 3]], axis=1)
        grid = np.broadcast_arrays(xs[:, None, :], ys[:, :, None])
        return np.stack(grid, axis=-1).reshape(-1, 9, 2)

    def take(self, indices: Int64[np.ndarray, "k"]) -> Stars:
        """Return the stars of these detections."""
        return Stars(self.centers[indices], self.initial[indices], self.refined[indices])


def has_stars(model: Any) -> bool:
    """Return whether the model is a VFNet with star convolution that torch runs."""
    return isinstance(model, Model) and isinstance(model.detector, VFNet) and model.detector.config.star


def predict_with_stars(model: Model, image: ImageLike) -> tuple[Detections, Stars]:
    """Return the detections of ``model.predict(image)`` and the star of each.

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
    batch_size = max(BATCH // model.info.tta.count, 1)  # the batches of prediction
    parts = []
    for outer in range(0, len(crops), BATCH):
        chunk = crops[outer : outer + BATCH]
        for start in range(0, len(chunk), batch_size):
            parts += _detect(model, chunk[start : start + batch_size], settings)
    found = [detections for detections, _ in parts]
    detections, origins = join_windows_traced(found, tiles, (opened.height, opened.width), tiling, settings)
    shifts = [np.array(location[:2], np.float32) for location in tiles]
    return detections, _join([stars for _, stars in parts], shifts).take(origins)


def _join(parts: list[Stars], shifts: list[Float[np.ndarray, "2"]]) -> Stars:
    """Return the stars of all tiles, shifted by the position of their tile."""
    pairs = list(zip(parts, shifts, strict=True))
    return Stars(
        np.concatenate([stars.centers + shift for stars, shift in pairs]),
        np.concatenate([stars.initial + np.tile(shift, 2) for stars, shift in pairs]),
        np.concatenate([stars.refined + np.tile(shift, 2) for stars, shift in pairs]),
    )


@torch.inference_mode()
def _detect(model: Model, images: list[Image.Image], settings: PostProcess) -> list[tuple[Detections, Stars]]:
    passes: list[tuple[list[Candidates], ...]] = []
    for forward in model.looks(images):
        decoded = model.decode(forward)
        points, initial = _first_boxes(model, forward)
        # final boxes, first boxes, and points as boxes without a size
        boxes = (decoded.boxes, initial, torch.cat([points, points], dim=-1))
        passes.append(tuple(forward.to_images(decoded._replace(boxes=each), images) for each in boxes))
    joined = [
        [concat_candidates([candidates[i] for candidates in of_all_passes]) for i in range(len(images))]
        for of_all_passes in zip(*passes, strict=True)
    ]
    return [_select(model, *candidates, settings) for candidates in zip(*joined, strict=True)]


def _first_boxes(model: Model, forward: ForwardPass) -> tuple[Float[Tensor, "B N 2"], Float[Tensor, "B N 4"]]:
    """Return points and first boxes of all levels in pixels of the network's input.

    The boxes are not clipped: the star also samples beyond the border, where it reads zeros.
    """
    config: Any = model.detector.config
    distances = at_least_float32(forward.outputs.tensors["initial"])
    priors = VFNet.labeling(config).grid(forward.outputs.shapes, like=distances)
    points = priors.points.expand(distances.shape[0], -1, -1)
    return points, distance2bbox(points, distances)


def _select(
    model: Model, final: Candidates, first: Candidates, center: Candidates, settings: PostProcess
) -> tuple[Detections, Stars]:
    point, score, label = multiclass_nms_indices(final.boxes[0], final.scores[0], final.counts, settings)
    boxes = final.boxes[0, point].cpu().numpy()
    detections = Detections(boxes, score.cpu().numpy(), label.cpu().numpy(), model.categories)
    return detections, Stars(center.boxes[0, point, :2].cpu().numpy(), first.boxes[0, point].cpu().numpy(), boxes)
