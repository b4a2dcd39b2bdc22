"""Prediction over one shard of a source, written as it goes, and continued where it stopped."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from varifocal.data.image_kinds import SUFFIXES, suffix_of
from varifocal.inference import video
from varifocal.inference.pipeline import Predictor
from varifocal.inference.sources import Item, has_vanished
from varifocal.inference.stream import StreamOptions, predict_files
from varifocal.tools.shards.manifest import MANIFEST, Manifest
from varifocal.tools.shards.part import Counts, Part
from varifocal.tools.shards.records import JSON_LINES, PARQUET, Record, error_record, image_record, require_pyarrow
from varifocal.utils.atomic_write import refuse_existing
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
    """The file of a shard, the manifest that belongs to it, and the digest of that.

    The manifest of a folder is kept for its other shards, that of a single file only until the file is complete.
    """

    file: Path
    manifest: Path
    digest: str
    in_folder: bool

    @property
    def done(self) -> bool:
        """Whether the file is complete."""
        return self.file.exists()


def suffix_of_output(output: Path, shard: Shard, suffix: str = "") -> str:
    """Return the suffix of the file that a shard gets: that of ``output``, a .jsonl or .parquet file, or ``suffix``.

    ``output`` may also be a folder; the default of ``suffix`` is JSON Lines.

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
        suffix = output.suffix
    if suffix == PARQUET:
        require_pyarrow()
    return suffix or JSON_LINES


def target_of(output: Path, shard: Shard, manifest: Manifest) -> Target:
    """Return where a shard goes: a file in the folder ``output``, or ``output`` itself if it names a file."""
    if output.suffix and not output.is_dir():
        return Target(output, output.with_name(f".{output.name}.{MANIFEST}"), manifest.digest(), in_folder=False)
    return Target(output / shard_name(shard, manifest), output / MANIFEST, manifest.digest(), in_folder=True)


def shard_name(shard: Shard, manifest: Manifest) -> str:
    """Return the name of a shard's file, which tells its prediction from others."""
    return f"shard-{shard.number:05d}-of-{shard.count:05d}-{manifest.digest()[:8]}{manifest.suffix}"


@dataclass(frozen=True)
class PredictOptions:
    """The options of a prediction: those of the stream, every which frame of a video, and what cannot be read."""

    stream: StreamOptions
    frame_stride: int = 1
    fail_on_unreadable: bool = False


def predict_shard(
    model: Predictor,
    items: Sequence[Item],
    first: int,
    target: Target,
    limits: PredictOptions,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Counts, list[str]]:
    """Detect in the items of a shard, whose ids begin with ``first`` + 1, and write its file.

    An interrupted shard goes on after the last complete item in its unfinished file.

    Returns:
        What is in the file, and the messages of files that could not be read now.

    Raises:
        ConfigError: another process writes this shard or has just finished it, or the disk is full.
        DataError: a file has vanished since the source was listed, or, with ``limits.fail_on_unreadable``, cannot be
            read.
    """
    errors: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(claimed_file(target.file))
        refuse_existing(target.file, "another process has just written it")
        part = stack.enter_context(Part(target.file, first + 1, target.digest))
        done = part.counts.items
        progress(done)
        with closing(_predict(model, items[done:], first + done + 1, limits)) as found:
            for item, records in zip(items[done:], found, strict=True):
                for record in records:
                    if "error" in record:
                        _refuse(item, record, limits)
                        errors.append(record["error"])
                    part.write(record)
                part.counts.items += 1
                progress(part.counts.items)
        if part.counts.unreadable and limits.fail_on_unreadable:
            raise DataError(
                f"{part.file}: {part.counts.unreadable} files could not be read before; leave out "
                "--fail-on-unreadable to keep their records, or remove this file to try them again.",
                code="unreadable-before",
            )
        part.finish()
        if not target.in_folder:
            target.manifest.unlink(missing_ok=True)
        return part.counts, errors


def _refuse(item: Item, record: Record, limits: PredictOptions) -> None:
    """Raise DataError if an error is not about the file, but about a source that is gone, or is to end the command."""
    if has_vanished(item):
        raise DataError(
            f"{item.file}: was there when the source was listed and is not now; what is done is kept: repeat the "
            "command when the source is back.",
            code="source-vanished",
        )
    if limits.fail_on_unreadable:
        raise DataError(
            f"{record['error']} (--fail-on-unreadable ends here; what is done is kept, and the command without that "
            "option goes on.)",
            code="unreadable-in-shard",
        )


def _predict(
    model: Predictor, items: Sequence[Item], first: int, limits: PredictOptions
) -> Generator[Iterator[Record], None, None]:
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


def _frame_records(model: Predictor, item: Item, image_id: int, limits: PredictOptions) -> Iterator[Record]:
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
