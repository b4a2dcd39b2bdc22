"""Darknet's description ``obj.data``, which names the lists of images and of class names, as in CVAT's "YOLO 1.1"."""

from __future__ import annotations

import re

from varifocal.data.archive import AnyPath
from varifocal.data.paths import decode, is_image, list_dir
from varifocal.data.splits import NAMED, normalize_split
from varifocal.utils.errors import DataError

SUFFIX = ".data"
# from keys of a description to splits
SPLITS = {"train": "train", "valid": "val", "val": "val", "test": "test", "trainval": "trainval"}
_FOLDER = re.compile(r"obj_(\w+)_data")
_READ_BYTES = 1 << 12


def read_description(text: str) -> dict[str, str]:
    """Return the keys and values of a description, which has a pair on each line with an equals sign between."""
    lines = (line.partition("#")[0].partition("=") for line in text.split("\n"))
    return {key.strip().lower(): value.strip() for key, sign, value in lines if sign}


def is_description(file: AnyPath) -> bool:
    """Return whether a file is called like a description, and is one."""
    if not file.name.lower().endswith(SUFFIX):
        return False
    content = read_description(_beginning(file))
    return bool({"names", "classes"} & set(content)) and bool(set(SPLITS) & set(content))


def description_of(folder: AnyPath) -> AnyPath | None:
    """Return the description in a folder; None where there is none.

    Raises:
        DataError: there are several, none of them called obj.data.
    """
    files = [folder / name for name in list_dir(folder)[1] if name.lower().endswith(SUFFIX)]
    found = [file for file in files if is_description(file)]
    usual = [file for file in found if file.name == "obj.data"]
    if len(found) > 1 and not usual:
        names = ", ".join(file.name for file in found)
        text = f"there are several descriptions, {names}; name the one that is meant"
        raise DataError(f"{folder}: {text}", code="darknet-several-descriptions")
    return next(iter(usual or found), None)


def split_of_folder(name: str) -> str:
    """Return the split of a folder that CVAT calls obj_train_data; "" for others."""
    match = _FOLDER.fullmatch(name)
    return normalize_split(match[1]) if match is not None and normalize_split(match[1]) in NAMED else ""


def lists_images(file: AnyPath) -> bool:
    """Return whether a file is a text file whose first line is the name of an image."""
    if not file.name.endswith(".txt") or normalize_split(file.stem) not in NAMED:
        return False
    line = next((line for line in _beginning(file).split("\n") if line.strip()), "")
    return is_image(line.strip().strip('"'))


def _beginning(file: AnyPath) -> str:
    try:
        with file.open("rb") as stream:
            return decode(stream.read(_READ_BYTES), file)[0]
    except (OSError, ValueError, DataError):
        return ""
