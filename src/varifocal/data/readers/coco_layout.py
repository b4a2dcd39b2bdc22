"""The files of a COCO data set: the JSON of each split, and the folders of its images."""

from __future__ import annotations

import re

from varifocal.data.archive import AnyPath
from varifocal.data.paths import list_dir
from varifocal.data.readers.label_files import split_of_parts
from varifocal.data.readers.sniff import ends_of
from varifocal.data.sibling_folders import parts_between
from varifocal.data.splits import NAMED, is_named, normalize_split
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted, short_list

_FIFTYONE = "labels.json"
_ALONE = ("annotations.json", "_annotations.coco.json", _FIFTYONE)
# Prefixes of the split in a file's name; of several files of one split that with the first prefix is taken.
_PREFIXES = re.compile(r"^(?:(instances_|annotations_)|(lvis_v[0-9.]+_)|(person_keypoints_))")
_KEYPOINTS_RANK = 3  # of files with keypoints, which repeat the boxes of others
_MAX_FILES = 20  # of a folder with files of COCO, not of single images
_READ_BYTES = 1 << 16
_SECTIONS = (b'"images"', b'"annotations"', b'"categories"')


def find_coco(path: AnyPath) -> dict[str, AnyPath]:
    """Return the annotation file of each split of a data set; a JSON file is a data set of one split.

    Recognized in a folder: ``annotations/instances_SPLIT.json``, ``annotations/train.json`` (val, test, default, ...),
    ``SPLIT/_annotations.coco.json`` (Roboflow), ``SPLIT/labels.json`` (FiftyOne) and ``SPLIT/annotations.json``;
    without any of these ``SPLIT.json`` or ``instances_SPLIT.json``, and a single one of the others, which is the split
    "all". ``lvis_v1_SPLIT.json`` and, where there are no ``instances_SPLIT.json``, ``person_keypoints_SPLIT.json`` are
    taken like these. Splits carry the names they have on disk, such as "train2017", but "valid" is "val". Lists are no
    data sets but detection results, which are left out.

    Raises:
        DataError: ``path`` is a folder without annotation files, or with two of one split.
    """
    if path.is_file():
        return {_split_of(path): path}
    found: dict[str, AnyPath] = {}
    files = _candidates(path)
    for file in [file for file in files if not _is_list(file)] or files:
        split = _split_of(file, path)
        other = found.setdefault(split, file)
        if other is not file and _rank(file) < _KEYPOINTS_RANK:
            text = f"{other} and {file} are both the split {split}; name the one that is meant"
            raise DataError(f"{path}: {text}", code="coco-duplicate-split")
    found = _by_words(found)
    if not found:
        expected = "annotations/instances_train.json, train/_annotations.coco.json, train.json or annotations.json"
        raise DataError(f"{path}: there are no COCO annotations; expected {expected} in it", code="coco-no-annotations")
    return found


def left_out_notes(file: AnyPath, data: AnyPath) -> list[str]:
    """Return a note on files of COCO with boxes beside ``file`` that are no splits of the data set ``data``."""
    if data.is_file():
        return []
    used = find_coco(data).values()
    others = [other for other in _json_files(file.parent)[:_MAX_FILES] if other not in used]
    names = [other.name for other in others if not _PREFIXES.match(other.name) and _has_boxes(other)]
    if not names:
        return []
    files = counted(len(names), "(file of COCO belongs to no split and is|files of COCO belong to no split and are)")
    return [f"{file.parent.name}: {files} left out: {short_list(names)}."]


def _by_words(found: dict[str, AnyPath]) -> dict[str, AnyPath]:
    """Return the files under the splits that are words in their names, as in coco_train_v2, where only one has each."""
    words = {name: split_of_parts([name]) for name in found}
    meant = [normalize_split(name) if normalize_split(name) in NAMED else words[name] for name in found]
    return {
        words[name] if not is_named(name) and words[name] in NAMED and meant.count(words[name]) == 1 else name: file
        for name, file in found.items()
    }


def image_roots(json: AnyPath, data: AnyPath, split: str) -> list[AnyPath]:
    """Return the folders in which the images of a JSON may lie, the most specific first; ``data`` is the data set."""
    base = data if data.is_dir() else _base_of(json)
    base = base.parent if base.name == "annotations" else base
    names = dict.fromkeys([split, normalize_split(split), *(["valid"] if normalize_split(split) == "val" else [])])
    roots = [base / sub / name if sub else base / name for name in names for sub in ("", "images")]
    roots += [base / name / "images" for name in names]
    return [*roots, base / "images", json.parent / "data", json.parent / "images", json.parent, base]


