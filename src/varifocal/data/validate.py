"""Validation of annotations: invalid boxes, boxes that seem to mean something else, and image sizes.

Training, ``check`` and conversion use the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from PIL import Image

from varifocal.data.annotations import (
    DROPPABLE,
    NO_LABEL,
    Issue,
    Problems,
    RawDataset,
    SourceLocation,
    box_note,
    each_region_once,
)
from varifocal.data.image_scan import read_stored_size
from varifocal.data.images import LIMIT, pixel_limit
from varifocal.types import FileLike, Sample
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted, quoted

# The ways in which a single box can be invalid, in the order in which they are checked.
BOX_ISSUES = {
    "no-label": "has no label (the name of its class)",
    "not-a-number": "holds something that is not a finite number, or too few or too many",
    "no-area": "has no area (width and height must be above 0)",
    "outside": "lies wholly outside its image",
}
_CHUNK = 1 << 19  # boxes validated at a time, to bound the memory of intermediate arrays

# What the numbers of all boxes of a data set can seem to mean instead of what the format says; the fix after "; ".
MEANINGS = {
    "corners": "fits its image better as [x1, y1, x2, y2] than as the format has it; if these are corners, write what "
    "the format requires, such as width and height instead of the last two numbers of COCO",
    "fractions": "lies within two pixels of the corner of its image, as all boxes do; if these are fractions of the "
    "image, multiply them by its width and height",
}
ENOUGH = 3  # boxes of a data set, without which nothing is suspected
NEARLY_ALL = 0.99  # fraction of boxes that fit with the other meaning
SAMPLE = 1000  # boxes that are tried first
SMALL = 2.0  # pixels: boxes that all end below it are of no use
LARGE = 32  # pixels: on a side of at least this length a fraction cannot be meant as pixels


@dataclass(frozen=True, eq=False)
class BoxValidity:
    """The validity of each box of a data set.

    ``boxes`` are xyxy in pixels, clipped to their images. ``faults`` marks for each kind of ``BOX_ISSUES`` the boxes
    that have it; a box has at most one. ``clipped`` marks good boxes that reached over the border by more than one
    pixel, ``unknown`` the boxes of images without a known size, which cannot be validated.
    """

    boxes: Float32[np.ndarray, "N 4"]
    faults: dict[str, Bool[np.ndarray, "N"]]
    clipped: Bool[np.ndarray, "N"]
    unknown: Bool[np.ndarray, "N"]

    @property
    def good(self) -> Bool[np.ndarray, "N"]:
        """The boxes that can be trained on."""
        return ~(np.logical_or.reduce(list(self.faults.values())) | self.unknown)


def validate_boxes(raw: RawDataset) -> BoxValidity:
    """Check of every box whether it is finite, has an area and lies in its image."""
    total = len(raw.boxes)
    boxes = np.empty((total, 4), np.float32)
    faults = {kind: np.zeros(total, bool) for kind in BOX_ISSUES}
    clipped, unknown = np.zeros(total, bool), np.zeros(total, bool)
    for start in range(0, total, _CHUNK):
        part = slice(start, start + _CHUNK)
        free = raw.boxes.xyxy[part]
        sizes = raw.images.sizes[raw.boxes.images[part]].astype(np.float64)
        limit = np.concatenate([sizes, sizes], axis=1)
        unknown[part] = missing = (sizes <= 0).any(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            boxes[part] = inside = np.clip(free, 0, limit).astype(np.float32)
            finite = np.isfinite(free).all(axis=1)
            empty = (free[:, 2:] <= free[:, :2]).any(axis=1)
            outside = ~empty & ((free[:, :2] >= sizes) | (free[:, 2:] <= 0)).any(axis=1)
            # too thin to have an area in float32
            empty |= ~outside & (inside[:, 2:] <= inside[:, :2]).any(axis=1)
            over = ((free < -1) | (free > limit + 1)).any(axis=1)
        # one fault a box: a missing label comes before the position
        faults["no-label"][part] = nameless = raw.boxes.labels[part] == NO_LABEL
        missing = missing | nameless
        faults["not-a-number"][part] = ~finite & ~missing
        faults["no-area"][part] = finite & empty & ~missing
        faults["outside"][part] = finite & outside & ~missing
        clipped[part] = finite & ~empty & ~outside & over & ~missing
    return BoxValidity(boxes, faults, clipped, unknown)


def other_meanings(raw: RawDataset, validity: BoxValidity) -> dict[str, Int64[np.ndarray, "K"]]:
    """Return the boxes that seem to mean something else, by kind of :data:`MEANINGS`; no box is of both kinds."""
    fractions = _fractions(raw, validity)
    return {"corners": _corners(raw, validity) if not len(fractions) else fractions[:0], "fractions": fractions}


def meaning_problems(raw: RawDataset, validity: BoxValidity) -> Problems:
    """Return a problem for each box that seems to mean something else."""
    problems = Problems()
    for kind, boxes in other_meanings(raw, validity).items():
        problems.add_many(kind, boxes.tolist(), partial(_meaning_problem, raw, kind))
    return problems


def _meaning_problem(raw: RawDataset, kind: str, index: int) -> Issue:
    text, _, hint = MEANINGS[kind].partition("; ")
    location, image = raw.boxes.where(index), int(raw.boxes.images[index])
    return Issue(kind, location, raw.boxes.describe(index, text), hint, image=image, box=index)


def meaning_notes(raw: RawDataset, validity: BoxValidity) -> list[str]:
    """Return a sentence on the boxes that seem to mean something else and are taken as written, if there are any."""
    found = other_meanings(raw, validity).items()
    return [note for kind, boxes in found for note in box_note(raw, boxes, "taken as written", f"it {MEANINGS[kind]}")]


def _fractions(raw: RawDataset, validity: BoxValidity) -> Int64[np.ndarray, "K"]:
    """Return all boxes if every one lies within two pixels of the corner of a much larger image, else none."""
    none = np.empty(0, np.int64)
    if len(raw.boxes) < ENOUGH or _far(raw.boxes.xyxy[:SAMPLE]):
        return none
    judged = np.flatnonzero(np.isfinite(raw.boxes.xyxy).all(axis=1) & ~validity.unknown)
    sides = raw.images.sizes[raw.boxes.images[judged]]
    if len(judged) < ENOUGH or _far(raw.boxes.xyxy[judged]) or sides.min() < LARGE:
        return none
    return judged


def _far(xyxy: Float[np.ndarray, "N 4"]) -> bool:
    """Return whether any box reaches farther than fractions do."""
    return bool((np.abs(xyxy[np.isfinite(xyxy)]) > SMALL).any())


def _corners(raw: RawDataset, validity: BoxValidity) -> Int64[np.ndarray, "K"]:
    """Return the boxes that do not fit as written, if nearly all boxes of the data set fit as corners.

    A box does not fit if it leaves its image, or if the area in the source is that of corners. If less than half of the
    boxes do not fit, they are just drawn carelessly.
    """
    none = np.empty(0, np.int64)
    by_area = _area_of_corners(raw)
    wrong = validity.clipped | validity.faults["outside"]
    if by_area is not None:
        wrong = wrong | by_area
    if not (raw.boxes.xywh or raw.format == "yolo") or wrong.sum() < ENOUGH:
        return none
    judged = validity.good | validity.faults["outside"]
    if wrong[judged].sum() < 0.5 * judged.sum():
        return none
    sizes = raw.images.sizes[raw.boxes.images[judged]]
    corners = _as_corners(raw, judged)
    fits = ((corners[:, 2:] > corners[:, :2]) & (corners[:, 2:] <= sizes + 1)).all(axis=1)
    return np.flatnonzero(wrong & judged) if fits.mean() >= NEARLY_ALL else none


def _as_corners(raw: RawDataset, which: slice | Bool[np.ndarray, "N"]) -> Float[np.ndarray, "K 4"]:
    """Return the four numbers of boxes as written, in pixels: x, y, width, height, where YOLO has the center first."""
    low, high = raw.boxes.xyxy[which, :2], raw.boxes.xyxy[which, 2:]
    with np.errstate(invalid="ignore"):  # infinite corners, which are no boxes
        return np.concatenate([(low + high) / 2 if raw.format == "yolo" else low, high - low], axis=1)


def _area_of_corners(raw: RawDataset) -> Bool[np.ndarray, "N"] | None:
    """Return which boxes have the area of corners and not of width and height; None if the source gives no areas."""
    few = slice(0, SAMPLE)  # of millions of boxes: a correct data set takes no memory for this
    if not raw.boxes.xywh or not len(raw.boxes) or _have_area_of_corners(raw, few).mean() < 0.5:
        return None
    return _have_area_of_corners(raw, slice(None))


def _have_area_of_corners(raw: RawDataset, which: slice) -> Bool[np.ndarray, "N"]:
    written, area = _as_corners(raw, which), raw.boxes.areas[which]
    with np.errstate(invalid="ignore", over="ignore"):
        of_corners = (written[:, 2] - written[:, 0]) * (written[:, 3] - written[:, 1])
        of_sides = written[:, 2] * written[:, 3]
        near = np.abs(area - of_corners) <= 0.01 * np.abs(area) + 1
        return np.asarray(near & (np.abs(area - of_sides) > 0.05 * np.abs(area) + 1))


def raise_first(problems: Problems, hint: str = "") -> None:
    """Raise the first of the problems, if there is one.

    Raises:
        DataError: its code is the kind of the problem; the message counts the others of that kind.
    """
    if not problems:
        return
    count = problems.counts[problems[0].kind] - 1
    more = f" ({count} more like it)" if count else ""
    raise DataError(f"{problems[0].sentence}{hint}{more}", code=problems[0].kind)


def box_problems(raw: RawDataset, validity: BoxValidity) -> Problems:
    """Return a problem for each invalid box, kind by kind."""
    problems = Problems()
    for kind, bad in validity.faults.items():
        problems.add_many(kind, np.flatnonzero(bad).tolist(), partial(_box_problem, raw, kind))
    return problems


def _box_problem(raw: RawDataset, kind: str, index: int) -> Issue:
    image = int(raw.boxes.images[index])
    width, height = raw.images.sizes[image].tolist()
    location = raw.boxes.where(index)
    detailed = SourceLocation(
        location.file, f"{location.text} ({quoted(raw.images.names[image])}, {width} x {height} pixels)".strip()
    )
    return Issue(kind, detailed, raw.boxes.describe(index, BOX_ISSUES[kind]), "fix it", image=image, box=index)


def validity_notes(raw: RawDataset, validity: BoxValidity) -> list[str]:
    """Return sentences on boxes that are changed, left out, suspicious or clipped, and on images without a box left."""
    boxes = raw.boxes
    once = each_region_once(boxes.images, boxes.labels, boxes.xyxy, boxes.crowd)
    notes = swapped_notes(raw)
    for kind in DROPPABLE:
        notes += box_note(raw, np.flatnonzero(validity.faults[kind] & once), "left out", f"it {BOX_ISSUES[kind]}")
    notes += emptied_notes(raw, validity)
    notes += meaning_notes(raw, validity)
    return notes + box_note(
        raw, np.flatnonzero(validity.clipped & once), "clipped", "it reaches over the border of its image"
    )


def swapped_notes(raw: RawDataset) -> list[str]:
    """Return a sentence on the boxes whose corners were put in order, if there are any."""
    why = "it is written from right to left or from bottom to top"
    return box_note(raw, raw.boxes.swapped, "put in order", why)


def emptied_notes(raw: RawDataset, validity: BoxValidity) -> list[str]:
    """Return a sentence on images of which every box was left out and which now count as images without objects."""
    had = np.bincount(raw.boxes.images, minlength=len(raw.images)) > 0
    kept = np.bincount(raw.boxes.images[validity.good], minlength=len(raw.images)) > 0
    emptied = np.flatnonzero(had & ~kept)
    if not len(emptied):
        return []
    images = counted(len(emptied), "(image has no box left and counts|images have no box left and count)")
    return [f"{raw.source.name}: {images} as without objects, first {raw.images.names[int(emptied[0])]}."]


def check_size(sample: Sample, image: Image.Image) -> None:
    """Compare the recorded size of a sample with its upright image.

    Raises:
        DataError: they differ, so the boxes do not fit the image.
    """
    recorded = (sample.width, sample.height)
    if image.size == recorded:
        return
    difference = (
        f"{sample.file}: the annotations record {sample.width} x {sample.height} pixels for image "
        f"{sample.image_id} but the upright image has {image.width} x {image.height}"
    )
    if recorded == image.size[::-1] and _stored_size(sample.file) == recorded:
        raise DataError(
            f"{difference}: the recorded size is the one before the EXIF rotation; "
            "rotate the boxes and the size, or remove the EXIF orientation from the file",
            code="size-before-rotation",
        )
    turned = ": width and height are exchanged" if recorded == image.size[::-1] else ""
    hint = "fix the recorded size, or restore the image that was labeled"
    raise DataError(f"{difference}{turned}; {hint}", code="size-differs")


def check_validation_pixels(samples: Sequence[Sample], *, large: bool) -> None:
    """Check before training, by the recorded sizes, that validation can read every image.

    ``large`` says that validation reads the images in tiles.

    Raises:
        DataError: an image has more pixels than :func:`varifocal.data.images.pixel_limit`.
    """
    limit = pixel_limit(large=large)
    for sample in samples:
        if sample.width * sample.height > limit:
            whole = "" if large else " whole"
            tiles = "" if large else "set tiling.size=N to read images in tiles of N pixels, or "
            raise DataError(
                f"{sample.file}: validation would read this image{whole}, and it has {sample.width} x "
                f"{sample.height} pixels, above the limit of {limit}; {tiles}raise the limit with --max-pixels N "
                f"or the environment variable {LIMIT}",
                code="too-many-pixels",
            )


def _stored_size(file: FileLike) -> tuple[int, int] | None:
    try:
        return read_stored_size(file)
    except DataError:
        return None
