"""Sources of images for prediction: files, folders, globs, lists, archives, Parquet files and videos."""

from __future__ import annotations

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
from varifocal.data.listing import list_images, matching_paths
from varifocal.data.readers.parquet import Cell, list_cells
from varifocal.inference import video
from varifocal.types import FileLike
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted

CONTAINERS = (*ARCHIVES, ".parquet")  # suffixes of files that hold many images
KINDS = SUFFIXES | UNREAD | video.SUFFIXES
LIST = ".txt"  # suffix of a list of image files
MISSING = -1
_MOST_LISTED = 1 << 30  # bytes of a list


class Item(NamedTuple):
    """An image or a video. ``key`` is its path below what names it, the same on every machine.

    ``size`` is in bytes, ``MISSING`` for a file that is named and does not exist.
    """

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

    A file that does not exist, of a list or behind a link, is an item like others, and an error when it is read.

    Raises:
        DataError: a name stands for no image, all files of a list are missing, or an archive or Parquet file is
            damaged.
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


def has_vanished(item: Item) -> bool:
    """Return whether a file, or the archive that holds it, was there when the source was listed and is not now."""
    file = item.file
    path = file if isinstance(file, Path) else file.file if isinstance(file, Cell) else getattr(file, "archive", None)
    return item.size != MISSING and isinstance(path, Path) and not path.exists()


def _items_of(name: str, notes: list[str]) -> Iterator[Item]:
    if suffix_of(name) == LIST and os.path.isfile(name):
        yield from _listed(Path(name))
        return
    containers, images = _found(name)
    if containers and images and os.path.isdir(name):
        notes.append(
            f"{name}: {counted(len(containers), '(archive is|archives are)')} left out beside "
            f"{counted(len(images), '(image|images)')}, first {containers[0].name}; name them to read them."
        )
        containers = []
    for file in containers:
        yield from _items_in(file, notes)
    root = _root_of(name)
    for file in images:
        yield Item(file, PurePath(os.path.relpath(file, root)).as_posix(), _size_of(file))


def _found(name: str) -> tuple[list[Path], list[Path]]:
    """Return the archives and Parquet files, and the images and videos, that a name stands for."""
    containers, others = _matches(name)
    if not containers:
        return [], list_images([name], KINDS)  # which says what is wrong if there is none
    return containers, _images_of(name) if others else []


def _images_of(name: str) -> list[Path]:
    try:
        return list_images([name], KINDS)
    except DataError:  # none is there
        return []


def _matches(name: str) -> tuple[list[Path], bool]:
    """Return the archives and Parquet files that a file, a folder or a glob stands for, and whether there are others.

    Raises:
        DataError: the folder cannot be read.
    """
    if os.path.isdir(name):
        try:
            files = sorted(Path(name).iterdir())
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error.strerror}).", code="source-folder-unreadable") from error
    else:
        files = [Path(name)] if os.path.isfile(name) else [Path(one) for one in matching_paths(name)]
    files = [file for file in files if not file.name.startswith(".")]
    containers = [file for file in files if suffix_of(file.name) in CONTAINERS and file.is_file()]
    return containers, len(containers) < len(files)


def _root_of(name: str) -> str:
    """Return the deepest folder that a name begins with and that exists."""
    location = name
    while location and not os.path.isdir(location):
        location = os.path.dirname(location)
    return location or "."


def _items_in(file: Path, notes: list[str]) -> Iterator[Item]:
    count = 0
    if suffix_of(file.name) == ".parquet":
        size = file.stat().st_size
        for cell in list_cells(file):
            count += 1
            yield Item(cell, f"{file.name}/{_cell_name(cell)}", size)
    else:
        videos = 0
        for member in _members(open_archive(file).top()):
            if suffix_of(member.name) in video.SUFFIXES:
                videos += 1
                continue
            count += 1
            yield Item(member, f"{file.name}/{member.path}", member.entry.size)
        if videos:
            notes.append(f"{file}: {counted(videos, '(video is|videos are)')} left out; unpack videos to read them.")
    if not count:
        raise DataError(f"{file}: holds no image; name another file.", code="container-without-images")


def _cell_name(cell: Cell) -> str:
    return f"{cell.group}-{cell.row}-{cell.path}"


def _members(folder: ArchivePath) -> Iterator[Member]:
    """Yield the images and videos of an archive in the order in which they are stored, folder by folder."""
    folders, files = folder.names()
    for name in files:
        if suffix_of(name) in KINDS and not name.startswith("."):
            yield (folder / name).member()
    for name in folders:
        if name != "__MACOSX":
            yield from _members(folder / name)


def _listed(file: Path) -> Iterator[Item]:
    """Yield the images that a list names.

    Raises:
        DataError: the list is no text, is empty, or names no file that exists.
    """
    if file.stat().st_size > _MOST_LISTED:
        raise DataError(f"{file}: is larger than a gibibyte; split the list.", code="image-list-too-large")
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not a list of paths in UTF-8 ({error}).", code="image-list-not-text") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}).", code="image-list-unreadable") from error
    paths = [(line, file.parent / line) for line in lines if line]
    if not paths:
        raise DataError(f"{file}: lists no image; write the path of one on each line.", code="image-list-empty")
    items = [Item(path, line, _size_of(path)) for line, path in paths]
    if all(item.size == MISSING for item in items):
        raise DataError(
            f"{file}: none of its {len(items)} files exists, the first is {paths[0][1]}; write paths relative to the "
            "list, or absolute ones.",
            code="image-list-all-missing",
        )
    yield from items


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return MISSING
