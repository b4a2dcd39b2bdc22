"""A path to a data set: which format it is, which splits it has, and its samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from varifocal.data.annotations import RawDataset, short_list
from varifocal.data.archive import AnyPath, is_archive, open_archive
from varifocal.data.names import meant_by, normalize_split, resolve_split
from varifocal.data.options import ReadOptions, Unlabeled, open_images
from varifocal.data.paths import remember_folders, split_lists
from varifocal.data.readers.formats import READERS, Reader, data_inside, detect_format
from varifocal.data.roles import measured_split, training_split
from varifocal.data.unlisted_images import with_unlisted
from varifocal.data.validate import finish
from varifocal.types import Dataset
from varifocal.utils.errors import ConfigError, DataError


def open_data(path: Path | str) -> AnyPath:
    """The file or folder, or the tree of an archive.

    Raises:
        DataError: there is no such path, or the archive cannot be read without unpacking it.
    """
    path = Path(path)
    try:
        there = path.exists()
    except (OSError, ValueError):
        there = False
    if not there:
        raise DataError(f"{path}: there is no such file or folder; name a data set's file or its folder")
    return open_archive(path) if is_archive(path) else path


def recognize(path: Path | str) -> str:
    """The name of the format of a data set, by looking at it.

    Raises:
        DataError: nothing fits, or more than one format does; what was seen is said.
    """
    return _recognized(open_data(path))[1]


def find_splits(path: Path | str, *, format: str | None = None) -> list[str]:
    """The names of the splits of a data set.

    Raises:
        DataError: there is no such path, or nothing in it that is understood.
        ConfigError: an unknown format.
    """
    tree, reader = _opened(path, format)
    return list(reader.splits(tree))


def read_raw(
    path: Path | str,
    split: str | None = None,
    *,
    format: str | None = None,
    images: str = "",
    unlabeled: Unlabeled = "",
) -> RawDataset:
    """One split as its source has it, with everything that is wrong in its ``problems``.

    ``split`` may be left out where there is only one; "train", "val" and "test" also match names such as "train2017".
    ``images`` and ``unlabeled`` are those of :func:`load_dataset`.

    Raises:
        DataError: no such data set or split, or its description cannot be read at all.
        ConfigError: an unknown format, or one that needs a package that is not installed.
    """
    tree, reader = _opened(path, format)
    options = ReadOptions(open_images(images, tree), unlabeled)
    with remember_folders():
        splits = reader.splits(tree)
        name = resolve_split(path, list(splits), split)
        raw = reader.read(splits[name], tree, name, options)
        # BDD100K may have a folder with a file for each image
        listed = reader.lists and raw.source.is_file()
        raw = with_unlisted(raw, tree, options, reader.splits, reader.read) if listed else raw
        return replace(raw, notes=(*raw.notes, *_unread_lists(tree, raw.format, splits)))


def _unread_lists(tree: AnyPath, format: str, splits: Iterable[str]) -> list[str]:
    """Return a note on lists of splits where the format does not read them and the splits are others."""
    if format in ("voc", "yolo") or not tree.is_dir():
        return []
    known = {normalize_split(split) for split in splits}
    lists = [
        f"{name}/{file}" if name else file
        for name in ("", *(() if READERS[format].image_sets else ("ImageSets", "ImageSets/Main")))
        for file in split_lists(tree / name if name else tree)
        if normalize_split(file[:-4]) not in known
    ]
    if not lists:
        return []
    return [
        f"{tree.name}: {short_list(lists)}: lists of splits are not read there in this format; convert the set to "
        "Pascal VOC or YOLO, or move the images of each split into a folder of their own."
    ]


def load_dataset(
    path: Path | str,
    split: str | None = None,
    *,
    format: str | None = None,
    images: str = "",
    unlabeled: Unlabeled = "",
    invalid_boxes: Literal["error", "drop"] = "error",
    difficult: Literal["ignore", "train"] = "ignore",
) -> Dataset:
    """The samples of one split, in the order of the source, and the categories.

    ``path`` is a file, folder or archive as ``recognize`` knows it, or of the ``format`` that is named; ``split`` may
    be left out where there is only one. ``images`` is the folder of the images where that is not the one in which the
    format keeps them, absolute or from the data folder on. ``unlabeled`` images, without a file of labels or not listed
    in it, are left out ("skip"), images without objects ("background") or, by default, what the format means by them.
    Boxes become xyxy in pixels, float32, clipped to the image's size. Boxes without area, wholly outside or with
    something that is not a finite number stop the load; with ``invalid_boxes="drop"`` they are left out. Boxes marked
    as difficult are ignored as crowd regions are, with ``difficult="train"`` they are objects. ``notes`` counts what
    was clipped by more than one pixel and what was left out. Of images whose size the source does not say the header
    is read; ``check_size`` compares sizes once an image is opened.

    Raises:
        DataError: no such data set or split; the source is malformed, repeats ids or refers to unknown ones; a
            image is missing or outside the data folder; a box is invalid.
        ConfigError: an unknown format, or one that needs a package that is not installed.
    """
    if invalid_boxes not in ("error", "drop"):
        raise ValueError(f"invalid_boxes is 'error' or 'drop', not {invalid_boxes!r}")
    raw = read_raw(path, split, format=format, images=images, unlabeled=unlabeled)
    return finish(raw, invalid_boxes=invalid_boxes, difficult=difficult)


def load_split(path: Path | str, role: Literal["train", "val"], option: str) -> Dataset:
    """The data set ``DATA`` or one split of it, ``DATA/split``; invalid boxes are left out.

    Without a split the one that is trained on, or the one that is measured on. ``option`` is what named the path.

    Raises:
        DataError: there are several splits, none of them usual; and as :func:`load_dataset`.
    """
    path = Path(path)
    own = _split_of(path)
    if own is not None:
        return load_dataset(path.parent, own, invalid_boxes="drop")
    splits = find_splits(path)
    choose = training_split if role == "train" else measured_split
    return load_dataset(path, choose(path, splits, option=f"{option} {path}/"), invalid_boxes="drop")


def _split_of(path: Path) -> str | None:
    """The split of its parent that a path names, unless it is a data set by itself."""
    try:
        find_splits(path)
    except DataError:
        pass
    else:
        return None
    try:
        splits = find_splits(path.parent)
    except DataError:
        return None
    meant = meant_by(path.name, splits)
    return meant[0] if meant else None


def _opened(path: Path | str, format: str | None) -> tuple[AnyPath, Reader]:
    """The data set of a path, and the reader of the format that is named or recognized."""
    tree = open_data(path)
    if not format:
        tree, format = _recognized(tree)
    if format not in READERS:
        raise ConfigError(f"the format {format!r} is not known; the formats are {', '.join(READERS)}.")
    return tree, READERS[format]


def _recognized(tree: AnyPath) -> tuple[AnyPath, str]:
    """A data set, which may be the only folder in another one, with its format."""
    with remember_folders():
        tree = data_inside(tree)
        return tree, detect_format(tree)
