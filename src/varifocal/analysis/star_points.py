"""The star of each detection of a VFNet: the first box and the nine points sampled from it, in pixels of the image.

The network, the choice of boxes and the merging of tiles are those of prediction; in addition each box carries the
index of the point that predicted it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from varifocal.inference.image_inputs import ImageLike
from varifocal.inference.model import ForwardPass, Model, concat_candidates
from varifocal.inference.pipeline import PassInput, detect
from varifocal.inference.tiling import make_tiles, merge_tiles
from varifocal.models.layers import at_least_float32
from varifocal.models.vfnet import VFNet
from varifocal.ops.boxes import distance2bbox
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
        DataError: the file cannot be read as an image.
        ValueError: the model has no stars (:func:`has_stars`).
    """
    if not has_stars(model):
        raise ValueError("only a VFNet checkpoint with model.star has stars")
    ((detections, stars),) = detect(_StarStages(model), [image], model.info.postprocess)
    return detections, stars


class _StarCandidates(NamedTuple):
    """The candidates of one image, their first boxes, and their points as boxes without a size."""

    final: Candidates
    initial: Candidates
    centers: Candidates


class _StarStages:
    """The stages of prediction, which carry first box and point along with each candidate."""

    def __init__(self, model: Model) -> None:
        self.model, self.info = model, model.info

    @torch.inference_mode()
    def candidates(self, batch: PassInput) -> list[_StarCandidates]:
        forward = self.model.forward_pass(batch)
        decoded = self.model.decode(forward)
        points, initial = self._first_boxes(forward)
        columns = (decoded.boxes, initial, torch.cat([points, points], dim=-1))
        rows = (forward.to_images(decoded._replace(boxes=boxes), batch.images) for boxes in columns)
        return [_StarCandidates(*row) for row in zip(*rows, strict=True)]

    def _first_boxes(self, forward: ForwardPass) -> tuple[Float[Tensor, "B N 2"], Float[Tensor, "B N 4"]]:
        """Return points and first boxes of all levels in pixels of the network's input.

        The boxes are not clipped: the star also samples beyond the border, where it reads zeros.
        """
        config: Any = self.model.detector.config
        distances = at_least_float32(forward.outputs.tensors["initial"])
        priors = VFNet.labeling(config).grid(forward.outputs.shapes, like=distances)
        points = priors.points.expand(distances.shape[0], -1, -1)
        return points, distance2bbox(points, distances)

    @torch.inference_mode()
    def postprocess(self, passes: Sequence[_StarCandidates], settings: PostProcess) -> tuple[Detections, Stars]:
        final, initial, centers = (concat_candidates(column) for column in zip(*passes, strict=True))
        point, score, label = multiclass_nms_indices(final.boxes[0], final.scores[0], final.counts, settings)
        boxes, first, center = (found.boxes[0, point].cpu().numpy() for found in (final, initial, centers))
        detections = Detections(boxes, score.cpu().numpy(), label.cpu().numpy(), self.model.categories)
        return detections, Stars(center[:, :2], first, boxes)

    def merge(
        self, parts: Sequence[tuple[Detections, Stars]], size: tuple[int, int], settings: PostProcess
    ) -> tuple[Detections, Stars]:
        tiling = self.info.tiling
        detections, origins = merge_tiles([found for found, _ in parts], size, tiling, settings)
        offsets = [np.array(tile[:2], np.float32) for tile in make_tiles(*size, tiling)]
        pairs = [(stars, offset) for (_, stars), offset in zip(parts, offsets, strict=True)]
        joined = Stars(
            np.concatenate([stars.centers + offset for stars, offset in pairs]),
            np.concatenate([stars.initial + np.tile(offset, 2) for stars, offset in pairs]),
            np.concatenate([stars.refined + np.tile(offset, 2) for stars, offset in pairs]),
        )
        return detections, joined.take(origins)
