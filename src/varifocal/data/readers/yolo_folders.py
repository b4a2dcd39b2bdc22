"""YOLO data sets without a description: classes, splits and labels from the names and contents of folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from varifocal.data.annotations import counted
from varifocal.data.archive import AnyPath
from varifocal.data.paths import TextDecoder, is_image, list_dir, walk
from varifocal.data.readers import darknet
from varifocal.data.readers.yolo_layout import (
    IMAGES,
    LABELS,
    NOT_LABELS,
    Layout,
    called,
    class_file,
    class_files,
    label_path,
    listed_names,
    split_of,
)
from varifocal.utils.errors import DataError

_MAX_FOLDERS, _MAX_FILES = 64, 8  # that are searched for labels without images beside them


def layout_of_folder(folder: AnyPath) -> Layout:
    """Return the layout of a folder without ``data.yaml``: names from a list, splits from the folders of images.

    Raises:
        DataError: there is no list of class names.
    """
    layout = Layout(folder, folder, paths=folder_splits(folder))
    paths = [folder / path for paths in layout.paths.values() for path in paths if path != "."]
    file = _class_file(folder, *paths) or _beside_labels([label_path(path, folder) for path in paths])
    if file is None:
        text = "the labels are numbers and nothing names their classes"
        hint = "add classes.txt, a name on each line, or a data.yaml"
        if split_of(folder.name):  # the folder of a split, as Roboflow has it
            hint += f"; if there is one in {folder.parent}, name that folder"
        raise DataError(f"{folder}: {text}; {hint}", code="yolo-no-classes")
    texts = TextDecoder()
    layout.categories = listed_names(layout, file, texts)
    layout.notes += [*texts.notes(file), *_left_out(layout)]
    return layout


def _class_file(folder: AnyPath, *others: AnyPath) -> AnyPath | None:
    """Return the list of class names of a folder, or of that around a folder of labels; None where there is none.

    Raises:
        DataError: a list in a folder of labels below differs from it, so that its numbers mean other classes.
    """
    around = [folder.parent] if folder.name.lower() in LABELS else []
    file = class_file(folder, *others, *around)
    if "." not in folder_splits(folder).get("all", []):
        return file
    below = [path.parent for path in _labels_below(folder)]
    return _beside_labels([*([] if file is None else [file.parent]), *below]) or file


def _labels_below(folder: AnyPath) -> Iterator[AnyPath]:
    """Yield the first file of labels in each of the first folders below and including a folder."""
    for path, _, names in islice(walk(folder, wide=True), _MAX_FOLDERS):
        files = (path / name for name in names if name.lower().endswith(".txt") and name.lower() not in NOT_LABELS)
        if (file := next(filter(_begins_with_numbers, islice(files, _MAX_FILES)), None)) is not None:
            yield file


def _beside_labels(folders: Iterable[AnyPath]) -> AnyPath | None:
    """Return the list of class names in folders of labels, where labelImg leaves it; None where there is none.

    Raises:
        DataError: two of them differ.
    """
    files = class_files(folders)
    for file in files[1:]:
        if TextDecoder().read(file).split() != TextDecoder().read(files[0]).split():
            text = f"its classes differ from those in {files[0]}; put the right list beside both"
            raise DataError(f"{file}: {text}", code="yolo-different-classes")
    return files[0] if files else None


def _left_out(layout: Layout) -> list[str]:
    """Return notes on images beside the folders of the splits."""
    images = layout.root / called(IMAGES, list_dir(layout.root)[0])
    head = f"{images.name}/"
    used = {path.split("/")[1] for paths in layout.paths.values() for path in paths if path.startswith(head)}
    if not used:
        return []
    folders, files = list_dir(images)
    others = [name for name in folders if name not in used and any(map(is_image, list_dir(images / name)[1]))]
    notes = [
        f"{layout.root.name}: the folder {images.name}/{name} belongs to no split and is left out." for name in others
    ]
    loose = sum(map(is_image, files))
    if loose:
        text = "(image|images) beside the folders in images (belongs to no split and is|belong to no split and are)"
        notes.append(f"{layout.root.name}: {counted(loose, text)} left out.")
    return notes


def folder_splits(folder: AnyPath) -> dict[str, list[str]]:
    """Return split -> the folders or the lists of its images, where no description has them; empty without any."""
    return next(filter(None, _candidate_splits(folder)), {})


def _candidate_splits(folder: AnyPath) -> Iterator[dict[str, list[str]]]:
    """Yield what the splits of a folder may be, the most likely first; empty where it has nothing of the kind."""
    folders, files = list_dir(folder)
    lists = _by_split((name[:-4], name) for name in files if darknet.lists_images(folder / name))
    images, labels = called(IMAGES, folders), called(LABELS, folders)
    has_images = any(map(is_image, files))
    above = images if images in folders else labels
    if above in folders and (above == images or not has_images):  # the splits lie below the folders of images or labels
        yield _by_split((name, f"{images}/{name}") for name in list_dir(folder / above)[0])
        yield lists
        yield {"all": [images]}
    yield lists
    yield _by_folders(folder, folders)
    if has_images:
        yield {"all": ["."]}
    if "data" in folders:  # as FiftyOne has it
        yield {"all": ["data"]}
    if next(_labels_below(folder), None) is not None:
        yield {"all": ["."]}


def _by_folders(folder: AnyPath, folders: Sequence[str]) -> dict[str, list[str]]:
    """Return split -> folders of images, of folders that are called like splits."""
    splits = _by_split((name, name) for name in folders)
    splits = splits or _by_split((darknet.split_of_folder(name), name) for name in folders)
    return {split: [_with_images(folder, name) for name in names] for split, names in splits.items()}


def _with_images(folder: AnyPath, name: str) -> str:
    """Return the folder of a split's images, as a path: that of the split, or one called images in it."""
    inner = list_dir(folder / name)[0]
    images = called(IMAGES, inner)
    return f"{name}/{images}" if images in inner else name


