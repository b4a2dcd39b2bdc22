"""The layout of a YOLO data set: its classes, the paths of its splits, and the folders of its labels."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from varifocal.data.annotations import first_copies
from varifocal.data.archive import AnyPath, is_unsafe_path
from varifocal.data.find_images import fold, parts_of
from varifocal.data.paths import TextDecoder, exists, is_folder, iter_images, list_dir
from varifocal.data.readers.classes import name_unnamed
from varifocal.data.splits import NAMED, normalize_split
from varifocal.types import Category
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted, short

CLASS_FILES = ("classes.txt", "obj.names", "_darknet.labels")
MAX_CLASSES = 100_000
# Names of folders of images and of labels, in small letters, the usual name first.
IMAGES = ("images", "image", "imgs", "img", "jpegimages")
LABELS = ("labels", "label", "annotations", "annotation")
NOT_LABELS = frozenset([*CLASS_FILES, "readme.txt", "readme.dataset.txt", "readme.roboflow.txt", "notes.txt"])


@dataclass(frozen=True)
class Entry:
    """A folder of images or a list of them.

    ``labels`` is the folder that mirrors it, where the images lie in a folder that the user named. With ``shared``
    other splits have their images in it, too.
    """

    path: AnyPath
    labels: AnyPath | None = None
    shared: bool = False


@dataclass
class Layout:
    """A data set as its description ``source`` has it.

    ``root`` is the data folder, ``paths`` are the paths of each split as they are written. ``keypoint_values`` is the
    number of values that follow the box in a line. With ``unnamed`` nothing names the classes; with ``foreign`` paths
    are always those of the machine that was trained on.
    """

    source: AnyPath
    root: AnyPath
    categories: tuple[Category, ...] = ()
    paths: dict[str, list[str]] = field(default_factory=dict)
    problems: list[tuple[str, str, str]] = field(default_factory=list)  # kind, text, fix
    notes: list[str] = field(default_factory=list)
    keypoint_values: int = 0
    unnamed: bool = False
    foreign: bool = False

    def entries(self, split: str, images: AnyPath | None = None) -> list[Entry]:
        """Return the folders and lists of a split, below the folder of ``images`` where there is one.

        Raises:
            DataError: one is not there or leaves the data folder.
        """
        return [self._entry(split, path, images) for path in self.paths[split]]

    def present(self) -> list[str]:
        """Return the splits of which something is there: images, a list, or labels of images that lie elsewhere."""
        return [
            split
            for split, paths in self.paths.items()
            if any(self._find(path) is not None or self._labels(path) is not None for path in paths)
        ]

    def absent_notes(self) -> list[str]:
        """Return a note on each split to evaluate on that is named and of which nothing is there."""
        present = self.present()
        return [
            f"{self.source.name}: {split} is {short(paths[0])}, which is not found, so there is no such split."
            for split, paths in self.paths.items()
            if split not in present and normalize_split(split) != "train"
        ]

    def _entry(self, split: str, path: str, images: AnyPath | None) -> Entry:
        found = self._find(path)
        if images is not None and (found is None or found.is_dir()):
            return self._elsewhere(path, images)
        if found is not None:
            return Entry(found)
        if self.inside(path) is None:
            text = f"{split} is {short(path)}, which leaves the data folder {self.root}; put the images there, "
            hint = "say with path where the data folder is, or name the folder around both"
            raise DataError(f"{self.source}: {text}{hint}", code="yolo-outside-folder")
        hint = "fix the path, or name the folder of the images with --images"
        if _split_pattern(path)[1]:
            hint = "name the folder of its images, or a text file that lists them"
        text = f"{split} is {short(path)}, which is not found in {self.root}; {hint}"
        raise DataError(f"{self.source}: {text}", code="yolo-path-not-found")

    def _elsewhere(self, path: str, images: AnyPath) -> Entry:
        """Return the folder below ``images`` that ends as a path does, or else ``images``, with the path's labels."""
        labels = self._labels(path) or self.root
        parts = parts_of(path)
        for tail in (*tails_of(path), *parts[_last_named(parts) :][:1]):
            if is_folder(images / tail):
                return Entry(images / tail, labels)
        return Entry(images, labels, shared=len(self.paths) > 1)

    def _find(self, path: str) -> AnyPath | None:
        """Return what a path means, from the data folder on or by its end, as it may be one of another machine."""
        inside = self.inside(path)
        if inside is not None:
            found = self.root / inside if inside else self.root
            if exists(found):
                return found
        # Roboflow writes ../train/images for what lies beside data.yaml
        tails = tails_of(path)
        exact = next((found for tail in tails if exists(found := self.root / tail)), None)
        exact = exact or next((other for tail in tails if (other := find_ignoring_case(self.root, tail))), None)
        return exact or self._matched(path)

    def _matched(self, path: str) -> AnyPath | None:
        """Return the folder that a pattern such as train/*.jpg stands for, if it matches all its images; else None."""
        location, pattern = _split_pattern(path)
        folder = self._find(location) if location and pattern else None
        if folder is None or not is_folder(folder) or len(pattern) != 1 + (pattern[0] == "**" and pattern != ["**"]):
            return None
        deep = "**" in pattern
        return folder if all(_fits(pattern[-1], name, path, deep) for _, path, name in iter_images(folder)) else None

    def _labels(self, path: str) -> AnyPath | None:
        """Return the folder of the labels of a folder of images, if there is one."""
        folders = (label_path(self.root / tail, self.root) for tail in tails_of(path))
        return next((folder for folder in folders if folder != self.root and is_folder(folder)), None)

    def moved_notes(self, split: str) -> list[str]:
        """Return a note on each path of a split that is one of another machine."""
        notes = []
        for path in self.paths[split] if not self.foreign else ():
            found = self._find(path)
            plain = self.inside(re.sub(r"^(\.\./)+", "", _split_pattern(path)[0]))  # Roboflow's ../ is no other machine
            if found is not None and (plain is None or not exists(self.root / plain)):
                notes.append(f"{self.source.name}: {split} is {short(path)}, found by its end as {found}.")
        return notes

    def inside(self, name: str) -> str | None:
        """Return a path as it is from the data folder on; None if it leaves that."""
        name = name.replace("\\", "/").rstrip("/") or "."
        if isinstance(self.root, Path) and os.path.isabs(name):
            try:
                name = Path(os.path.normpath(name)).relative_to(os.path.abspath(self.root)).as_posix()
            except ValueError:
                return None
        if is_unsafe_path(name):
            return None
        return "/".join(part for part in name.split("/") if part != ".")


