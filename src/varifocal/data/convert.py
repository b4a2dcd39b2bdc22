"""Conversion of a data set to another format without losing a box.

Every split is read and validated, and written to a new folder that appears only when it is complete.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from varifocal.data.annotations import NO_LABEL, RawDataset, region_numbers
from varifocal.data.holdout import holdout_mask
from varifocal.data.image_kinds import SUFFIXES
from varifocal.data.load import DataSource, build_dataset, open_dataset
from varifocal.data.options import Unlabeled
from varifocal.data.readers.columns import with_image_sizes
from varifocal.data.splits import holdout_split, made_of_others
from varifocal.data.validate import (
    box_problems,
    emptied_notes,
    meaning_notes,
    meaning_problems,
    raise_first,
    swapped_notes,
    validate_boxes,
)
from varifocal.data.writers import WRITERS, Part
from varifocal.types import Category, FileLike
from varifocal.utils.atomic_write import atomic_folder, refuse_existing
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted, unlike

_DROP = ", or leave such boxes out with --drop-invalid-boxes"
_UNUSABLE = re.compile(r'[\s<>:"/\\|?*\x00-\x1f]')


def convert(
    source: Path | str,
    out: Path,
    to: Literal["coco", "yolo", "voc"],
    *,
    split: str | None = None,
    format: str | None = None,
    images: str = "",
    unlabeled: Unlabeled = "",
    val: float | None = None,
    seed: int = 0,
    image_files: Literal["link", "copy"] = "link",
    drop_invalid: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """Write all splits of a data set, or one, to the new folder ``out``; return notes on what was done and lost.

    ``format``, ``images`` and ``unlabeled`` are those of ``load_dataset``. A split that consists of others, such as
    "trainval", is written only if it is named. ``val`` holds out that fraction of the training images as the split
    "val". Images become links to the originals, or copies; those of an archive are always copied. ``progress`` is
    called with the number of images done.

    Raises:
        ConfigError: ``out`` exists or cannot be written; the format is unknown; ``val`` beside a validation split.
        DataError: anything is wrong with the data set; invalid boxes only without ``drop_invalid``.
    """
    refuse_existing(out)
    data = open_dataset(source, format=format, images=images, unlabeled=unlabeled)
    names, notes = _splits_to_write(data, split)
    divided = None if val is None else names.index(holdout_split(source, names))
    raws = [_read(data, name) for name in names]
    notes += dict.fromkeys(note for raw in raws for note in raw.notes)
    keeps = [_boxes_to_write(raw, drop_invalid, notes) for raw in raws]
    categories, labels = _join_classes(raws)
    parts = [
        Part(raw.split, raw, np.arange(len(raw.images)), (), keep, own)
        for raw, keep, own in zip(raws, keeps, labels, strict=True)
    ]
    if val is not None and divided is not None:
        parts[divided : divided + 1] = _hold_out(parts[divided], val, seed, drop_invalid, notes)
    write, image_folder = WRITERS[to]
    with atomic_folder(out) as folder:
        parts = _with_names(parts, flat=to == "voc")
        notes += map(_count_of, parts)
        notes += write(folder, parts, categories)
        _put_images(folder, parts, image_folder, image_files, progress)
    return notes


def _splits_to_write(data: DataSource, split: str | None) -> tuple[list[str], list[str]]:
    """Return the named split or all that do not consist of others, and notes on those that do."""
    names = data.splits if split is None else [split]
    joined = made_of_others(names)
    notes = [f"{data.path}: the split {name!r} consists of others and is left out." for name in joined]
    return [name for name in names if name not in joined], notes


def _count_of(part: Part) -> str:
    """Return the number of images and boxes of a part; ignored regions of several classes are no boxes."""
    boxes = part.raw.boxes
    regions = region_numbers(boxes.images, boxes.labels, boxes.xyxy, boxes.crowd) >= 0
    images = counted(len(part.images), "(image|images)")
    return f"{part.split}: {images}, {counted(part.count(~regions), '(box|boxes)')}."


def _read(data: DataSource, split: str) -> RawDataset:
    """Return a split without problems and with the sizes of all images."""
    raw = data.read(split)
    raise_first(raw.problems)
    raw = with_image_sizes(raw)
    raise_first(raw.problems)
    return raw


def _boxes_to_write(raw: RawDataset, drop_invalid: bool, notes: list[str]) -> np.ndarray:
    """Return which boxes are written, and add to the notes why others are not.

    Raises:
        DataError: a box is invalid and invalid boxes are not dropped.
    """
    validity = validate_boxes(raw)
    problems = box_problems(raw, validity)
    if not drop_invalid:
        raise_first(meaning_problems(raw, validity), ", or take such boxes as written with --drop-invalid-boxes")
        raise_first(problems, _DROP)
    notes += swapped_notes(raw)
    for kind, count in problems.counts.items():
        notes.append(f"{raw.source.name}: {counted(count, '(box was|boxes were)')} left out ({kind}).")
    notes += [*emptied_notes(raw, validity), *meaning_notes(raw, validity)]
    return validity.good


def _hold_out(part: Part, val: float, seed: int, drop_invalid: bool, notes: list[str]) -> list[Part]:
    """Return a part divided in "train" and "val"."""
    data = build_dataset(part.raw, invalid_boxes="drop" if drop_invalid else "error")
    held, note = holdout_mask(data, val, seed)
    notes.append(note)
    return [
        replace(part, split="train", images=np.flatnonzero(~held)),
        replace(part, split="val", images=np.flatnonzero(held)),
    ]


def _join_classes(raws: Sequence[RawDataset]) -> tuple[tuple[Category, ...], list[np.ndarray]]:
    """Return the classes of all splits, and the labels of each split among them; splits that differ get new ids."""
    if all(raw.categories == raws[0].categories for raw in raws):
        return raws[0].categories, [raw.boxes.labels for raw in raws]
    names = sorted({category.name for raw in raws for category in raw.categories})
    index_of = {name: index for index, name in enumerate(names)}
    labels = []
    for raw in raws:
        # boxes without a class, which are not written, keep their labels
        index = np.array([*(index_of[category.name] for category in raw.categories), NO_LABEL, -1], np.int64)
        labels.append(index[raw.boxes.labels])
    return tuple(Category(number, name) for number, name in enumerate(names, start=1)), labels


def _with_names(parts: Sequence[Part], *, flat: bool) -> list[Part]:
    """Return the parts with file names that differ in more than suffix and case: in each split, or if ``flat`` in all,
    because all images are in one folder."""
    taken: set[str] = set()
    named = []
    for part in parts:
        taken = taken if flat else set()
        named.append(
            replace(part, names=[_name(part.raw.images.files[image], taken) for image in part.images.tolist()])
        )
    return named


def _name(file: FileLike | None, taken: set[str]) -> str:
    assert file is not None, "a missing image is a problem, which was raised"
    stem, suffix = os.path.splitext(_UNUSABLE.sub("_", file.name))
    if suffix.lower() not in SUFFIXES:
        stem, suffix = stem + suffix, _suffix_of(file)
    stem = unlike(taken, stem, str.lower)
    taken.add(stem.lower())
    return stem + suffix


def _suffix_of(file: FileLike) -> str:
    """Return the suffix of an image whose name has none, by its content."""
    try:
        with file.open("rb") as stream, Image.open(stream) as image:
            found = f".{(image.format or '').lower()}"
    except Exception:  # whatever Pillow raises on damaged data; reading the image reports it
        return ".jpg"
    return {".jpeg": ".jpg", ".tiff": ".tif", ".jpeg2000": ".jp2"}.get(found, found)


def _put_images(
    folder: Path, parts: Sequence[Part], location: str, how: Literal["link", "copy"], progress: Callable[[int], None]
) -> None:
    """Link or copy the images of all parts; ``location`` is their folder with "{split}" for the name of the split."""
    done = 0
    for part in parts:
        target = folder / location.format(split=part.split)
        target.mkdir(parents=True, exist_ok=True)
        for image, name, _ in part:
            file = part.raw.images.files[image]
            assert file is not None, "a missing image is a problem, which was raised"
            if isinstance(file, Path) and how == "link":
                if not file.is_file():
                    raise DataError(f"{file}: the link is broken; check it", code="broken-link")
                os.symlink(os.path.realpath(file), target / name)
            else:
                _copy(file, target / name)
            done += 1
            progress(done)


def _copy(file: FileLike, target: Path) -> None:
    try:
        with file.open("rb") as source:
            content = source.read()
    except OSError as error:
        raise DataError(
            f"{file}: the file cannot be read ({error.strerror or error}); check it", code="image-file-unreadable"
        ) from None
    target.write_bytes(content)
