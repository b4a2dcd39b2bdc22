"""The unfinished file of a shard: lines that are appended, and continued exactly after the process was killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from varifocal.tools.shards.records import PARQUET, Record, parse_line, read_records, to_line, write_parquet
from varifocal.utils.errors import ConfigError

_SECONDS = 1.0  # after which lines are handed to the system, so that little is computed again


@dataclass
class Counts:
    """Numbers of images and videos, of detections, and of files that could not be read."""

    items: int = 0
    detections: int = 0
    unreadable: int = 0

    def add(self, record: Record) -> None:
        """Count a record, but not its item, of which a video has many."""
        self.detections += len(record.get("detections", ()))
        self.unreadable += "error" in record


def part_of(target: Path, digest: str) -> Path:
    """Return the unfinished file of a target; ``digest`` is that of the prediction."""
    return target.with_name(f".{target.name}.{digest[:8]}.part.jsonl")


class Part:
    """Lines beside ``target``, which become it at the end; ``counts`` are of the complete items in it.

    ``first`` is the id of the shard's first image, ``digest`` that of the prediction: lines of another one are not
    continued. Records are written in the order of their ids.
    """

    def __init__(self, target: Path, first: int, digest: str) -> None:
        self.target, self.file = target, part_of(target, digest)
        self.counts = Counts()
        try:
            self._stream = open(self.file, "a+b")  # noqa: SIM115  # closed by __exit__
            self._stream.truncate(self._scan(first))
        except OSError as error:
            raise self._full(error) from error
        self._flushed = time.monotonic()

    def _scan(self, first: int) -> int:
        """Count the complete items in the file and return where they end.

        A video whose last line is that of a frame may lack frames, and is not complete.
        """
        self._stream.seek(0)
        end = offset = 0
        item, of_item = first - 1, Counts()
        record: Record = {}
        for line in self._stream:
            found = parse_line(line)
            if found is None or found["image_id"] not in (item, item + 1):
                break
            if found["image_id"] == item + 1:
                end, item = offset, item + 1
                self._add(of_item)
                of_item = Counts(items=1)
            record = found
            of_item.add(record)
            offset += len(line)
        if record and ("frame" not in record or "error" in record):
            self._add(of_item)
            end = offset
        return end

    def _add(self, counts: Counts) -> None:
        self.counts.items += counts.items
        self.counts.detections += counts.detections
        self.counts.unreadable += counts.unreadable

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # of a full disk, which has been reported
            self._stream.close()

    def write(self, record: Record) -> None:
        """Append a record."""
        self.counts.add(record)
        try:
            self._stream.write(to_line(record))
            if time.monotonic() - self._flushed > _SECONDS:
                self._stream.flush()
                self._flushed = time.monotonic()
        except OSError as error:
            raise self._full(error) from error

    def finish(self) -> None:
        """Move the lines, as Parquet if its suffix says so, to the target in one step."""
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            if self.target.suffix == PARQUET:
                beside = self.target.with_name(f".{self.target.name}.part")
                write_parquet(self._records(), beside)
                os.replace(beside, self.target)
                self.file.unlink()
            else:
                os.replace(self.file, self.target)
        except OSError as error:
            raise self._full(error) from error

    def _records(self) -> Iterator[Record]:
        return read_records(self.file)

    def _full(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self.file}: cannot be written ({error.strerror}); what is in it is kept: make room and repeat the "
            "command.",
            code="part-not-written",
        )