def _split_pattern(path: str) -> tuple[str, list[str]]:
    """Return a path up to its first part with a wildcard, and the parts from there on, none without a wildcard."""
    parts = path.replace("\\", "/").split("/")
    first = next((index for index, part in enumerate(parts) if set(part) & set("*?[")), len(parts))
    return "/".join(parts[:first]), parts[first:]


def _fits(pattern: str, name: str, path: str, deep: bool) -> bool:
    """Return whether an image in a folder, or with ``deep`` in those below it, matches a pattern."""
    return (deep or not path) and (pattern == "**" or fnmatchcase(name, pattern))


def find_ignoring_case(root: AnyPath, path: str) -> AnyPath | None:
    """Return what a path leads to where case makes no difference; None where that is nothing or ambiguous."""
    folder = root
    for part in path.split("/"):
        folders, files = list_dir(folder)
        found = [name for name in (*folders, *files) if fold(name) == fold(part)]
        if len(found) != 1:
            return None
        folder = folder / found[0]
    return folder


def tails_of(path: str) -> list[str]:
    """Return the ends of a path, the longest first.

    The folder of a split is never removed, so that two splits whose paths differ in it alone do not become one.
    """
    parts = parts_of(path)
    return ["/".join(parts[start:]) for start in range(_last_named(parts) + 1)]


def _last_named(parts: Sequence[str]) -> int:
    """Return the index of the last part that is called like a split, or else of the last one."""
    named = [index for index, part in enumerate(parts) if normalize_split(os.path.splitext(part)[0]) in NAMED]
    return named[-1] if named else len(parts) - 1


def split_of(key: Any) -> str:
    """Return the split that a key of ``data.yaml`` or a folder means; "" for others."""
    return normalize_split(key) if isinstance(key, str) and normalize_split(key) in NAMED else ""


def called(usual: Sequence[str], folders: Sequence[str]) -> str:
    """Return the first of the usual names that is among ``folders``, as it is written there, or else the first one."""
    present = {name.lower(): name for name in folders}
    return next((present[name] for name in usual if name in present), usual[0])


def _labels_in(folder: AnyPath) -> str:
    """Return the name of the folder of labels in another one."""
    return LABELS[0] if is_folder(folder / LABELS[0]) else called(LABELS, list_dir(folder)[0])


def label_path(folder: AnyPath, root: AnyPath) -> AnyPath:
    """Return the folder of the labels of the images in ``folder``.

    Its path has "labels" in place of the last "images", or other names of the two (``LABELS``, ``IMAGES``) in any case.
    """
    if isinstance(folder, Path):
        parts = list(folder.parts)
        first = len(root.parts) - 1 if isinstance(root, Path) else 0
        indices = [index for index in range(max(first, 0), len(parts)) if parts[index].lower() in IMAGES]
        if not indices:
            return folder
        above = Path(*parts[: indices[-1]])
        return Path(above, _labels_in(above), *parts[indices[-1] + 1 :])
    parts = folder.inside.split("/")
    indices = [index for index, part in enumerate(parts) if part.lower() in IMAGES]
    if not indices:
        return folder
    parts[indices[-1]] = _labels_in(folder.top() / "/".join(parts[: indices[-1]]))
    return folder.top() / "/".join(parts)


