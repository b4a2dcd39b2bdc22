"""Where a COCO data set keeps its files: the json of each split, and the folder of each image."""

from __future__ import annotations

import re

from varifocal.data.archive import AnyPath
from varifocal.data.paths import list_dir
from varifocal.data.readers.label_files import split_of_parts
from varifocal.data.sibling_folders import parts_between
from varifocal.data.splits import NAMED, is_named, normalize_split
from varifocal.utils.errors import DataError

_FIFTYONE = "labels.json"
_ALONE = ("annotations.json", "_annotations.coco.json", _FIFTYONE)
# What stands before the split in a file's name, in the order in which files of one split are taken.
_PREFIXES = re.compile(r"(instances_|annotations_)|(lvis_v[0-9.]+_)|(person_keypoints_)")
_OF_BOXES = 3  # the rank of files that have the boxes of others once more, and keypoints
_FEW = 20  # files of a folder
_LOOK = 1 << 16  # bytes
_SECTIONS = (b'"images"', b'"annotations"', b'"categories"')


def find_coco(path: AnyPath) -> dict[str, AnyPath]:
    """The annotation file of each split of a data set; a json file is a data set of one split.

    Recognized in a folder: ``annotations/instances_SPLIT.json``, ``annotations/train.json`` (val, test, default, ...),
    ``SPLIT/_annotations.coco.json`` (Roboflow), ``SPLIT/labels.json`` (FiftyOne) and ``SPLIT/annotations.json``;
    without any of these ``SPLIT.json`` or ``instances_SPLIT.json``, and a single one of the others, which is the split
    "all". ``lvis_v1_SPLIT.json`` and, where there are no ``instances_SPLIT.json``, ``person_keypoints_SPLIT.json`` are
    taken like these. Splits carry the names they have on disk, such as "train2017", but "valid" is "val".

    Raises:
        DataError: ``path`` is a folder without annotation files, or with two of one split.
    """
    if path.is_file():
        return {_split_of(path): path}
    found: dict[str, AnyPath] = {}
    for file in _candidates(path):
        split = _split_of(file, path)
        other = found.setdefault(split, file)
        if other is not file and _rank(file) < _OF_BOXES:
            raise DataError(f"{path}: {other} and {file} are both the split {split}; name the one that is meant")
    found = _by_their_words(found)
    if not found:
        raise DataError(
            f"{path}: no COCO annotations are found; expected annotations/instances_train.json, "
            "train/_annotations.coco.json, train.json or annotations.json in it"
        )
    return found


def _by_their_words(found: dict[str, AnyPath]) -> dict[str, AnyPath]:
    """The same files under the splits that words in their names say, where these say it of one alone: coco_train_v2."""
    words = {name: split_of_parts([name]) for name in found}
    meant = [normalize_split(name) if normalize_split(name) in NAMED else words[name] for name in found]
    return {
        words[name] if not is_named(name) and words[name] in NAMED and meant.count(words[name]) == 1 else name: file
        for name, file in found.items()
    }


def image_roots(json: AnyPath, data: AnyPath, split: str) -> list[AnyPath]:
    """The folders where the images of a json may lie, the most specific first; ``data`` is the data set's path."""
    base = data if data.is_dir() else _base_of(json)
    names = dict.fromkeys([split, normalize_split(split), *(["valid"] if normalize_split(split) == "val" else [])])
    roots = [base / sub / name if sub else base / name for name in names for sub in ("", "images")]
    roots += [base / name / "images" for name in names]
    return [*roots, base / "images", json.parent / "data", json.parent / "images", json.parent, base]


def begins_as_coco(file: AnyPath) -> bool:
    """Whether a json names two sections of COCO at its beginning and its end, or one where it is too large to see."""
    try:
        with file.open("rb") as stream:
            start = stream.read(_LOOK)
            stream.seek(max(stream.seek(0, 2) - _LOOK, 0))
            text = start + stream.read()
    except OSError:
        return False
    sections = sum(key in text for key in _SECTIONS)
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and sections >= (2 if len(text) < 2 * _LOOK else 1)


def _candidates(folder: AnyPath) -> list[AnyPath]:
    inside = [file for file in _json_files(folder / "annotations") if file.name not in _ALONE]
    nested = sorted(filter(_is_usual, inside), key=_rank) or list(filter(begins_as_coco, inside))
    inner = [folder / name for name in list_dir(folder)[0] if name != "annotations"]
    for name in _ALONE:
        nested += [path / name for path in inner if _is_data(path / name)]
    return nested or _beside_the_images(folder) or _in_any_folder(folder)


def _is_data(file: AnyPath) -> bool:
    """Whether a file is there and a data set; ``labels.json`` may also be a list of classes."""
    return file.is_file() and (file.name != _FIFTYONE or begins_as_coco(file))


def _beside_the_images(folder: AnyPath) -> list[AnyPath]:
    alone = [path / name for path in (folder, folder / "annotations") for name in _ALONE]
    alone = [file for file in alone if _is_data(file)]
    others = sorted((file for file in _json_files(folder) if file.name not in _ALONE), key=_rank)
    # what is no data set by its name and its content is another program's
    others = [file for file in others if _is_usual(file) or begins_as_coco(file)] or others
    # Beside annotations.json any other json is probably no data set.
    return alone + others if not alone or any(map(_is_usual, others)) else alone


def _in_any_folder(folder: AnyPath) -> list[AnyPath]:
    """The files of COCO in folders of any name, or in the folders in these; labels of single images are not meant."""
    level = [folder]
    for _ in range(2):
        level = [path / name for path in level for name in list_dir(path)[0]]
        found = [files for directory in level if 0 < len(files := _json_files(directory)) <= _FEW]
        if coco := [file for files in found for file in files if begins_as_coco(file)]:
            return coco
    return []


def _is_usual(file: AnyPath) -> bool:
    return _PREFIXES.match(file.name) is not None or is_named(file.stem)


def _rank(file: AnyPath) -> int:
    """Of several files of a split that with the lowest is taken."""
    prefix = _PREFIXES.match(file.name)
    return 0 if prefix is None else prefix.lastindex or 0


def _json_files(folder: AnyPath) -> list[AnyPath]:
    return [folder / name for name in list_dir(folder)[1] if name.lower().endswith(".json")]


def _split_of(file: AnyPath, data: AnyPath | None = None) -> str:
    name = file.stem
    if file.name in _ALONE:
        inside = file.parent != data and (data is not None or normalize_split(file.parent.name) in NAMED)
        name = file.parent.name if inside and file.parent.name != "annotations" else "all"
    prefix = _PREFIXES.match(name)
    name = name[prefix.end() :] if prefix is not None else name
    if data is not None and normalize_split(name) not in NAMED:  # train/coco.json
        folders = split_of_parts(parts_between(data, file.parent))
        name = folders if folders in NAMED else name
    return "val" if name == "valid" else name


def _base_of(json: AnyPath) -> AnyPath:
    """The data folder of a json file named by itself."""
    return json.parent.parent if json.parent.name == "annotations" else json.parent
