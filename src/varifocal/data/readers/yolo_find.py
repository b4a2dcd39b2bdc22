"""How a YOLO data set is known and described: by a ``data.yaml``, by Darknet's ``.data`` file, or by its folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from varifocal.data.archive import AnyPath, is_unsafe_path
from varifocal.data.paths import TextDecoder, exists, is_folder, is_image, list_dir, walk
from varifocal.data.readers import darknet
from varifocal.data.readers.yolo_layout import (
    IMAGES,
    LABELS,
    MOST_CLASSES,
    NOT_LABELS,
    Layout,
    called,
    class_file,
    class_files,
    label_path,
    listed_names,
    number_classes,
    read_names,
    split_of,
    tails_of,
)
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted, short

_USUAL = ("data.yaml", "data.yml", "dataset.yaml")
_SETTINGS = ("config", "configs", "conf", "cfg", "cfgs", "settings", "yaml")
_FOLDERS, _FILES = 64, 8  # that are looked through for labels without images beside them
_KEYS = ("train", "val", "valid", "validation", "test")


def read_layout(source: AnyPath, data: AnyPath) -> Layout:
    """The layout that a ``data.yaml`` describes, or that of a folder without one; all lies in the folder ``data``, or
    in that of ``source``.

    Raises:
        DataError: it cannot be understood.
    """
    if source.is_dir():
        return _from_folder(source)
    return _from_darknet(source) if source.name.lower().endswith(darknet.SUFFIX) else _from_yaml(source, data)


def read_yaml(file: AnyPath, texts: TextDecoder) -> dict[Any, Any]:
    """The keys of a YAML file.

    Raises:
        DataError: not YAML, or not keys and values.
    """
    text = texts.read(file)
    try:
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" at line {mark.line + 1}" if mark else ""
        raise DataError(f"{file}: this is not valid YAML{line} ({error.problem or error.context}); fix it") from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{file}: the YAML cannot be read ({reason}); fix it") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: this is {short(content)} and should have the keys names, train and val; fix it")
    return content


def _from_yaml(file: AnyPath, data: AnyPath) -> Layout:
    texts = TextDecoder()
    content = read_yaml(file, texts)
    layout = Layout(file, file.parent, notes=texts.notes(file))
    _read_root(layout, content.get("path"))
    for key, value in content.items():
        words = value if isinstance(value, list) else [value]
        wrong = not words or not all(isinstance(word, str) and word.strip() for word in words)
        # other programs' settings may be called training
        if split_of(key) and value is not None and (not wrong or key.lower() in _KEYS):
            if wrong:
                raise DataError(f"{file}: {key} is {short(value)}; it names a folder, a list of images, or several")
            layout.given.setdefault(split_of(key), []).extend(words)
    if not layout.given:
        raise DataError(f"{file}: there is no train, val or test in it; say where the images of each split are")
    if data.is_dir() and not layout.present():  # config/data.yaml
        layout.root = data
    layout.categories = read_names(layout, content)
    layout.keypoint_values = _read_points(layout, content.get("kpt_shape"))
    return layout


def _from_darknet(file: AnyPath) -> Layout:
    """A ``.data`` file of Darknet; its paths are those of the machine that was trained on."""
    texts = TextDecoder()
    content = darknet.read_description(texts.read(file))
    layout = Layout(file, file.parent, foreign=True)
    layout.given = {split: [content[key]] for key, split in darknet.SPLITS.items() if content.get(key)}
    if not layout.given:
        raise DataError(f"{file}: there is no train or valid in it; say where the list of the images is")
    words = [layout.root / tail for tail in tails_of(content.get("names", ""))]
    names = next((location for location in words if exists(location)), None) or class_file(file.parent)
    count = content.get("classes", "")
    if names is not None:
        layout.categories = listed_names(layout, names, texts)
    elif count.isdecimal() and 0 < int(count) < MOST_CLASSES:
        number_classes(layout, int(count))
    else:
        raise DataError(f"{file}: the list of class names, {short(content.get('names'))}, is not found; put it there")
    if names is not None and count.isdecimal() and int(count) != len(layout.categories):
        text = f"classes is {count} but {names.name} has {len(layout.categories)}"
        layout.problems.append(("bad-category", text, "fix the one that is wrong"))
    layout.notes += texts.notes(file)
    return layout


def _read_root(layout: Layout, given: Any) -> None:
    if given is None:
        return
    if not isinstance(given, str):
        raise DataError(f"{layout.source}: path is {short(given)}; it should be a folder")
    name = given.replace("\\", "/")
    if (isinstance(layout.root, Path) or not is_unsafe_path(name)) and is_folder(layout.root / name):
        layout.root = layout.root / name
        return
    taken = next((path for tail in tails_of(given) if is_folder(path := layout.root / tail)), layout.root)
    what = "the folder of the file" if taken is layout.root else str(taken)
    layout.root = taken
    layout.notes.append(f"{layout.source.name}: path, {short(given)}, is not there; {what} is taken.")


def _read_points(layout: Layout, shape: Any) -> int:
    if shape is None:
        return 0
    if not (
        isinstance(shape, list) and len(shape) == 2 and all(type(side) is int and 0 < side < 1000 for side in shape)
    ):
        raise DataError(f"{layout.source}: kpt_shape is {short(shape)}; it is the number of points and 2 or 3")
    layout.notes.append(f"{layout.source.name}: the points of each object are not used, its box is.")
    return int(shape[0]) * int(shape[1])


def _from_folder(folder: AnyPath) -> Layout:
    """A folder without ``data.yaml``: names from a list beside, splits from the folders of images."""
    layout = Layout(folder, folder, given=folder_splits(folder))
    paths = [folder / word for words in layout.given.values() for word in words if word != "."]
    file = _class_file(folder, *paths) or _beside_labels([label_path(path, folder) for path in paths])
    if file is None:
        raise DataError(
            f"{folder}: the labels are numbers and nothing names their classes; add classes.txt, a name on each line, "
            "or a data.yaml"
        )
    texts = TextDecoder()
    layout.categories = listed_names(layout, file, texts)
    layout.notes = [*texts.notes(file), *_left_out(layout)]
    return layout


def _class_file(folder: AnyPath, *others: AnyPath) -> AnyPath | None:
    """The list of class names of a folder, which a folder of labels has around it.

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
    """The first file of labels in each of the first folders below and including a folder."""
    for path, _, names in islice(walk(folder, wide=True), _FOLDERS):
        files = (path / name for name in names if name.lower().endswith(".txt") and name.lower() not in NOT_LABELS)
        if (file := next(filter(_begins_with_numbers, islice(files, _FILES)), None)) is not None:
            yield file


