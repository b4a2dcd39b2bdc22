"""A folder of images with ``metadata.jsonl``, as Hugging Face's datasets read it: a line of JSON for each image.

https://huggingface.co/docs/datasets/image_dataset#object-detection
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from varifocal.data.annotations import RawDataset, SourceLocation
from varifocal.data.archive import AnyPath
from varifocal.data.find_images import finder_of
from varifocal.data.options import ReadOptions
from varifocal.data.paths import TextDecoder, list_dir
from varifocal.data.readers.columns import ColumnBuilder
from varifocal.data.readers.lookup import Words
from varifocal.data.readers.objects import ObjectReader, line_object, record_size
from varifocal.data.sibling_folders import siblings_of_source
from varifocal.data.splits import NAMED, normalize_split
from varifocal.utils.errors import DataError
from varifocal.utils.text import short

NAME = "metadata.jsonl"
_NAMES = Words(inside="write it relative to the folder of this file")


def read_image_folder(source: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
    """One ``metadata.jsonl``, or the lines of it whose images lie in the folder of the split.

    Raises:
        DataError: the file cannot be read. A line that is wrong is a problem of the set.
    """
    columns = ColumnBuilder("image-folder", source, split)
    siblings = siblings_of_source(data, source, find_image_folder)
    finder = finder_of([source.parent], data if data.is_dir() else source.parent, split, options, siblings)
    objects = ObjectReader(columns)
    inner = split != "all" and normalize_split(source.parent.name) != split and not source.stem.startswith(split)
    texts = TextDecoder()
    for number, line in enumerate(texts.read(source).split("\n"), start=1):
        if not line.strip():
            continue
        record, location = _parse(columns, line, number), SourceLocation(source, f"line {number}")
        if record is None:
            continue
        name = record.get("file_name")
        if not isinstance(name, str) or not name:
            columns.problem("malformed", source, location.text, f"has the file_name {short(name)}", "name the image")
            continue
        if inner and _split_of(name) != split:
            continue
        image = columns.named(finder, name, location, _NAMES, size=record_size(record), record=location.text)
        objects.read(record, image, location, number)
    if not columns.names and not columns.problems:
        columns.problem("malformed", source, "", "there are no images in it", "give it a line for each")
    objects.finish()
    columns.notes += texts.notes(source)
    return columns.finish([source], line_object, xywh=True)


def _parse(columns: ColumnBuilder, line: str, number: int) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        columns.problem("malformed", columns.source, f"line {number}", f"is not valid JSON ({reason})", "fix it")
        return None
    if not isinstance(record, dict):
        columns.problem("malformed", columns.source, f"line {number}", f"is {short(record)}", "it should be an object")
        return None
    return record


def find_image_folder(path: AnyPath) -> dict[str, AnyPath]:
    """The splits: a file in each folder, or one whose images lie in folders called train and so on, or "all".

    Raises:
        DataError: there is no such file.
    """
    if path.is_file():
        return _splits_in(path)
    if (path / NAME).is_file():
        return _splits_in(path / NAME)
    files = metadata_files(path)
    if not files:
        raise DataError(f"{path}: there is no {NAME} in it or in a folder in it")
    found: dict[str, AnyPath] = {}
    for file in files:
        name = normalize_split(file.parent.name)
        if name in found:
            raise DataError(f"{path}: {found[name]} and {file} are both the split {name}; name one of them")
        found[name] = file
    return found


def metadata_files(path: AnyPath) -> list[AnyPath]:
    """The metadata of a folder, or of the folders in it or in its folder "data"."""
    if (path / NAME).is_file():
        return [path / NAME]
    for base in (path, path / "data"):
        found = [base / name / NAME for name in list_dir(base)[0] if (base / name / NAME).is_file()]
        if found:
            return found
    return []


def _splits_in(file: AnyPath) -> dict[str, AnyPath]:
    splits: dict[str, None] = {}
    for name in _names(file):
        split = _split_of(name)
        if split not in NAMED:
            name = normalize_split(file.parent.name)
            return {name if name in NAMED else "all": file}
        splits[split] = None
    return dict.fromkeys(splits or ["all"], file)


def _names(file: AnyPath) -> Iterator[str]:
    for line in TextDecoder().read(file).split("\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("file_name"), str):
            yield record["file_name"]


def _split_of(name: str) -> str:
    return normalize_split(name.replace("\\", "/").removeprefix("./").partition("/")[0])
