"""Folders on a disk or in an archive: listing and walking them, finding images by name, reading and decoding files."""

from __future__ import annotations

import codecs
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from pathlib import Path

from varifocal.data.archive import AnyPath
from varifocal.data.image_kinds import HEIF, SUFFIXES, UNREAD, suffix_of
from varifocal.data.sibling_folders import Siblings
from varifocal.data.splits import NAMED, normalize_split
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted

MAX_TEXT = 1 << 30  # bytes of a file that is read into memory as a whole
_BLOCK = 1 << 16
_THREADS, _TOGETHER = 8, 64  # threads that read ahead, and files that one of them reads at a time
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


_remembered: ContextVar[dict[AnyPath, tuple[list[str], list[str]]] | None] = ContextVar("_remembered", default=None)


@contextmanager
def remember_folders() -> Iterator[None]:
    """List each folder only once while the block runs: several formats inspect a data set with a million files."""
    known = _remembered.get()
    token = _remembered.set({} if known is None else known)
    try:
        yield
    finally:
        _remembered.reset(token)


def list_dir(folder: AnyPath, *, hidden: bool = False) -> tuple[list[str], list[str]]:
    """Return the sorted names of the folders and of the files in a folder; two empty lists if there is no such folder.

    Hidden ones are left out by default.

    Raises:
        DataError: the folder cannot be read.
    """
    known = _remembered.get()
    found = known.get(folder) if known is not None else None
    if found is None:
        found = _list(folder)
        if known is not None:
            known[folder] = found
    folders, files = found
    if hidden:
        return list(folders), list(files)
    return [name for name in folders if name[0] != "."], [name for name in files if name[0] != "."]


def split_lists(folder: AnyPath) -> list[str]:
    """Return the text files of a folder that are named like a split: train.txt, val_list.txt."""
    names = list_dir(folder)[1]
    return [name for name in names if name.endswith(".txt") and normalize_split(name[:-4]) in NAMED]


def _list(folder: AnyPath) -> tuple[list[str], list[str]]:
    """Return the sorted names of the folders and of the files in a folder."""
    if not isinstance(folder, Path):
        folders, files = folder.names()
    else:
        folders, files = [], []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    (folders if _leads_to_folder(entry) else files).append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (OSError, ValueError) as error:
            raise DataError(
                f"{folder}: the folder cannot be read ({error}); check its permissions", code="folder-unreadable"
            ) from None
    return sorted(folders), sorted(files)


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def walk(folder: AnyPath, *, skip_closed: bool = False, wide: bool = False) -> Iterator[tuple[AnyPath, str, list[str]]]:
    """Yield ``folder`` and every folder below it, with its path relative to ``folder`` and the names of its files.

    The order is depth first, or with ``wide`` breadth first. A folder is visited once, however many links lead to it,
    so a link to a parent folder ends. With ``skip_closed`` a folder that cannot be read counts as empty.

    Raises:
        DataError: a folder cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    left: deque[tuple[AnyPath, str]] = deque([(folder, "")])
    while left:
        location, path = left.popleft()
        if isinstance(location, Path):
            try:
                status = os.stat(location)
            except (OSError, ValueError):
                continue
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
        try:
            folders, files = list_dir(location)
        except DataError:
            if not skip_closed:
                raise
            folders, files = [], []
        yield location, path, files
        inner = [(location / name, f"{path}/{name}".strip("/")) for name in folders]
        if wide:
            left.extend(inner)
        else:
            left.extendleft(reversed(inner))


def exists(path: AnyPath) -> bool:
    """Return whether there is such a file or folder; False for a name that no file system can hold."""
    try:
        return path.is_dir() or path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: AnyPath) -> bool:
    """Return whether there is such a folder; False for a name that no file system can hold."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_image(name: str) -> bool:
    """Return whether a file name has the suffix of an image that can be read."""
    return suffix_of(name) in SUFFIXES


def is_image_name(name: str) -> bool:
    """Return whether a file name has the suffix of an image, even of a kind that is not read."""
    return suffix_of(name) in SUFFIXES or suffix_of(name) in UNREAD


def _unusual(name: str) -> tuple[bool, str]:
    """Return a sort key for images of one stem: the HEIC of a phone comes after its copies in other formats."""
    return suffix_of(name) in HEIF, name


def iter_images(folder: AnyPath, passed: list[str] | None = None) -> Iterator[tuple[AnyPath, str, str]]:
    """Yield each image below a folder: its folder, the path of that relative to ``folder``, and its name.

    Names of images of a kind that is not read are added to ``passed``.
    """
    for directory, path, files in walk(folder):
        for name in files:
            if is_image(name):
                yield directory, path, name
            elif passed is not None and is_image_name(name):
                passed.append(name)


