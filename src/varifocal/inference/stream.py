"""Detections in many image files, in order: on a CPU several images at the same time, on a GPU in batches.

On a CPU each of a few threads takes an image from its file to its detections, which uses all cores better than one
network on all of them. On a GPU threads decode the next images while the network runs, and equal shapes share batches.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, NamedTuple, TypeVar

from PIL import Image

from varifocal.data.images import pixel_limit, quiet
from varifocal.inference.pipeline import BATCH, Pipeline, Predictor, Settings, read_for
from varifocal.types import Detections, FileLike, resized_shape, scaled_resize
from varifocal.utils.errors import DataError

T = TypeVar("T")
Shapes = tuple[tuple[int, int], ...]

SMALL_PIXELS = 2**24  # a larger image is in no batch, so that few of them are in memory
GPU_BATCH = BATCH  # images of a batch on a GPU; a CPU gains nothing from batches
WAITING = 4  # batches of decoded images that may wait for others of their shape
AHEAD = 1  # images for each thread that are decoded or wait while the network runs
MANY = 8  # files from which several are worth the time that a runtime needs to prepare for it


@dataclass(frozen=True)
class StreamOptions:
    """How many images share a batch, at most 8, how many threads work, and the limits of :meth:`Pipeline.predict`.

    ``threads`` decode, or take whole images if ``calls`` is more than 1: so many are predicted at the same time. Zeros
    are chosen for the device.
    """

    batch_size: int = 0
    threads: int = 0
    score_threshold: float | None = None
    max_detections: int | None = None
    calls: int = 0

    def chosen(self, model: Predictor, files: int) -> StreamOptions:
        """Return the options with numbers in place of zeros, for so many files."""
        on_gpu = (GPU_BATCH, min(os.cpu_count() or 1, GPU_BATCH))
        batch, threads = on_gpu if str(model.device).startswith("cuda") else (1, 1)
        chosen = replace(self, batch_size=min(self.batch_size or batch, BATCH), threads=self.threads or threads)
        if self.calls or chosen.batch_size > 1:
            return replace(chosen, calls=self.calls or 1)
        return replace(chosen, calls=self._best_calls(model, files))

    def _best_calls(self, model: Predictor, files: int) -> int:
        """Return how many images to predict at the same time: one, if batches or threads are asked for."""
        several = not self.batch_size and not self.threads and files >= MANY and not model.info.tiling.size
        return model.calls_at_once if several and isinstance(model, Pipeline) else 1

    @property
    def limits(self) -> dict[str, Any]:
        """The limits that are given, as arguments of :meth:`Pipeline.predict`."""
        given = {"score_threshold": self.score_threshold, "max_detections": self.max_detections}
        return {name: value for name, value in given.items() if value is not None}


class FileResult(NamedTuple):
    """A file with its image and the detections in it, or with the error that it cannot be read."""

    file: FileLike
    image: Image.Image | None = None
    detections: Detections | None = None
    error: DataError | None = None


class _Decoded(NamedTuple):
    """An image with its position in the list of files, or the error of the file."""

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

    ``check`` may refuse an image by its position in the list, with a DataError.

    Images share a batch only if the network sees them at the same size, so that no padding is added: their detections
    are those of one by one up to rounding. At most ``WAITING + 1`` batches and ``AHEAD + 1`` images for each thread or
    call are in memory, whatever the number of files; with tiles, where each image may be large, it is one.

    Raises:
        ConfigError: a limit in ``options`` is out of range.
    """
    options = (options or StreamOptions()).chosen(model, len(files))
    # warning filters belong to all threads
    with quiet(pixel_limit(large=model.info.tiling.size > 0)):
        if options.calls > 1 and isinstance(model, Pipeline):
            yield from _predict_at_once(model.for_calls(options.calls), files, options, check)
        else:
            yield from _predict_in_batches(model, files, options, check)


def _predict_at_once(
    model: Predictor, files: Sequence[FileLike], options: StreamOptions, check: Callable[[int, Image.Image], None]
) -> Generator[FileResult, None, None]:
    """Yield the results of files that as many threads predict as there are calls."""
    large = Lock()  # few large images are in the network at the same time

    def predict(position: int) -> FileResult:
        try:
            image = read_for(model.info, files[position])
            check(position, image)
        except DataError as error:
            return FileResult(files[position], error=error)
        with large if image.width * image.height > SMALL_PIXELS else nullcontext():
            return FileResult(files[position], image, model.predict(image, **options.limits))

    with ThreadPoolExecutor(options.calls, thread_name_prefix="predict") as pool:
        yield from _in_order(pool, predict, len(files), options.calls + AHEAD)


def _in_order(pool: ThreadPoolExecutor, work: Callable[[int], T], count: int, most: int) -> Generator[T, None, None]:
    """Yield ``work`` of each number, in order; at most ``most`` of them are done or wait. Closing it cancels them."""
    waiting: deque[Future[T]] = deque()
    try:
        for number in range(count):
            waiting.append(pool.submit(work, number))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for one in waiting:
            one.cancel()


def _predict_in_batches(
    model: Predictor, files: Sequence[FileLike], options: StreamOptions, check: Callable[[int, Image.Image], None]
) -> Generator[FileResult, None, None]:
    """Yield the results of files that are decoded ahead and share batches."""
    results: dict[int, FileResult] = {}
    following = 0
    with closing(_decode(model.info, files, options, check)) as decoded:
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
    given = options.limits
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
        yield from _in_order(pool, read, len(files), AHEAD * options.threads + 1)


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
