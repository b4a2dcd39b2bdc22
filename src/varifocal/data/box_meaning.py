"""Whether the numbers of all boxes of a set seem to mean something else than its format says."""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.data.annotations import Issue, Problems, RawDataset, box_note
from varifocal.data.box_validity import BoxValidity

CORNERS = (
    "fits its image better as [x1, y1, x2, y2] than as the format has it; if these are corners, write what the format "
    "wants, such as width and height instead of the last two numbers of COCO"
)
FRACTIONS = (
    "lies within two pixels of the corner of its image, as all boxes do; if these are fractions of the image, multiply "
    "them by its width and height"
)
MEANINGS = {"corners": CORNERS, "fractions": FRACTIONS}
ENOUGH = 3  # boxes from which a set can be suspected
NEARLY_ALL = 0.99  # fraction of boxes that fit as something else
SAMPLE = 1000  # boxes that are looked at first
SMALL = 2.0  # pixels: boxes that all end below it are of no use
LARGE = 32  # pixels of a side from which fractions are no pixels


def other_meanings(raw: RawDataset, verdict: BoxValidity) -> dict[str, Int64[np.ndarray, "K"]]:
    """The boxes that seem to mean something else, by kind of :data:`MEANINGS`; none is of both kinds."""
    fractions = _fractions(raw, verdict)
    return {"corners": _corners(raw, verdict) if not len(fractions) else fractions[:0], "fractions": fractions}


def meaning_problems(raw: RawDataset, verdict: BoxValidity) -> Problems:
    """A problem for each box that seems to mean something else."""
    problems = Problems()
    for kind, boxes in other_meanings(raw, verdict).items():
        problems.add_many(kind, boxes, partial(_problem, raw, kind))
    return problems


def _problem(raw: RawDataset, kind: str, index: int) -> Issue:
    text, _, hint = MEANINGS[kind].partition("; ")
    location, image = raw.boxes.where(index), int(raw.boxes.images[index])
    return Issue(kind, location, raw.boxes.said(index, text), hint, image=image, box=index)


def meaning_notes(raw: RawDataset, verdict: BoxValidity) -> list[str]:
    """A sentence on the boxes that seem to mean something else and are taken as they are, if there are any."""
    found = other_meanings(raw, verdict).items()
    return [note for kind, boxes in found for note in box_note(raw, boxes, "taken as written", f"it {MEANINGS[kind]}")]


def _fractions(raw: RawDataset, verdict: BoxValidity) -> Int64[np.ndarray, "K"]:
    """All boxes, where all lie within two pixels of the corner of images that are much larger."""
    none = np.empty(0, np.int64)
    if len(raw.boxes) < ENOUGH or _far(raw.boxes.xyxy[:SAMPLE]):
        return none
    judged = np.flatnonzero(np.isfinite(raw.boxes.xyxy).all(axis=1) & ~verdict.unknown)
    sides = raw.images.sizes[raw.boxes.images[judged]]
    if len(judged) < ENOUGH or _far(raw.boxes.xyxy[judged]) or sides.min() < LARGE:
        return none
    return judged


def _far(xyxy: Float[np.ndarray, "N 4"]) -> bool:
    """Whether any box reaches farther than fractions do."""
    return bool((np.abs(xyxy[np.isfinite(xyxy)]) > SMALL).any())


def _corners(raw: RawDataset, verdict: BoxValidity) -> Int64[np.ndarray, "K"]:
    """The boxes that do not fit as they are, where all boxes of the set fit as corners.

    A box does not fit if it leaves its image, or if the area that the source gives is that of corners. Unless at least
    half of the boxes do not, it is a few labels that were drawn carelessly.
    """
    none = np.empty(0, np.int64)
    by_area = _area_of_corners(raw)
    wrong = verdict.clipped | verdict.faults["outside"]
    if by_area is not None:
        wrong = wrong | by_area
    if not (raw.boxes.xywh or raw.format == "yolo") or wrong.sum() < ENOUGH:
        return none
    judged = verdict.good | verdict.faults["outside"]
    if wrong[judged].sum() < 0.5 * judged.sum():
        return none
    sizes = raw.images.sizes[raw.boxes.images[judged]]
    corners = _as_corners(raw, judged)
    fits = ((corners[:, 2:] > corners[:, :2]) & (corners[:, 2:] <= sizes + 1)).all(axis=1)
    return np.flatnonzero(wrong & judged) if fits.mean() >= NEARLY_ALL else none


def _as_corners(raw: RawDataset, which: slice | Bool[np.ndarray, "N"]) -> Float[np.ndarray, "K 4"]:
    """The four numbers of boxes as they are written, in pixels: x, y, width, height, or in YOLO the center first."""
    low, high = raw.boxes.xyxy[which, :2], raw.boxes.xyxy[which, 2:]
    return np.concatenate([(low + high) / 2 if raw.format == "yolo" else low, high - low], axis=1)


def _area_of_corners(raw: RawDataset) -> Bool[np.ndarray, "N"] | None:
    """Which boxes have the area of corners and not that of width and height; None where the source gives no areas."""
    few = slice(0, SAMPLE)  # of millions of boxes, so that a set which is right takes no memory for this
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
