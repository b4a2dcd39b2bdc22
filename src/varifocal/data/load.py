"""A path to a data set: which format it is, which splits it has, and its samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from varifocal.data.archive import Tree, is_archive, open_archive
from varifocal.data.finish import finish
from varifocal.data.names import canonical, match_split
from varifocal.data.raw import RawSet
from varifocal.data.readers.formats import READERS, recognise_tree
from varifocal.errors import ConfigError, DataError
from varifocal.records import DataSet


def open_data(path: Path | str) -> Tree:
    """The file or folder, or the tree of an archive.

    Raises:
        DataError: there is no such path, or the archive cannot be read in place.
    """
    path = Path(path)
    try:
        there = path.exists()
    except (OSError, ValueError):
        there = False
    if not there:
        raise DataError(f"{path}: there is no such file or folder; name a data set's file or its folder")
    return open_archive(path) if is_archive(path) else path


def recognise(path: Path | str) -> str:
    """The name of the format of a data set, by looking at it.

    Raises:
        DataError: nothing fits, or more than one format does; what was seen is said.
    """
    return recognise_tree(open_data(path))


def find_splits(path: Path | str, *, format: str | None = None) -> list[str]:
    """The names of the splits of a data set.

    Raises:
        DataError: there is no such path, or nothing in it that is understood.
        ConfigError: an unknown format.
    """
    tree = open_data(path)
    return list(READERS[_format(tree, format)].splits(tree))


def read_raw(path: Path | str, split: str | None = None, *, format: str | None = None) -> RawSet:
    """One split as its source has it, with everything that is wrong in its ``problems``.

    ``split`` may be left out where there is only one; "train", "val" and "test" also match names such as "train2017".

    Raises:
        DataError: no such data set or split, or its description cannot be read at all.
        ConfigError: an unknown format, or one that needs a package that is not installed.
    """
    tree = open_data(path)
    reader = READERS[_format(tree, format)]
    splits = reader.splits(tree)
    name = match_split(path, list(splits), split)
    return reader.read(splits[name], tree, name)


def load_dataset(
    path: Path | str,
    split: str | None = None,
    *,
    format: str | None = None,
    invalid_boxes: Literal["error", "drop"] = "error",
    difficult: Literal["ignore", "learn"] = "ignore",
) -> DataSet:
    """The samples of one split, in the order of the source, and the categories.

    ``path`` is a file, folder or archive as ``recognise`` knows it, or of the ``format`` that is named; ``split`` may
    be left out where there is only one. Boxes become xyxy in pixels, float32, clipped to the picture's size.
    Boxes without area, wholly outside or with something that is not a finite number stop the load; with
    ``invalid_boxes="drop"`` they are left out. Boxes marked as difficult are ignored as crowd regions are, with
    ``difficult="learn"`` they are objects. ``notes`` counts what was clipped by more than one pixel and
    what was left out. Of pictures whose size the source does not say the header is read; ``check_size`` compares
    sizes once a picture is opened.

    Raises:
        DataError: no such data set or split; the source is malformed, repeats ids or refers to unknown ones; a
            picture is missing or outside the data folder; a box is invalid.
        ConfigError: an unknown format, or one that needs a package that is not installed.
    """
    if invalid_boxes not in ("error", "drop"):
        raise ValueError(f"invalid_boxes is 'error' or 'drop', not {invalid_boxes!r}")
    return finish(read_raw(path, split, format=format), invalid_boxes=invalid_boxes, difficult=difficult)


def load_split(path: Path | str, usual: Sequence[str], option: str) -> DataSet:
    """The data set ``DATA`` or one split of it, ``DATA/split``; invalid boxes are left out.

    Without a split the first of the ``usual`` ones that there is, or the only one. ``option`` is what named the path.

    Raises:
        DataError: there are several splits, none of them usual; and as :func:`load_dataset`.
    """
    path = Path(path)
    own = _split_of(path)
    if own is not None:
        return load_dataset(path.parent, own, invalid_boxes="drop")
    splits = find_splits(path)
    chosen = [split for wanted in usual for split in splits if canonical(split) == wanted]
    if not chosen and len(splits) > 1:
        raise DataError(f"{path}: has the splits {', '.join(splits)}; name one, as {option} {path / splits[0]}.")
    return load_dataset(path, (chosen or splits)[0], invalid_boxes="drop")


def _split_of(path: Path) -> str | None:
    """The split of its parent that a path names, unless it is a data set by itself."""
    try:
        recognise(path)
    except DataError:
        pass
    else:
        return None
    try:
        splits = find_splits(path.parent)
    except DataError:
        return None
    return next((split for split in splits if path.name == split or path.name == canonical(split)), None)


def _format(tree: Tree, format: str | None) -> str:
    if format is None or format == "":
        return recognise_tree(tree)
    if format not in READERS:
        raise ConfigError(f"the format {format!r} is not known; the formats are {', '.join(READERS)}.")
    return format
