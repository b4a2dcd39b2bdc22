"""The descriptions inside exported files, read without the runtimes that run them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from varifocal.inference.exported.info import KEY
from varifocal.utils.errors import CheckpointError

PT2_ENTRY = f"extra/{KEY}.json"  # in the archive of torch.export, below a folder of any name
MOST = 2**24  # bytes of a description: many thousand classes
CHUNK = 2**20  # bytes that are read at once
GRAPH = f"{KEY}_graph"  # the key of the checksum of an ONNX file, see graph_checksum
PROPERTIES, KEY_FIELD, VALUE_FIELD = 14, 1, 2  # of onnx.ModelProto and of its StringStringEntryProto
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # how protobuf stores a field


def read_description(path: Path) -> str:
    """Read the JSON text inside an ``.onnx``, ``.xml`` or ``.pt2`` file.

    Raises:
        CheckpointError: the file is missing, damaged, or not of this package.
    """
    try:
        if path.suffix.lower() == ".xml":
            return read_ir(path)[KEY]
        return (_read_archive if path.suffix.lower() == ".pt2" else _read_onnx)(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).", code="exported-not-read") from error


def not_ours(name: str, kind: str, word: str) -> CheckpointError:
    """Return the error for a valid file that another program wrote."""
    return CheckpointError(
        f"{name}: {kind} without a varifocal description; it was written by another program; export a checkpoint with: "
        f"varifocal export CHECKPOINT --format {word}",
        code="description-missing",
    )


def read_ir(path: Path, name: str | None = None) -> dict[str, str]:
    """Read the ``rt_info`` of an OpenVINO model, with the description under ``KEY``; the layers are not parsed.

    Raises:
        CheckpointError: the file is missing, damaged, or not of this package.
    """
    name = name or str(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{name}: cannot be read ({error.strerror}).", code="exported-not-read") from error
    begin, end = content.rfind(b"<rt_info>"), content.rfind(b"</net>")
    if b"<net" not in content[:4096] or end < 0:
        raise CheckpointError(f"{name}: damaged or not an OpenVINO model.", code="openvino-damaged")
    try:
        held = ElementTree.fromstring(content[begin:end]) if begin >= 0 else ElementTree.Element("rt_info")
    except ElementTree.ParseError as error:
        raise CheckpointError(
            f"{name}: damaged or not an OpenVINO model ({error}).", code="openvino-damaged"
        ) from error
    values = {child.tag: child.get("value", "") for child in held}
    if KEY not in values:
        raise not_ours(name, "an OpenVINO model", "openvino")
    return values


def checksum(file: BufferedIOBase, size: int, before: int = 0) -> int:
    """Return the CRC-32 of ``size`` bytes from the file's position, continued from ``before``."""
    check = before
    while size and (chunk := file.read(min(CHUNK, size))):
        size, check = size - len(chunk), zlib.crc32(chunk, check)
    return check


def graph_checksum(file: BufferedIOBase) -> str:
    """Return the number of bytes of an ONNX file without its properties, and their CRC-32.

    Raises:
        ValueError, EOFError: the file is damaged.
    """
    size = check = 0
    for field in _fields(file):
        if field.number != PROPERTIES:
            file.seek(field.begin)
            size, check = size + field.end - field.begin, checksum(file, field.end - field.begin, check)
    return f"{size} {check:08x}"


def check_graph(path: Path, name: str) -> None:
    """Check that an ONNX file has the graph with which it was written, if it has a checksum.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        with open(path, "rb") as file:
            recorded = _property(file, GRAPH)
            good = recorded is None or recorded == graph_checksum(file)
    except OSError as error:
        raise CheckpointError(f"{name}: cannot be read ({error.strerror}).", code="exported-not-read") from error
    except (ValueError, EOFError) as error:
        raise CheckpointError(f"{name}: damaged or not an ONNX file.", code="onnx-damaged") from error
    if not good:
        raise CheckpointError(
            f"{name}: damaged (other bytes than those that were written); copy it again.", code="graph-checksum"
        )


def _read_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [item for item in archive.infolist() if item.filename.endswith(PT2_ENTRY)]
            if not entries:
                raise not_ours(str(path), "a torch.export archive", "torch-export")
            if entries[0].file_size > MOST:
                raise CheckpointError(f"{path}: its varifocal description is damaged.", code="description-too-large")
            return archive.read(entries[0]).decode()
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:  # all that zipfile raises
        raise CheckpointError(
            f"{path}: damaged or not a torch.export archive ({error}).", code="archive-damaged"
        ) from error


def _read_onnx(path: Path) -> str:
    """Read the description in a serialized ``ModelProto``; the graph, which holds the weights, is skipped."""
    with open(path, "rb") as file:
        try:
            found = _property(file, KEY)
        except (ValueError, EOFError) as error:
            raise CheckpointError(f"{path}: damaged or not an ONNX file.", code="onnx-damaged") from error
    if found is None:
        raise not_ours(str(path), "ONNX", "onnx")
    return found


def _property(file: BufferedIOBase, name: str) -> str | None:
    for field in _fields(file):
        if field.number == PROPERTIES and field.end - field.content <= MOST:
            file.seek(field.content)
            key, value = _entry(file, field.end)
            if key == name:
                return value
    return None


class _Field(NamedTuple):
    """The offsets of a field: ``begin`` of its head, ``content`` after the head, ``end`` after the field."""

    number: int
    begin: int
    content: int
    end: int


def _fields(file: BufferedIOBase) -> Iterator[_Field]:
    """Yield the fields of a serialized ``ModelProto``, without those inside of them."""
    size, end = file.seek(0, 2), 0
    while end < size:
        begin = file.seek(end)
        number, kind = divmod(_varint(file), 8)
        if kind == VARINT:
            _varint(file)
        length = _varint(file) if kind == BYTES else {VARINT: 0, FIXED64: 8, FIXED32: 4}.get(kind, -1)
        content = file.tell()
        end = content + length
        if length < 0 or end > size:
            raise EOFError
        yield _Field(number, begin, content, end)


def _entry(file: BufferedIOBase, end: int) -> tuple[str, str]:
    texts = {KEY_FIELD: b"", VALUE_FIELD: b""}
    while file.tell() < end:
        number, kind = divmod(_varint(file), 8)
        if kind != BYTES or number not in texts:
            raise ValueError
        texts[number] = file.read(min(_varint(file), end - file.tell()))
    return texts[KEY_FIELD].decode(), texts[VALUE_FIELD].decode()


def _varint(file: BufferedIOBase) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise EOFError
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError
