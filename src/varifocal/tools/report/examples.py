"""Images to look at: the worst ones, a few by chance, and what each run finds in them, with the star of each box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image

from varifocal.analysis.pages.jpeg import jpeg_uri
from varifocal.analysis.worst_images import DetectionError, look_at
from varifocal.data.images import read_image
from varifocal.tools.report.measure import RunEvaluation, elementwise_iou_of_pairs
from varifocal.types import Sample
from varifocal.utils.errors import DataError

MOST_BOXES = 400  # detections of a run in an image
MOST_ON_PAGE = 6000
MOST_BYTES = 3_000_000  # of all images of a page, as text
SIDES = (1024, 800, 640, 512, 384, 256, 192, 128)  # pixels of the longer side: the first that fits
QUALITY = 80


@dataclass(frozen=True, eq=False)
class Star:
    """One detection's star, pixels of the image: ``center`` (x, y), ``initial`` and ``refined`` xyxy. The IoUs are
    those with the true box of the detection, None where it overlaps none."""

    center: Float[np.ndarray, "2"]
    initial: Float[np.ndarray, "4"]
    refined: Float[np.ndarray, "4"]
    initial_iou: float | None
    refined_iou: float | None


@dataclass(frozen=True, eq=False)
class ImagePanel:
    """What one run finds in an image, best first; ``total`` counts also what is left out. ``stars`` is empty of other
    detectors than VFNet, else it has one for each."""

    run: int
    found: tuple[DetectionError, ...]
    stars: tuple[Star, ...]
    total: int


@dataclass(frozen=True, eq=False)
class Example:
    """An image with its true boxes; ``why`` it was chosen, ``uri`` the image itself."""

    sample: Sample
    why: str
    uri: str
    scenes: tuple[ImagePanel, ...]


def make_examples(runs: Sequence[RunEvaluation | None], count: int, seed: int = 0) -> tuple[Example, ...]:
    """Half of ``count`` are the images that cost most, summed over the runs, the others are drawn from the rest.

    Only runs on the data of the first one that was measured take part. Images that cannot be read are passed over.
    """
    first = next((one for one in runs if one is not None), None)
    if first is None or not count:
        return ()
    taking = [(number, one) for number, one in enumerate(runs) if one is not None and one.key == first.key]
    chosen = _choose(np.sum([one.diagnosis.costs for _, one in taking], axis=0), count, seed)
    examples = []
    most = min(MOST_BOXES, MOST_ON_PAGE // (len(chosen) * len(taking)))
    for index, why in chosen:
        sample = first.data.samples[index]
        uri = _embed(sample, MOST_BYTES // len(chosen))
        if uri is not None:
            scenes = tuple(_scene(number, one, index, most) for number, one in taking)
            examples.append(Example(sample, why, uri, scenes))
    return tuple(examples)


def _choose(costs: Float[np.ndarray, "M"], count: int, seed: int) -> list[tuple[int, str]]:
    order = np.argsort(-costs, kind="stable")
    worst = [int(index) for index in order[: (count + 1) // 2] if costs[index] > 0]
    rest = np.setdiff1d(np.arange(len(costs)), worst)
    chance = np.random.default_rng(seed).permutation(rest)[: count - len(worst)]
    ranked = [
        (location, f"number {rank} of the worst, cost {costs[location]:.1f}") for rank, location in enumerate(worst, 1)
    ]
    return [*ranked, *((int(position), "drawn by chance") for position in chance)]


def _embed(sample: Sample, most: int) -> str | None:
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


def _scene(number: int, one: RunEvaluation, index: int, most: int) -> ImagePanel:
    table, sample = one.diagnosis.table, one.data.samples[index]
    image = int(np.flatnonzero(table.samples == index)[0])
    found = look_at(table, one.diagnosis.given.matches, one.diagnosis.errors, image, -np.inf)
    shown = found[:most]
    stars = () if one.stars is None else tuple(_star(seen, one, index, sample) for seen in shown)
    return ImagePanel(number, shown, stars, len(found))


def _star(seen: DetectionError, one: RunEvaluation, index: int, sample: Sample) -> Star:
    assert one.stars is not None
    star = one.stars[index].take(np.array([seen.index]))
    if seen.truth < 0:
        return Star(star.centers[0], star.initial[0], star.refined[0], None, None)
    truth = sample.boxes[[seen.truth]]
    ious = [float(elementwise_iou_of_pairs(box, truth)[0]) for box in (star.initial, star.refined)]
    return Star(star.centers[0], star.initial[0], star.refined[0], ious[0], ious[1])
