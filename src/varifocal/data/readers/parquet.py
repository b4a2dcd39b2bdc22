"""Parquet files that hold the images, as Hugging Face's hub keeps them: each row has the bytes and objects of an image.

Read with pyarrow (extra ``parquet``). Names of classes are taken from the description of the features inside the file.
An image is read with its row group, and the last two of these are kept: small groups (100 rows) are read fast.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any, Literal, overload

import numpy as np

from varifocal.data.annotations import RawDataset, SourceLocation
from varifocal.data.archive import AnyPath
from varifocal.data.image_scan import read_sizes
from varifocal.data.options import ReadOptions
from varifocal.data.paths import list_dir
from varifocal.data.readers.columns import ColumnBuilder, problem_of
from varifocal.data.readers.objects import CLASS_KEYS, OBJECT_OF_ROW, ObjectReader
from varifocal.data.readers.values import whole_size
from varifocal.data.splits import NAMED, normalize_split
from varifocal.utils.errors import ConfigError, DataError
from varifocal.utils.text import short_list

_IMAGES = ("image", "img", "image", "jpg", "jpeg", "png", "image_bytes", "bytes")
_OBJECTS = ("objects", "annotations")
_OTHERS = ("width", "height", "image_id", "id", "file_name")
_READING = Lock()
_MAX_GROUP = 1 << 32  # bytes of a row group, unpacked
_SHARD = re.compile(r"[-_.]?\d+(?:-of-\d+)?(?:-[0-9a-f]{8,})?$")


@dataclass(frozen=True)
class Cell:
    """The image in one row of a Parquet file; it has the methods of a ``Path`` that reading needs."""

    file: Path
    column: str
    group: int
    row: int
    path: str

    @property
    def name(self) -> str:
        """The name in the file, or the numbers of group and row."""
        return PurePosixPath(self.path).name or f"{self.group}-{self.row}"

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    def open(self, mode: Literal["rb"] = "rb") -> io.BytesIO:
        """Return the bytes of the image.

        Raises:
            OSError: the file is gone or damaged, or the row holds none.
        """
        try:
            status = self.file.stat()
            with _READING:  # otherwise several threads would read the same group
                images = _images(self.file, status.st_mtime_ns, self.column, self.group)
            content = images[self.row].as_py()
        except (ValueError, IndexError) as error:
            raise OSError(0, f"the row cannot be read: {error}") from None
        if not isinstance(content, bytes):
            raise OSError(0, "the row holds no image")
        return io.BytesIO(content)

    def __str__(self) -> str:
        return f"{self.file}/{self.name}"


@lru_cache(maxsize=2)
def _images(file: Path, changed: int, column: str, group: int) -> Any:
    """Return the bytes of all images of a row group."""
    with _open(file) as table:
        # without threads of its own, which a forked worker would not have
        found = table.read_row_group(group, columns=[column], use_threads=False).column(0)
        if "." in column:
            import pyarrow.compute

            found = pyarrow.compute.struct_field(found, column.rpartition(".")[2])
        return found


def _open(file: Any) -> Any:
    """Open a Parquet file.

    Raises:
        ConfigError: pyarrow is not installed.
        DataError: it is not Parquet, or cannot be read.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        text = 'reading Parquet needs pyarrow: pip install "varifocal[parquet]"'
        raise ConfigError(f"{file}: {text}", code="parquet-no-pyarrow") from None
    try:
        return pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        text = f"this is not Parquet, or it is damaged ({_line(error)}); download it again"
        raise DataError(f"{file}: {text}", code="parquet-damaged") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


class _Cells(Sequence[Any]):
    """The image of each row, as a :class:`Cell` made on access."""

    def __init__(self, files: list[tuple[Path, str]], rows: np.ndarray, paths: list[str]) -> None:
        self.files, self.rows, self.paths = files, rows, paths

    @overload
    def __getitem__(self, index: int) -> Cell: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Cell]: ...
    def __getitem__(self, index: int | slice) -> Cell | Sequence[Cell]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number, group, row = self.rows[index].tolist()
        file, column = self.files[number]
        return Cell(file, column, group, row, self.paths[index])

    def __len__(self) -> int:
        return len(self.paths)


