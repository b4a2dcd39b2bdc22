"""Prediction over one shard of a source, written as it goes, and continued where it stopped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from varifocal.data.image_kinds import SUFFIXES, suffix_of
from varifocal.inference import video
from varifocal.inference.pipeline import Predictor
from varifocal.inference.sources import Item
from varifocal.inference.stream import StreamOptions, predict_files
from varifocal.tools.shards.manifest import MANIFEST
from varifocal.tools.shards.part import Counts, Part
from varifocal.tools.shards.records import JSON_LINES, PARQUET, Record, error_record, image_record, require_pyarrow
from varifocal.utils.errors import ConfigError, DataError
from varifocal.utils.locks import claimed_file

_SHARD = re.compile(r"(\d{1,9})/(\d{1,9})")


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts of a source; ``number`` counts from 1."""

    number: int
    count: int

    def range_of(self, images: int) -> tuple[int, int]:
        """Return the first image of the shard and the one after its last, counted from 0: neighbors stay together."""
        return (self.number - 1) * images // self.count, self.number * images // self.count

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


WHOLE = Shard(1, 1)


def parse_shard(text: str) -> Shard:
    """Return the shard of a text such as 3/16.

    Raises:
        ConfigError: it is another text, or there is no such shard.
    """
    match = _SHARD.fullmatch(text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise ConfigError(
            f"--shard {text}: give the number of the shard and how many there are, such as 1/16 to 16/16.",
            code="shard-range",
        )
    return Shard(number, count)


@dataclass(frozen=True)
class Target:
    """The file of a shard and the manifest that belongs to it.

    The manifest of a folder is kept for its other shards, that of a single file only until the file is complete.
    """

    file: Path
    manifest: Path
    in_folder: bool

    @property
    def done(self) -> bool:
        """Whether the file is complete."""
        return self.file.exists()


def target_of(output: Path, shard: Shard, suffix: str = "") -> Target:
    """Return where a shard goes: a file in the folder ``output``, or ``output`` itself, a .jsonl or .parquet file.

    ``suffix`` is that of the files in a folder, JSON Lines by default.

    Raises:
        ConfigError: ``output`` is a file of another kind, or one file for several shards; pyarrow is missing.
    """
    if output.suffix and not output.is_dir():
        if output.suffix not in (JSON_LINES, PARQUET):
            raise ConfigError(
                f"--output {output}: name a folder, a {JSON_LINES} file or a {PARQUET} file; --output-json writes COCO "
                "results.",
                code="output-kind",
            )
        if shard.count > 1 or suffix not in ("", output.suffix):
            raise ConfigError(
                f"--output {output}: is one {output.suffix} file; name a folder for shards, or for another format.",
                code="output-one-file",
            )
        target = Target(output, output.with_name(f".{output.name}.{MANIFEST}"), in_folder=False)
    else:
        target = Target(output / shard_name(shard, suffix or JSON_LINES), output / MANIFEST, in_folder=True)
    if target.file.suffix == PARQUET:
        require_pyarrow()
    return target


def shard_name(shard: Shard, suffix: str) -> str:
    """Return the name of a shard's file."""
    return f"shard-{shard.number:05d}-of-{shard.count:05d}{suffix}"


@dataclass(frozen=True)
class Limits:
    """The options of a prediction: those of the stream, every which frame of a video, and what cannot be read."""

    stream: StreamOptions
    frame_stride: int = 1
    fail_on_unreadable: bool = False


def predict_shard(
    load: Callable[[], Predictor],
    items: Sequence[Item],
    first: int,
    target: Target,
    limits: Limits,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Counts, list[str]]:
    """Detect in the items of a shard, whose ids begin with ``first`` + 1, and write its file.

    An interrupted shard goes on after the last complete item in its unfinished file. ``load`` returns the model, and
    is not called if nothing is left to do.

    Returns:
        What is in the file, and the messages of files that could not be read now.

    Raises:
        ConfigError: another process writes this shard, or the disk is full.
        DataError: a file cannot be read, with ``limits.fail_on_unreadable``.
    """
    errors: list[str] = []
    with claimed_file(target.file), Part(target.file, first + 1) as part:
        done = part.counts.items
        progress(done)
        if done < len(items):
            for records in _predict(load(), items[done:], first + done + 1, limits):
                for record in records:
                    if "error" in record:
                        _refuse(record, limits)
                        errors.append(record["error"])
                    part.write(record)
                part.counts.items += 1
                progress(part.counts.items)
        part.finish()
        if not target.in_folder:
            target.manifest.unlink(missing_ok=True)
        return part.counts, errors


def _refuse(record: Record, limits: Limits) -> None:
    if limits.fail_on_unreadable:
        raise DataError(
            f"{record['error']} What was detected before it is kept: repair it and repeat the command.",
            code="unreadable-in-shard",
        )


def _predict(model: Predictor, items: Sequence[Item], first: int, limits: Limits) -> Iterator[Iterator[Record]]:
    """Yield the records of each item."""
    image_id = first
    for is_video, run in groupby(items, _is_video):
        some = list(run)
        if is_video:
            for item in some:
                yield _frame_records(model, item, image_id, limits)
                image_id += 1
            continue
        with closing(predict_files(model, [item.file for item in some], limits.stream)) as results:
            for found in results:
                name = str(found.file)
                if found.error is not None:
                    yield iter([error_record(image_id, name, found.error)])
                elif found.image is not None and found.detections is not None:
                    yield iter([image_record(image_id, name, found.image.size, found.detections)])
                image_id += 1


def _is_video(item: Item) -> bool:
    if not isinstance(item.file, Path) or suffix_of(item.file.name) in SUFFIXES:
        return False
    return video.is_video(item.file)


def _frame_records(model: Predictor, item: Item, image_id: int, limits: Limits) -> Iterator[Record]:
    """Yield a record for each frame, and one with the error if the video cannot be read to its end."""
    name = str(item.file)
    thresholds: dict[str, Any] = {
        "score_threshold": limits.stream.score_threshold,
        "max_detections": limits.stream.max_detections,
    }
    assert isinstance(item.file, Path)
    try:
        frames = video.predict_video(model, item.file, every=limits.frame_stride, **thresholds)
        with closing(frames):
            for one in frames:
                record = image_record(image_id, name, one.image.size, one.detections)
                yield {**record, "frame": one.number, "time": one.time}
    except DataError as error:
        yield error_record(image_id, name, error)
