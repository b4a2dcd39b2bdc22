"""Records of detections: one for each image or frame, as lines of JSON or rows of Parquet.

A record has ``image_id`` (the position of the image in the source, from 1), ``file_name``, ``width`` and ``height`` in
pixels and ``detections``, each with ``category_id``, ``category_name``, ``bbox`` (x, y, width, height in pixels) and
``score``. That of a frame also has ``frame`` and ``time``, that of a file that cannot be read has ``error`` instead of
a size and detections. Nothing is rounded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from varifocal.types import Detections
from varifocal.utils.errors import ConfigError, DataError

Record = dict[str, Any]

JSON_LINES, PARQUET = ".jsonl", ".parquet"
_ROWS = 1000  # of a group in Parquet


def image_record(image_id: int, file_name: str, size: tuple[int, int], detections: Detections) -> Record:
    """Return the record of an image of (width, height)."""
    return {
        "image_id": image_id,
        "file_name": _as_text(file_name),
        "width": size[0],
        "height": size[1],
        "detections": [
            {key: entry[key] for key in ("category_id", "category_name", "bbox", "score")}
            for entry in detections.to_coco(image_id, file_name)
        ],
    }


def error_record(image_id: int, file_name: str, error: Exception) -> Record:
    """Return the record of a file that cannot be read."""
    return {"image_id": image_id, "file_name": _as_text(file_name), "error": _as_text(str(error))}


def _as_text(name: str) -> str:
    """Return a name with escapes in place of the bytes that are not UTF-8, which Parquet cannot store."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def to_line(record: Record) -> bytes:
    """Return the record as one line of JSON."""
    return json.dumps(record).encode() + b"\n"


def coco_entries(record: Record) -> list[Record]:
    """Return the detections of a record as entries of a COCO results file, as ``predict`` writes them."""
    about: Record = {key: record[key] for key in ("file_name", "image_id", "frame", "time") if key in record}
    return [{**about, **entry} for entry in record.get("detections", ())]


def read_records(file: Path) -> Iterator[Record]:
    """Yield the records of a file of JSON Lines or Parquet.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    try:
        if file.suffix == PARQUET:
            yield from _rows(file)
            return
        with open(file, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                record = parse_line(line)
                if record is None:
                    raise DataError(f"{file}: line {number}: is not a record of an image; {_AGAIN}", code="record-line")
                yield record
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error}).", code="record-file") from error


_AGAIN = "remove the file and repeat the command that made it."


def parse_line(line: bytes) -> Record | None:
    """Return the record in a line, or None if the line is cut short or something else."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and isinstance(record.get("image_id"), int) and "file_name" in record
    return record if known else None


def write_parquet(records: Iterable[Record], file: Path) -> None:
    """Write records as Parquet, in groups of a thousand rows.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    arrow = require_pyarrow()
    import pyarrow.parquet

    schema = record_schema()
    records = iter(records)
    with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while rows := list(islice(records, _ROWS)):
            writer.write_table(arrow.Table.from_pylist(rows, schema))
    with open(file, "r+b") as written:  # Windows flushes only what can be written
        os.fsync(written.fileno())


def require_pyarrow() -> Any:
    """Return the package pyarrow.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import pyarrow
    except ImportError:
        text = 'Parquet needs pyarrow: pip install "varifocal[parquet]", or write JSON Lines.'
        raise ConfigError(text, code="output-no-pyarrow") from None
    return pyarrow


def record_schema() -> Any:
    """Return the columns of the records in Arrow."""
    arrow = require_pyarrow()
    detection = arrow.struct(
        [
            ("category_id", arrow.int64()),
            ("category_name", arrow.string()),
            ("bbox", arrow.list_(arrow.float64(), 4)),
            ("score", arrow.float64()),
        ]
    )
    return arrow.schema(
        [
            ("image_id", arrow.int64()),
            ("file_name", arrow.string()),
            ("width", arrow.int32()),
            ("height", arrow.int32()),
            ("detections", arrow.list_(detection)),
            ("frame", arrow.int64()),
            ("time", arrow.float64()),
            ("error", arrow.string()),
        ]
    )


def _rows(file: Path) -> Iterator[Record]:
    arrow = require_pyarrow()
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            if not table.schema_arrow.equals(record_schema()):
                raise DataError(f"{file}: holds other columns than records of detections.", code="record-columns")
            for group in range(table.num_row_groups):
                for row in table.read_row_group(group).to_pylist():
                    yield {key: value for key, value in row.items() if value is not None}
    except (arrow.ArrowException, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{file}: is not Parquet, or is damaged ({reason}); {_AGAIN}", code="record-file") from None
