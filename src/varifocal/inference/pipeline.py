"""From images to detections, whatever computes the network: opening, windows, batches, thresholds."""

from __future__ import annotations

import inspect
import io
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, overload, runtime_checkable

import numpy as np
from jaxtyping import Int64
from PIL import Image

from varifocal.data.images import read_image, to_upright_rgb
from varifocal.data.listing import refuse_address
from varifocal.data.value_ranges import Depth, to_levels
from varifocal.inference.tiling import Tile, make_tiles, merge_tiles_with_indices
from varifocal.types import TTA, Category, Detections, FileLike, Levels, PostProcess, Preprocess, Tiling
from varifocal.utils.errors import ConfigError, DataError

BATCH = 8  # images of a list, or windows of a large one, that are in memory together


@runtime_checkable
class Readable(Protocol):
    """A file that is opened with "rb", or what is read as such."""

    def read(self, size: int = ..., /) -> bytes: ...


ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray | bytes | bytearray | memoryview | Readable
MAY_BE_GIVEN = (
    "give a path, the bytes of a file, a file opened with 'rb', a Pillow image, an array of RGB bytes [H, W, 3] or of "
    "gray values [H, W], or a list of these"
)
_GRAYS = ("uint8", "int16", "uint16", "int32", "uint32", "float16", "float32", "float64")  # of 0 to 255 only uint8
Detect = Callable[[list[Image.Image], PostProcess], list[Detections]]


@runtime_checkable
class Settings(Protocol):
    """What every description of a model says of its images and boxes."""

    @property
    def preprocess(self) -> Preprocess: ...
    @property
    def postprocess(self) -> PostProcess: ...
    @property
    def tiling(self) -> Tiling: ...
    @property
    def tta(self) -> TTA: ...


@runtime_checkable
class Predictor(Protocol):
    """What finds objects in images: a model of torch, or an exported one. ``info`` describes it."""

    @property
    def info(self) -> Any: ...
    @property
    def categories(self) -> tuple[Category, ...]: ...
    @property
    def device(self) -> Any: ...

    @overload  # a string is a sequence of strings, but a path all the same
    def predict(  # type: ignore[overload-overlap]
        self, images: ImageLike, *, score_threshold: float | None = ..., max_detections: int | None = ...
    ) -> Detections: ...
    @overload
    def predict(
        self, images: Sequence[ImageLike], *, score_threshold: float | None = ..., max_detections: int | None = ...
    ) -> list[Detections]: ...


def run_pipeline(
    detect: Detect,
    info: Settings,
    images: Sequence[Any],
    score_threshold: float | None,
    max_detections: int | None,
) -> list[Detections]:
    """The detections of each image; ``detect`` gives those of at most ``BATCH`` RGB images at once.

    Raises:
        DataError: a file cannot be read as an image.
        ConfigError: the least score is not between 0 and 1, or there are to be fewer than 1 detections.
    """
    _check_limits(score_threshold, max_detections)
    settings = info.postprocess
    if score_threshold is not None:
        # never above the model's own, so that what is asked for sorts out boxes but moves none
        settings = replace(settings, score_threshold=min(score_threshold, settings.score_threshold))
    if max_detections is not None:
        settings = replace(settings, max_detections=max_detections)
    found = _detect_all(detect, info, images, settings)
    return found if score_threshold is None else [one.filter(score_threshold) for one in found]


def _check_limits(score_threshold: float | None, max_detections: int | None) -> None:
    if score_threshold is not None and not 0 <= score_threshold <= 1:
        raise ConfigError(
            f"score_threshold={score_threshold}: give a number between 0 and 1.", code="score-threshold-range"
        )
    if max_detections is not None and not 1 <= max_detections < math.inf:
        raise ConfigError(f"max_detections={max_detections}: give a whole number above 0.", code="max-detections-range")


def _detect_all(detect: Detect, info: Settings, images: Sequence[Any], settings: PostProcess) -> list[Detections]:
    def opened(some: Sequence[Any]) -> list[Image.Image]:
        return [open_image(one, info.preprocess.range, large=info.tiling.size > 0) for one in some]

    found: list[Detections] = []
    if info.tiling.size:
        for i in range(len(images)):  # one large image in memory at a time
            found.append(_detect_tiled(detect, info.tiling, opened(images[i : i + 1])[0], settings))
        return found
    for start in range(0, len(images), BATCH):
        found += detect(opened(images[start : start + BATCH]), settings)
    return found


def _detect_tiled(detect: Detect, tiling: Tiling, image: Image.Image, settings: PostProcess) -> Detections:
    tiles = make_tiles(image.height, image.width, tiling)
    parts: list[Detections] = []
    for start in range(0, len(tiles), BATCH):
        parts += detect([image.crop(tile) for tile in tiles[start : start + BATCH]], settings)
    return join_windows(parts, tiles, (image.height, image.width), tiling, settings)


