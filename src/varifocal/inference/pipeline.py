"""The way from images to detections, the same for checkpoints, exported files and the studies of them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, overload, runtime_checkable

import numpy as np
from PIL import Image

from varifocal.data.images import read_image
from varifocal.inference.image_inputs import IMAGE_HINT, ImageLike, Readable, as_file, as_image
from varifocal.inference.tiling import Tile, make_tiles, merge_tiles
from varifocal.types import TTA, Category, Detections, FileLike, PostProcess, Preprocess, Tiling, scaled_resize
from varifocal.utils.errors import ConfigError, DataError

MOST_CALLS = 4  # calls of predict at the same time, each of which holds an image and its feature maps
BATCH = 8  # images of a list, or tiles of a large image, that are in memory together

C = TypeVar("C")
R = TypeVar("R")


@runtime_checkable
class Settings(Protocol):
    """The part of a model's description that says how its images are read and its boxes selected."""

    @property
    def preprocess(self) -> Preprocess: ...
    @property
    def postprocess(self) -> PostProcess: ...
    @property
    def tiling(self) -> Tiling: ...
    @property
    def tta(self) -> TTA: ...


class Crop(NamedTuple):
    """An upright RGB image, or the part of a large one that lies at ``tile``."""

    image: Image.Image
    tile: Tile


class PassInput(NamedTuple):
    """The input of one forward pass of test-time augmentation: crops, their resize, and whether they are mirrored."""

    crops: list[Crop]
    preprocess: Preprocess
    flip: bool

    @property
    def images(self) -> list[Image.Image]:
        """The images of the crops, not resized or mirrored yet."""
        return [crop.image for crop in self.crops]


@runtime_checkable
class Stages(Protocol[C, R]):
    """The steps of the pipeline that depend on what computes the network and on what becomes of its candidates."""

    @property
    def info(self) -> Settings: ...

    def candidates(self, batch: PassInput) -> Sequence[C]:
        """Run the network once and return the candidates of each crop, with boxes in pixels of the crop."""

    def postprocess(self, passes: Sequence[C], settings: PostProcess) -> R:
        """Select and suppress the candidates of all passes over one crop."""

    def merge(self, parts: Sequence[R], size: tuple[int, int], settings: PostProcess) -> R:
        """Return the result of an image of (height, width) from those of its tiles, row by row."""


def detect(stages: Stages[C, R], images: Sequence[Any], settings: PostProcess) -> list[R]:
    """Return the result of each image: tiles, test-time augmentation, network, candidates, suppression, merged tiles.

    Raises:
        DataError: a file cannot be read as an image.
    """
    info = stages.info
    results: list[R] = []
    for opened in _open_batches(images, info):
        parts: list[R] = []
        for crops in _crop_batches(opened, info):
            passes = [stages.candidates(batch) for batch in tta_passes(crops, info)]
            parts += [stages.postprocess(candidates, settings) for candidates in zip(*passes, strict=True)]
        results += [stages.merge(parts, opened[0].size[::-1], settings)] if info.tiling.size else parts
    return results


def _open_batches(images: Sequence[Any], info: Settings) -> Iterator[list[Image.Image]]:
    """Yield the images as upright RGB, a batch at a time; with tiles one image, since each may be large."""
    step = 1 if info.tiling.size else BATCH
    for start in range(0, len(images), step):
        yield [open_image(image, info) for image in images[start : start + step]]


