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
from varifocal.data.readers.objects import OBJECT_OF_LINE, ObjectReader
from varifocal.data.readers.values import whole_size
from varifocal.data.sibling_folders import siblings_of_source
from varifocal.data.splits import NAMED, normalize_split
from varifocal.utils.errors import DataError
from varifocal.utils.text import short

NAME = "metadata.jsonl"
_NAMES = Words(inside="write it relative to the folder of this file")


def read_image_folder(source: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
    """Read one ``metadata.jsonl``, or the lines of it whose images lie in the folder of the split.

    Raises:
        DataError: the file cannot be read. A line that is wrong is a problem of the set.
    """
    columns = ColumnBuilder("image-folder", source, split)
    siblings = siblings_of_source(data, source, find_image_folder)
    finder = finder_of([source.parent], data if data.is_dir() else source.parent, split, options, siblings)
    objects = ObjectReader(columns)
    # the folders in the names tell the splits apart, where neither the file nor its folder does
    by_folders = split != "all" and normalize_split(source.parent.name) != split and not source.stem.startswith(split)
    texts = TextDecoder()
    for number, record in _records(texts.read(source), columns):
        name, location = record["file_name"], SourceLocation(source, f"line {number}")
        if by_folders and _split_of(name) != split:
            continue
        size = whole_size(record.get("width"), record.get("height"))
        image = columns.add_named_image(finder, name, location, _NAMES, size=size, record=location.text)
        objects.read(record, image, location, number)
    if not columns.names and not columns.problems:
        columns.report("malformed", source, "", "it has no images", "give it a line for each")
    objects.finish()
    columns.notes += texts.notes(source)
    return columns.finish([source], OBJECT_OF_LINE, xywh=True)


def _records(text: str, columns: ColumnBuilder) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number and record of each line with a record of a named image, and report the others."""
    for number, line in enumerate(text.split("\n"), start=1):
        record = _parse(columns, line, number) if line.strip() else None
        name = None if record is None else record.get("file_name")
        if record is not None and (not isinstance(name, str) or not name):
            text = f"has the file_name {short(name)}"
            columns.report("malformed", columns.source, f"line {number}", text, "name the image")
        elif record is not None:
            yield number, record


def _parse(columns: ColumnBuilder, line: str, number: int) -> dict[str, Any] | None:
    """Return the record of a line; None where it is none, which is reported."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        columns.report("malformed", columns.source, f"line {number}", f"is not valid JSON ({reason})", "fix it")
        return None
    if not isinstance(record, dict):
        columns.report("malformed", columns.source, f"line {number}", f"is {short(record)}", "it should be an object")
        return None
    return record


def find_image_folder(path: AnyPath) -> dict[str, AnyPath]:
    """Return the splits: a file in each folder, or one whose images lie in folders called train and so on, or "all".

    Raises:
        DataError: there is no such file, or two of one split.
    """
    if path.is_file():
        return _splits_in(path)
    if (path / NAME).is_file():
        return _splits_in(path / NAME)
    files = metadata_files(path)
    if not files:
        raise DataError(f"{path}: there is no {NAME} in it or in a folder in it", code="image-folder-no-metadata")
    found: dict[str, AnyPath] = {}
    for file in files:
        name = normalize_split(file.parent.name)
        if name in found:
            text = f"{found[name]} and {file} are both the split {name}; name one of them"
            raise DataError(f"{path}: {text}", code="image-folder-duplicate-split")
        found[name] = file
    return found


def metadata_files(path: AnyPath) -> list[AnyPath]:
    """Return the metadata file of a folder, or those of the folders in it or in its folder "data"."""
    if (path / NAME).is_file():
        return [path / NAME]
    for base in (path, path / "data"):
        found = [base / name / NAME for name in list_dir(base)[0] if (base / name / NAME).is_file()]
        if found:
            return found
    return []


def _splits_in(file: AnyPath) -> dict[str, AnyPath]:
    """Return the splits of one file, by the folders of its images or else by its own folder."""
    splits: dict[str, None] = {}
    for name in _names(file):
        split = _split_of(name)
        if split not in NAMED:
            name = normalize_split(file.parent.name)
            return {name if name in NAMED else "all": file}
        splits[split] = None
    return dict.fromkeys(splits or ["all"], file)


def _names(file: AnyPath) -> Iterator[str]:
    """Yield the names of images in a file."""
    for line in TextDecoder().read(file).split("\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("file_name"), str):
            yield record["file_name"]


def _split_of(name: str) -> str:
    """Return the split that the first folder of a name is called like."""
    return normalize_split(name.replace("\\", "/").removeprefix("./").partition("/")[0])
