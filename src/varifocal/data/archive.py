"""Zip and tar archives read without unpacking: their tree as paths, their files as values that can be sent anywhere.

An archive is somebody else's file: names that leave it, bombs and what cannot be read from any offset are refused when
it is opened, before anything is unpacked.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import total_ordering
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from varifocal.data.names import is_unsafe_path
from varifocal.utils.errors import DataError

SUFFIXES = (".zip", ".tar")
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".gz", ".bz2", ".xz", ".7z", ".rar")

MAX_MEMBERS = 5_000_000
MAX_MEMBER = 1 << 33  # bytes of one file; annotations of a million images take one GiB
# Deflate reaches 1032; labels with many equal words reach 50. Small files cannot do harm.
_MAX_RATIO, _HARMLESS = 200, 1 << 26
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_BLOCK = 1 << 16


class Entry(NamedTuple):
    """Where a file lies in its archive. ``offset``, in bytes, is that of the header in a zip and of the content in a
    tar; ``packed`` bytes become ``size``, whose checksum is ``crc`` where the archive has one."""

    offset: int
    packed: int
    size: int
    method: int
    crc: int = -1


@dataclass(frozen=True)
class Member:
    """One file of an archive; stands for it as a ``Path`` does for a file in a folder."""

    archive: Path
    path: str
    entry: Entry

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.path).stem

    def open(self, mode: Literal["rb"] = "rb") -> io.BufferedReader:
        """The content as a file that can be sought in.

        Raises:
            OSError: the archive is gone, was changed, or is damaged there.
        """
        stream = open(self.archive, "rb")  # noqa: SIM115  # closed by what is returned
        try:
            start = self.entry.offset
            if self.archive.suffix.lower() == ".zip":
                start = _content_of(stream, start)
            stream.seek(start)
            return io.BufferedReader(_Content(stream, start, self.entry), _BLOCK)
        except BaseException:
            stream.close()
            raise

    def __str__(self) -> str:
        return f"{self.archive}/{self.path}"


def _content_of(stream: io.BufferedReader, header: int) -> int:
    """Where the content begins behind a file's own header, whose length the directory does not tell."""
    stream.seek(header)
    found = stream.read(_LOCAL_HEADER.size)
    if len(found) < _LOCAL_HEADER.size or not found.startswith(b"PK\x03\x04"):
        raise OSError(0, "the archive is damaged or was changed")
    _, name, extra = _LOCAL_HEADER.unpack(found)
    return header + _LOCAL_HEADER.size + int(name) + int(extra)


class _Content(io.RawIOBase):
    """A run of bytes of a file, unpacked as far as it is asked for, and never beyond the size that was announced."""

    def __init__(self, stream: io.BufferedReader, start: int, entry: Entry) -> None:
        self._stream, self._start, self._entry = stream, start, entry
        self._position = self._read = 0
        self._checked, self._crc = 0, 0  # bytes from the beginning that the checksum has seen
        self._inflate = zlib.decompressobj(-15) if entry.method == _DEFLATED else None
        self._unpacked = bytearray()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._entry.size}[whence]
        if base + offset < 0:
            raise OSError(22, "a position before the beginning")
        self._position = base + offset
        return self._position

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        count = min(len(buffer), self._entry.size - self._position)
        if count <= 0:
            return 0
        if self._inflate is None:
            self._stream.seek(self._start + self._position)
            found = self._stream.read(count)
        else:
            self._unpack(self._position + count)
            found = bytes(self._unpacked[self._position : self._position + count])
        if not found:
            raise OSError(0, "the archive is cut short")
        buffer[: len(found)] = found
        self._check(found)
        self._position += len(found)
        return len(found)

    def _check(self, found: bytes) -> None:
        """Compare the checksum of what is read from the beginning to the end."""
        if self._position != self._checked:
            return
        self._crc = zlib.crc32(found, self._crc)
        self._checked += len(found)
        if self._checked == self._entry.size and self._entry.crc not in (-1, self._crc):
            raise OSError(0, "the archive is damaged: its checksum differs")

    def _unpack(self, until: int) -> None:
        assert self._inflate is not None
        while len(self._unpacked) < until:
            block = self._inflate.unconsumed_tail
            if not block:
                self._stream.seek(self._start + self._read)
                block = self._stream.read(min(_BLOCK, self._entry.packed - self._read))
                self._read += len(block)
            try:
                more = self._inflate.decompress(block, self._entry.size - len(self._unpacked))
            except zlib.error as error:
                raise OSError(0, f"the archive is damaged: {error}") from None
            if not more and (self._inflate.eof or not block):
                raise OSError(0, "the archive is cut short")
            self._unpacked += more

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


