"""From one format to another, no box lost: every split is read, checked, and written beside before it is moved."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from varifocal.data.annotations import NO_LABEL, RawDataset, counted
from varifocal.data.box_meaning import meaning_notes, meaning_problems
from varifocal.data.box_validity import validate_boxes
from varifocal.data.holdout import holdout_mask
from varifocal.data.image_kinds import SUFFIXES
from varifocal.data.load import find_splits, read_raw
from varifocal.data.options import Unlabeled
from varifocal.data.readers.columns import with_image_sizes
from varifocal.data.regions import region_numbers
from varifocal.data.roles import made_of_others, parted_split
from varifocal.data.validate import (
    box_problems,
    emptied_notes,
    finish,
    raise_first,
    swapped_notes,
)
from varifocal.data.writers import WRITERS, Part
from varifocal.types import Category, FileLike
from varifocal.utils.errors import ConfigError, DataError
from varifocal.utils.locks import claimed_file

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
    """Write all splits of a data set, or one, to the new folder ``out``; what was done and what is lost, as sentences.

    ``format``, ``images`` and ``unlabeled`` are those of ``load_dataset``. A split that is others together, as
    "trainval" is, is written only if it is asked for. ``val`` holds that fraction of the training images out, as the
    split "val". Images become links to where they are, or copies; those of an archive are always copied. ``progress``
    is called with the number of images done.

    Raises:
        ConfigError: ``out`` is there already, or cannot be written; an unknown format; ``val`` where there is a
            validation split.
        DataError: anything is wrong with the data set; invalid boxes only without ``drop_invalid``.
    """
    refuse_existing(out)
    splits = [split] if split is not None else find_splits(source, format=format)
    joined = made_of_others(splits)
    notes = [f"{source}: the split {name!r} is others together and is left out." for name in joined]
    splits = [name for name in splits if name not in joined]
    parted = None if val is None else parted_split(source, splits)
    chosen = _read(source, splits, format, images, unlabeled)
    notes += dict.fromkeys(note for raw in chosen for note in raw.notes)
    raws = [with_image_sizes(raw) for raw in chosen]
    keeps = [_judge(raw, drop_invalid, notes) for raw in raws]
    subsets = [(raw.split, raw, np.arange(len(raw.images)), keep) for raw, keep in zip(raws, keeps, strict=True)]
    if val is not None and parted is not None:
        index = splits.index(parted)
        subsets[index : index + 1] = _hold_out(raws[index], keeps[index], val, seed, drop_invalid, notes)
    categories, labels = _join_classes(raws)
    with _beside(out) as folder:
        namer = _Namer(flat=to == "voc")
        parts = []
        for name, raw, chosen_images, keep in subsets:
            label = labels[raws.index(raw)]
            parts.append(Part(name, raw, chosen_images, namer.names(raw, chosen_images), keep, label))
        notes += map(_count_of, parts)
        notes += WRITERS[to][0](folder, parts, categories)
        _put_images(folder, parts, WRITERS[to][1], image_files, progress)
    return notes


def _count_of(part: Part) -> str:
    """What a part is, in numbers; regions to be ignored for several classes are no boxes."""
    boxes = part.raw.boxes
    regions = region_numbers(boxes.images, boxes.labels, boxes.xyxy, boxes.crowd) >= 0
    images = counted(len(part.images), "(image|images)")
    return f"{part.split}: {images}, {counted(part.mine(~regions), '(box|boxes)')}."


def _read(
    source: Path | str, splits: Sequence[str], format: str | None, images: str, unlabeled: Unlabeled
) -> list[RawDataset]:
    found = [read_raw(source, name, format=format, images=images, unlabeled=unlabeled) for name in splits]
    for raw in found:
        raise_first(raw.problems)
    return found


def _judge(raw: RawDataset, drop_invalid: bool, notes: list[str]) -> np.ndarray:
    """The boxes to write."""
    raise_first(raw.problems)
    verdict = validate_boxes(raw)
    problems = box_problems(raw, verdict)
    if not drop_invalid:
        raise_first(meaning_problems(raw, verdict), ", or take such boxes as written with --drop-invalid-boxes")
        raise_first(problems, _DROP)
    notes += swapped_notes(raw)
    for kind, count in problems.counts.items():
        notes.append(f"{raw.source.name}: {counted(count, '(box was|boxes were)')} left out ({kind}).")
    notes += [*emptied_notes(raw, verdict), *meaning_notes(raw, verdict)]
    return verdict.good


def _hold_out(
    raw: RawDataset, keep: np.ndarray, val: float, seed: int, drop_invalid: bool, notes: list[str]
) -> list[tuple[str, RawDataset, np.ndarray, np.ndarray]]:
    held, note = holdout_mask(finish(raw, invalid_boxes="drop" if drop_invalid else "error"), val, seed)
    notes.append(note)
    return [("train", raw, np.flatnonzero(~held), keep), ("val", raw, np.flatnonzero(held), keep)]


def _join_classes(raws: Sequence[RawDataset]) -> tuple[tuple[Category, ...], list[np.ndarray]]:
    """Return the classes of all splits together, and each split's labels in them. Splits that differ get new ids."""
    if all(raw.categories == raws[0].categories for raw in raws):
        return raws[0].categories, [raw.boxes.labels for raw in raws]
    names = sorted({category.name for raw in raws for category in raw.categories})
    index_of = {name: index for index, name in enumerate(names)}
    # boxes of no class, which are not written, keep their labels
    own = [np.array([*(index_of[one.name] for one in raw.categories), NO_LABEL, -1], np.int64) for raw in raws]
    labels = [new_labels[raw.boxes.labels] for new_labels, raw in zip(own, raws, strict=True)]
    return tuple(Category(index, name) for index, name in enumerate(names, start=1)), labels


