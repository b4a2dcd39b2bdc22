"""Tar shards as WebDataset writes them: the image and the JSON of a sample have one name up to the first dot.

The JSON is a record as in ``varifocal.data.readers.objects``. Shards are read as they are; nothing is unpacked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from varifocal.data.annotations import Files, RawDataset, SourceLocation
from varifocal.data.archive import AnyPath, ArchivePath, open_archive
from varifocal.data.listing import passed_over
from varifocal.data.options import ReadOptions
from varifocal.data.paths import is_image, is_image_name, list_dir, read_bytes, walk
from varifocal.data.readers.columns import ColumnBuilder
from varifocal.data.readers.objects import OBJECT_OF_FILE, ObjectReader
from varifocal.data.readers.sniff import json_kind
from varifocal.data.readers.values import whole_size
from varifocal.data.splits import NAMED, normalize_split
from varifocal.utils.errors import DataError
from varifocal.utils.text import short

_NUMBER = re.compile(r"[-_.]?\d+(?:-of-\d+)?$")


def read_webdataset(source: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
    """Read the samples of all shards of a split, in the order of the shards.

    Raises:
        DataError: a shard is damaged or no plain archive.
        ConfigError: a folder of images is named.
    """
    options.refuse_images(source)
    columns = ColumnBuilder("webdataset", source, split)
    objects = ObjectReader(columns)
    files: list[tuple[AnyPath, str] | None] = []
    passed: list[str] = []
    for shard in _shards(source, split):
        for folder, key, image, labels in _samples(shard, passed):
            if labels is None and options.unlabeled == "skip":
                columns.changed["(image|images) without a JSON (was|were) left out"] += 1
                continue
            _read_sample(columns, objects, folder, key, image, labels, options)
            files.append(None if labels is None else (folder, labels))
            _doubt_twins(columns, files)
    if not columns.names and not columns.problems:
        columns.report("missing-image", source, "", "it has no images", "name other shards")
    objects.finish()
    columns.notes += passed_over(passed, source.name)
    return columns.finish(Files.of(files), OBJECT_OF_FILE, xywh=True)


def _doubt_twins(columns: ColumnBuilder, files: list[tuple[AnyPath, str] | None]) -> None:
    """Doubt the labels of the last image if the one before it has the same JSON, as their suffixes alone differ."""
    last = files[-1]
    if last is not None and last in files[-2:-1]:
        first, other = columns.names[-2:]
        columns.doubt_shared_labels(last[0] / last[1], first, other, len(files) - 1)


def _samples(shard: ArchivePath, passed: list[str] | None = None) -> Iterator[tuple[ArchivePath, str, str, str | None]]:
    """Yield folder, key, and the names of the image and the JSON of each sample.

    The names of images that are not read are added to ``passed``.
    """
    for folder, _, names in walk(shard):
        assert isinstance(folder, ArchivePath)
        labels = {name.partition(".")[0]: name for name in names if name.endswith(".json")}
        for name in names:
            if is_image(name):
                key = name.partition(".")[0]
                yield folder, key, name, labels.get(key)
            elif passed is not None and is_image_name(name):
                passed.append(name)


def _read_sample(
    columns: ColumnBuilder,
    objects: ObjectReader,
    folder: ArchivePath,
    key: str,
    image: str,
    labels: str | None,
    options: ReadOptions,
) -> None:
    name = f"{folder}/{image}"
    record: Any = None
    if labels is not None:
        content = read_bytes(folder / labels)
        try:
            record = json.loads(content)
        except (ValueError, RecursionError) as error:
            text = f"this is not valid JSON ({error})"
            columns.report("malformed", folder / labels, "", text, "make the shard again")
    index = columns.add_image(name, (folder, image), _size(record))
    if labels is None and options.unlabeled == "background":
        return
    if labels is None:
        text = "there is no JSON of the same name beside the image"
        columns.report("missing-labels", folder / image, "", text, "add one, or remove the image", image=index)
    elif isinstance(record, dict):
        objects.read(record, index, SourceLocation(folder / labels, ""))
    elif record is not None:
        text = f"this is {short(record)}"
        columns.report("malformed", folder / labels, "", text, "it should be an object", image=index)


def _size(record: Any) -> tuple[int, int]:
    return whole_size(record.get("width"), record.get("height")) if isinstance(record, dict) else (0, 0)


def shards_in(folder: AnyPath) -> list[Path]:
    """Return the tar files of a folder."""
    if not isinstance(folder, Path) or not folder.is_dir():
        return []
    return [folder / name for name in list_dir(folder)[1] if name.lower().endswith(".tar")]


def _shards(source: AnyPath, split: str) -> list[ArchivePath]:
    if isinstance(source, ArchivePath):
        return [source]
    return [open_archive(file) for file in shards_in(source) if _split_of(file) == split]


def _split_of(file: Path) -> str:
    """Return the split of a shard: train-000123.tar is of "train", and one with any other name of "all"."""
    name = normalize_split(_NUMBER.sub("", file.stem))
    return next((split for split in (name, normalize_split(name.rpartition("-")[2])) if split in NAMED), "all")


def find_webdataset(path: AnyPath) -> dict[str, AnyPath]:
    """Return the splits of a folder of shards, by their names; a single shard is "all".

    Raises:
        DataError: there are no shards.
    """
    if isinstance(path, ArchivePath):
        return {"all": path}
    shards = shards_in(path)
    if not shards:
        raise DataError(f"{path}: there are no .tar files in it", code="webdataset-no-shards")
    return {_split_of(shard): path for shard in shards}


def has_samples(tree: AnyPath) -> bool:
    """Return whether the first image of an archive has a JSON of the same name beside it."""
    if not isinstance(tree, ArchivePath):
        return False
    first = next(_samples(tree), None)
    # labelme's JSON lies beside its image, too
    return first is not None and first[3] is not None and not json_kind(first[0] / first[3])
