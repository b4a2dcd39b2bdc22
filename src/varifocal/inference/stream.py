"""Detections in many image files: threads decode the next ones while the network runs, and shapes share batches."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from PIL import Image

from varifocal.data.images import pixel_limit, quiet
from varifocal.inference.pipeline import BATCH, Predictor, Settings, read_for
from varifocal.types import Detections, FileLike, resized_shape, scaled_resize
from varifocal.utils.errors import DataError

Shapes = tuple[tuple[int, int], ...]

SMALL_PIXELS = 2**24  # a larger image is in no batch, so that few of them are in memory
GPU_BATCH = BATCH  # images of a batch on a GPU; a CPU gains nothing from batches
WAITING = 4  # batches of decoded images that may wait for others of their shape
AHEAD = 1  # images for each thread that are decoded or wait while the network runs


@dataclass(frozen=True)
class StreamOptions:
    """How many images share a batch, at most 8, how many threads decode, and the limits of :meth:`Pipeline.predict`.

    ``batch_size`` and ``threads`` are chosen for the device if they are 0.
    """

    batch_size: int = 0
    threads: int = 0
    score_threshold: float | None = None
    max_detections: int | None = None

    def for_device(self, device: str) -> StreamOptions:
        """Return the options with numbers in place of zeros."""
        gpu = device.startswith("cuda")
        batch = min(self.batch_size or (GPU_BATCH if gpu else 1), BATCH)
        threads = self.threads or (min(os.cpu_count() or 1, GPU_BATCH) if gpu else 1)
        return StreamOptions(batch, threads, self.score_threshold, self.max_detections)


class FileResult(NamedTuple):
    """A file with its image and the detections in it, or with the error that it cannot be read."""

    file: FileLike
    image: Image.Image | None = None
    detections: Detections | None = None
    error: DataError | None = None


class _Decoded(NamedTuple):
    """An image with its place in the list of files, or the error of the file."""

    position: int
    image: Image.Image | None
    error: DataError | None


def predict_files(
    model: Predictor,
    files: Sequence[FileLike],
    options: StreamOptions | None = None,
    check: Callable[[int, Image.Image], None] = lambda position, image: None,
) -> Generator[FileResult, None, None]:
    """Yield the result of each file in the order of the files; a file that cannot be read does not stop the others.

    ``check`` may refuse an image by its place in the list, with a DataError.

    Images share a batch only if the network sees them at the same size, so that no padding is added: their detections
    are those of one by one up to rounding. At most ``WAITING + 1`` batches and ``AHEAD + 1`` images for each thread
    are in memory, whatever the number of files; with tiles, where each image may be large, it is one.

    Raises:
        ConfigError: a limit in ``options`` is out of range.
    """
    options = (options or StreamOptions()).for_device(str(model.device))
    results: dict[int, FileResult] = {}
    following = 0
    # warning filters belong to all threads
    with (
        quiet(pixel_limit(large=model.info.tiling.size > 0)),
        closing(_decode(model.info, files, options, check)) as decoded,
    ):
        for batch in _batches(decoded, model.info, options.batch_size):
            for one, result in zip(batch, _run(model, files, batch, options), strict=True):
                results[one.position] = result
            while following in results:
                yield results.pop(following)
                following += 1


def _run(
    model: Predictor, files: Sequence[FileLike], batch: Sequence[_Decoded], options: StreamOptions
) -> Iterator[FileResult]:
    """Yield the results of a batch, or of the only file in it that cannot be read."""
    images = [one.image for one in batch if one.image is not None]
    limits = {"score_threshold": options.score_threshold, "max_detections": options.max_detections}
    given: dict[str, Any] = {name: value for name, value in limits.items() if value is not None}
    found: Sequence[Detections | None] = [None] * len(batch)
    if images:
        found = model.predict(images, **given) if len(images) > 1 else [model.predict(images[0], **given)]
    for one, detections in zip(batch, found, strict=True):
        yield FileResult(files[one.position], one.image, detections, one.error)


def _decode(
    info: Settings, files: Sequence[FileLike], options: StreamOptions, check: Callable[[int, Image.Image], None]
) -> Generator[_Decoded, None, None]:
    """Yield the images in order, decoded ahead in threads; closing it waits for what is being decoded."""

    def read(position: int) -> _Decoded:
        try:
            image = read_for(info, files[position])
            check(position, image)
            return _Decoded(position, image, None)
        except DataError as error:
            return _Decoded(position, None, error)

    if info.tiling.size:
        yield from map(read, range(len(files)))
        return
    with ThreadPoolExecutor(options.threads, thread_name_prefix="decode") as pool:
        waiting: deque[Future[_Decoded]] = deque()
        try:
            for position in range(len(files)):
                waiting.append(pool.submit(read, position))
                if len(waiting) > AHEAD * options.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()


def _batches(decoded: Iterable[_Decoded], info: Settings, size: int) -> Iterator[list[_Decoded]]:
    """Yield batches of images of one padded shape; a file without an image and, with tiles, an image comes alone."""
    groups: dict[Shapes, list[_Decoded]] = {}
    for one in decoded:
        if one.image is None or size == 1 or _comes_alone(one.image, info):
            yield [one]
            continue
        shape = _padded_shapes(one.image, info)
        groups.setdefault(shape, []).append(one)
        if len(groups[shape]) == size:
            yield groups.pop(shape)
        oldest = _oldest(groups) if groups else None
        if oldest is not None and one.position - groups[oldest][0].position >= WAITING * size:
            yield groups.pop(oldest)  # results wait for it, because they come in order
    while groups:
        yield groups.pop(_oldest(groups))


def _comes_alone(image: Image.Image, info: Settings) -> bool:
    return info.tiling.size > 0 or image.width * image.height > SMALL_PIXELS


def _oldest(groups: dict[Shapes, list[_Decoded]]) -> Shapes:
    """Return the shape of the image that waits longest."""
    return min(groups, key=lambda shape: groups[shape][0].position)


def _padded_shapes(image: Image.Image, info: Settings) -> Shapes:
    """Return the size of the network's input for an image, in units of its divisor, at each scale of the passes."""
    divisor = info.preprocess.size_divisor
    sizes = (
        resized_shape(image.height, image.width, scaled_resize(info.preprocess, scale)) for scale in info.tta.scales
    )
    return tuple((-(-height // divisor), -(-width // divisor)) for height, width in sizes)
