"""Checks and clipping common to all formats: they make a data set that can be trained on of what a reader found."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, overload

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from PIL import Image

from varifocal.data.annotations import (
    DROPPABLE,
    Issue,
    Problems,
    RawDataset,
    SourceLocation,
    box_note,
    counted,
    quoted,
)
from varifocal.data.box_meaning import meaning_notes, meaning_problems
from varifocal.data.box_validity import BOX_ISSUES, BoxValidity, validate_boxes
from varifocal.data.images import read_stored_size
from varifocal.data.open_image import LIMIT, pixel_limit
from varifocal.data.readers.columns import with_image_sizes
from varifocal.data.regions import each_region_once
from varifocal.types import Dataset, FileLike, Sample
from varifocal.utils.errors import DataError


def finish(
    raw: RawDataset,
    *,
    invalid_boxes: Literal["error", "drop"] = "error",
    difficult: Literal["ignore", "train"] = "ignore",
) -> Dataset:
    """The set as samples; sizes that the source does not record are read from the images.

    Raises:
        DataError: the first of the set's problems, or of a box that is invalid, unless these are dropped.
    """
    if invalid_boxes not in ("error", "drop"):
        raise ValueError(f"invalid_boxes is 'error' or 'drop', not {invalid_boxes!r}")
    raise_first(raw.problems)
    raw = with_image_sizes(raw)
    raise_first(raw.problems)
    verdict = validate_boxes(raw)
    if invalid_boxes == "error":
        raise_first(meaning_problems(raw, verdict), ", or take such boxes as written with data.invalid_boxes=drop")
        raise_first(box_problems(raw, verdict), ", or leave such boxes out with data.invalid_boxes=drop")
    # VOC's difficult objects are neither asked for nor wrong when found, as COCO's crowds are
    ignored = raw.boxes.crowd | raw.boxes.difficult if difficult == "ignore" else raw.boxes.crowd
    notes = (*raw.notes, *_notes(raw, verdict))
    return Dataset(_group(raw, verdict, ignored), raw.categories, raw.source, notes, raw.ids)


def raise_first(problems: Problems, hint: str = "") -> None:
    """Stop at the first problem, and say how many are like it."""
    if not problems:
        return
    count = problems.counts[problems[0].kind] - 1
    raise DataError(f"{problems[0].sentence}{hint}" + (f" ({count} more like it)" if count else ""))


def box_problems(raw: RawDataset, verdict: BoxValidity) -> Problems:
    """A problem for each box that is at fault, kind by kind."""
    problems = Problems()
    for kind, bad in verdict.faults.items():
        problems.add_many(kind, np.flatnonzero(bad), partial(_box_problem, raw, kind))
    return problems


def _box_problem(raw: RawDataset, kind: str, index: int) -> Issue:
    image = int(raw.boxes.images[index])
    width, height = raw.images.sizes[image].tolist()
    location = raw.boxes.where(index)
    detailed = SourceLocation(
        location.file, f"{location.text} ({quoted(raw.images.names[image])}, {width} x {height} pixels)".strip()
    )
    return Issue(kind, detailed, raw.boxes.said(index, BOX_ISSUES[kind]), "fix it", image=image, box=index)


def _notes(raw: RawDataset, verdict: BoxValidity) -> list[str]:
    boxes = raw.boxes
    once = each_region_once(boxes.images, boxes.labels, boxes.xyxy, boxes.crowd)
    notes = swapped_notes(raw)
    for kind in DROPPABLE:
        notes += box_note(raw, np.flatnonzero(verdict.faults[kind] & once), "left out", f"it {BOX_ISSUES[kind]}")
    notes += emptied_notes(raw, verdict)
    notes += meaning_notes(raw, verdict)
    return notes + box_note(
        raw, np.flatnonzero(verdict.clipped & once), "clipped", "it reaches over the border of its image"
    )


def swapped_notes(raw: RawDataset) -> list[str]:
    """A sentence on the boxes whose corners were put in order, if there are any."""
    why = "it is written from right to left or from bottom to top"
    return box_note(raw, raw.boxes.swapped, "put in order", why)


def emptied_notes(raw: RawDataset, verdict: BoxValidity) -> list[str]:
    """A sentence on images of which every box was left out: they count as images without objects from then on."""
    had = np.bincount(raw.boxes.images, minlength=len(raw.images)) > 0
    kept = np.bincount(raw.boxes.images[verdict.good], minlength=len(raw.images)) > 0
    emptied = np.flatnonzero(had & ~kept)
    if not len(emptied):
        return []
    images = counted(len(emptied), "(image has no box left and counts|images have no box left and count)")
    return [f"{raw.source.name}: {images} as without objects, first {raw.images.names[int(emptied[0])]}."]


def check_size(sample: Sample, image: Image.Image) -> None:
    """Compare the recorded size of a sample with its upright image.

    Raises:
        DataError: they differ, so that the boxes do not fit the image.
    """
    recorded = (sample.width, sample.height)
    if image.size == recorded:
        return
    problem = (
        f"{sample.file}: the annotations record {sample.width} x {sample.height} pixels for image "
        f"{sample.image_id} but the upright image has {image.width} x {image.height}"
    )
    if recorded == image.size[::-1] and _stored_size(sample.file) == recorded:
        raise DataError(
            f"{problem}: the recorded size is the one before the EXIF rotation; "
            "rotate the boxes and the size, or remove the EXIF orientation from the file"
        )
    raise DataError(f"{problem}; fix the recorded size, or put the image that was labeled there")


def check_validation_pixels(samples: Sequence[Sample], *, large: bool) -> None:
    """See before training, by the recorded sizes, whether validation will read every image.

    ``large``: it reads them in windows.

    Raises:
        DataError: one has more pixels than :func:`varifocal.data.open_image.pixel_limit`.
    """
    limit = pixel_limit(large=large)
    for sample in samples:
        if sample.width * sample.height > limit:
            whole = "" if large else " whole"
            windows = "" if large else "set tiling.size=N to read images in windows of N pixels, or "
            raise DataError(
                f"{sample.file}: validation would read this image{whole}, and it has {sample.width} x "
                f"{sample.height} pixels, above the limit of {limit}; {windows}raise the limit with --max-pixels N "
                f"or the environment variable {LIMIT}"
            )


def _stored_size(file: FileLike) -> tuple[int, int] | None:
    try:
        return read_stored_size(file)
    except DataError:
        return None


def _group(raw: RawDataset, verdict: BoxValidity, ignored: Bool[np.ndarray, "N"]) -> Samples:
    kept = np.flatnonzero(verdict.good)
    order = kept[np.argsort(raw.boxes.images[kept], kind="stable")]
    counts = np.bincount(raw.boxes.images[order], minlength=len(raw.images))
    boxes = verdict.boxes[order]
    given = raw.boxes.areas[order]
    sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
    areas = np.where(np.isfinite(given) & (given > 0), given, sides.prod(axis=1))
    return Samples(
        raw.images.files,
        raw.images.ids,
        raw.images.sizes,
        np.concatenate([[0], np.cumsum(counts)]),
        boxes,
        raw.boxes.labels[order],
        ignored[order],
        areas,
    )


class Samples(Sequence[Sample]):
    """Samples that are made when they are asked for, out of columns; the boxes of image i are ``starts[i:i + 2]``.

    A million samples as objects take gigabytes, and as long to hand to a worker process.
    """

    def __init__(
        self,
        files: Sequence[FileLike | None],
        ids: Int64[np.ndarray, "M"],
        sizes: Int64[np.ndarray, "M 2"],
        starts: Int64[np.ndarray, "M+1"],
        boxes: Float32[np.ndarray, "N 4"],
        labels: Int64[np.ndarray, "N"],
        crowd: Bool[np.ndarray, "N"],
        areas: Float[np.ndarray, "N"],
    ) -> None:
        self._files, self._ids, self._sizes, self._starts = files, ids, sizes, starts
        self._boxes, self._labels, self._crowd, self._areas = boxes, labels, crowd, areas

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index %= len(self)
        file = self._files[index]
        assert file is not None, "a missing image is a problem, which finish raises"
        part = slice(int(self._starts[index]), int(self._starts[index + 1]))
        width, height = self._sizes[index].tolist()
        columns = (column[part] for column in (self._boxes, self._labels, self._crowd, self._areas))
        return Sample(file, int(self._ids[index]), width, height, *columns)

    def __len__(self) -> int:
        return len(self._ids)
