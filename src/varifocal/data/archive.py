"""Zip and tar archives read without unpacking: folders as paths, files as values that another process can open.

Names that leave the archive, bombs, and compression that cannot be read from any offset are refused when an archive is
opened, before anything is unpacked.
"""

from __future__ import annotations

import io
import re
import struct
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from functools import total_ordering
from pathlib import Path, PurePosixPath
from typing import Literal

from varifocal.data.archive_member import DEFLATED, STORED, Entry, Member
from varifocal.utils.errors import DataError

SUFFIXES = (".zip", ".tar")
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".gz", ".bz2", ".xz", ".7z", ".rar")

MAX_MEMBERS = 5_000_000
MAX_MEMBER = 1 << 33  # bytes of one file; annotations of a million images take one GiB
# Deflate reaches 1032; repetitive labels reach 50. Small files are harmless.
_MAX_RATIO, _HARMLESS = 200, 1 << 26


# absolute on any system, leaving the folder, or without a name
_UNSAFE = re.compile(r"^/|^[A-Za-z]:|(?:^|/)\.\.(?:/|$)|\x00|^$|/$")


def is_unsafe_path(file_name: str) -> bool:
    """Return whether a path is absolute, leaves its folder with ``..`` or names no file."""
    return _UNSAFE.search(file_name.replace("\\", "/")) is not None


class _Index:
    """The tree of an archive: the entries of each folder by name, None for a folder."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.folders: dict[str, dict[str, Entry | None]] = {"": {}}

    def add(self, path: str, entry: Entry) -> None:
        folder, _, name = path.rpartition("/")
        inside = self._folder(folder)
        if name in inside:
            raise DataError(
                f"{self.archive}: the archive contains {path!r} twice; pack it again", code="archive-duplicate-name"
            )
        inside[name] = entry

    def _folder(self, path: str) -> dict[str, Entry | None]:
        found = self.folders.get(path)
        if found is None:
            above, _, name = path.rpartition("/")
            inside = self._folder(above)
            if inside.setdefault(name, None) is not None:
                raise DataError(
                    f"{self.archive}: the archive contains {path!r} as a file and as a folder; pack it again",
                    code="archive-name-clash",
                )
            found = self.folders[path] = {}
        return found


@total_ordering
class ArchivePath:
    """A path in the tree of an archive, with the read-only methods of ``Path`` that readers use."""

    __slots__ = ("_index", "_path")

    def __init__(self, index: _Index, path: str = "") -> None:
        self._index, self._path = index, path

    @property
    def name(self) -> str:
        """The last part of the path; the file name of the archive for its root."""
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
        """The folder around it; the root for the root."""
        return ArchivePath(self._index, self._path.rpartition("/")[0])

    @property
    def inside(self) -> str:
        """The path from the root of the archive."""
        return self._path

    def top(self) -> ArchivePath:
        """Return the root of the archive."""
        return ArchivePath(self._index)

    def __truediv__(self, other: str) -> ArchivePath:
        parts = [part for part in f"{self._path}/{other}".split("/") if part not in ("", ".")]
        return ArchivePath(self._index, "/".join(parts))

    def _entry(self) -> Entry | None:
        folder, _, name = self._path.rpartition("/")
        return self._index.folders.get(folder, {}).get(name)

    def is_file(self) -> bool:
        """Return whether it is a file of the archive."""
        return self._entry() is not None

    def is_dir(self) -> bool:
        """Return whether it is a folder of the archive."""
        return self._path in self._index.folders

    def exists(self) -> bool:
        """Return whether it is in the archive."""
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Iterator[ArchivePath]:
        """Yield the files and folders in a folder."""
        for name in self._index.folders.get(self._path, {}):
            yield self / name

    def names(self) -> tuple[list[str], list[str]]:
        """Return the names of the folders and of the files in it."""
        inside = self._index.folders.get(self._path, {})
        folders = [name for name, entry in inside.items() if entry is None]
        return folders, [name for name, entry in inside.items() if entry]

    def member(self) -> Member:
        """Return the file as a value.

        Raises:
            FileNotFoundError: there is no such file.
        """
        entry = self._entry()
        if entry is None:
            raise FileNotFoundError(2, "no such file in the archive", str(self))
        return Member(self._index.archive, self._path, entry)

    def open(self, mode: Literal["rb"] = "rb") -> io.BufferedReader:
        """Open the file as :meth:`Member.open` does."""
        return self.member().open(mode)

    def read_bytes(self) -> bytes:
        """Return the whole content; raises the errors of :meth:`Member.open`."""
        with self.open() as stream:
            return stream.read()

    def __str__(self) -> str:
        return f"{self._index.archive}/{self._path}" if self._path else str(self._index.archive)

    def __repr__(self) -> str:
        return f"ArchivePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ArchivePath):
            return False
        return (self._path, self._index.archive) == (other._path, other._index.archive)

    def __lt__(self, other: ArchivePath) -> bool:
        return self._path < other._path

    def __hash__(self) -> int:
        return hash(self._path)


AnyPath = Path | ArchivePath


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive by its name, even one that must be unpacked first."""
    return path.name.lower().endswith((*SUFFIXES, *_PACKED)) and path.is_file()


