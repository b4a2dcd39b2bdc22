"""A folder of pictures with ``metadata.jsonl``, as Hugging Face's datasets read it: a line of JSON for each picture.

https://huggingface.co/docs/datasets/image_dataset#object-detection
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from varifocal.data.archive import Tree
from varifocal.data.find import finder_of
from varifocal.data.names import NAMED, canonical
from varifocal.data.options import ReadOptions
from varifocal.data.raw import Place, RawSet, short
from varifocal.data.readers.columns import Columns
from varifocal.data.readers.lookup import Words
from varifocal.data.readers.objects import ObjectReader, line_object, record_size
from varifocal.data.tree import Texts, names_in
from varifocal.errors import DataError

NAME = "metadata.jsonl"
_NAMES = Words(inside="write it relative to the folder of this file")


def read_image_folder(source: Tree, data: Tree, split: str, options: ReadOptions) -> RawSet:
    """One ``metadata.jsonl``, or the lines of it whose pictures lie in the folder of the split.

    Raises:
        DataError: the file cannot be read. A line that is wrong is a problem of the set.
    """
    columns = Columns("image-folder", source, split)
    finder = finder_of([source.parent], data if data.is_dir() else source.parent, split, options)
    objects = ObjectReader(columns)
    inner = split != "all" and canonical(source.parent.name) != split and not source.stem.startswith(split)
    texts = Texts()
    for number, line in enumerate(texts.read(source).split("\n"), start=1):
        if not line.strip():
            continue
        record, place = _parse(columns, line, number), Place(source, f"line {number}")
        if record is None:
            continue
        name = record.get("file_name")
        if not isinstance(name, str) or not name:
            columns.problem("malformed", source, place.text, f"has the file_name {short(name)}", "name the picture")
            continue
        if inner and _split_of(name) != split:
            continue
        image = columns.named(finder, name, place, _NAMES, size=record_size(record), record=place.text)
        objects.read(record, image, place, number)
    if not columns.names and not columns.problems:
        columns.problem("malformed", source, "", "there are no pictures in it", "give it a line for each")
    objects.finish()
    columns.notes += texts.notes(source)
    return columns.finish([source], line_object, xywh=True)


def _parse(columns: Columns, line: str, number: int) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else error
        columns.problem("malformed", columns.source, f"line {number}", f"is not valid JSON ({reason})", "mend it")
        return None
    if not isinstance(record, dict):
        columns.problem("malformed", columns.source, f"line {number}", f"is {short(record)}", "it should be an object")
        return None
    return record


def find_image_folder(path: Tree) -> dict[str, Tree]:
    """The splits: a file in each folder, or one whose pictures lie in folders called train and so on, or "all".

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
    found: dict[str, Tree] = {}
    for file in files:
        name = canonical(file.parent.name)
        if name in found:
            raise DataError(f"{path}: {found[name]} and {file} are both the split {name}; name one of them")
        found[name] = file
    return found


def metadata_files(path: Tree) -> list[Tree]:
    """The metadata of a folder, or of the folders in it or in its folder "data"."""
    if (path / NAME).is_file():
        return [path / NAME]
    for base in (path, path / "data"):
        found = [base / name / NAME for name in names_in(base)[0] if (base / name / NAME).is_file()]
        if found:
            return found
    return []


def _splits_in(file: Tree) -> dict[str, Tree]:
    splits: dict[str, None] = {}
    for name in _names(file):
        split = _split_of(name)
        if split not in NAMED:
            name = canonical(file.parent.name)
            return {name if name in NAMED else "all": file}
        splits[split] = None
    return dict.fromkeys(splits or ["all"], file)


def _names(file: Tree) -> Iterator[str]:
    for line in Texts().read(file).split("\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("file_name"), str):
            yield record["file_name"]


def _split_of(name: str) -> str:
    return canonical(name.replace("\\", "/").removeprefix("./").partition("/")[0])
