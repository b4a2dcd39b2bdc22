"""Image files found on disk: by files, folders and globs, and what else lies there."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from varifocal.data.annotations import counted
from varifocal.data.image_kinds import SUFFIXES, UNREAD, begins_as_image, has_changed_suffix, may_be_image, suffix_of
from varifocal.data.open_image import read_head
from varifocal.utils.errors import DataError

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/+[^/]|data:[a-z]+/", re.IGNORECASE)  # of Path, too, which keeps one slash
_LONGEST = 80  # signs of an address in a sentence
_NAMED = 6  # suffixes that are listed in a sentence


class _Beside(NamedTuple):
    """What lies beside the images: how many files of each suffix, and those of these that begin as an image does."""

    passed: Counter[str]
    odd: list[Path]


def list_images(
    patterns: Sequence[str], suffixes: Collection[str] = SUFFIXES, *, odd: list[Path] | None = None
) -> list[Path]:
    """The image files that files, folders and glob patterns name, each once, in the order given.

    A folder gives what lies in it at any depth, sorted by path, and without hidden files: by its suffix, one of
    ``suffixes`` in lower case, and of files without a suffix those that begin as an image does. A glob (``*``, ``?``,
    ``[]``, ``**``) gives its sorted matches: folders as above, files by suffix too. A file named in full is taken
    whatever its suffix. Files that begin as an image does, but have some other suffix, are added to ``odd``.

    Raises:
        DataError: a pattern finds no image, or a folder cannot be read.
    """
    found: dict[Path, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        passed: Counter[str] = Counter()
        files = _match(pattern, suffixes, _Beside(passed, odd if odd is not None else []))
        if not files:
            refuse_address(pattern)
            raise DataError(
                f"{pattern}: no image is found there{_passed(passed)}; name an image, a folder of images or a glob"
            )
        found.update(dict.fromkeys(files))
    if not found:
        raise DataError("no images are named; name an image, a folder of images or a glob")
    return list(found)


def refuse_address(name: str) -> None:
    """Raises DataError: a name is an address (http, s3, rtsp, data), of which nothing is fetched, and no file here."""
    if _ADDRESS.match(name) and not os.path.exists(name):
        shown = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
        raise DataError(f"{shown}: is an address, and nothing is fetched; download the image and name its file")


def _passed(passed: Counter[str]) -> str:
    """What lies there instead."""
    if not passed:
        return ""
    total = sum(passed.values())
    return f", but {total} other {'file' if total == 1 else 'files'} ({_by_suffix(passed)})"


def _by_suffix(counts: Counter[str]) -> str:
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    listed = [f"{suffix or 'no suffix'}: {count}" for suffix, count in ordered[:_NAMED]]
    more = len(counts) - len(listed)
    return ", ".join(listed) + (f" and {more} more suffixes" if more else "")


def passed_over(names: Iterable[str], source: str) -> list[str]:
    """Notes on files that are images by their names, but of kinds that are not read, or with a changed suffix."""
    unread, changed = [], []
    for name in names:  # of which there may be a million
        if suffix_of(name) in UNREAD:
            unread.append(name)
        elif has_changed_suffix(name):
            changed.append(name)
    notes = _left_out(unread, source, "of a kind that is not read", "convert them to JPEG, PNG or TIFF")
    return [*notes, *_left_out(changed, source, "with an unknown suffix", "rename them")]


def odd_images(files: Sequence[Path], source: str) -> list[str]:
    """A note on images with an unknown suffix; none where there are none."""
    return _left_out(
        [file.name for file in files], source, "with an unknown suffix", "rename them or name them in full"
    )


def _left_out(names: Sequence[str], source: str, why: str, hint: str) -> list[str]:
    if not names:
        return []
    counts = Counter(suffix_of(name) for name in names)
    images = counted(len(names), "(image is|images are)")
    return [f"{source}: {images} left out, {why} ({_by_suffix(counts)}), first {names[0]}; {hint}."]


def _match(pattern: str, suffixes: Collection[str], beside: _Beside) -> list[Path]:
    if os.path.isfile(pattern):
        return [Path(pattern)]
    if os.path.isdir(pattern):
        return _walk(pattern, suffixes, beside)
    files: list[Path] = []
    for match in sorted(glob.glob(_with_real_folders(pattern), recursive=True)):
        if os.path.isdir(match):
            files += _walk(match, suffixes, beside)
        elif _is_image(Path(match), suffixes, beside):
            files.append(Path(match))
    return files


def _with_real_folders(pattern: str) -> str:
    """The glob in which the signs of folders that are there, called [v2] or a*b, say, are signs of names."""
    location = pattern
    while location and not os.path.isdir(location):
        above = os.path.dirname(location)
        if above == location:
            return pattern
        location = above
    return glob.escape(location) + pattern[len(location) :]


def _walk(folder: str, suffixes: Collection[str], beside: _Beside) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: the folder cannot be read ({error.strerror}); check its permissions")

    files: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        status = os.stat(root)
        # A link to a folder above would otherwise be walked for ever.
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(root, name) for name in names if not name.startswith("."))
        files += [path for path in paths if _is_image(path, suffixes, beside)]
    return sorted(files)


def _is_image(file: Path, suffixes: Collection[str], beside: _Beside) -> bool:
    suffix = suffix_of(file.name)
    if suffix in suffixes:
        return True
    if may_be_image(file.name) and file.is_file() and begins_as_image(read_head(file)):
        if not suffix:
            return True
        beside.odd.append(file)
    beside.passed[suffix] += 1
    return False
