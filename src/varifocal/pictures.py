"""From pictures to detections, whatever computes the network: opening, windows, batches, thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np
from jaxtyping import Int64
from PIL import Image

from varifocal.data.images import read_image, upright_rgb
from varifocal.errors import DataError
from varifocal.records import Category, Detections
from varifocal.settings import PostProcess, Views
from varifocal.tiles import Tiling, Window, merge_traced, windows

BATCH = 8  # pictures of a list, or windows of a large one, that are in memory together

Picture = str | Path | Image.Image | np.ndarray
Detect = Callable[[list[Image.Image], PostProcess], list[Detections]]


@runtime_checkable
class Settings(Protocol):
    """What every description of a model says of its pictures and boxes."""

    @property
    def postprocess(self) -> PostProcess: ...
    @property
    def tiling(self) -> Tiling: ...
    @property
    def views(self) -> Views: ...


@runtime_checkable
class Predictor(Protocol):
    """What finds objects in pictures: a model of torch, or an exported one. ``info`` describes it."""

    @property
    def info(self) -> Any: ...
    @property
    def categories(self) -> tuple[Category, ...]: ...
    @property
    def device(self) -> Any: ...

    @overload  # a string is a sequence of strings, but a path all the same
    def predict(  # type: ignore[overload-overlap]
        self, pictures: Picture, *, score_threshold: float | None = ..., max_detections: int | None = ...
    ) -> Detections: ...
    @overload
    def predict(
        self, pictures: Sequence[Picture], *, score_threshold: float | None = ..., max_detections: int | None = ...
    ) -> list[Detections]: ...


def predict_pictures(
    detect: Detect,
    info: Settings,
    pictures: Sequence[Picture],
    score_threshold: float | None,
    max_detections: int | None,
) -> list[Detections]:
    """The detections of each picture; ``detect`` gives those of at most ``BATCH`` RGB pictures at once.

    Raises:
        DataError: a file cannot be read as a picture.
    """
    settings = info.postprocess
    if score_threshold is not None:
        # never above the model's own, so that what is asked for sorts out boxes but moves none
        settings = replace(settings, score_threshold=min(score_threshold, settings.score_threshold))
    if max_detections is not None:
        settings = replace(settings, max_detections=max_detections)
    found = _detect_all(detect, info, pictures, settings)
    return found if score_threshold is None else [one.filter(score_threshold) for one in found]


def _detect_all(detect: Detect, info: Settings, pictures: Sequence[Picture], settings: PostProcess) -> list[Detections]:
    if info.tiling.size:
        return [_detect_tiled(detect, info.tiling, open_picture(picture), settings) for picture in pictures]
    found: list[Detections] = []
    for start in range(0, len(pictures), BATCH):
        found += detect([open_picture(picture) for picture in pictures[start : start + BATCH]], settings)
    return found


def _detect_tiled(detect: Detect, tiling: Tiling, image: Image.Image, settings: PostProcess) -> Detections:
    places = windows(image.height, image.width, tiling)
    parts: list[Detections] = []
    for start in range(0, len(places), BATCH):
        parts += detect([image.crop(place) for place in places[start : start + BATCH]], settings)
    return join_windows(parts, places, (image.height, image.width), tiling, settings)


def join_windows(
    parts: list[Detections], places: list[Window], size: tuple[int, int], tiling: Tiling, settings: PostProcess
) -> Detections:
    """The detections of a picture of (height, width) from those of its windows, in pixels of each window."""
    return join_windows_traced(parts, places, size, tiling, settings)[0]


def join_windows_traced(
    parts: list[Detections], places: list[Window], size: tuple[int, int], tiling: Tiling, settings: PostProcess
) -> tuple[Detections, Int64[np.ndarray, "K"]]:
    """As :func:`join_windows`, and for each detection its place among those of all windows, one after the other."""
    if len(places) == 1 and not (tiling.size and tiling.vote):
        # suppressed already, and scores that soft suppression lowered must not meet it twice
        return parts[0], np.arange(len(parts[0]))
    return merge_traced(parts, places, *size, tiling, settings.iou, settings.max_detections)


def open_picture(picture: Picture) -> Image.Image:
    """An upright RGB picture in memory.

    Raises:
        DataError: a file cannot be read as a picture, or an array is not RGB bytes.
    """
    if isinstance(picture, Image.Image):
        try:
            return upright_rgb(picture, "picture")
        except OSError as error:  # Pillow decodes an opened file only now
            raise DataError(f"picture: cannot be decoded ({error}); open another copy of it.") from error
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise DataError(
                f"picture: an array of {picture.dtype} and shape {picture.shape}; give RGB bytes, uint8 [H, W, 3]."
            )
        return Image.fromarray(picture)
    return read_image(Path(picture))
