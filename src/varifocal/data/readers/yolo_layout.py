"""What a YOLO data set says of itself: its classes, its splits, and where the labels of a picture lie."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from varifocal.data.archive import Tree
from varifocal.data.names import leaves_folder
from varifocal.data.raw import first_copies, short
from varifocal.data.tree import Texts, is_picture, is_there, names_in
from varifocal.errors import DataError
from varifocal.records import Category

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
CLASS_FILES = ("classes.txt", "obj.names")
NOT_LABELS = frozenset([*CLASS_FILES, "readme.txt", "readme.dataset.txt", "readme.roboflow.txt", "notes.txt"])


@dataclass
class Layout:
    """A data set as its ``data.yaml`` describes it. ``given`` are the words of each split, ``root`` the data folder;
    ``keypoint_values`` is how many values of a line follow the box."""

    source: Tree
    root: Tree
    categories: tuple[Category, ...] = ()
    given: dict[str, list[str]] = field(default_factory=dict)
    problems: list[tuple[str, str, str]] = field(default_factory=list)  # kind, text, mend
    notes: list[str] = field(default_factory=list)
    keypoint_values: int = 0

    def entries(self, split: str) -> list[Tree]:
        """The folders and lists of a split.

        Raises:
            DataError: one is not there or leaves the data folder.
        """
        return [self._entry(split, word) for word in self.given[split]]

    def present(self) -> list[str]:
        """The splits of which something is there."""
        return [split for split, words in self.given.items() if any(self._look(word) is not None for word in words)]

    def _entry(self, split: str, word: str) -> Tree:
        found = self._look(word)
        if found is not None:
            return found
        if self.inside(word) is None:
            raise DataError(
                f"{self.source}: {split} is {short(word)}, which leaves the data folder {self.root}; "
                "put the pictures there, or say with path where the data folder is"
            )
        raise DataError(f"{self.source}: {split} is {short(word)}, which is not found in {self.root}; mend the path")

    def _look(self, word: str) -> Tree | None:
        name = word.replace("\\", "/")
        # Roboflow writes ../train/images for what lies beside data.yaml
        inside = self.inside(name)
        if inside is None:
            while name.startswith("../"):
                name = name[3:]
            inside = self.inside(name)
        if inside is None:
            return None
        found = self.root / inside if inside else self.root
        return found if is_there(found) else None

    def inside(self, name: str) -> str | None:
        """A path as it is from the data folder on; None if it leaves that."""
        name = name.replace("\\", "/").rstrip("/") or "."
        if isinstance(self.root, Path) and os.path.isabs(name):
            try:
                name = Path(os.path.normpath(name)).relative_to(os.path.abspath(self.root)).as_posix()
            except ValueError:
                return None
        if leaves_folder(name):
            return None
        return "/".join(part for part in name.split("/") if part != ".")


def label_place(folder: Tree, root: Tree) -> Tree:
    """The folder of the labels of the pictures in ``folder``: "labels" in place of the last "images" in its path."""
    if isinstance(folder, Path):
        parts = list(folder.parts)
        first = len(root.parts) - 1 if isinstance(root, Path) else 0
        places = [index for index in range(max(first, 0), len(parts)) if parts[index] == "images"]
        return Path(*parts[: places[-1]], "labels", *parts[places[-1] + 1 :]) if places else folder
    parts = folder.inside.split("/")
    places = [index for index, part in enumerate(parts) if part == "images"]
    if not places:
        return folder
    parts[places[-1]] = "labels"
    return folder.top() / "/".join(parts)


def read_layout(source: Tree) -> Layout:
    """The layout that a ``data.yaml`` describes, or that of a folder without one.

    Raises:
        DataError: it cannot be understood.
    """
    return _from_folder(source) if source.is_dir() else _from_yaml(source)


def read_yaml(file: Tree, texts: Texts) -> dict[Any, Any]:
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
        raise DataError(f"{file}: this is not valid YAML{line} ({error.problem or error.context}); mend it") from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{file}: the YAML cannot be read ({reason}); mend it") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: this is {short(content)} and should have the keys names, train and val; mend it")
    return content


def _from_yaml(file: Tree) -> Layout:
    texts = Texts()
    content = read_yaml(file, texts)
    layout = Layout(file, file.parent, notes=texts.notes(file))
    _read_root(layout, content.get("path"))
    for key, value in content.items():
        if key in SPLITS and value is not None:
            words = value if isinstance(value, list) else [value]
            if not words or not all(isinstance(word, str) and word.strip() for word in words):
                raise DataError(f"{file}: {key} is {short(value)}; it names a folder, a list of pictures, or several")
            layout.given.setdefault(SPLITS[key], []).extend(words)
    if not layout.given:
        raise DataError(f"{file}: there is no train, val or test in it; say where the pictures of each split are")
    layout.categories = _read_names(layout, content)
    layout.keypoint_values = _read_points(layout, content.get("kpt_shape"))
    return layout


def _read_root(layout: Layout, given: Any) -> None:
    if given is None:
        return
    if not isinstance(given, str):
        raise DataError(f"{layout.source}: path is {short(given)}; it should be a folder")
    name = given.replace("\\", "/")
    if isinstance(layout.root, Path):
        try:
            found = layout.root / name
            there = found.is_dir()
        except (OSError, ValueError):
            there = False
        if there:
            layout.root = found
            return
    elif not leaves_folder(name) and (layout.root / name).is_dir():
        layout.root = layout.root / name
        return
    layout.notes.append(f"{layout.source.name}: path, {short(given)}, is not there; the folder of the file is taken.")


def _read_points(layout: Layout, shape: Any) -> int:
    if shape is None:
        return 0
    if not (
        isinstance(shape, list) and len(shape) == 2 and all(type(side) is int and 0 < side < 1000 for side in shape)
    ):
        raise DataError(f"{layout.source}: kpt_shape is {short(shape)}; it is the number of points and 2 or 3")
    layout.notes.append(f"{layout.source.name}: the points of each object are not used, its box is.")
    return int(shape[0]) * int(shape[1])


def _read_names(layout: Layout, content: dict[Any, Any]) -> tuple[Category, ...]:
    given = content.get("names")
    if isinstance(given, list):
        pairs = list(enumerate(given))
    elif isinstance(given, dict):
        pairs = [(_key(layout, key), name) for key, name in given.items()]
    else:
        found = "no names" if given is None else f"the names {short(given)}"
        raise DataError(f"{layout.source}: there are {found} in it; list the classes in the order of their numbers")
    count = content.get("nc")
    if count is not None and count != len(pairs):
        text = f"nc is {short(count)} but names has {len(pairs)} classes"
        layout.problems.append(("bad-category", text, "take nc out, or mend the one that is wrong"))
    return _categories(layout, pairs)


def _key(layout: Layout, key: Any) -> int:
    if isinstance(key, str) and key.isdecimal() and len(key) < 10:
        key = int(key)
    if type(key) is not int or abs(key) >= 10**9:
        raise DataError(f"{layout.source}: names has the key {short(key)}; the keys are the numbers of the classes")
    return key


def _categories(layout: Layout, pairs: Iterable[tuple[int, Any]]) -> tuple[Category, ...]:
    """The classes by number; what cannot be meant is a problem."""
    found = []
    for number, name in pairs:
        if type(name) is int:  # digits are classes, too
            name = str(name)
        if not isinstance(name, str) or not name.strip():
            mend = "write it in quotes" if isinstance(name, (bool, float)) else "give each class a name"
            layout.problems.append(("bad-category", f"class {number} has the name {short(name)}", mend))
            name = str(name)
        found.append(Category(number, name))
    for index in first_copies([one.id for one in found]):  # of names the boxes say whether two are one class
        layout.problems.append(("twice", f"the class number {found[index].id} is there twice", "each must be its own"))
    if not found:
        layout.problems.append(("bad-category", "names is empty", "list the classes in the order of their numbers"))
    return tuple(sorted(found, key=lambda one: one.id))


def _from_folder(folder: Tree) -> Layout:
    """A folder without ``data.yaml``: names from a list beside, splits from the folders of pictures."""
    layout = Layout(folder, folder)
    file = class_file(folder)
    if file is None:
        raise DataError(
            f"{folder}: the labels are numbers and nothing names their classes; add classes.txt, a name on each line, "
            "or a data.yaml"
        )
    texts = Texts()
    lines = [line.strip() for line in texts.read(file).rstrip().split("\n")]
    layout.notes = texts.notes(file)
    layout.categories = _categories(layout, enumerate(lines))
    layout.given = {split: [place] for split, place in folder_splits(folder).items()}
    return layout


def class_file(folder: Tree) -> Tree | None:
    """The list of class names of a folder, one a line."""
    for place in (folder, folder / "labels"):
        for name in CLASS_FILES:
            if (place / name).is_file():
                return place / name
    return None


def folder_splits(folder: Tree) -> dict[str, str]:
    """Split -> the folder of its pictures, where nothing but folders says what they are."""
    folders, files = names_in(folder)
    if "images" in folders:
        inside = {SPLITS[name]: f"images/{name}" for name in names_in(folder / "images")[0] if name in SPLITS}
        return inside or {"all": "images"}
    splits = {SPLITS[name]: name for name in folders if name in SPLITS}
    if splits:
        return {
            split: f"{name}/images" if "images" in names_in(folder / name)[0] else name
            for split, name in splits.items()
        }
    return {"all": "."} if any(map(is_picture, files)) else {}


def find_yolo(path: Tree) -> dict[str, Tree]:
    """The splits that are there, each with what ``read_layout`` takes.

    Raises:
        DataError: it cannot be understood, or none of its splits is there.
    """
    source = yaml_of(path) or path
    layout = read_layout(source)
    found = layout.present()
    if not found and not layout.given:
        raise DataError(f"{path}: there are no pictures in it; put them into images/train and images/val, say")
    if not found:
        layout.entries(next(iter(layout.given)))
    return dict.fromkeys(found, source)


def yaml_of(path: Tree) -> Tree | None:
    """The ``data.yaml`` of a folder, under whatever name: the only YAML file in it that has names and a split.

    Raises:
        DataError: there are several, none of them called data.yaml.
    """
    if path.is_file():
        return path
    files = [path / name for name in names_in(path)[1] if name.endswith((".yaml", ".yml"))]
    for file in files:
        if file.name in ("data.yaml", "data.yml", "dataset.yaml"):
            return file
    fitting = [file for file in files if _describes_data(file)]
    if len(fitting) > 1:
        names = ", ".join(file.name for file in fitting)
        raise DataError(f"{path}: there are several descriptions, {names}; name the one that is meant")
    return fitting[0] if fitting else None


def _describes_data(file: Tree) -> bool:
    try:
        content = read_yaml(file, Texts())
    except DataError:
        return False
    return "names" in content and any(key in SPLITS for key in content)


def has_yolo(folder: Tree) -> str:
    """What speaks for YOLO in a folder: a ``data.yaml``, or numbers in the text file of a picture."""
    file = yaml_of(folder)
    if file is not None and _describes_data(file):
        return file.name
    for place in folder_splits(folder).values():
        pictures = folder / place if place != "." else folder
        for name in (name for name in names_in(pictures)[1][:100] if is_picture(name)):
            for labels in (label_place(pictures, folder), pictures):
                label = labels / f"{os.path.splitext(name)[0]}.txt"
                if label.is_file() and _begins_with_numbers(label):
                    return f"{labels.name}/{label.name}"
    return ""


def _begins_with_numbers(file: Tree) -> bool:
    with file.open("rb") as stream:
        words = stream.read(200).split(b"\n", 1)[0].split()
    try:
        return len(words) >= 5 and all(abs(float(word)) < 1e6 for word in words)
    except ValueError:
        return False