def _beside_labels(folders: Iterable[AnyPath]) -> AnyPath | None:
    """The list of class names in the folders of labels, where labelImg leaves it.

    Raises:
        DataError: two of them differ.
    """
    files = class_files(folders)
    for file in files[1:]:
        if TextDecoder().read(file).split() != TextDecoder().read(files[0]).split():
            raise DataError(
                f"{file}: these are other classes than in {files[0]}; put the one that is meant beside both"
            )
    return files[0] if files else None


def _left_out(layout: Layout) -> list[str]:
    """Notes on images beside the folders of the splits."""
    images = layout.root / called(IMAGES, list_dir(layout.root)[0])
    head = f"{images.name}/"
    used = {word.split("/")[1] for words in layout.given.values() for word in words if word.startswith(head)}
    if not used:
        return []
    folders, files = list_dir(images)
    others = [name for name in folders if name not in used and any(map(is_image, list_dir(images / name)[1]))]
    notes = [
        f"{layout.root.name}: the folder {images.name}/{name} belongs to no split and is left out." for name in others
    ]
    loose = sum(map(is_image, files))
    if loose:
        what = counted(
            loose, "(image|images) beside the folders in images (belongs to no split and is|belong to no split and are)"
        )
        notes.append(f"{layout.root.name}: {what} left out.")
    return notes


def folder_splits(folder: AnyPath) -> dict[str, list[str]]:
    """Split -> the folders or the lists of its images, where no description says what they are."""
    folders, files = list_dir(folder)
    lists = _by_split((name[:-4], name) for name in files if darknet.lists_images(folder / name))
    here = {"all": ["."]} if any(map(is_image, files)) else {}
    images, labels = called(IMAGES, folders), called(LABELS, folders)
    above = images if images in folders else labels if labels in folders and not here else None
    if above is not None:  # the folders of the splits lie below those of images and labels
        inner = list_dir(folder / above)[0]
        return _by_split((name, f"{images}/{name}") for name in inner) or lists or {"all": [images]}
    splits = lists or _by_folders(folder, folders) or here
    if splits or "data" in folders:  # as FiftyOne has it
        return splits or {"all": ["data"]}
    return {"all": ["."]} if any(True for _ in _labels_below(folder)) else {}


def _by_folders(folder: AnyPath, folders: Sequence[str]) -> dict[str, list[str]]:
    """Split -> folders of images, of folders that are called like splits."""
    splits = _by_split((name, name) for name in folders)
    splits = splits or _by_split((darknet.split_of_folder(name), name) for name in folders)
    return {split: [_with_images(folder, name) for name in names] for split, names in splits.items()}


