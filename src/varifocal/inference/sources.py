"""Sources of images for prediction: files, folders, globs, lists, archives, Parquet files and videos."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from varifocal.data.archive import SUFFIXES as ARCHIVES
from varifocal.data.archive import ArchivePath, open_archive
from varifocal.data.archive_member import Member
from varifocal.data.image_kinds import SUFFIXES, UNREAD, suffix_of
from varifocal.data.listing import list_images
from varifocal.data.readers.parquet import Cell, list_cells
from varifocal.inference import video
from varifocal.types import FileLike
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted

CONTAINERS = (*ARCHIVES, ".parquet")  # suffixes of files that hold many images
LIST = ".txt"  # suffix of a list of image files
_MOST_LISTED = 1 << 30  # bytes of a list


class Item(NamedTuple):
    """An image or a video. ``key`` is its path below what names it, the same on every machine; ``size`` is in bytes."""

    file: FileLike
    key: str
    size: int


@dataclass(frozen=True)
class Source:
    """The images and videos to predict on, in a fixed order, and sentences on what was left out."""

    items: Sequence[Item]
    notes: tuple[str, ...] = ()

    def digest(self) -> str:
        """Return the SHA-256 of the keys and sizes in their order: it changes if a file is added, lost or replaced."""
        found = hashlib.sha256()
        for item in self.items:
            found.update(f"{item.key}\0{item.size}\n".encode(errors="surrogateescape"))
        return found.hexdigest()


def list_source(names: Sequence[str]) -> Source:
    """Return the images and videos that the names stand for, each once.

    A name is an image, a video, a folder or a glob as for :func:`varifocal.data.listing.list_images`; a ``.txt`` file
    with the path of an image on each line, relative to that file; a ``.tar`` or ``.zip`` archive or a ``.parquet``
    file with images in it; or a folder or glob of such archives and Parquet files.

    Raises:
        DataError: a name stands for no image, a listed file is missing, or an archive or Parquet file is damaged.
        ConfigError: pyarrow is needed and not installed.
    """
    found: dict[str, Item] = {}
    notes: list[str] = []
    for number, name in enumerate(names):
        for item in _items_of(name, notes):
            # the rows of a Parquet file may have equal names
            identity = item.key if isinstance(item.file, Cell) else ""
            found.setdefault(f"{item.file}\0{identity}", item._replace(key=f"{number}/{item.key}"))
    return Source(list(found.values()), tuple(notes))


def _items_of(name: str, notes: list[str]) -> Iterator[Item]:
    containers = _containers(name)
    if containers and os.path.isdir(name) and (images := _images_beside(name)):
        notes.append(
            f"{name}: {counted(len(containers), '(archive is|archives are)')} left out beside "
            f"{counted(len(images), '(image|images)')}, first {containers[0].name}; name them to read them."
        )
        containers = []
    if containers:
        for file in containers:
            yield from _items_in(file)
    elif suffix_of(name) == LIST and os.path.isfile(name):
        yield from _listed(Path(name))
    else:
        root = _root_of(name)
        for file in list_images([name], SUFFIXES | UNREAD | video.SUFFIXES):
            yield Item(file, PurePath(os.path.relpath(file, root)).as_posix(), _size_of(file, str(file)))


def _images_beside(folder: str) -> list[Path]:
    try:
        return list_images([folder], SUFFIXES | UNREAD | video.SUFFIXES)
    except DataError:  # none is there
        return []


def _containers(name: str) -> list[Path]:
    """Return the archives and Parquet files that a file, a folder or a glob stands for."""
    if os.path.isdir(name):
        files: Sequence[str | Path] = sorted(Path(name).iterdir())
    else:
        files = [name] if os.path.isfile(name) else sorted(glob.glob(name, recursive=True))
    return [Path(file) for file in files if suffix_of(str(file)) in CONTAINERS and os.path.isfile(file)]


def _root_of(name: str) -> str:
    """Return the deepest folder that a name begins with and that exists."""
    location = name
    while location and not os.path.isdir(location):
        location = os.path.dirname(location)
    return location or "."


def _items_in(file: Path) -> Iterator[Item]:
    count = 0
    if suffix_of(file.name) == ".parquet":
        for cell in list_cells(file):
            count += 1
            yield Item(cell, f"{file.name}/{_cell_name(cell)}", file.stat().st_size)
    else:
        for member in _members(open_archive(file).top()):
            count += 1
            yield Item(member, f"{file.name}/{member.path}", member.entry.size)
    if not count:
        raise DataError(f"{file}: holds no image; name another file.", code="container-without-images")


def _cell_name(cell: Cell) -> str:
    return f"{cell.group}-{cell.row}-{cell.path}"


def _members(folder: ArchivePath) -> Iterator[Member]:
    """Yield the images of an archive in the order in which they are stored, folder by folder."""
    folders, files = folder.names()
    for name in files:
        if suffix_of(name) in SUFFIXES | UNREAD and not name.startswith("."):
            yield (folder / name).member()
    for name in folders:
        if name != "__MACOSX":
            yield from _members(folder / name)


def _listed(file: Path) -> Iterator[Item]:
    """Yield the images that a list names.

    Raises:
        DataError: the list is no text, is empty, or names a file that does not exist.
    """
    if file.stat().st_size > _MOST_LISTED:
        raise DataError(f"{file}: is larger than a gibibyte; split the list.", code="image-list-too-large")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not a list of paths in UTF-8 ({error}).", code="image-list-not-text") from None
    empty = True
    for number, line in enumerate(lines, start=1):
        if line.strip():
            empty = False
            path = file.parent / line.strip()
            yield Item(path, line.strip(), _size_of(path, f"{file}: line {number}"))
    if empty:
        raise DataError(f"{file}: lists no image; write the path of one on each line.", code="image-list-empty")


def _size_of(path: Path, where: str) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{where}: {path} cannot be read ({reason}); correct the path.", code="item-missing") from None
