"""Parquet files that hold the images, as Hugging Face's hub keeps them: a row an image, with bytes and objects.

Read with pyarrow (extra ``parquet``). Names of classes are taken from the description of the features inside the file.
An image is read with the row group that it lies in, of which the last two are kept: small groups (100 rows) read well.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal, overload

import numpy as np

from varifocal.data.annotations import RawDataset, SourceLocation
from varifocal.data.archive import AnyPath
from varifocal.data.images import read_sizes
from varifocal.data.options import ReadOptions
from varifocal.data.paths import list_dir
from varifocal.data.readers.columns import ColumnBuilder, problem_of
from varifocal.data.readers.objects import CLASS_KEYS, ObjectReader, record_size, row_object
from varifocal.data.splits import NAMED, normalize_split
from varifocal.utils.errors import ConfigError, DataError
from varifocal.utils.text import short_list

_IMAGES = ("image", "img", "image", "jpg", "jpeg", "png", "image_bytes", "bytes")
_OBJECTS = ("objects", "annotations")
_OTHERS = ("width", "height", "image_id", "id", "file_name")
_MAX_GROUP = 1 << 32  # bytes of a row group, unpacked
_SHARD = re.compile(r"[-_.]?\d+(?:-of-\d+)?(?:-[0-9a-f]{8,})?$")


@dataclass(frozen=True)
class Cell:
    """The image in one row of a Parquet file; stands for it as a ``Path`` does for a file."""

    file: Path
    column: str
    group: int
    row: int
    path: str

    @property
    def name(self) -> str:
        """As the file has it, or the number of the row."""
        return PurePosixPath(self.path).name or f"{self.group}-{self.row}"

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    def open(self, mode: Literal["rb"] = "rb") -> io.BytesIO:
        """The bytes of the image.

        Raises:
            OSError: the file is gone or damaged, or the row holds none.
        """
        try:
            status = self.file.stat()
            content = _images(self.file, status.st_mtime_ns, self.column, self.group)[self.row].as_py()
        except (ValueError, IndexError) as error:
            raise OSError(0, f"the row cannot be read: {error}") from None
        if not isinstance(content, bytes):
            raise OSError(0, "the row holds no image")
        return io.BytesIO(content)

    def __str__(self) -> str:
        return f"{self.file}/{self.name}"


@lru_cache(maxsize=2)
def _images(file: Path, changed: int, column: str, group: int) -> Any:
    """The bytes of all images of a row group."""
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
        raise ConfigError(f'{file}: reading Parquet needs pyarrow: pip install "varifocal[parquet]"') from None
    try:
        return pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{file}: this is not Parquet, or it is damaged ({_line(error)}); download it again") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


class _Cells(Sequence[Any]):
    """The image of each row, made when it is asked for."""

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
    """All files of a split, in the order of their names.

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
            objects.names = objects.names or _names(table.schema_arrow)
            for group in range(table.num_row_groups):
                for row, record in enumerate(_records(file, table, group, layout)):
                    rows.append((len(files), group, row))
                    _read_row(columns, objects, record, file, len(rows) - 1)
            files.append((file, layout.bytes))
    if not columns.names:
        columns.problem("missing-image", source, "", "there are no rows in it", "name another file")
    objects.finish()
    positions = np.array(rows, np.int64).reshape(-1, 3)
    raw = columns.finish([file for file, _ in files], row_object, file_of=positions[:, 0], xywh=True)
    return _measured(replace(raw, images=replace(raw.images, files=_Cells(files, positions, columns.names))))


def _read_row(columns: ColumnBuilder, objects: ObjectReader, record: dict[str, Any], file: Path, number: int) -> None:
    name = record.get("path") or record.get("file_name")
    image = columns.image(name if isinstance(name, str) else f"row {number}", None, record_size(record))
    objects.read(record, image, SourceLocation(file, f"row {number}"), number)


@dataclass(frozen=True)
class _Layout:
    """The columns of a file: where the bytes of the images are, and which hold their labels."""

    bytes: str
    path: str | None
    labels: tuple[str, ...]


def _layout(file: Path, table: Any) -> _Layout:
    """Find the columns by their names and types.

    Raises:
        DataError: there are no images or no objects.
    """
    import pyarrow

    schema = table.schema_arrow
    found = short_list(schema.names)
    image = next((name for name in _IMAGES if name in schema.names), None)
    if image is None:
        raise DataError(f"{file}: there is no column with images (found: {found}); call it image")
    kind = schema.field(image).type
    path = None
    if pyarrow.types.is_struct(kind):
        inner = [kind.field(index).name for index in range(kind.num_fields)]
        if "bytes" not in inner:
            raise DataError(f"{file}: the column {image} holds no bytes (found: {short_list(inner)}); embed the images")
        path = f"{image}.path" if "path" in inner else None
        image, kind = f"{image}.bytes", kind.field("bytes").type
    if not (pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)):
        raise DataError(f"{file}: the column {image} holds {kind} and not the bytes of images; embed them")
    if not any(name in schema.names for name in _OBJECTS):
        raise DataError(f"{file}: there is no column objects (found: {found}); give each row its bbox and categories")
    labels = tuple(name for name in (*_OBJECTS, *_OTHERS) if name in schema.names)
    return _Layout(image, path, labels)


def _records(file: Path, table: Any, group: int, layout: _Layout) -> Iterator[dict[str, Any]]:
    """The labels of each row of a group; the images are not read."""
    import pyarrow

    size = table.metadata.row_group(group).total_byte_size
    if size > _MAX_GROUP:
        raise DataError(f"{file}: row group {group} has {size} bytes; write it again with row_group_size=100")
    requested = [*layout.labels, *([layout.path] if layout.path else [])]
    try:
        rows = table.read_row_group(group, columns=requested, use_threads=False).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{file}: row group {group} cannot be read ({_line(error)}); download it again") from None
    for row in rows:
        if layout.path:
            inner = row.pop(layout.path.partition(".")[0], None) or {}
            row["path"] = inner.get("path")
        yield row


def _names(schema: Any) -> list[str] | None:
    """The names of the classes, from what Hugging Face's datasets write about the features."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    found = features.get("objects") if isinstance(features, dict) else None
    for _ in range(4):  # objects -> feature -> category -> feature
        if isinstance(found, list) and found:
            found = found[0]
        if not isinstance(found, dict):
            return None
        names = found.get("names")
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return names
        inner = [found[key] for key in ("feature", *CLASS_KEYS) if key in found]
        found = inner[0] if inner else None
    return None


def _measured(raw: RawDataset) -> RawDataset:
    """Sizes from the headers of the images, a row group after the other."""
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
    """The Parquet files of a folder, or of its folder "data"."""
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
    """train-00000-of-00002.parquet is of the split train; what is no usual name is of "all"."""
    name = normalize_split(_SHARD.sub("", file.stem))
    return name if name in NAMED else "all"


def find_parquet(path: AnyPath) -> dict[str, AnyPath]:
    """The splits of a folder of Parquet files, by their names; a file by itself is one.

    Raises:
        DataError: there are none, or the path lies in an archive.
    """
    if not isinstance(path, Path):
        raise DataError(f"{path}: Parquet inside an archive is not read; unpack it")
    if path.is_file():
        return {_split_of(path): path}
    files = parquet_files(path)
    if not files:
        raise DataError(f"{path}: there are no .parquet files in it")
    return {_split_of(file): path for file in files}