def class_files(folders: Iterable[AnyPath]) -> list[AnyPath]:
    """Return the lists of class names that lie beside labels, one in each folder at most."""
    found = (folder / name for folder in dict.fromkeys(folders) for name in list_dir(folder)[1] if name in CLASS_FILES)
    return list({file.parent: file for file in found}.values())


def class_file(folder: AnyPath, *others: AnyPath) -> AnyPath | None:
    """Return the list of class names of a folder, under a usual name or as the only file ending in .names; or None."""
    for path in (folder, folder / "labels", *others):
        for name in CLASS_FILES:
            if (path / name).is_file():
                return path / name
    names = [name for name in list_dir(folder)[1] if name.endswith(".names")]
    return folder / names[0] if len(names) == 1 else None


def listed_names(layout: Layout, file: AnyPath, texts: TextDecoder) -> tuple[Category, ...]:
    """Return the classes of a list that has a name on each line."""
    return _categories(layout, enumerate(line.strip() for line in texts.read(file).rstrip().split("\n")))


def number_classes(layout: Layout, count: int) -> None:
    """Set classes that have a number and no name."""
    layout.categories = tuple(Category(number, f"class_{number}") for number in range(count))
    layout.notes.append(f"{layout.source.name}: nothing names its classes; they are called class_0 and so on.")


def read_names(layout: Layout, content: dict[Any, Any]) -> tuple[Category, ...]:
    """Return the classes that a ``data.yaml`` names, or else those of a list beside it, or of their number alone.

    Raises:
        DataError: the value of ``names`` is of no known form.
    """
    names, count = content.get("names"), content.get("nc")
    if names is None:
        return _without_names(layout, count)
    if isinstance(names, list):
        pairs = list(enumerate(names))
    elif isinstance(names, str) and (file := _names_file(layout, names)) is not None:
        return listed_names(layout, file, TextDecoder())
    elif isinstance(names, dict):
        pairs = [(_key(layout, key), name) for key, name in names.items()]
    else:
        hint = "list the classes in the order of their numbers, or name a text file in the data folder that has them"
        text = f"names is {short(names)}; {hint}, one a line"
        raise DataError(f"{layout.source}: {text}", code="yolo-names")
    if count is not None and str(count).strip() != str(len(pairs)):
        text = f"nc is {short(count)} but names has {counted(len(pairs), '(class|classes)')}"
        layout.problems.append(("bad-category", text, "remove nc, or correct the one that is wrong"))
    return _categories(layout, pairs)


def _names_file(layout: Layout, word: str) -> AnyPath | None:
    """Return the text file in the data folder that has the names of the classes; None where there is none."""
    folders = dict.fromkeys([layout.source.parent, layout.root])
    paths = (folder / tail for tail in tails_of(word) for folder in folders)
    found = next((path for path in paths if exists(path) and path.is_file()), None)
    return found if found is not None and found.name.lower().endswith((".txt", ".names", ".labels")) else None


def _without_names(layout: Layout, count: Any) -> tuple[Category, ...]:
    """Return the classes of a list beside ``data.yaml``, or by their number alone, or none until labels are read."""
    file = class_file(layout.root) or class_file(layout.source.parent)
    if file is not None:
        layout.notes.append(f"{layout.source.name}: there are no names in it; those of {file.name} are taken.")
        return listed_names(layout, file, TextDecoder())
    if type(count) is int and 0 < count < MAX_CLASSES:
        number_classes(layout, count)
        return layout.categories
    layout.unnamed = True
    layout.notes.append(f"{layout.source.name}: there are no names in it; classes are called by their numbers.")
    return ()


def _key(layout: Layout, key: Any) -> int:
    if isinstance(key, str) and key.isdecimal() and len(key) < 10:
        key = int(key)
    if type(key) is not int or abs(key) >= 10**9:
        text = f"names has the key {short(key)}; the keys are the numbers of the classes"
        raise DataError(f"{layout.source}: {text}", code="yolo-names-key")
    return key


def _categories(layout: Layout, pairs: Iterable[tuple[int, Any]]) -> tuple[Category, ...]:
    """Return the classes by number; a name that YAML read as true or false, or that is a list, is a problem."""
    found = []
    for number, name in pairs:
        if type(name) in (int, float):  # the classes may be digits
            name = str(name)
        if name is None:
            name = ""
        if not isinstance(name, str):
            hint = "write it in quotes" if isinstance(name, bool) else "a name is a text"
            layout.problems.append(("bad-category", f"class {number} has the name {short(name)}", hint))
            name = str(name)
        found.append(Category(number, name))
    for index in first_copies(
        [category.id for category in found]
    ):  # whether duplicate names are one class is decided by their boxes
        layout.problems.append(("twice", f"the class number {found[index].id} is there twice", "each must be its own"))
    if not found:
        layout.problems.append(("bad-category", "names is empty", "list the classes in the order of their numbers"))
    named, notes = name_unnamed(found, layout.source.name)
    layout.notes += notes
    return tuple(sorted(named, key=lambda category: category.id))