class _Namer:
    """File names that are unique up to suffix and case, in each split or, where all lie in one folder, in all."""

    def __init__(self, flat: bool) -> None:
        self.flat = flat
        self.taken: set[str] = set()

    def names(self, raw: RawDataset, images: np.ndarray) -> list[str]:
        """The names of some images of a split."""
        if not self.flat:
            self.taken = set()
        return [self.name(raw.images.files[image]) for image in images.tolist()]

    def name(self, file: FileLike | None) -> str:
        assert file is not None, "a missing image is a problem, which was raised"
        stem, suffix = os.path.splitext(_UNUSABLE.sub("_", file.name))
        if suffix.lower() not in SUFFIXES:
            stem, suffix = stem + suffix, _suffix_of(file)
        number, unique = 1, stem
        while unique.lower() in self.taken:
            number += 1
            unique = f"{stem}-{number}"
        self.taken.add(unique.lower())
        return unique + suffix


def _suffix_of(file: FileLike) -> str:
    """The suffix of an image whose name has none, from its content."""
    try:
        with file.open("rb") as stream, Image.open(stream) as image:
            found = f".{(image.format or '').lower()}"
    except Exception:  # whatever Pillow raises on damaged data; reading the image will tell
        return ".jpg"
    return {".jpeg": ".jpg", ".tiff": ".tif", ".jpeg2000": ".jp2"}.get(found, found)


def refuse_existing(out: Path) -> None:
    """Raise ``ConfigError`` where something is in the way of a new folder."""
    if os.path.lexists(out):
        raise ConfigError(f"{out}: is there already; choose another folder, nothing is overwritten.")


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that becomes it at the end, or goes away where anything fails; for one process."""
    folder = out.parent / f".{out.name}.part"
    with claimed_file(out):
        try:
            shutil.rmtree(folder, ignore_errors=True)  # what a killed run left
            folder.mkdir()
            yield folder
            refuse_existing(out)
            os.rename(folder, out)
        except OSError as error:
            raise ConfigError(
                f"{out}: cannot be written ({error.strerror or error}); make room or choose another folder."
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _put_images(
    folder: Path, parts: Sequence[Part], location: str, how: Literal["link", "copy"], progress: Callable[[int], None]
) -> None:
    done = 0
    for part in parts:
        target = folder / location.format(split=part.split)
        target.mkdir(parents=True, exist_ok=True)
        for image, name, _ in part:
            file = part.raw.images.files[image]
            assert file is not None, "a missing image is a problem, which was raised"
            if isinstance(file, Path) and how == "link":
                if not file.is_file():
                    raise DataError(f"{file}: the file cannot be read (a link to nowhere); check it")
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
        raise DataError(f"{file}: the file cannot be read ({error.strerror or error}); check it") from None
    target.write_bytes(content)
