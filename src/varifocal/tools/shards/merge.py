"""Merge the shards of a prediction into one file, after a check that every image is in them exactly once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from varifocal.inference.sources import list_source
from varifocal.tools.shards.manifest import MANIFEST, Manifest, read_manifest
from varifocal.tools.shards.part import Counts
from varifocal.tools.shards.records import PARQUET, Record, coco_entries, read_records, to_line, write_parquet
from varifocal.tools.shards.run import Shard, shard_name
from varifocal.utils.errors import ConfigError, DataError
from varifocal.utils.locks import claimed_file
from varifocal.utils.text import counted, short_list

COCO = ".json"
_NAMED = 5  # files that a sentence names


def merge_shards(
    folder: Path, output: Path | None = None, progress: Callable[[int], None] = lambda done: None
) -> tuple[Path, Counts]:
    """Write the records of all shards in a folder to one file, in the order of the source.

    ``output`` is a .jsonl or .parquet file with the records, or a .json file with COCO results; the default is
    ``detections`` in the folder, in the format of the shards. ``progress`` is called with the number of images done.

    Returns:
        The file, and what is in it.

    Raises:
        DataError: a shard is missing or damaged, or an image is missing or there twice; no file is written.
        ConfigError: the file cannot be written.
    """
    manifest = read_manifest(folder / MANIFEST)
    target = output or folder / f"detections{manifest.suffix}"
    if target.suffix not in (COCO, ".jsonl", PARQUET):
        raise ConfigError(f"--output {target}: name a .jsonl, .parquet or .json file.", code="merged-suffix")
    own = {folder / MANIFEST, *(folder / shard_name(shard, manifest) for shard in _shards(manifest))}
    if target.resolve() in {file.resolve() for file in own}:
        raise ConfigError(f"--output {target}: is one of the files to merge; name another.", code="merged-over-input")
    _refuse_missing(folder, manifest)
    counts = Counts()
    part = target.with_name(f".{target.name}.part")
    with claimed_file(target):
        try:
            _write(_checked(folder, manifest, counts, progress), part)
            part.replace(target)
        except OSError as error:
            raise ConfigError(
                f"{target}: cannot be written ({error.strerror}); make room or choose another --output.",
                code="merged-not-written",
            ) from error
        finally:
            part.unlink(missing_ok=True)
    return target, counts


def _shards(manifest: Manifest) -> list[Shard]:
    return [Shard(number, manifest.shards) for number in range(1, manifest.shards + 1)]


def _refuse_missing(folder: Path, manifest: Manifest) -> None:
    missing = [str(shard) for shard in _shards(manifest) if not (folder / shard_name(shard, manifest)).is_file()]
    if missing:
        raise DataError(
            f"{folder}: {counted(len(missing), '(shard is|shards are)')} missing: {short_list(missing)}; repeat "
            f"varifocal predict with --shard {missing[0]} --output {folder}.",
            code="shards-missing",
        )


def _checked(folder: Path, manifest: Manifest, counts: Counts, progress: Callable[[int], None]) -> Iterator[Record]:
    """Yield the records of all shards, and count them.

    Raises:
        DataError: at the end, if images are missing or there twice in any shard.
    """
    problems: list[str] = []
    for shard in _shards(manifest):
        start, end = shard.range_of(manifest.images)
        file = folder / shard_name(shard, manifest)
        check = _Order(start + 1, end)
        for record in read_records(file):
            counts.items += check.add(record)
            counts.add(record)
            yield record
        found = check.problems(manifest)
        problems += [f"{file}: {found}"] if found else []
        progress(counts.items)
    if problems:
        raise DataError(
            f"{'; '.join(problems[:_NAMED])}; remove {'this file' if len(problems) == 1 else 'these files'} and repeat "
            f"{'its shard' if len(problems) == 1 else f'their {len(problems)} shards'}.",
            code="shard-incomplete",
        )


class _Order:
    """The ids of a shard's images, which must be ``first`` to ``last``, each once; frames of a video repeat theirs."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.expected = first
        self.missing: list[int] = []
        self.wrong: list[str] = []  # files that are there twice or belong to another shard
        self._frame: int | None = None  # the last one, if the last record is of a video

    def add(self, record: Record) -> bool:
        """Return whether the record begins another image or video."""
        found, frame = record["image_id"], record.get("frame")
        if self._frame is not None and found == self.expected - 1 and (frame is None or frame > self._frame):
            self._frame = frame
            return False
        self._frame = frame
        if not self.expected <= found <= self.last:
            self.wrong.append(record["file_name"])
            return True
        self.missing += range(self.expected, found)
        self.expected = found + 1
        return True

    def problems(self, manifest: Manifest) -> str:
        """Return which images are missing or there twice, "" if none is."""
        self.missing += range(self.expected, self.last + 1)
        problems = []
        if self.missing:
            names = _names(self.missing[:_NAMED], manifest)
            problems.append(f"{_images_are(self.missing)} missing: {_first(names, len(self.missing))}")
        if self.wrong:
            twice = _first(self.wrong[:_NAMED], len(self.wrong))
            problems.append(f"{_images_are(self.wrong)} there twice or out of order: {twice}")
        return ", and ".join(problems)


def _images_are(found: Sequence[object]) -> str:
    return counted(len(found), "(image is|images are)")


def _first(names: Sequence[str], count: int) -> str:
    """Return the first of ``count`` names, and how many more there are."""
    more = f" and {count - len(names)} more" if count > len(names) else ""
    return ", ".join(names) + more


def _names(ids: Iterable[int], manifest: Manifest) -> list[str]:
    """Return the files of these images, or their numbers if the source is not at hand or is another one now."""
    try:
        source = list_source(manifest.names)
    except (DataError, ConfigError):
        return [f"number {image_id}" for image_id in ids]
    if source.digest() != manifest.source_sha256:
        return [f"number {image_id}" for image_id in ids]
    return [str(source.items[image_id - 1].file) for image_id in ids]


def _write(records: Iterator[Record], file: Path) -> None:
    suffix = file.name.removesuffix(".part").rpartition(".")[2]
    if f".{suffix}" == PARQUET:
        write_parquet(records, file)
        return
    with open(file, "wb") as stream:
        if f".{suffix}" == COCO:
            _write_coco(records, stream)
        else:
            stream.writelines(map(to_line, records))


def _write_coco(records: Iterator[Record], stream: IO[bytes]) -> None:
    """Write one list of all detections, an entry a line."""
    separator = b"[\n"
    for record in records:
        for entry in coco_entries(record):
            stream.write(separator + json.dumps(entry).encode())
            separator = b",\n"
    stream.write(b"[]\n" if separator == b"[\n" else b"\n]\n")