def _by_split(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return split -> paths, from pairs of a name and a path; names that mean no split are left out."""
    found: dict[str, list[str]] = {}
    for name, path in pairs:
        if split := split_of(name):
            found.setdefault(split, []).append(path)
    return found


def has_yolo_labels(folder: AnyPath) -> str:
    """Return the evidence for YOLO labels in a folder, "" for none.

    That is a list of images with names of classes beside it, or the first text file of numbers of an image, or else the
    first such file at all, whose image may lie elsewhere, where the classes have names.
    """
    paths = list(chain.from_iterable(folder_splits(folder).values()))
    if paths and paths[0].endswith(".txt"):
        return paths[0] if class_file(folder) is not None else ""
    label = next((label for path in paths for label in _labels_of(folder, path)), None)
    if label is None:
        apart = next(_labels_below(folder), None)
        label = apart if apart is not None and _class_file(folder) is not None else None
    return "" if label is None else f"{label.parent.name}/{label.name}"


def _labels_of(folder: AnyPath, path: str) -> Iterator[AnyPath]:
    """Yield the text files of numbers of the first hundred images in a folder of images, a path in ``folder``."""
    images = folder / path if path != "." else folder
    for name in filter(is_image, list_dir(images)[1][:100]):
        for location in (label_path(images, folder), images):
            for stem in (os.path.splitext(name)[0], name):
                label = location / f"{stem}.txt"
                if label.is_file() and _begins_with_numbers(label):
                    yield label


def _begins_with_numbers(file: AnyPath) -> bool:
    with file.open("rb") as stream:
        words = stream.read(200).split(b"\n", 1)[0].split()
    try:
        return len(words) >= 5 and all(abs(float(word)) < 1e6 for word in words)
    except ValueError:
        return False
