"""Tar shards as WebDataset writes them: files of one sample share a name up to the first dot, a picture and a JSON.

The JSON is a record as in ``varifocal.data.readers.objects``. Shards are read in place; nothing is unpacked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from varifocal.data.archive import ArchivePath, Tree, open_archive
from varifocal.data.listing import passed_over
from varifocal.data.names import NAMED, canonical
from varifocal.data.options import ReadOptions
from varifocal.data.raw import Files, Place, RawSet, short
from varifocal.data.readers.columns import Columns
from varifocal.data.readers.objects import ObjectReader, object_of, record_size
from varifocal.data.readers.sniff import json_kind
from varifocal.data.tree import is_image_name, is_picture, names_in, read_bytes, walk
from varifocal.errors import DataError

_NUMBER = re.compile(r"[-_.]?\d+(?:-of-\d+)?$")


def read_webdataset(source: Tree, data: Tree, split: str, options: ReadOptions) -> RawSet:
    """The samples of all shards of a split, in the order of the shards.

    Raises:
        DataError: a shard is damaged or no plain archive.
        ConfigError: a folder of images is named.
    """
    options.refuse_images(source)
    columns = Columns("webdataset", source, split)
    objects = ObjectReader(columns)
    files: list[tuple[Tree, str] | None] = []
    passed: list[str] = []
    for shard in _shards(source, split):
        for folder, key, picture, labels in _samples(shard, passed):
            if labels is None and options.unlabeled == "skip":
                columns.changed["(image|images) without a JSON (was|were) left out"] += 1
                continue
            _read_sample(columns, objects, folder, key, picture, labels, options)
            files.append(None if labels is None else (folder, labels))
            _doubt_twins(columns, files)
    if not columns.names and not columns.problems:
        columns.problem("missing-image", source, "", "there are no pictures in it", "name other shards")
    objects.finish()
    columns.notes += passed_over(passed, source.name)
    return columns.finish(Files.of(files), object_of, xywh=True)


def _doubt_twins(columns: Columns, files: list[tuple[Tree, str] | None]) -> None:
    """The last picture, if the one before it has the same JSON: they differ in their suffix alone."""
    last = files[-1]
    if last is not None and last in files[-2:-1]:
        first, other = columns.names[-2:]
        columns.shared_labels(last[0] / last[1], first, other, len(files) - 1)


def _samples(shard: ArchivePath, passed: list[str] | None = None) -> Iterator[tuple[ArchivePath, str, str, str | None]]:
    """Folder, key, name of the picture and of the JSON of each sample; names of images not read go to ``passed``."""
    for folder, _, names in walk(shard):
        assert isinstance(folder, ArchivePath)
        labels = {name.partition(".")[0]: name for name in names if name.endswith(".json")}
        for name in names:
            if is_picture(name):
                key = name.partition(".")[0]
                yield folder, key, name, labels.get(key)
            elif passed is not None and is_image_name(name):
                passed.append(name)


def _read_sample(
    columns: Columns,
    objects: ObjectReader,
    folder: ArchivePath,
    key: str,
    picture: str,
    labels: str | None,
    options: ReadOptions,
) -> None:
    name = f"{folder}/{picture}"
    record: Any = None
    if labels is not None:
        content = read_bytes(folder / labels)
        try:
            record = json.loads(content)
        except (ValueError, RecursionError) as error:
            columns.problem(
                "malformed", folder / labels, "", f"this is not valid JSON ({error})", "make the shard again"
            )
    image = columns.picture(name, (folder, picture), record_size(record) if isinstance(record, dict) else (0, 0))
    if labels is None and options.unlabeled == "background":
        return
    if labels is None:
        text = "there is no JSON of the same name beside the picture"
        columns.problem("missing-labels", folder / picture, "", text, "add one, or take the picture out", image=image)
    elif isinstance(record, dict):
        objects.read(record, image, Place(folder / labels, ""))
    elif record is not None:
        text = f"this is {short(record)}"
        columns.problem("malformed", folder / labels, "", text, "it should be an object", image=image)


def shards_in(folder: Tree) -> list[Path]:
    """The tar files of a folder."""
    if not isinstance(folder, Path) or not folder.is_dir():
        return []
    return [folder / name for name in names_in(folder)[1] if name.lower().endswith(".tar")]


def _shards(source: Tree, split: str) -> list[ArchivePath]:
    if isinstance(source, ArchivePath):
        return [source]
    return [open_archive(file) for file in shards_in(source) if _split_of(file) == split]


def _split_of(file: Path) -> str:
    """train-000123.tar is of the split train; what is no usual name is of "all"."""
    name = canonical(_NUMBER.sub("", file.stem))
    return next((split for split in (name, canonical(name.rpartition("-")[2])) if split in NAMED), "all")


def find_webdataset(path: Tree) -> dict[str, Tree]:
    """The splits of a folder of shards, by their names; a single shard is "all".

    Raises:
        DataError: there are no shards.
    """
    if isinstance(path, ArchivePath):
        return {"all": path}
    shards = shards_in(path)
    if not shards:
        raise DataError(f"{path}: there are no .tar files in it")
    return {_split_of(shard): path for shard in shards}


def has_samples(tree: Tree) -> bool:
    """Whether the first picture of an archive has a JSON of the same name beside it."""
    if not isinstance(tree, ArchivePath):
        return False
    first = next(_samples(tree), None)
    # labelme's JSON lies beside its image, too
    return first is not None and first[3] is not None and not json_kind(first[0] / first[3])