def open_archive(file: Path) -> ArchivePath:
    """Return the root of a zip or tar; if everything is in a single folder, that folder.

    Raises:
        DataError: it is damaged, encrypted, or cannot be read from any offset; a name in it leaves it or occurs
            twice; or it becomes so much larger when unpacked that it can only be a bomb.
    """
    if not file.name.lower().endswith(SUFFIXES):
        raise DataError(
            f"{file}: the archive can only be read from its beginning; unpack it, or make a .zip or .tar",
            code="archive-kind",
        )
    root = ArchivePath(_read_index(file))
    while True:
        folders, files = root.names()
        folders = [name for name in folders if name != "__MACOSX"]
        if files or len(folders) != 1:
            return root
        root = root / folders[0]


def _read_index(file: Path) -> _Index:
    index = _Index(file)
    entries = _zip_entries(file) if file.suffix.lower() == ".zip" else _tar_entries(file)
    try:
        for count, (name, entry) in enumerate(entries):
            _check(file, name, entry, count)
            index.add("/".join(part for part in name.split("/") if part not in ("", ".")), entry)
    except OSError as error:
        raise DataError(
            f"{file}: the archive cannot be read ({error.strerror or error}); check it", code="archive-unreadable"
        ) from None
    except (zipfile.BadZipFile, tarfile.TarError, ValueError, EOFError, struct.error, NotImplementedError) as error:
        raise DataError(
            f"{file}: the archive is damaged ({error}); pack or download it again", code="archive-corrupt"
        ) from None
    return index


def _check(file: Path, name: str, entry: Entry, count: int) -> None:
    if count >= MAX_MEMBERS:
        raise DataError(
            f"{file}: the archive contains more than {MAX_MEMBERS} files; make several archives of it",
            code="archive-too-many-files",
        )
    if is_unsafe_path(name):
        raise DataError(
            f"{file}: the archive contains the name {name!r}, which leaves it; pack it again",
            code="archive-unsafe-name",
        )
    if entry.size > MAX_MEMBER or (entry.size > _HARMLESS and entry.size > _MAX_RATIO * entry.packed):
        growth = f"{name!r}, which grows from {entry.packed} to {entry.size} bytes when unpacked"
        raise DataError(
            f"{file}: the archive contains {growth} and may be a bomb; if it is not, unpack it yourself",
            code="archive-bomb",
        )


def _zip_entries(file: Path) -> Iterator[tuple[str, Entry]]:
    with zipfile.ZipFile(file) as archive:
        found = [info for info in archive.infolist() if not info.is_dir()]
    # data that several names point to would be unpacked several times
    ends = 0
    for info in sorted(found, key=lambda info: info.header_offset):
        if info.header_offset < ends:
            raise DataError(
                f"{file}: the archive contains {info.filename!r}, which overlaps another file, and may be a bomb",
                code="archive-bomb",
            )
        ends = info.header_offset + info.compress_size
    for info in found:
        if info.flag_bits & 1:
            raise DataError(
                f"{file}: the archive contains {info.filename!r} encrypted; unpack it first", code="archive-encrypted"
            )
        if info.compress_type not in (STORED, DEFLATED):
            raise DataError(
                f"{file}: the archive contains {info.filename!r} with a rare compression; pack it with plain zip, or "
                "unpack it",
                code="archive-compression",
            )
        if info.external_attr >> 28 == 0xA:  # a link, whose content is the path of another file
            continue
        packed = info.compress_size
        if info.compress_type == STORED and packed != info.file_size:
            raise DataError(
                f"{file}: the archive contains {info.filename!r} with two sizes; pack it again",
                code="archive-two-sizes",
            )
        entry = Entry(info.header_offset, packed, info.file_size, info.compress_type, info.CRC)
        yield info.filename.replace("\\", "/"), entry


def _tar_entries(file: Path) -> Iterator[tuple[str, Entry]]:
    length = file.stat().st_size
    with tarfile.open(file, "r:") as archive:
        for info in _infos(archive):
            if info.isdir() or info.issym() or info.islnk():
                continue
            if not info.isreg() or info.issparse():
                raise DataError(
                    f"{file}: the archive contains {info.name!r}, which is not a plain file; pack it again",
                    code="archive-not-a-file",
                )
            if info.offset_data + info.size > length:
                raise DataError(
                    f"{file}: the archive is cut short in {info.name!r}; pack or download it again",
                    code="archive-truncated",
                )
            yield info.name, Entry(info.offset_data, info.size, info.size, STORED)
        # tarfile takes damage or truncation for the end
        end = archive.offset
    with open(file, "rb") as stream:
        stream.seek(end)
        if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise DataError(
                f"{file}: the archive is damaged or cut short at byte {end}; pack or download it again",
                code="archive-truncated",
            )


def _infos(archive: tarfile.TarFile) -> Iterable[tarfile.TarInfo]:
    while (info := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # otherwise it keeps all of them
        yield info
