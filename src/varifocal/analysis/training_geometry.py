"""How a detector is trained on a data set, as far as no network is needed: resize, points and label assignment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64

from varifocal.inference.model import ModelInfo
from varifocal.models import DETECTORS
from varifocal.models.dense import TargetAssigner
from varifocal.structures import Priors
from varifocal.types import Preprocess, resize_factor, resized_shape


@dataclass(frozen=True)
class TrainingGeometry:
    """The label assignment of a detector and the resize of its images.

    If ``cropped``, training cuts crops out of the resized image, so that ``max_size`` of the resize does not apply.
    """

    name: str
    labeling: TargetAssigner
    preprocess: Preprocess
    cropped: bool = False

    @classmethod
    def of(cls, name: str, detector: str, config: Any, preprocess: Preprocess, crop: int = 0) -> TrainingGeometry:
        """Return the geometry of a detector, a key of ``DETECTORS``; ``name`` is shown to users."""
        return cls(name, DETECTORS[detector][0].labeling(config), preprocess, crop > 0)

    @classmethod
    def of_model(cls, name: str, info: ModelInfo) -> TrainingGeometry:
        """Return the geometry with which a checkpoint was trained."""
        crop = info.recipe.get("data", {}).get("augment", {}).get("crop", 0)
        return cls.of(name, info.name, info.config, info.preprocess, crop)

    def with_preprocess(self, preprocess: Preprocess) -> TrainingGeometry:
        """Return the same geometry with another resize."""
        return replace(self, preprocess=preprocess)

    def resized(self, sizes: Int64[np.ndarray, "M 2"]) -> Int64[np.ndarray, "M 2"]:
        """Return the (width, height) of each image after the resize; ``sizes`` are those of the files."""
        different, index = np.unique(sizes, axis=0, return_inverse=True)
        shapes = [self._resized(width, height) for width, height in different.tolist()]
        return np.array(shapes, np.int64).reshape(-1, 2)[index.reshape(-1)]

    def scale_factors(self, sizes: Int64[np.ndarray, "M 2"]) -> Float32[np.ndarray, "M 4"]:
        """Return the factors by which the resize multiplies xyxy boxes of each image."""
        each = (self.resized(sizes) / sizes).astype(np.float32)
        return np.concatenate([each, each], axis=1)

    def grid_sizes(self, sides: Int64[np.ndarray, "M 2"]) -> Int64[np.ndarray, "M 2"]:
        """Return (rows, columns) of the finest feature map of images of these resized (width, height)."""
        rounded = -(-sides // self.labeling.divisor) * self.labeling.divisor
        return -(-rounded[:, ::-1] // self.labeling.strides[0])

    def priors(self, rows: int, columns: int) -> Priors:
        """Return the points of an image whose finest feature map has this size."""
        finest = self.labeling.strides[0]
        shapes = [(-(-rows * finest // stride), -(-columns * finest // stride)) for stride in self.labeling.strides]
        return self.labeling.grid(shapes, like=torch.zeros(0))

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        if self.cropped:
            factor = resize_factor(height, width, self.preprocess)
            return max(round(width * factor), 1), max(round(height * factor), 1)
        shape = resized_shape(height, width, self.preprocess)
        return shape[1], shape[0]
