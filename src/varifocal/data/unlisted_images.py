"""Images beside those that an annotation file lists, which are not listed themselves.

A table has no line for an image without objects, and labeling tools export only what was labeled. Such images are
images without objects if the user says so, otherwise a note counts them. Images that another split lists belong there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from varifocal.data.annotations import Files, ImageColumns, RawDataset
from varifocal.data.archive import AnyPath
from varifocal.data.find_images import fold, spellings, without_upload
from varifocal.data.listing import passed_over
from varifocal.data.options import ReadOptions
from varifocal.data.paths import is_image, list_dir, split_lists
from varifocal.data.splits import NAMED, is_to_train, made_of_others, normalize_split
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted, short_list

# Text and fix of the note on lists of splits that are not read, for YOLO and for other formats.
_UNREAD_LISTS = {
    "yolo": (
        "lists of splits are left out, because no data.yaml names them or their lines are no paths",
        "name them there (val: val.txt), with the path of an image on each line",
    ),
    "": (
        "lists of splits are not read there in this format",
        "convert the data set to Pascal VOC or YOLO, or move the images of each split into a folder of their own",
    ),
}
FindSplits = Callable[[AnyPath], Mapping[str, AnyPath]]
ReadSplit = Callable[[AnyPath, AnyPath, str, ReadOptions], RawDataset]


@dataclass(frozen=True)
class _Beside:
    """A folder with images of a split, the files in it that the split does not name, and the prefix of its names."""

    folder: AnyPath
    names: list[str]
    prefix: str


def with_unlisted(
    raw: RawDataset, data: AnyPath, options: ReadOptions, find: FindSplits, read: ReadSplit
) -> RawDataset:
    """Return the split with the unlisted images beside its own, or with a note that counts them.

    ``find`` returns the splits of a data set and ``read`` reads one of them, as in a reader; they are called only if
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
    files = [
        (one, name)
        for one in beside
        if _is_counted_with(raw.split, list(splits), one.folder, base)
        for name in one.names
    ]
    raw = replace(raw, notes=(*raw.notes, *passed_over([name for _, name in files], raw.source.name)))
    images = [(one, name) for one, name in files if is_image(name)]
    left = _not_listed(images, [(name, splits[name]) for name in splits if name != raw.split], home, options, read)
    if not left:
        return raw
    return _added(raw, left) if options.unlabeled == "background" else _counted(raw, left)


def _not_listed(
    images: Sequence[tuple[_Beside, str]],
    others: Sequence[tuple[str, AnyPath]],
    home: AnyPath,
    options: ReadOptions,
    read: ReadSplit,
) -> list[tuple[_Beside, str]]:
    """Return the images that none of the other splits lists."""
    if not images:
        return []
    try:
        listed = _listed([read(file, home, name, options) for name, file in others])
    except DataError:
        if options.unlabeled == "background":
            raise
        return []  # the error is reported when that split is read
    return [(one, name) for one, name in images if (one.folder, name) not in listed]


def _counted(raw: RawDataset, left: Sequence[tuple[_Beside, str]]) -> RawDataset:
    """Return the split with a note on images that are not taken."""
    text = "(image lies|images lie) beside those that it lists and (is|are) left out"
    note = f"{raw.source.name}: {counted(len(left), text)}, first {left[0][1]}; "
    return replace(raw, notes=(*raw.notes, note + "--unlabeled background takes them as images without objects."))


def _beside(raw: RawDataset) -> Iterator[_Beside]:
    """Yield the folders of the split's images that contain other files, too."""
    assert isinstance(raw.images.files, Files), "images that are listed are files in folders"
    unclear: set[str] | None = None
    for folder, (first, used) in raw.images.files.by_folder().items():
        files = list_dir(folder)[1]
        left = [name for name in files if name not in used]
        if not any(map(_may_be_meant, left)):
            continue
        unclear = _unclear(raw) if unclear is None else unclear
        # a file system may list names in another spelling than it accepts
        spelled = set(map(fold, used.difference(files)))
        left = [name for name in left if fold(name) not in spelled and not _stems(name) & unclear]
        path, _, tail = raw.images.names[first].replace("\\", "/").rpartition("/")
        yield _Beside(folder, left, f"{path}/" if path and tail in used else "")