def begins_as_coco(file: AnyPath) -> bool:
    """Return whether a JSON has two sections of COCO at its beginning and its end, or one where it is too large."""
    try:
        with file.open("rb") as stream:
            start = stream.read(_READ_BYTES)
            stream.seek(max(stream.seek(0, 2) - _READ_BYTES, 0))
            text = start + stream.read()
    except OSError:
        return False
    sections = sum(key in text for key in _SECTIONS)
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and sections >= (
        2 if len(text) < 2 * _READ_BYTES else 1
    )


def _candidates(folder: AnyPath) -> list[AnyPath]:
    inside = [file for file in _json_files(folder / "annotations") if file.name not in _ALONE]
    usual = sorted(filter(_is_usual, inside), key=_rank)
    nested = [*usual, *_of_other_splits(inside, usual)] if usual else list(filter(begins_as_coco, inside))
    inner = [folder / name for name in list_dir(folder)[0] if name != "annotations"]
    for name in _ALONE:
        nested += [path / name for path in inner if _is_data(path / name)]
    return nested or _beside_the_images(folder) or _in_any_folder(folder)


def _of_other_splits(files: list[AnyPath], usual: list[AnyPath]) -> list[AnyPath]:
    """Return those files with boxes whose names have the word of a split that no usual file is of: my_validation."""
    known = {normalize_split(_split_of(file)) for file in usual}
    splits = {file: split_of_parts([file.stem]) for file in files if file not in usual}
    return [file for file, split in splits.items() if split in NAMED - known and _has_boxes(file)]


def _has_boxes(file: AnyPath) -> bool:
    """Return whether a file is of COCO and has boxes, which captions and mere lists of images have not."""
    return begins_as_coco(file) and b'"bbox"' in ends_of(file)


def _is_list(file: AnyPath) -> bool:
    """Return whether a JSON begins as a list; only its first bytes are read, as a compressed one has no cheap end."""
    try:
        with file.open("rb") as stream:
            return stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    except (OSError, ValueError):
        return False


def _is_data(file: AnyPath) -> bool:
    """Return whether a file is there and a data set; ``labels.json`` may also be a list of classes."""
    return file.is_file() and (file.name != _FIFTYONE or begins_as_coco(file))


def _beside_the_images(folder: AnyPath) -> list[AnyPath]:
    alone = [path / name for path in (folder, folder / "annotations") for name in _ALONE]
    alone = [file for file in alone if _is_data(file)]
    others = sorted((file for file in _json_files(folder) if file.name not in _ALONE), key=_rank)
    # a file that is no data set by its name or its content is another program's
    others = [file for file in others if _is_usual(file) or begins_as_coco(file)] or others
    # beside annotations.json any other JSON is probably no data set
    return alone + others if not alone or any(map(_is_usual, others)) else alone


def _in_any_folder(folder: AnyPath) -> list[AnyPath]:
    """Return the files of COCO in folders of any name, or in the folders in these, but no labels of single images."""
    level = [folder]
    for _ in range(2):
        level = [path / name for path in level for name in list_dir(path)[0]]
        found = [files for directory in level if 0 < len(files := _json_files(directory)) <= _MAX_FILES]
        if coco := [file for files in found for file in files if begins_as_coco(file)]:
            return coco
    return []


def _is_usual(file: AnyPath) -> bool:
    return _PREFIXES.match(file.name) is not None or is_named(file.stem)


def _rank(file: AnyPath) -> int:
    """Return the rank of a file; of several files of a split that with the lowest is taken."""
    prefix = _PREFIXES.match(file.name)
    return 0 if prefix is None else prefix.lastindex or 0


def _json_files(folder: AnyPath) -> list[AnyPath]:
    return [folder / name for name in list_dir(folder)[1] if name.lower().endswith(".json")]


def _split_of(file: AnyPath, data: AnyPath | None = None) -> str:
    """Return the split of a file by its name or those of the folders down to it from ``data``."""
    name = file.stem
    if file.name in _ALONE:
        inside = file.parent != data and (data is not None or normalize_split(file.parent.name) in NAMED)
        name = file.parent.name if inside and file.parent.name != "annotations" else "all"
    name = _PREFIXES.sub("", name)
    if data is not None and normalize_split(name) not in NAMED:  # train/coco.json
        folders = split_of_parts(parts_between(data, file.parent))
        name = folders if folders in NAMED else name
    return "val" if name == "valid" else name


def _base_of(json: AnyPath) -> AnyPath:
    """Return the data folder of a JSON file that is named by itself."""
    return json.parent.parent if json.parent.name == "annotations" else json.parent
