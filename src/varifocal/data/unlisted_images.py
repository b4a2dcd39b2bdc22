"""Images that lie beside those that an annotation file lists and are not listed themselves.

A table has no line for an image without objects, and labeling tools export what was labeled alone. Such images are
images without objects where the user says so, else they are counted. What another split lists is of that split.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from varifocal.data.annotations import Files, ImageColumns, RawDataset, counted
from varifocal.data.archive import AnyPath
from varifocal.data.find_images import fold, spellings, without_upload
from varifocal.data.listing import passed_over
from varifocal.data.names import NAMED, normalize_split
from varifocal.data.options import ReadOptions
from varifocal.data.paths import is_image, list_dir
from varifocal.data.roles import is_to_train, made_of_others
from varifocal.utils.errors import DataError

FindSplits = Callable[[AnyPath], Mapping[str, AnyPath]]
ReadSplit = Callable[[AnyPath, AnyPath, str, ReadOptions], RawDataset]


@dataclass(frozen=True)
class _Beside:
    """A folder with images of a set, the files in it that the set does not name, and what its names begin with."""

    folder: AnyPath
    names: list[str]
    prefix: str


def with_unlisted(
    raw: RawDataset, data: AnyPath, options: ReadOptions, find: FindSplits, read: ReadSplit
) -> RawDataset:
    """The same set with the images that lie beside its own, or with a note that counts them.

    ``find`` gives the splits of a data folder, and ``read`` reads one of them, as of a reader: they are asked only if
    there are such images.

    Raises:
        DataError: the images are requested, and another split, which may list them, cannot be read.
    """
    beside = list(_beside(raw))
    if not beside:
        return raw
    home = _home(data)
    splits = _splits(raw, home, find)
    base = options.images or home
    beside = [one for one in beside if _is_counted_with(raw.split, list(splits), one.folder, base)]
    passed = passed_over((name for one in beside for name in one.names), raw.source.name)
    raw = replace(raw, notes=(*raw.notes, *passed))
    left = [(one, name) for one in beside for name in one.names if is_image(name)]
    as_background = options.unlabeled == "background"
    if left:
        try:
            listed = _listed([read(file, home, name, options) for name, file in splits.items() if name != raw.split])
        except DataError:
            if as_background:
                raise
            return raw  # the error is reported when that split is read
        left = [(one, name) for one, name in left if (one.folder, name) not in listed]
    if not left:
        return raw
    return _added(raw, left) if as_background else _counted(raw, left)


def _counted(raw: RawDataset, left: Sequence[tuple[_Beside, str]]) -> RawDataset:
    """The set with a note on images that are not taken."""
    text = "(image lies|images lie) beside those that it lists and (is|are) left out"
    note = f"{raw.source.name}: {counted(len(left), text)}, first {left[0][1]}; "
    return replace(raw, notes=(*raw.notes, note + "--unlabeled background takes them as images without objects."))


def _beside(raw: RawDataset) -> Iterator[_Beside]:
    """The folders of a set's images in which there are other files, too."""
    assert isinstance(raw.images.files, Files), "images that are listed lie in folders"
    unclear: set[str] | None = None
    for folder, (first, used) in raw.images.files.by_folder().items():
        there = list_dir(folder)[1]
        left = [name for name in there if name not in used]
        if not any(map(_may_be_meant, left)):
            continue
        if unclear is None:
            unclear = _unclear(raw)
        strange = used.difference(there)  # a file system that lists names in other letters than it takes
        spelled = {fold(name) for name in strange}
        left = [name for name in left if fold(name) not in spelled and not _stems(name) & unclear]
        called = raw.images.names[first].replace("\\", "/")
        path, _, tail = called.rpartition("/")
        yield _Beside(folder, left, f"{path}/" if path and tail in used else "")


def _may_be_meant(name: str) -> bool:
    return is_image(name) or bool(passed_over([name], ""))


def _unclear(raw: RawDataset) -> set[str]:
    """The stems of the images that the source names and the set does not have: not found, or left out for a reason."""
    assert isinstance(raw.images.files, Files)
    names = [*raw.left_out, *(raw.images.names[index] for index in raw.images.files.missing.tolist())]
    found: set[str] = set()
    for name in names:
        written = [parts for parts in spellings(name) if parts]
        for parts in (*written, *without_upload(written, True)):
            found |= _stems(parts[-1])
    return found


def _stems(name: str) -> set[str]:
    """What names a file may be meant by: its own, and that without its suffix."""
    return {fold(name), fold(os.path.splitext(name)[0])}


def _home(data: AnyPath) -> AnyPath:
    """The data folder, also of a file that was named by itself."""
    if data.is_dir():
        return data
    return data.parent.parent if data.parent.name == "annotations" else data.parent


def _splits(raw: RawDataset, home: AnyPath, find: FindSplits) -> Mapping[str, AnyPath]:
    """The splits of the data, each with its source; those that are others together are left out."""
    try:
        found = find(home)
    except DataError:
        found = {}
    if found.get(raw.split) != raw.source:  # a file that was named by itself is none of these
        return {raw.split: raw.source}
    joined = [name for name in made_of_others(list(found)) if name != raw.split]
    return {name: source for name, source in found.items() if name not in joined}


def _is_counted_with(split: str, splits: Sequence[str], folder: AnyPath, base: AnyPath) -> bool:
    """Whether what no split lists in a folder counts with a split: the one that the folder is called like, or else the
    one to train on."""
    meant = [name for name in splits if normalize_split(name) == _split_of(folder, base)]
    meant = meant or [name for name in splits if is_to_train(name)] or list(splits)
    return split == meant[0]


def _split_of(folder: AnyPath, base: AnyPath) -> str:
    """The split that a folder, or the nearest one around it in the data, is called like; or ""."""
    while str(folder).startswith(str(base)) and str(folder) != str(base) and folder != folder.parent:
        if normalize_split(folder.name) in NAMED:
            return normalize_split(folder.name)
        folder = folder.parent
    return ""


def _listed(others: Sequence[RawDataset]) -> set[tuple[AnyPath, str]]:
    """The images of other splits by folder and name."""
    return {
        location for raw in others if isinstance(raw.images.files, Files) for location in raw.images.files.locations()
    }


def _added(raw: RawDataset, left: Sequence[tuple[_Beside, str]]) -> RawDataset:
    """The set with images without objects, whose ids are free ones."""
    images, count = raw.images, len(left)
    assert isinstance(images.files, Files)
    free = np.setdiff1d(np.arange(1, len(images) + count + 1), images.ids)[:count]
    names = [*images.names, *(one.prefix + name for one, name in left)]
    files = images.files.extended((one.folder, name) for one, name in left)
    sizes = np.concatenate([images.sizes, np.zeros((count, 2), np.int64)])
    return replace(raw, images=ImageColumns(names, files, sizes, np.concatenate([images.ids, free])))