def _may_be_meant(name: str) -> bool:
    return is_image(name) or bool(passed_over([name], ""))


def _unclear(raw: RawDataset) -> set[str]:
    """Return the folded names and stems of images that the source names and that were not found or left out."""
    assert isinstance(raw.images.files, Files)
    names = [*raw.left_out, *(raw.images.names[index] for index in raw.images.files.missing.tolist())]
    found: set[str] = set()
    for name in names:
        written = [parts for parts in spellings(name) if parts]
        for parts in (*written, *without_upload(written, True)):
            found |= _stems(parts[-1])
    return found


def _stems(name: str) -> set[str]:
    """Return the names by which a file may be meant: its own, and that without its suffix."""
    return {fold(name), fold(os.path.splitext(name)[0])}


def _home(data: AnyPath) -> AnyPath:
    """Return the folder of the data set, also if only a file was named."""
    folder = data if data.is_dir() else data.parent
    return folder.parent if folder.name == "annotations" else folder


def _splits(raw: RawDataset, home: AnyPath, find: FindSplits) -> Mapping[str, AnyPath]:
    """Return the splits of the data set with their sources; splits that consist of others are left out."""
    try:
        found = find(home)
    except DataError:
        found = {}
    if found.get(raw.split) != raw.source:  # a file that was named alone is none of these
        return {raw.split: raw.source}
    joined = [name for name in made_of_others(list(found)) if name != raw.split]
    return {name: source for name, source in found.items() if name not in joined}


def _is_counted_with(split: str, splits: Sequence[str], folder: AnyPath, base: AnyPath) -> bool:
    """Return whether unlisted images in a folder belong to a split: the one that the folder is named after, or else the
    one to train on."""
    meant = [name for name in splits if normalize_split(name) == _split_of(folder, base)]
    meant = meant or [name for name in splits if is_to_train(name)] or list(splits)
    return split == meant[0]


def _split_of(folder: AnyPath, base: AnyPath) -> str:
    """Return the split that a folder, or the nearest one around it in the data set, is named after; or ""."""
    while str(folder).startswith(str(base)) and str(folder) != str(base) and folder != folder.parent:
        if normalize_split(folder.name) in NAMED:
            return normalize_split(folder.name)
        folder = folder.parent
    return ""


def _listed(others: Sequence[RawDataset]) -> set[tuple[AnyPath, str]]:
    """Return the images of other splits by folder and name."""
    return {
        location for raw in others if isinstance(raw.images.files, Files) for location in raw.images.files.locations()
    }


def _added(raw: RawDataset, left: Sequence[tuple[_Beside, str]]) -> RawDataset:
    """Return the split with more images without objects, which get free ids."""
    images, count = raw.images, len(left)
    assert isinstance(images.files, Files)
    free = np.setdiff1d(np.arange(1, len(images) + count + 1), images.ids)[:count]
    names = [*images.names, *(one.prefix + name for one, name in left)]
    files = images.files.extended((one.folder, name) for one, name in left)
    sizes = np.concatenate([images.sizes, np.zeros((count, 2), np.int64)])
    return replace(raw, images=ImageColumns(names, files, sizes, np.concatenate([images.ids, free])))


def unread_lists(data: AnyPath, folders: Sequence[str], splits: Iterable[str], format: str) -> list[str]:
    """Return a note on lists of splits in some folders of a data set that are none of its ``splits``, if there are any.

    YOLO's reader reads lists that its description names, or whose lines are paths; other formats have no use for them.
    """
    known = set(map(normalize_split, splits))
    found = [(folder, file) for folder in folders for file in split_lists(data / folder if folder else data)]
    names = ["/".join(filter(None, pair)) for pair in found if normalize_split(pair[1][:-4]) not in known]
    text, hint = _UNREAD_LISTS["yolo" if format == "yolo" else ""]
    return [f"{data.name}: {short_list(names)}: {text}; {hint}."] if names else []
