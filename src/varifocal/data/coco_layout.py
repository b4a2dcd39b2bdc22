"""Where a COCO data set keeps its files: the json of each split, and the folder of each picture."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from varifocal.errors import DataError

_ALONE = ("annotations.json", "_annotations.coco.json")
_PREFIXES = ("instances_", "annotations_")
_STANDARD = frozenset(["train", "val", "test"])
_OTHER_NAMES = {"valid": "val", "validation": "val", "training": "train", "testing": "test"}

# Absolute on any system, a climb out of the folder, or no name at all.
_UNSAFE = re.compile(r"^/|^[A-Za-z]:|(?:^|/)\.\.(?:/|$)|\x00|^$|/$")


def find_splits(path: Path | str) -> dict[str, Path]:
    """The annotation file of each split of a data set; a json file is a data set of one split.

    Recognised in a folder: ``annotations/instances_SPLIT.json``, ``annotations/train.json`` (val, test),
    ``SPLIT/_annotations.coco.json`` (Roboflow) and ``SPLIT/annotations.json``; without any of these
    ``SPLIT.json`` or ``instances_SPLIT.json``, and a single ``annotations.json`` or
    ``_annotations.coco.json``, which is the split "all". Splits carry the names they have on disk, such as
    "train2017", but "valid" is "val".

    Raises:
        DataError: ``path`` does not exist, or is a folder without annotation files.
    """
    path = Path(path)
    if path.is_file():
        return {_split_of(path): path}
    if not path.is_dir():
        raise DataError(f"{path}: there is no such file or folder; name a COCO json file or its folder")
    found: dict[str, Path] = {}
    for file in _candidates(path):
        found.setdefault(_split_of(file, path), file)
    if not found:
        raise DataError(
            f"{path}: no COCO annotations are found; expected annotations/instances_train.json, "
            "train/_annotations.coco.json, train.json or annotations.json in it"
        )
    return found


def match_split(path: Path, splits: Sequence[str], split: str | None) -> str:
    """The name of the split asked for, or of the only one.

    "train", "val" and "test" also match names such as "train2017".

    Raises:
        DataError: the split is unknown, or more than one matches.
    """
    if split is None:
        matches = list(splits)
    elif split in splits:
        matches = [split]
    else:
        matches = [name for name in splits if _canonical(name) == _canonical(split)]
    listed = ", ".join(splits)
    if not matches:
        raise DataError(f"{path}: there is no split {split!r}; available: {listed}")
    if len(matches) > 1 and split is None:
        raise DataError(f"{path}: there are several splits; name one of them: {listed}")
    if len(matches) > 1:
        raise DataError(f"{path}: split {split!r} fits more than one; name one of them: {', '.join(matches)}")
    return matches[0]


class ImageFinder:
    """Finds pictures by their ``file_name``; each folder is listed once, whatever the number of pictures."""

    def __init__(self, json: Path, data: Path, split: str) -> None:
        base = data if data.is_dir() else _base_of(json)
        names = dict.fromkeys([split, _canonical(split), *(["valid"] if _canonical(split) == "val" else [])])
        roots = [base / sub / name for name in names for sub in ("", "images")]
        roots += [base / "images", json.parent, base]
        self.roots = [root for root in dict.fromkeys(roots) if root.is_dir()]
        self._listings: dict[str, list[tuple[Path, frozenset[str]]]] = {}

    def find(self, file_name: str) -> Path | None:
        """The file, from the most specific folder that has it; None if none has."""
        name = file_name.replace("\\", "/")
        folder, _, tail = name.rpartition("/")
        if folder not in self._listings:
            self._listings[folder] = [(root / folder, _listing(root / folder)) for root in self.roots]
        for place, listing in self._listings[folder]:
            if tail in listing:
                return place / tail
        # A file system may know the name in other letters (case, composed accents) than it lists.
        return next((root / name for root in self.roots if (root / name).is_file()), None)


def leaves_folder(file_name: str) -> bool:
    """Whether a ``file_name`` is absolute, climbs with ``..`` or names no file."""
    return _UNSAFE.search(file_name.replace("\\", "/")) is not None


def _listing(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except (OSError, ValueError):
        return frozenset()


def _candidates(folder: Path) -> list[Path]:
    nested = [file for file in _json_files(folder / "annotations") if _is_usual(file)]
    for name in _ALONE:
        nested += sorted(file for file in folder.glob(f"*/{name}") if file.parent.name != "annotations")
    return nested or _beside_the_pictures(folder)


def _beside_the_pictures(folder: Path) -> list[Path]:
    alone = [folder / sub / name for sub in ("", "annotations") for name in _ALONE]
    alone = [file for file in alone if file.is_file()]
    others = [file for file in _json_files(folder) if file.name not in _ALONE]
    # Beside annotations.json any other json is probably no data set.
    return alone + others if not alone or any(map(_is_usual, others)) else alone


def _is_usual(file: Path) -> bool:
    return file.name.startswith(_PREFIXES) or _canonical(file.stem) in _STANDARD


def _json_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.json") if not file.name.startswith("."))


def _split_of(file: Path, data: Path | None = None) -> str:
    name = file.stem
    if file.name in _ALONE:
        inside = file.parent != data and (data is not None or _canonical(file.parent.name) in _STANDARD)
        name = file.parent.name if inside and file.parent.name != "annotations" else "all"
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return "val" if name == "valid" else name


def _base_of(json: Path) -> Path:
    """The data folder of a json file named by itself."""
    return json.parent.parent if json.parent.name == "annotations" else json.parent


def _canonical(name: str) -> str:
    stem = re.sub(r"[-_ ]?\d+$", "", name.lower()) or name.lower()
    return _OTHER_NAMES.get(stem, stem)