def _with_images(folder: AnyPath, name: str) -> str:
    """The folder of a split's images, as a path: that of the split, or one called images in it."""
    inner = list_dir(folder / name)[0]
    images = called(IMAGES, inner)
    return f"{name}/{images}" if images in inner else name


def _by_split(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Split -> words, of pairs of a name and a word; names that mean no split are left out."""
    found: dict[str, list[str]] = {}
    for name, word in pairs:
        if split := split_of(name):
            found.setdefault(split, []).append(word)
    return found


def find_yolo(path: AnyPath) -> dict[str, AnyPath]:
    """The splits that are there, each with what ``read_layout`` takes.

    Raises:
        DataError: it cannot be understood, or none of its splits is there.
    """
    source = description_of(path) or path
    layout = read_layout(source, path)
    found = layout.present()
    if not found and not layout.given:
        raise DataError(f"{path}: there are no images in it; put them into images/train and images/val, say")
    if not found:
        layout.entries(next(iter(layout.given)))
    return dict.fromkeys(found, source)


def description_of(path: AnyPath) -> AnyPath | None:
    """What describes the data set of a folder: its ``data.yaml``, or a ``.data`` file of Darknet.

    Raises:
        DataError: there are several.
    """
    file = yaml_of(path)
    if file is not None and (path.is_file() or _describes_data(file)):
        return file
    return darknet.description_of(path) or file or _in_settings(path)


def _in_settings(path: AnyPath) -> AnyPath | None:
    """The only description in a folder of settings, if images and labels that it names lie in the folder around.

    Raises:
        DataError: there are several.
    """
    folders = [path / name for name in list_dir(path)[0] if name.lower() in _SETTINGS]
    files = [folder / name for folder in folders for name in list_dir(folder)[1] if name.endswith((".yaml", ".yml"))]
    found = [file for file in files if _describes_data(file) and _fits(file, path)]
    if len(found) > 1:
        names = ", ".join(f"{file.parent.name}/{file.name}" for file in found)
        raise DataError(f"{path}: there are several descriptions, {names}; leave the one that is meant")
    return found[0] if found else None


def _fits(file: AnyPath, path: AnyPath) -> bool:
    """Whether the labels of a split that a description names lie below a folder."""
    try:
        layout = read_layout(file, path)
        locations = [entry.path for split in layout.present() for entry in layout.entries(split)]
    except DataError:
        return False
    return any(location.is_file() or is_folder(label_path(location, layout.root)) for location in locations)


def yaml_of(path: AnyPath) -> AnyPath | None:
    """The ``data.yaml`` of a folder, under whatever name: the only YAML file in it that has names and a split.

    Raises:
        DataError: there are several, none of them called data.yaml.
    """
    if path.is_file():
        return path
    files = [path / name for name in list_dir(path)[1] if name.endswith((".yaml", ".yml"))]
    for file in files:
        if file.name in _USUAL:
            return file
    fitting = [file for file in files if _describes_data(file)]
    if len(fitting) > 1:
        names = ", ".join(file.name for file in fitting)
        raise DataError(f"{path}: there are several descriptions, {names}; name the one that is meant")
    return fitting[0] if fitting else None


def _describes_data(file: AnyPath) -> bool:
    try:
        content = read_yaml(file, TextDecoder())
    except DataError:
        return False
    return bool({"names", "nc"} & set(content) or file.name in _USUAL) and any(map(split_of, content))


def has_yolo(folder: AnyPath) -> str:
    """What speaks for YOLO in a folder: a ``data.yaml``, or numbers in the text file of an image."""
    file = description_of(folder)
    if file is not None and (darknet.is_description(file) or _describes_data(file)):
        return file.name
    return has_yolo_labels(folder)


def has_yolo_labels(folder: AnyPath) -> str:
    """A list of images with names of classes beside it, or the first text file of numbers of an image, if any; or else
    the first one, whose image may lie elsewhere, where the classes have names."""
    words = [word for words in folder_splits(folder).values() for word in words]
    if words and words[0].endswith(".txt"):
        return words[0] if class_file(folder) is not None else ""
    for word in words:
        label = next(_labels_of(folder / word if word != "." else folder, folder), None)
        if label is not None:
            return f"{label.parent.name}/{label.name}"
    apart = next(_labels_below(folder), None)
    return f"{apart.parent.name}/{apart.name}" if apart is not None and _class_file(folder) is not None else ""


def _labels_of(images: AnyPath, folder: AnyPath) -> Iterator[AnyPath]:
    """Yield the text files of numbers of the first hundred files in a folder of images."""
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