def decode(content: bytes, file: object) -> tuple[str, bool]:
    """Return the text of a file, and whether it was decoded as Latin-1 because it is neither UTF-8 nor UTF-16.

    Line ends become "\\n".

    Raises:
        DataError: the file begins with the byte order mark of an encoding that it does not have.
    """
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            try:
                text = content[len(mark) :].decode(encoding)
            except UnicodeDecodeError as error:
                byte = error.start + len(mark)
                raise DataError(
                    f"{file}: byte {byte} is not {encoding.upper()}; save the file as UTF-8", code="text-not-unicode"
                ) from None
            return _unix(text), False
    try:
        return _unix(content.decode("utf-8")), False
    except UnicodeDecodeError:
        return _unix(content.decode("latin-1")), True


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def read_bytes(file: AnyPath) -> bytes:
    """Return the content of a file of at most ``MAX_TEXT`` bytes.

    Raises:
        DataError: it cannot be read, or is too large.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(_BLOCK)
            # in steps, because Python allocates as much memory as is requested
            while len(content) <= MAX_TEXT and (more := stream.read(max(len(content), _BLOCK))):
                content += more
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise DataError(f"{file}: the file cannot be read ({reason}); check it", code="file-unreadable") from None
    if len(content) > MAX_TEXT:
        raise DataError(
            f"{file}: the file has more than {MAX_TEXT} bytes, too many for this format; split it",
            code="file-too-large",
        )
    return content


def read_many(files: Iterable[AnyPath]) -> Iterator[tuple[AnyPath, bytes | DataError]]:
    """Yield many small files in their order with their content or error, read ahead by threads."""
    left = iter(files)
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: deque[Future[list[tuple[AnyPath, bytes | DataError]]]] = deque()
        while part := list(islice(left, _TOGETHER)):
            waiting.append(pool.submit(_read_part, part))
            if len(waiting) > 2 * _THREADS:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _read_part(files: list[AnyPath]) -> list[tuple[AnyPath, bytes | DataError]]:
    found: list[tuple[AnyPath, bytes | DataError]] = []
    for file in files:
        try:
            found.append((file, read_bytes(file)))
        except DataError as error:
            found.append((file, error))
    return found


class TextDecoder:
    """Decodes files, and remembers which ones are not Unicode, for a note."""

    def __init__(self, latin: Iterable[str] = ()) -> None:
        self.latin = list(latin)

    def read(self, file: AnyPath) -> str:
        """Return the text of a file; raises the errors of :func:`read_bytes` and :func:`decode`."""
        return self.decode(read_bytes(file), file)

    def decode(self, content: bytes, file: AnyPath) -> str:
        """Return the text of the content of a file; raises the errors of :func:`decode`."""
        text, latin = decode(content, file)
        if latin:
            self.latin.append(file.name)
        return text

    def notes(self, source: AnyPath) -> list[str]:
        """Return a note on files that are not UTF-8, if there are any."""
        if not self.latin:
            return []
        files = counted(len(self.latin), "(file is|files are) not UTF-8 and read as Latin-1")
        return [f"{source.name}: {files}, first {self.latin[0]}."]


class ImageFinder:
    """Finds images by the names that annotations give them, in the folders where they may be.

    A folder is listed once, whatever the number of images. ``top``, ``split`` and ``siblings`` are used by
    :func:`varifocal.data.find_images.locate`: the folder that contains all images, the split of the annotations, and
    the folders of these and of other annotations.
    """

    def __init__(
        self,
        roots: Sequence[AnyPath],
        top: AnyPath | None = None,
        split: str = "",
        siblings: Callable[[], Siblings] = Siblings,
    ) -> None:
        self.roots = [root for root in dict.fromkeys(roots) if exists(root)]
        self.top, self.split, self.siblings = top, split, siblings
        self._listings: dict[str, list[tuple[AnyPath, frozenset[str]]]] = {}
        self._stems: dict[AnyPath, dict[str, str]] = {}
        self._twins: dict[AnyPath, list[str]] = {}  # images that share their stem with another

    def find(self, name: str) -> tuple[AnyPath, str] | None:
        """Return the folder and the file name of an image, whose name may contain folders; None if it is not found."""
        folder, _, tail = name.replace("\\", "/").rpartition("/")
        for path, listing in self._locations(folder):
            if tail in listing:
                return path, tail
        # A file system may accept a name in another spelling (case, composed accents) than it lists.
        for path, _ in self._locations(folder):
            if isinstance(path, Path) and tail and _is_file(path / tail):
                return path, tail
        return None

    def find_stem(self, stem: str) -> tuple[AnyPath, str] | None:
        """Return the folder and the file name of the image whose name without suffix is ``stem``, or None."""
        folder, _, tail = stem.rpartition("/")
        for path, listing in self._locations(folder):
            if path not in self._stems:
                images = sorted(filter(is_image, listing), key=_unusual, reverse=True)
                self._stems[path] = {os.path.splitext(name)[0]: name for name in images}
            if tail in self._stems[path]:
                return path, self._stems[path][tail]
        return None

    def same_stem(self, path: AnyPath, name: str) -> list[str]:
        """Return the other images in a folder that differ from the named one only in their suffix."""
        if path not in self._twins:
            count: Counter[str] = Counter()
            images = [one for one in _listing(path) if is_image(one)]
            count.update(os.path.splitext(one)[0] for one in images)
            self._twins[path] = sorted(one for one in images if count[os.path.splitext(one)[0]] > 1)
        stem = os.path.splitext(name)[0]
        return [one for one in self._twins[path] if one != name and os.path.splitext(one)[0] == stem]

    def _locations(self, folder: str) -> list[tuple[AnyPath, frozenset[str]]]:
        """Return the folder of that path below each root, with the names of its files."""
        if folder not in self._listings:
            paths = [root / folder if folder else root for root in self.roots]
            self._listings[folder] = [(path, _listing(path)) for path in paths]
        return self._listings[folder]


def _listing(path: AnyPath) -> frozenset[str]:
    try:
        return frozenset(list_dir(path, hidden=True)[1])
    except DataError:
        return frozenset()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
