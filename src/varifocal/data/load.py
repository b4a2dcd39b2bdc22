"""A path to a data set: which format it is, which splits it has, and its samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from varifocal.data.coco import read_coco
from varifocal.data.coco_layout import find_splits as find_coco
from varifocal.data.coco_layout import match_split
from varifocal.data.finish import finish
from varifocal.data.raw import RawSet
from varifocal.errors import ConfigError
from varifocal.records import DataSet


@dataclass(frozen=True)
class Reader:
    """One format: the splits of a path, each with the file or folder that says what is in it, and how one is read."""

    splits: Callable[[Path], dict[str, Path]]
    read: Callable[[Path, Path, str], RawSet]  # what the splits gave, the path itself, the name of the split


READERS = {"coco": Reader(find_coco, read_coco)}


def recognise(path: Path | str) -> str:
    """The name of the format of a file or folder."""
    return "coco"


def find_splits(path: Path | str, *, format: str | None = None) -> list[str]:
    """The names of the splits of a data set.

    Raises:
        DataError: there is no such path, or nothing in it that is understood.
        ConfigError: an unknown format.
    """
    return list(_reader(Path(path), format)[1].splits(Path(path)))


def read_raw(path: Path | str, split: str | None = None, *, format: str | None = None) -> RawSet:
    """One split as its source has it, with everything that is wrong in its ``problems``.

    ``split`` may be left out where there is only one; "train", "val" and "test" also match names such as "train2017".

    Raises:
        DataError: no such data set or split, or its description cannot be read at all.
        ConfigError: an unknown format.
    """
    path = Path(path)
    reader = _reader(path, format)[1]
    splits = reader.splits(path)
    name = match_split(path, list(splits), split)
    return reader.read(splits[name], path, name)


def load_dataset(
    path: Path | str,
    split: str | None = None,
    *,
    format: str | None = None,
    invalid_boxes: Literal["error", "drop"] = "error",
) -> DataSet:
    """The samples of one split, in the order of the source, and the categories.

    ``path`` is a file or folder as ``recognise`` knows it, or of the ``format`` that is named; ``split`` may be left
    out where there is only one. Boxes become xyxy in pixels, float32, clipped to the recorded size of the picture.
    Boxes without area, wholly outside or with something that is not a finite number stop the load; with
    ``invalid_boxes="drop"`` they are left out. ``notes`` counts what was clipped by more than one pixel and
    what was left out. Of pictures whose size the source does not say the header is read; ``check_size`` compares
    sizes once a picture is opened.

    Raises:
        DataError: no such data set or split; the source is malformed, repeats ids or refers to unknown ones; a
            picture is missing or outside the data folder; a box is invalid.
        ConfigError: an unknown format.
    """
    if invalid_boxes not in ("error", "drop"):
        raise ValueError(f"invalid_boxes is 'error' or 'drop', not {invalid_boxes!r}")
    return finish(read_raw(path, split, format=format), invalid_boxes=invalid_boxes)


def _reader(path: Path, format: str | None) -> tuple[str, Reader]:
    name = format or recognise(path)
    if name not in READERS:
        raise ConfigError(f"--format {name}: not known; the formats are {', '.join(READERS)}.")
    return name, READERS[name]