def read_parquet(source: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
    """Read all files of a split, in the order of their names.

    Raises:
        DataError: a file is damaged, or its columns are not understood.
        ConfigError: pyarrow is not installed, or a folder of images is named.
    """
    options.refuse_images(source)
    columns = ColumnBuilder("parquet", source, split)
    objects = ObjectReader(columns)
    files: list[tuple[Path, str]] = []
    rows: list[tuple[int, int, int]] = []
    for file in _files_of(source, split):
        with _open(file) as table:
            layout = _layout(file, table)
            objects.names = objects.names or _class_names(table.schema_arrow)
            for group in range(table.num_row_groups):
                for row, record in enumerate(_records(file, table, group, layout)):
                    rows.append((len(files), group, row))
                    _read_row(columns, objects, record, file, len(rows) - 1)
            files.append((file, layout.bytes))
    if not columns.names:
        columns.report("missing-image", source, "", "it has no rows", "name another file")
    objects.finish()
    positions = np.array(rows, np.int64).reshape(-1, 3)
    raw = columns.finish([file for file, _ in files], OBJECT_OF_ROW, file_of=positions[:, 0], xywh=True)
    return _with_image_sizes(replace(raw, images=replace(raw.images, files=_Cells(files, positions, columns.names))))


def _read_row(columns: ColumnBuilder, objects: ObjectReader, record: dict[str, Any], file: Path, number: int) -> None:
    name = record.get("path") or record.get("file_name")
    size = whole_size(record.get("width"), record.get("height"))
    image = columns.add_image(name if isinstance(name, str) else f"row {number}", None, size)
    objects.read(record, image, SourceLocation(file, f"row {number}"), number)


def list_cells(file: Path) -> Iterator[Cell]:
    """Yield the images of a Parquet file, labeled or not, row by row; their bytes are not read.

    Raises:
        DataError: the file is damaged, or has no column with the bytes of images.
        ConfigError: pyarrow is not installed.
    """
    with _open(file) as table:
        content, path = _image_columns(file, table.schema_arrow)
        path = path or ("file_name" if "file_name" in table.schema_arrow.names else None)
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            names = _column(file, table, group, path) if path else [None] * rows
            for row, name in enumerate(names):
                yield Cell(file, content, group, row, name if isinstance(name, str) else "")


def _column(file: Path, table: Any, group: int, path: str) -> list[Any]:
    """Return the values of a column in a group, or of a field of it, such as image.path."""
    column, _, inner = path.partition(".")
    values = [row[column] for row in _group(file, table, group, [path])]
    return [(value or {}).get(inner) for value in values] if inner else values


@dataclass(frozen=True)
class _Layout:
    """The columns of a file: where the bytes of the images are, and which hold their labels."""

    bytes: str
    path: str | None
    labels: tuple[str, ...]


def _layout(file: Path, table: Any) -> _Layout:
    """Return the columns of a file, found by their names and types.

    Raises:
        DataError: there are no images or no objects.
    """
    schema = table.schema_arrow
    content, path = _image_columns(file, schema)
    if not any(name in schema.names for name in _OBJECTS):
        text = f"there is no column objects (found: {short_list(schema.names)}); give each row its bbox and categories"
        raise DataError(f"{file}: {text}", code="parquet-no-objects")
    return _Layout(content, path, tuple(name for name in (*_OBJECTS, *_OTHERS) if name in schema.names))


def _image_columns(file: Path, schema: Any) -> tuple[str, str | None]:
    """Return the column of the bytes of images, and of their names where there is one.

    Raises:
        DataError: there is no column of images, or it holds no bytes.
    """
    image = next((name for name in _IMAGES if name in schema.names), None)
    if image is None:
        text = f"there is no column with images (found: {short_list(schema.names)}); call it image"
        raise DataError(f"{file}: {text}", code="parquet-no-images")
    return _bytes_column(file, image, schema.field(image).type)


def _bytes_column(file: Path, image: str, kind: Any) -> tuple[str, str | None]:
    """Return the column of the bytes of images, and of their names where there is one.

    Raises:
        DataError: the column ``image`` of type ``kind`` holds no bytes.
    """
    import pyarrow

    path = None
    if pyarrow.types.is_struct(kind):
        inner = [kind.field(index).name for index in range(kind.num_fields)]
        if "bytes" not in inner:
            text = f"the column {image} holds no bytes (found: {short_list(inner)}); embed the images"
            raise DataError(f"{file}: {text}", code="parquet-no-bytes")
        path = f"{image}.path" if "path" in inner else None
        image, kind = f"{image}.bytes", kind.field("bytes").type
    if not (pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)):
        text = f"the column {image} holds {kind} and not the bytes of images; embed them"
        raise DataError(f"{file}: {text}", code="parquet-no-bytes")
    return image, path