def join_windows(
    parts: list[Detections], tiles: list[Tile], size: tuple[int, int], tiling: Tiling, settings: PostProcess
) -> Detections:
    """The detections of an image of (height, width) from those of its windows, in pixels of each window."""
    return join_windows_traced(parts, tiles, size, tiling, settings)[0]


def join_windows_traced(
    parts: list[Detections], tiles: list[Tile], size: tuple[int, int], tiling: Tiling, settings: PostProcess
) -> tuple[Detections, Int64[np.ndarray, "K"]]:
    """Return what :func:`join_windows` does, and each detection's index among those of all windows, in their order."""
    if len(tiles) == 1 and not (tiling.size and tiling.vote):
        # suppressed already, and scores that soft suppression lowered must not meet it twice
        return parts[0], np.arange(len(parts[0]))
    return merge_tiles_with_indices(parts, tiles, *size, tiling, settings.nms_iou, settings.max_detections)


def is_one(images: Any) -> bool:
    """Whether one image is given, and not a list of them.

    Raises:
        DataError: neither.
    """
    if isinstance(images, (str, os.PathLike, Image.Image, np.ndarray, bytes, bytearray, memoryview, Readable)):
        return True
    if not isinstance(images, Sequence):
        raise DataError(f"image: a value of type {type(images).__name__} is given; {MAY_BE_GIVEN}.", code="image-type")
    return False


def read_for(info: Settings, file: FileLike) -> Image.Image:
    """The image of a file as a model of that description wants it: by its range of values, large if it reads windows.

    Raises:
        DataError: as :func:`varifocal.data.images.read_image`.
    """
    return read_image(file, info.preprocess.range, large=info.tiling.size > 0)


def open_image(image: Any, levels: Levels | None = None, *, large: bool = False) -> Image.Image:
    """An upright RGB image in memory of a ``ImageLike``; ``levels`` and ``large`` are those of ``read_image``.

    Raises:
        DataError: a file or its bytes cannot be read as an image, or something else is given.
    """
    if isinstance(image, Image.Image):
        return _from_image(image, levels)
    if isinstance(image, np.ndarray):
        return _from_array(image, levels)
    if isinstance(image, (str, os.PathLike)):
        name = os.fsdecode(image)
        refuse_address(name)
        return read_image(Path(name), levels, large=large)
    return read_image(_in_memory(image), levels, large=large)


def _from_image(image: Image.Image, levels: Levels | None) -> Image.Image:
    if not all(image.size):
        raise DataError(
            f"image: it has no pixels, {image.width} x {image.height}; give another one.", code="image-empty"
        )
    try:
        return to_upright_rgb(image, "image", levels)
    except (OSError, ValueError) as error:  # Pillow decodes an opened file only now; ValueError: it is closed
        raise DataError(
            f"image: cannot be decoded ({error}); open another copy of it.", code="image-not-decoded"
        ) from error


def _from_array(image: np.ndarray, levels: Levels | None) -> Image.Image:
    """As of an image in a file: alpha is dropped, and more than 8 bits are scaled by ``levels``."""
    values = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    kind = values.dtype.name
    color = values.ndim == 3 and values.shape[2] in (3, 4) and kind in ("uint8", "uint16")
    if not values.size or not (color or (values.ndim == 2 and kind in _GRAYS)):
        raise DataError(
            f"image: an array of {image.dtype} and shape {image.shape}; give RGB or RGBA, uint8 or uint16 "
            "[H, W, 3 or 4], or gray values, [H, W] or [H, W, 1] of uint8, 16 or 32 bits or floating point.",
            code="image-array",
        )
    values = values[:, :, :3] if color else values
    if kind != "uint8":
        values = to_levels(values, Depth(), levels, "image")
    return Image.fromarray(np.ascontiguousarray(values)).convert("RGB")


@dataclass(frozen=True)
class _InMemory:
    """The content of a file, used instead of the file."""

    name: str
    content: bytes

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    def open(self, mode: Literal["rb"]) -> io.BytesIO:
        return io.BytesIO(self.content)

    def __str__(self) -> str:
        return self.name


def _in_memory(image: Any) -> _InMemory:
    """The bytes that are given, or those of a file object from its beginning."""
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _InMemory("image", bytes(image))
    if not isinstance(image, Readable):
        raise DataError(f"image: a value of type {type(image).__name__} is given; {MAY_BE_GIVEN}.", code="image-type")
    file: Any = image
    name = file.name if isinstance(getattr(file, "name", None), str) else "image"
    try:
        if hasattr(file, "seekable") and file.seekable():
            file.seek(0)
        content = file.read()
    except (OSError, ValueError) as error:  # ValueError: it is closed, or no UTF-8 is read as text
        raise DataError(
            f"{name}: cannot be read ({error}); open it once more with 'rb'.", code="image-file-not-read"
        ) from error
    if inspect.iscoroutine(content):
        content.close()
        raise DataError(f"{name}: is read with await; give its bytes, await file.read().", code="image-file-async")
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise DataError(
            f"{name}: gives {type(content).__name__} and not bytes; open it with 'rb'.", code="image-file-text"
        )
    return _InMemory(name, bytes(content))
