"""Example images: the worst ones and a few random ones, with the detections of each run and their stars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image

from varifocal.analysis.pages.render import jpeg_uri
from varifocal.analysis.star_points import Stars
from varifocal.analysis.worst_images import DetectionError, image_detections
from varifocal.data.images import read_image
from varifocal.inference.boxes_numpy import elementwise_iou
from varifocal.tools.report.measure import RunEvaluation
from varifocal.types import Sample
from varifocal.utils.errors import DataError

MOST_BOXES = 400  # detections of a run in an image
MOST_ON_PAGE = 6000  # detections of all runs and images
MOST_BYTES = 3_000_000  # of all images of a page, as text
SIDES = (1024, 800, 640, 512, 384, 256, 192, 128)  # pixels of the longer side; the first that fits is used
QUALITY = 80


@dataclass(frozen=True, eq=False)
class Star:
    """The star of a detection in pixels of the image: ``center`` (x, y), ``initial`` and ``refined`` box (xyxy).

    The IoUs are those with the ground truth box of the detection, None if it overlaps none.
    """

    center: Float[np.ndarray, "2"]
    initial: Float[np.ndarray, "4"]
    refined: Float[np.ndarray, "4"]
    initial_iou: float | None
    refined_iou: float | None


@dataclass(frozen=True, eq=False)
class ImagePanel:
    """The detections of a run in an image, best first; ``total`` also counts those that are left out.

    ``stars`` has one for each detection, and is empty for detectors other than VFNet.
    """

    run: int
    found: tuple[DetectionError, ...]
    stars: tuple[Star, ...]
    total: int


@dataclass(frozen=True, eq=False)
class Example:
    """An image with its ground truth boxes; ``why`` is the reason for its choice, ``uri`` the image as a data URI."""

    sample: Sample
    why: str
    uri: str
    scenes: tuple[ImagePanel, ...]


def make_examples(runs: Sequence[RunEvaluation | None], count: int, seed: int = 0) -> tuple[Example, ...]:
    """Return ``count`` images: half of them have the highest cost, summed over the runs, the others are random.

    Only runs on the data set of the first evaluated one take part. Images that cannot be read are skipped.
    """
    first = next((run for run in runs if run is not None), None)
    if first is None or not count:
        return ()
    compared = [(number, run) for number, run in enumerate(runs) if run is not None and run.key == first.key]
    chosen = _choose(np.sum([run.diagnosis.costs for _, run in compared], axis=0), count, seed)
    examples = []
    most = min(MOST_BOXES, MOST_ON_PAGE // (len(chosen) * len(compared)))
    for index, why in chosen:
        sample = first.data.samples[index]
        uri = _embed(sample, MOST_BYTES // len(chosen))
        if uri is not None:
            scenes = tuple(_panel(number, run, index, most) for number, run in compared)
            examples.append(Example(sample, why, uri, scenes))
    return tuple(examples)


def _choose(costs: Float[np.ndarray, "M"], count: int, seed: int) -> list[tuple[int, str]]:
    order = np.argsort(-costs, kind="stable")
    worst = [int(index) for index in order[: (count + 1) // 2] if costs[index] > 0]
    rest = np.setdiff1d(np.arange(len(costs)), worst)
    random = np.random.default_rng(seed).permutation(rest)[: count - len(worst)].tolist()
    ranked = [(index, f"number {rank} of the worst, cost {costs[index]:.1f}") for rank, index in enumerate(worst, 1)]
    return [*ranked, *((index, "chosen at random") for index in random)]


def _embed(sample: Sample, most: int) -> str | None:
    """Return the image as a data URI of at most ``most`` characters if possible; None if it cannot be read."""
    try:
        image = read_image(sample.file, "image", large=True)
    except DataError:
        return None
    uri = ""
    for side in SIDES:
        factor = min(side / max(image.size), 1.0)
        size = (max(round(image.width * factor), 1), max(round(image.height * factor), 1))
        uri = jpeg_uri(image if factor == 1 else image.resize(size, Image.Resampling.LANCZOS), QUALITY)
        if len(uri) <= most:
            break
    return uri


def _panel(number: int, run: RunEvaluation, index: int, most: int) -> ImagePanel:
    diagnosis, sample = run.diagnosis, run.data.samples[index]
    image = int(np.flatnonzero(diagnosis.table.samples == index)[0])
    found = image_detections(diagnosis.table, diagnosis.given.matches, diagnosis.errors, image, -np.inf)
    shown = found[:most]
    stars = () if run.stars is None else tuple(_star(detection, run.stars[index], sample) for detection in shown)
    return ImagePanel(number, shown, stars, len(found))


def _star(detection: DetectionError, stars: Stars, sample: Sample) -> Star:
    center, initial, refined = (part[detection.index] for part in (stars.centers, stars.initial, stars.refined))
    if detection.truth < 0:
        return Star(center, initial, refined, None, None)
    truth = sample.boxes[[detection.truth]].astype(np.float64)
    before, after = elementwise_iou(np.stack([initial, refined]).astype(np.float64), truth).tolist()
    return Star(center, initial, refined, before, after)
