"""Image files found by files, folders and globs, and notes on other files beside them."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from varifocal.data.image_errors import read_head, refuse_address
from varifocal.data.image_kinds import (
    SUFFIXES,
    UNREAD,
    begins_as_image,
    has_changed_suffix,
    kind_of_head,
    may_be_image,
    suffix_of,
)
from varifocal.data.paths import walk
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted

_NAMED = 6  # suffixes that are listed in a sentence


class _Beside(NamedTuple):
    """Other files beside the images: their number by suffix, and those whose content is an image or a document."""

    passed: Counter[str]
    odd: list[Path]


def list_images(
    patterns: Sequence[str], suffixes: Collection[str] = SUFFIXES, *, odd: list[Path] | None = None
) -> list[Path]:
    """Return the image files that files, folders and glob patterns name, each once, in the order of the patterns.

    A folder means all images in it at any depth, sorted by path, without hidden files: files with one of ``suffixes``
    in lower case, and files without a suffix that begin like an image. A glob (``*``, ``?``, ``[]``, ``**``) means its
    sorted matches: folders as above, and files by suffix. A file named in full is taken whatever its suffix. Files that
    begin like an image but have another suffix, or like a kind that is not read (a PDF), are added to ``odd``.

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
                f"{pattern}: no image is found there{_passed(passed)}; name an image, a folder of images or a glob",
                code="no-image-found",
            )
        found.update(dict.fromkeys(files))
    if not found:
        raise DataError("no images are named; name an image, a folder of images or a glob", code="no-image-named")
    return list(found)


def _passed(passed: Counter[str]) -> str:
    """Return the number of other files, for a sentence."""
    if not passed:
        return ""
    return f", but {counted(sum(passed.values()), 'other (file|files)')} ({_by_suffix(passed)})"


def _by_suffix(counts: Counter[str]) -> str:
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    listed = [f"{suffix or 'no suffix'}: {count}" for suffix, count in ordered[:_NAMED]]
    more = len(counts) - len(listed)
    return ", ".join(listed) + (f" and {more} more suffixes" if more else "")


def passed_over(names: Iterable[str], source: str) -> list[str]:
    """Return notes on files that are images by name, but of a kind that is not read or with a changed suffix."""
    unread, changed = [], []
    for name in names:  # up to a million
        if suffix_of(name) in UNREAD:
            unread.append(name)
        elif has_changed_suffix(name):
            changed.append(name)
    notes = _left_out(unread, source, "of a kind that is not read", "convert them to JPEG, PNG or TIFF")
    return [*notes, *_left_out(changed, source, "with an unknown suffix", "rename them")]


def odd_images(files: Sequence[Path], source: str) -> list[str]:
    """Return notes on images with an unknown suffix, and on files of a kind that is not read, such as PDF documents."""
    read = [begins_as_image(read_head(file)) for file in files]
    unread = [file.name for file, is_read in zip(files, read, strict=True) if not is_read]
    renamed = [file.name for file, is_read in zip(files, read, strict=True) if is_read]
    notes = _left_out(unread, source, "of a kind that is not read", "convert them to JPEG, PNG or TIFF")
    return [*notes, *_left_out(renamed, source, "with an unknown suffix", "rename them or name them in full")]


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
        return _images_below(pattern, suffixes, beside)
    files: list[Path] = []
    for match in matching_paths(pattern):
        if os.path.isdir(match):
            files += _images_below(match, suffixes, beside)
        elif _is_image(Path(match), suffixes, beside):
            files.append(Path(match))
    return files


def matching_paths(pattern: str) -> list[str]:
    """Return the sorted paths that match a glob; existing folders with special characters in it are themselves."""
    return sorted(glob.glob(_with_real_folders(pattern), recursive=True))


def _with_real_folders(pattern: str) -> str:
    """Return the glob with the names of existing folders escaped, such as [v2] or a*b."""
    location = pattern
    while location and not os.path.isdir(location):
        above = os.path.dirname(location)
        if above == location:
            return pattern
        location = above
    return glob.escape(location) + pattern[len(location) :]


def _images_below(folder: str, suffixes: Collection[str], beside: _Beside) -> list[Path]:
    files = (Path(folder, inner, name) for _, inner, names in walk(Path(folder)) for name in names)
    return sorted(file for file in files if _is_image(file, suffixes, beside))


def _is_image(file: Path, suffixes: Collection[str], beside: _Beside) -> bool:
    suffix = suffix_of(file.name)
    if suffix in suffixes:
        return True
    head = read_head(file) if may_be_image(file.name) and file.is_file() else b""
    if begins_as_image(head) and not suffix:
        return True
    if begins_as_image(head) or kind_of_head(head):
        beside.odd.append(file)
    beside.passed[suffix] += 1
    return False