def _records(file: Path, table: Any, group: int, layout: _Layout) -> Iterator[dict[str, Any]]:
    """Yield the labels of each row of a group, without the images.

    Raises:
        DataError: the group is damaged or too large.
    """
    requested = [*layout.labels, *([layout.path] if layout.path else [])]
    for row in _group(file, table, group, requested):
        if layout.path:
            inner = row.pop(layout.path.partition(".")[0], None) or {}
            row["path"] = inner.get("path")
        yield row


def _group(file: Path, table: Any, group: int, columns: list[str]) -> list[dict[str, Any]]:
    """Return the rows of a group with these columns.

    Raises:
        DataError: the group is damaged or too large.
    """
    import pyarrow

    size = table.metadata.row_group(group).total_byte_size
    if size > _MAX_GROUP:
        text = f"row group {group} has {size} bytes; write it again with row_group_size=100"
        raise DataError(f"{file}: {text}", code="parquet-group-too-large")
    try:
        rows: list[dict[str, Any]] = table.read_row_group(group, columns=columns, use_threads=False).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        text = f"row group {group} cannot be read ({_line(error)}); download it again"
        raise DataError(f"{file}: {text}", code="parquet-damaged-group") from None
    return rows


def _class_names(schema: Any) -> list[str] | None:
    """Return the names of the classes from what Hugging Face's datasets write about the features; None without it."""
    try:
        found = json.loads(schema.metadata[b"huggingface"])["info"]["features"]["objects"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    for _ in range(4):  # objects -> feature -> category -> feature
        if isinstance(found, list) and found:
            found = found[0]
        if not isinstance(found, dict):
            return None
        names = found.get("names")
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return names
        found = next((found[key] for key in ("feature", *CLASS_KEYS) if key in found), None)
    return None


def _with_image_sizes(raw: RawDataset) -> RawDataset:
    """Return the set with unknown sizes from the headers of the images, one row group after the other."""
    sizes = raw.images.sizes.copy()
    cells = raw.images.files
    unknown = np.flatnonzero((sizes <= 0).any(axis=1)).tolist()
    # one thread, so that each row group is read once
    for index, found in zip(unknown, read_sizes([cells[index] for index in unknown], threads=1), strict=True):
        if isinstance(found, DataError):
            raw.problems.add(problem_of("unreadable-image", cells[index], found, index))
        else:
            sizes[index] = found
    return replace(raw, images=replace(raw.images, sizes=sizes))


def parquet_files(folder: AnyPath) -> list[Path]:
    """Return the Parquet files of a folder, or of its folder "data"."""
    if not isinstance(folder, Path):
        return []
    for path in (folder, folder / "data"):
        found = [path / name for name in list_dir(path)[1] if name.lower().endswith(".parquet")]
        if found:
            return found
    return []


def _files_of(source: AnyPath, split: str) -> list[Path]:
    assert isinstance(source, Path)
    if source.is_file():
        return [source]
    return [file for file in parquet_files(source) if _split_of(file) == split]


def _split_of(file: Path) -> str:
    """Return the split of a file: train-00000-of-00002.parquet is of "train", and one with any other name of "all"."""
    name = normalize_split(_SHARD.sub("", file.stem))
    return name if name in NAMED else "all"


def find_parquet(path: AnyPath) -> dict[str, AnyPath]:
    """Return the splits of a folder of Parquet files, by their names; a single file is one.

    Raises:
        DataError: there are none, or the path lies in an archive.
    """
    if not isinstance(path, Path):
        raise DataError(f"{path}: Parquet inside an archive is not read; unpack it", code="parquet-in-archive")
    if path.is_file():
        return {_split_of(path): path}
    files = parquet_files(path)
    if not files:
        raise DataError(f"{path}: there are no .parquet files in it", code="parquet-no-files")
    return {_split_of(file): path for file in files}
