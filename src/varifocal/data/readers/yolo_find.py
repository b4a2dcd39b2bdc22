"""The layout of a YOLO data set, from its ``data.yaml``, from Darknet's ``.data`` file, or from its folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from varifocal.data.archive import AnyPath, is_unsafe_path
from varifocal.data.paths import TextDecoder, exists, is_folder, list_dir
from varifocal.data.readers import darknet
from varifocal.data.readers.yolo_folders import has_yolo_labels, layout_of_folder
from varifocal.data.readers.yolo_layout import (
    MAX_CLASSES,
    Layout,
    class_file,
    label_path,
    listed_names,
    number_classes,
    read_names,
    split_of,
    tails_of,
)
from varifocal.data.splits import normalize_split
from varifocal.utils.errors import DataError
from varifocal.utils.text import short

_USUAL = ("data.yaml", "data.yml", "dataset.yaml")
_SETTINGS = ("config", "configs", "conf", "cfg", "cfgs", "settings", "yaml")
_KEYS = ("train", "val", "valid", "validation", "test")  # of splits; other programs' settings may be called training


def read_layout(source: AnyPath, data: AnyPath) -> Layout:
    """Return the layout that a description ``source`` has, or that of a folder without one.

    Everything lies in the folder ``data``, or in that of ``source``.

    Raises:
        DataError: the description cannot be understood.
    """
    if source.is_dir():
        return layout_of_folder(source)
    return _from_darknet(source, data) if source.name.lower().endswith(darknet.SUFFIX) else _from_yaml(source, data)


def read_yaml(file: AnyPath, texts: TextDecoder) -> dict[Any, Any]:
    """Return the keys and values of a YAML file.

    Raises:
        DataError: not YAML, or not keys and values.
    """
    text = texts.read(file)
    try:
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" at line {mark.line + 1}" if mark else ""
        text = f"this is not valid YAML{line} ({error.problem or error.context}); fix it"
        raise DataError(f"{file}: {text}", code="yaml-syntax") from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{file}: the YAML cannot be read ({reason}); fix it", code="yaml-value") from None
    if not isinstance(content, dict):
        text = f"this is {short(content)} and should have the keys names, train and val; fix it"
        raise DataError(f"{file}: {text}", code="yaml-no-keys")
    return content


def _from_yaml(file: AnyPath, data: AnyPath) -> Layout:
    texts = TextDecoder()
    content = read_yaml(file, texts)
    layout = Layout(file, file.parent, paths=_read_splits(file, content), notes=texts.notes(file))
    if not layout.paths:
        text = "there is no train, val or test in it; say where the images of each split are"
        raise DataError(f"{file}: {text}", code="yolo-no-splits")
    _read_root(layout, content.get("path"))
    if data.is_dir() and not layout.present():  # config/data.yaml
        layout.root = data
    layout.categories = read_names(layout, content)
    layout.keypoint_values = _read_points(layout, content.get("kpt_shape"))
    return layout


def _read_splits(file: AnyPath, content: dict[Any, Any]) -> dict[str, list[str]]:
    """Return the paths of each split in a ``data.yaml``.

    Raises:
        DataError: the value of a split is no path and no list of paths.
    """
    found: dict[str, list[str]] = {}
    for key, value in content.items():
        split = split_of(key)
        if not split or value is None:
            continue
        paths = value if isinstance(value, list) else [value]
        if paths and all(isinstance(path, str) and path.strip() for path in paths):
            found.setdefault(split, []).extend(paths)
        elif key.lower() in _KEYS:
            text = f"{key} is {short(value)}; it names a folder, a list of images, or several"
            raise DataError(f"{file}: {text}", code="yolo-split-path")
    return found


def _from_darknet(file: AnyPath, data: AnyPath) -> Layout:
    """Return the layout of a ``.data`` file of Darknet; its paths are those of the machine that was trained on."""
    texts = TextDecoder()
    content = darknet.read_description(texts.read(file))
    paths = {split: [content[key]] for key, split in darknet.SPLITS.items() if content.get(key)}
    if not paths:
        text = "there is no train or valid in it; say where the list of the images is"
        raise DataError(f"{file}: {text}", code="darknet-no-splits")
    layout = Layout(file, file.parent, paths=paths, foreign=True)
    if data.is_dir() and not layout.present():  # cfg/obj.data
        layout.root = data
    _read_darknet_classes(layout, content, texts)
    layout.notes += texts.notes(file)
    return layout


def _read_darknet_classes(layout: Layout, content: dict[str, str], texts: TextDecoder) -> None:
    """Set the classes of a Darknet layout, from the list of names or by their number alone.

    Raises:
        DataError: there is neither.
    """
    files = (layout.root / tail for tail in tails_of(content.get("names", "")))
    names = next(filter(exists, files), None) or class_file(layout.root)
    classes = content.get("classes", "")
    count = int(classes) if classes.isdecimal() else 0
    if names is not None:
        layout.categories = listed_names(layout, names, texts)
        if classes.isdecimal() and count != len(layout.categories):
            text = f"classes is {classes} but {names.name} has {len(layout.categories)}"
            layout.problems.append(("bad-category", text, "fix the one that is wrong"))
    elif 0 < count < MAX_CLASSES:
        number_classes(layout, count)
    else:
        text = f"the list of class names, {short(content.get('names'))}, is not found; put it there"
        raise DataError(f"{layout.source}: {text}", code="darknet-no-classes")


def _read_root(layout: Layout, value: Any) -> None:
    """Set the data folder to the value of ``path``, or to the folder that its end names.

    Raises:
        DataError: the value is no text.
    """
    if value is None:
        return
    if not isinstance(value, str):
        raise DataError(f"{layout.source}: path is {short(value)}; it should be a folder", code="yolo-path")
    name = value.replace("\\", "/")
    if (isinstance(layout.root, Path) or not is_unsafe_path(name)) and is_folder(layout.root / name):
        layout.root = layout.root / name
        return
    root = next((path for tail in tails_of(value) if is_folder(path := layout.root / tail)), layout.root)
    what = "the folder of the file" if root is layout.root else str(root)
    layout.root = root
    layout.notes.append(f"{layout.source.name}: path, {short(value)}, is not there; {what} is taken.")


def _read_points(layout: Layout, shape: Any) -> int:
    """Return the number of values for the keypoints in each line, 0 without keypoints.

    Raises:
        DataError: ``shape`` is no shape of keypoints.
    """
    if shape is None:
        return 0
    if not (
        isinstance(shape, list) and len(shape) == 2 and all(type(side) is int and 0 < side < 1000 for side in shape)
    ):
        text = f"kpt_shape is {short(shape)}; it is the number of points and 2 or 3"
        raise DataError(f"{layout.source}: {text}", code="yolo-keypoint-shape")
    layout.notes.append(f"{layout.source.name}: the keypoints of objects are not used, their boxes are.")
    return int(shape[0]) * int(shape[1])


def find_yolo(path: AnyPath) -> dict[str, AnyPath]:
    """Return the splits that are there, each with its source for ``read_layout``.

    One to train on is returned also if it is not there: reading it says so, and no other is trained on in its place.

    Raises:
        DataError: the description cannot be understood, or none of its splits is there.
    """
    source = description_of(path) or path
    layout = read_layout(source, path)
    found = layout.present()
    if not found and not layout.paths:
        text = "it has no images; put them into images/train and images/val, for example"
        raise DataError(f"{path}: {text}", code="yolo-no-images")
    if not found:
        layout.entries(next(iter(layout.paths)))
    return dict.fromkeys(
        [split for split in layout.paths if split in found or normalize_split(split) == "train"], source
    )


def description_of(path: AnyPath) -> AnyPath | None:
    """Return the description of the data set in a folder, a ``data.yaml`` or Darknet's ``.data`` file; None without.

    Raises:
        DataError: there are several.
    """
    file = yaml_of(path)
    if file is not None and (path.is_file() or _describes_data(file)):
        return file
    return darknet.description_of(path) or file or _in_settings(path)


def _in_settings(path: AnyPath) -> AnyPath | None:
    """Return the only description in a folder of settings, if the data that it names lies in the folder around.

    Raises:
        DataError: there are several.
    """
    folders = [path / name for name in list_dir(path)[0] if name.lower() in _SETTINGS]
    suffixes = (".yaml", ".yml", darknet.SUFFIX)
    files = [folder / name for folder in folders for name in list_dir(folder)[1] if name.endswith(suffixes)]
    found = [file for file in files if _describes(file) and _fits(file, path)]
    if len(found) > 1:
        names = ", ".join(f"{file.parent.name}/{file.name}" for file in found)
        text = f"there are several descriptions, {names}; leave the one that is meant"
        raise DataError(f"{path}: {text}", code="yolo-several-descriptions")
    return found[0] if found else None


def _fits(file: AnyPath, path: AnyPath) -> bool:
    """Return whether the labels of a split that a description names lie below a folder."""
    try:
        layout = read_layout(file, path)
        paths = [entry.path for split in layout.present() for entry in layout.entries(split)]
    except DataError:
        return False
    return any(path.is_file() or is_folder(label_path(path, layout.root)) for path in paths)


def yaml_of(path: AnyPath) -> AnyPath | None:
    """Return the ``data.yaml`` of a folder: the only YAML file in it that has names and a split; None without one.

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
        text = f"there are several descriptions, {names}; name the one that is meant"
        raise DataError(f"{path}: {text}", code="yolo-several-descriptions")
    return fitting[0] if fitting else None


def _describes_data(file: AnyPath) -> bool:
    try:
        content = read_yaml(file, TextDecoder())
    except DataError:
        return False
    return bool({"names", "nc"} & set(content) or file.name in _USUAL) and any(map(split_of, content))


def _describes(file: AnyPath) -> bool:
    """Return whether a file is a description of a data set, of either program."""
    return darknet.is_description(file) or (not file.name.endswith(darknet.SUFFIX) and _describes_data(file))


def has_yolo(folder: AnyPath) -> str:
    """Return the evidence for YOLO in a folder: a description, or numbers in the text file of an image; "" for none."""
    file = description_of(folder)
    if file is not None and _describes(file):
        return file.name
    return has_yolo_labels(folder)
