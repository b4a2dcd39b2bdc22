"""How a detector sees a data set before its network has run: the resize of its images, its points, its assignment."""

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
    """How a detector sees a data set: its labeling, and the resize of its images.

    ``cropped``: training cuts windows out of the resized image, so that ``max_size`` of the resize is not for it.
    """

    name: str
    labeling: TargetAssigner
    preprocess: Preprocess
    cropped: bool = False

    @classmethod
    def of(cls, name: str, detector: str, config: Any, preprocess: Preprocess, crop: int = 0) -> TrainingGeometry:
        """``name`` is for people, ``detector`` the key of the table of detectors."""
        return cls(name, DETECTORS[detector][0].labeling(config), preprocess, crop > 0)

    @classmethod
    def of_model(cls, name: str, info: ModelInfo) -> TrainingGeometry:
        """That of a checkpoint as it was trained."""
        crop = info.recipe.get("data", {}).get("augment", {}).get("crop", 0)
        return cls.of(name, info.name, info.config, info.preprocess, crop)

    def at(self, preprocess: Preprocess) -> TrainingGeometry:
        """The same with another resize."""
        return replace(self, preprocess=preprocess)

    def resized(self, sizes: Int64[np.ndarray, "M 2"]) -> Int64[np.ndarray, "M 2"]:
        """(width, height) of each image as the network sees it."""
        different, index = np.unique(sizes, axis=0, return_inverse=True)
        shapes = [self._resized(width, height) for width, height in different.tolist()]
        return np.array(shapes, np.int64).reshape(-1, 2)[index.reshape(-1)]

    def factors(self, sizes: Int64[np.ndarray, "M 2"]) -> Float32[np.ndarray, "M 4"]:
        """What the resize multiplies xyxy boxes of each image by."""
        each = (self.resized(sizes) / sizes).astype(np.float32)
        return np.concatenate([each, each], axis=1)

    def grids(self, sides: Int64[np.ndarray, "M 2"]) -> Int64[np.ndarray, "M 2"]:
        """(rows, columns) of the finest map of resized images; those of the coarser maps follow from them."""
        rounded = -(-sides // self.labeling.divisor) * self.labeling.divisor
        return -(-rounded[:, ::-1] // self.labeling.strides[0])

    def priors(self, rows: int, columns: int) -> Priors:
        """The points of an image with a finest map of that size."""
        finest = self.labeling.strides[0]
        shapes = [(-(-rows * finest // stride), -(-columns * finest // stride)) for stride in self.labeling.strides]
        return self.labeling.grid(shapes, like=torch.zeros(0))

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        if self.cropped:
            factor = resize_factor(height, width, self.preprocess)
            return max(round(width * factor), 1), max(round(height * factor), 1)
        shape = resized_shape(height, width, self.preprocess)
        return shape[1], shape[0]