class _Index:
    """The tree of an archive: for each folder what lies in it, folders as None."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.folders: dict[str, dict[str, Entry | None]] = {"": {}}

    def add(self, path: str, entry: Entry) -> None:
        folder, _, name = path.rpartition("/")
        inside = self._folder(folder)
        if name in inside:
            raise DataError(f"{self.archive}: {path!r} is in it twice; pack it again")
        inside[name] = entry

    def _folder(self, path: str) -> dict[str, Entry | None]:
        found = self.folders.get(path)
        if found is None:
            above, _, name = path.rpartition("/")
            inside = self._folder(above)
            if inside.setdefault(name, None) is not None:
                raise DataError(f"{self.archive}: {path!r} is a file and a folder in it; pack it again")
            found = self.folders[path] = {}
        return found


@total_ordering
class ArchivePath:
    """A path in the tree of an archive: the part of ``Path`` that readers use, read only."""

    __slots__ = ("_index", "_path")

    def __init__(self, index: _Index, path: str = "") -> None:
        self._index, self._path = index, path

    @property
    def name(self) -> str:
        """The last part; of the whole archive its file name."""
        return self._path.rpartition("/")[2] or self._index.archive.name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The suffix of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> ArchivePath:
        """The folder it lies in; of the whole archive that itself."""
        return ArchivePath(self._index, self._path.rpartition("/")[0])

    @property
    def inside(self) -> str:
        """The path from the top of the archive."""
        return self._path

    def top(self) -> ArchivePath:
        """The top of the archive."""
        return ArchivePath(self._index)

    def __truediv__(self, other: str) -> ArchivePath:
        parts = [part for part in f"{self._path}/{other}".split("/") if part not in ("", ".")]
        return ArchivePath(self._index, "/".join(parts))

    def _entry(self) -> Entry | None:
        folder, _, name = self._path.rpartition("/")
        return self._index.folders.get(folder, {}).get(name)

    def is_file(self) -> bool:
        """Whether it is a file of the archive."""
        return self._entry() is not None

    def is_dir(self) -> bool:
        """Whether it is a folder of the archive."""
        return self._path in self._index.folders

    def exists(self) -> bool:
        """Whether it is in the archive."""
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Iterator[ArchivePath]:
        """What lies in a folder."""
        for name in self._index.folders.get(self._path, {}):
            yield self / name

    def names(self) -> tuple[list[str], list[str]]:
        """The names of folders and of files in it."""
        inside = self._index.folders.get(self._path, {})
        return [name for name, entry in inside.items() if entry is None], [
            name for name, entry in inside.items() if entry
        ]

    def member(self) -> Member:
        """The file as a value.

        Raises:
            FileNotFoundError: there is no such file.
        """
        entry = self._entry()
        if entry is None:
            raise FileNotFoundError(2, "no such file in the archive", str(self))
        return Member(self._index.archive, self._path, entry)

    def open(self, mode: Literal["rb"] = "rb") -> io.BufferedReader:
        """As :meth:`Member.open`."""
        return self.member().open(mode)

    def read_bytes(self) -> bytes:
        """The whole content; errors as of :meth:`Member.open`."""
        with self.open() as stream:
            return stream.read()

    def __str__(self) -> str:
        return f"{self._index.archive}/{self._path}" if self._path else str(self._index.archive)

    def __repr__(self) -> str:
        return f"ArchivePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ArchivePath) and (self._path, self._index.archive) == (
            other._path,
            other._index.archive,
        )

    def __lt__(self, other: ArchivePath) -> bool:
        return self._path < other._path

    def __hash__(self) -> int:
        return hash(self._path)


AnyPath = Path | ArchivePath  # where data sets lie


def is_archive(path: Path) -> bool:
    """Return whether the file is an archive by its name, be it readable as it is or one that must be unpacked first."""
    return path.name.lower().endswith((*SUFFIXES, *_PACKED)) and path.is_file()


def open_archive(file: Path) -> ArchivePath:
    """The tree of a zip or tar; where all lies in a single folder, that folder.

    Raises:
        DataError: damaged, encrypted, packed in a way that cannot be read from any offset, with names that leave it,
            with twice the same name, or so much larger when unpacked that it can only be a trap.
    """
    index = _Index(file)
    if not file.name.lower().endswith(SUFFIXES):
        raise DataError(f"{file}: this archive can only be read from its beginning; unpack it, or make a .zip or .tar")
    try:
        for count, (name, entry) in enumerate(
            _zip_entries(file) if file.suffix.lower() == ".zip" else _tar_entries(file)
        ):
            _check(file, name, entry, count)
            index.add("/".join(part for part in name.split("/") if part not in ("", ".")), entry)
    except OSError as error:
        raise DataError(f"{file}: the archive cannot be read ({error.strerror or error}); check it") from None
    except (zipfile.BadZipFile, tarfile.TarError, ValueError, EOFError, struct.error, NotImplementedError) as error:
        raise DataError(f"{file}: the archive is damaged ({error}); pack or download it again") from None
    root = ArchivePath(index)
    while True:
        folders, files = root.names()
        folders = [name for name in folders if name != "__MACOSX"]
        if files or len(folders) != 1:
            return root
        root = root / folders[0]


def _check(file: Path, name: str, entry: Entry, count: int) -> None:
    if count >= MAX_MEMBERS:
        raise DataError(f"{file}: more than {MAX_MEMBERS} files are in it; make several archives of it")
    if is_unsafe_path(name):
        raise DataError(f"{file}: the name {name!r} in it leaves the archive, which is refused; pack it again")
    if entry.size > MAX_MEMBER or (entry.size > _HARMLESS and entry.size > _MAX_RATIO * entry.packed):
        raise DataError(
            f"{file}: {name!r} in it grows from {entry.packed} to {entry.size} bytes when unpacked, which is refused "
            "as a bomb; if it is meant, unpack it yourself"
        )


def _zip_entries(file: Path) -> Iterator[tuple[str, Entry]]:
    with zipfile.ZipFile(file) as archive:
        found = [info for info in archive.infolist() if not info.is_dir()]
    # data that several names point to would be unpacked as often
    ends = 0
    for info in sorted(found, key=lambda info: info.header_offset):
        if info.header_offset < ends:
            raise DataError(f"{file}: {info.filename!r} overlaps another file in it, which is refused as a bomb")
        ends = info.header_offset + info.compress_size
    for info in found:
        if info.flag_bits & 1:
            raise DataError(f"{file}: {info.filename!r} in it is encrypted; unpack it first")
        if info.compress_type not in (_STORED, _DEFLATED):
            raise DataError(
                f"{file}: {info.filename!r} in it is packed in a rare way; pack it with plain zip, or unpack it"
            )
        if info.external_attr >> 28 == 0xA:  # a link: its content is the path of another file
            continue
        packed = info.compress_size
        if info.compress_type == _STORED and packed != info.file_size:
            raise DataError(f"{file}: {info.filename!r} in it has two sizes; pack it again")
        entry = Entry(info.header_offset, packed, info.file_size, info.compress_type, info.CRC)
        yield info.filename.replace("\\", "/"), entry


def _tar_entries(file: Path) -> Iterator[tuple[str, Entry]]:
    length = file.stat().st_size
    with tarfile.open(file, "r:") as archive:
        for info in _infos(archive):
            if info.isdir() or info.issym() or info.islnk():
                continue
            if not info.isreg() or info.issparse():
                raise DataError(f"{file}: {info.name!r} in it is no plain file, which is refused; pack it again")
            if info.offset_data + info.size > length:
                raise DataError(f"{file}: the archive is cut short in {info.name!r}; pack or download it again")
            yield info.name, Entry(info.offset_data, info.size, info.size, _STORED)
        # what is damaged or cut short looks like the end to tarfile
        end = archive.offset
    with open(file, "rb") as stream:
        stream.seek(end)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise DataError(f"{file}: the archive is damaged or cut short at byte {end}; pack or download it again")


def _infos(archive: tarfile.TarFile) -> Iterable[tarfile.TarInfo]:
    while (info := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # else it keeps all of them
        yield info