def _crop_batches(images: list[Image.Image], info: Settings) -> Iterator[list[Crop]]:
    """Yield the images, or the tiles of the only one, in batches whose candidates of all passes fit in memory."""
    step = max(BATCH // info.tta.count, 1)
    if info.tiling.size:
        (image,) = images
        tiles = make_tiles(image.height, image.width, info.tiling)
        for start in range(0, len(tiles), step):
            yield [Crop(image.crop(tile), tile) for tile in tiles[start : start + step]]
        return
    for start in range(0, len(images), step):
        yield whole(images[start : start + step])


def whole(images: Sequence[Image.Image]) -> list[Crop]:
    """Return images that are not cut into tiles as crops."""
    return [Crop(image, (0, 0, *image.size)) for image in images]


def tta_passes(crops: list[Crop], info: Settings) -> Iterator[PassInput]:
    """Yield the input of each pass of test-time augmentation: scale by scale, plain and then mirrored."""
    for scale in info.tta.scales:
        for flip in info.tta.flips:
            yield PassInput(crops, scaled_resize(info.preprocess, scale), flip)


@runtime_checkable
class Predictor(Protocol):
    """A model that finds objects in images, whatever runs it; ``info`` describes it."""

    @property
    def info(self) -> Any: ...
    @property
    def categories(self) -> tuple[Category, ...]: ...
    @property
    def device(self) -> Any: ...

    def predict(self, images: Any, *, score_threshold: float | None = ..., max_detections: int | None = ...) -> Any: ...


class Pipeline:
    """Base of the models: :meth:`predict` and the merging of tiles, over the stages that a subclass computes."""

    info: Any

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes that labels index."""
        categories: tuple[Category, ...] = self.info.categories
        return categories

    @property
    def calls_at_once(self) -> int:
        """How many calls of :meth:`predict` at the same time use the device best."""
        return 1

    def for_calls(self, calls: int) -> Any:
        """Return a model for so many calls at the same time: this one, if it can do that."""
        return self

    @overload  # a string is a sequence of strings, but also a path
    def predict(  # type: ignore[overload-overlap]
        self, images: ImageLike, *, score_threshold: float | None = ..., max_detections: int | None = ...
    ) -> Detections: ...

    @overload
    def predict(
        self, images: Sequence[ImageLike], *, score_threshold: float | None = ..., max_detections: int | None = ...
    ) -> list[Detections]: ...

    def predict(
        self,
        images: Any,  # not only ImageLike, so that any other value gets an error of one sentence
        *,
        score_threshold: float | None = None,
        max_detections: int | None = None,
    ) -> Detections | list[Detections]:
        """Detect objects in one image or in a list of images.

        Args:
            images: a path, the bytes of a file or a file opened with "rb", a Pillow image, an array [H, W, 3] of
                RGB (uint8 or uint16; alpha is dropped) or [H, W] of gray values, or a list of these. A list is run in
                batches. A model with ``info.tiling`` cuts each image into overlapping tiles, one with ``info.tta``
                runs several passes over each image or tile.
            score_threshold: lowest score of a detection. The default is the model's own threshold, 0.05 as a rule,
                which a detector with centerness applies to the class score alone.
            max_detections: maximum number of boxes per image. The default is the model's own, 100 as a rule.

        Returns:
            :class:`Detections` in pixels of the upright image, or a list of them.

        Raises:
            DataError: a file cannot be read as an image, or a value is not an image.
            ConfigError: ``score_threshold`` is not between 0 and 1, ``max_detections`` is below 1, or an exported file
                that suppresses by itself cannot follow them.
        """
        if is_one(images):
            return self.predict([images], score_threshold=score_threshold, max_detections=max_detections)[0]
        self.check_limits(score_threshold, max_detections)
        settings = self.info.postprocess
        if score_threshold is not None:
            # never above the model's own, so that a higher threshold removes boxes and moves none
            settings = replace(settings, score_threshold=min(score_threshold, settings.score_threshold))
        if max_detections is not None:
            settings = replace(settings, max_detections=max_detections)
        stages: Stages[Any, Detections] = self  # type: ignore[assignment]  # subclasses have the other stages
        found = detect(stages, images, settings)
        return found if score_threshold is None else [detections.filter(score_threshold) for detections in found]

    def check_limits(self, score_threshold: float | None, max_detections: int | None) -> None:
        """Raise ConfigError if a threshold or a number of detections is out of range."""
        if score_threshold is not None and not 0 <= score_threshold <= 1:
            raise ConfigError(
                f"score_threshold={score_threshold}: give a number between 0 and 1.", code="score-threshold-range"
            )
        if max_detections is not None and not 1 <= max_detections < math.inf:
            raise ConfigError(
                f"max_detections={max_detections}: give a whole number above 0.", code="max-detections-range"
            )

    def merge(self, parts: Sequence[Detections], size: tuple[int, int], settings: PostProcess) -> Detections:
        """Return the detections of an image of (height, width) from those of its tiles."""
        return merge_tiles(parts, size, self.info.tiling, settings)[0]


def is_one(images: Any) -> bool:
    """Return whether ``images`` is one image and not a list of images.

    Raises:
        DataError: it is neither.
    """
    if isinstance(images, (str, os.PathLike, Image.Image, np.ndarray, bytes, bytearray, memoryview, Readable)):
        return True
    if not isinstance(images, Sequence):
        raise DataError(f"image: cannot read a value of type {type(images).__name__}; {IMAGE_HINT}.", code="image-type")
    return False


def read_for(info: Settings, file: FileLike) -> Image.Image:
    """Read the image of a file as the model needs it: with its range of values, and large images if it has tiles.

    Raises:
        DataError: as :func:`varifocal.data.images.read_image`.
    """
    return read_image(file, info.preprocess.range, large=info.tiling.size > 0)


def open_image(image: Any, info: Settings) -> Image.Image:
    """Return an ``ImageLike`` as an upright RGB image in memory, read as :func:`read_for` reads a file.

    Raises:
        DataError: the image cannot be read, or the value is not an image.
    """
    if isinstance(image, (str, os.PathLike)) and os.path.isfile(image):
        return read_for(info, Path(os.fsdecode(image)))
    if isinstance(image, (Image.Image, np.ndarray)):
        return as_image(image, info.preprocess.range)
    return read_for(info, as_file(image))
