"""What a YOLO data set says of itself: its classes, its splits, and where the labels of an image lie."""

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
from varifocal.data.splits import NAMED, normalize_split
from varifocal.types import Category
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted, short

CLASS_FILES = ("classes.txt", "obj.names", "_darknet.labels")
MOST_CLASSES = 100_000
# What folders of images and of labels are called, in small letters, the usual name first.
IMAGES = ("images", "image", "imgs", "img", "jpegimages")
LABELS = ("labels", "label", "annotations", "annotation")
NOT_LABELS = frozenset([*CLASS_FILES, "readme.txt", "readme.dataset.txt", "readme.roboflow.txt", "notes.txt"])


@dataclass(frozen=True)
class Entry:
    """A folder of images or a list of them; ``labels`` is the folder that mirrors it, where the images lie in a
    folder that the user named. ``shared``: other splits have their images there, too."""

    path: AnyPath
    labels: AnyPath | None = None
    shared: bool = False


@dataclass
class Layout:
    """A data set as its ``data.yaml`` describes it. ``given`` are the words of each split, ``root`` the data folder;
    ``keypoint_values`` is how many values of a line follow the box. With ``unnamed`` nothing names the classes, with
    ``foreign`` paths are by rule those of the machine that was trained on."""

    source: AnyPath
    root: AnyPath
    categories: tuple[Category, ...] = ()
    given: dict[str, list[str]] = field(default_factory=dict)
    problems: list[tuple[str, str, str]] = field(default_factory=list)  # kind, text, fix
    notes: list[str] = field(default_factory=list)
    keypoint_values: int = 0
    unnamed: bool = False
    foreign: bool = False

    def entries(self, split: str, images: AnyPath | None = None) -> list[Entry]:
        """The folders and lists of a split, below the folder of ``images`` where there is one.

        Raises:
            DataError: one is not there or leaves the data folder.
        """
        return [self._entry(split, word, images) for word in self.given[split]]

    def present(self) -> list[str]:
        """The splits of which something is there: images, a list, or labels of images that lie elsewhere."""
        return [
            split
            for split, words in self.given.items()
            if any(self._look(word) is not None or self._labels(word) is not None for word in words)
        ]

    def absent(self) -> list[str]:
        """A note on each split that is named and of which nothing is there."""
        there = self.present()
        return [
            f"{self.source.name}: {split} is {short(words[0])}, which is not found, so there is no such split."
            for split, words in self.given.items()
            if split not in there
        ]

    def _entry(self, split: str, word: str, images: AnyPath | None) -> Entry:
        found = self._look(word)
        if images is not None and (found is None or found.is_dir()):
            return self._elsewhere(word, images)
        if found is not None:
            return Entry(found)
        hint = "fix the path, or name the folder of the images with --images"
        if self.inside(word) is None:
            raise DataError(
                f"{self.source}: {split} is {short(word)}, which leaves the data folder {self.root}; "
                "put the images there, say with path where the data folder is, or name the folder around both"
            )
        if _parted(word)[1]:
            hint = "name the folder of its images, or a text file that lists them"
        raise DataError(f"{self.source}: {split} is {short(word)}, which is not found in {self.root}; {hint}")

    def _elsewhere(self, word: str, images: AnyPath) -> Entry:
        """The folder below ``images`` that ends as the word does, or that itself, with the labels of the word."""
        labels = self._labels(word) or self.root
        parts = parts_of(word)
        for tail in (*tails_of(word), *parts[_last_named(parts) :][:1]):
            path = images / tail
            if is_folder(path):
                return Entry(path, labels)
        return Entry(images, labels, shared=len(self.given) > 1)

    def _look(self, word: str) -> AnyPath | None:
        """What a word means: a path from the data folder on, or one of another machine that ends so."""
        inside = self.inside(word)
        if inside is not None:
            found = self.root / inside if inside else self.root
            if exists(found):
                return found
        # Roboflow writes ../train/images for what lies beside data.yaml
        tails = tails_of(word)
        exact = next((path for tail in tails if exists(path := self.root / tail)), None)
        exact = exact or next((other for tail in tails if (other := in_any_letters(self.root, tail))), None)
        return exact or self._matched(word)

    def _matched(self, word: str) -> AnyPath | None:
        """The folder that a pattern such as train/*.jpg stands for, if all its images match."""
        location, pattern = _parted(word)
        folder = self._look(location) if location and pattern else None
        if folder is None or not is_folder(folder) or len(pattern) != 1 + (pattern[0] == "**" and pattern != ["**"]):
            return None
        deep = "**" in pattern
        return folder if all(_fits(pattern[-1], name, path, deep) for _, path, name in iter_images(folder)) else None

    def _labels(self, word: str) -> AnyPath | None:
        """The folder of the labels of a word that names a folder of images, if there is one."""
        paths = (label_path(self.root / tail, self.root) for tail in tails_of(word))
        return next((path for path in paths if path != self.root and is_folder(path)), None)

    def far(self, split: str) -> list[str]:
        """A note on words of a split that begin on another machine."""
        notes = []
        for word in self.given[split] if not self.foreign else ():
            found = self._look(word)
            plain = self.inside(re.sub(r"^(\.\./)+", "", _parted(word)[0]))  # Roboflow's way is no other machine
            if found is not None and (plain is None or not exists(self.root / plain)):
                notes.append(f"{self.source.name}: {split} is {short(word)}, found by its end as {found}.")
        return notes

    def inside(self, name: str) -> str | None:
        """A path as it is from the data folder on; None if it leaves that."""
        name = name.replace("\\", "/").rstrip("/") or "."
        if isinstance(self.root, Path) and os.path.isabs(name):
            try:
                name = Path(os.path.normpath(name)).relative_to(os.path.abspath(self.root)).as_posix()
            except ValueError:
                return None
        if is_unsafe_path(name):
            return None
        return "/".join(part for part in name.split("/") if part != ".")


def _parted(word: str) -> tuple[str, list[str]]:
    """A path up to the first part with a sign of patterns, and the parts from there on, none where there is no sign."""
    parts = word.replace("\\", "/").split("/")
    first = next((index for index, part in enumerate(parts) if set(part) & set("*?[")), len(parts))
    return "/".join(parts[:first]), parts[first:]


def _fits(pattern: str, name: str, path: str, deep: bool) -> bool:
    """Whether an image in a folder, or with ``deep`` in those below it, is one of a pattern."""
    return (deep or not path) and (pattern == "**" or fnmatchcase(name, pattern))


def in_any_letters(root: AnyPath, path: str) -> AnyPath | None:
    """What a path leads to where capital and small letters make no difference, if it is one thing."""
    folder = root
    for part in path.split("/"):
        folders, files = list_dir(folder)
        found = [name for name in (*folders, *files) if fold(name) == fold(part)]
        if len(found) != 1:
            return None
        folder = folder / found[0]
    return folder


def tails_of(word: str) -> list[str]:
    """The ends of a path, the longest first. The folder of a split is never taken off, so that two splits whose paths
    differ in it alone do not become one."""
    parts = parts_of(word)
    return ["/".join(parts[start:]) for start in range(_last_named(parts) + 1)]


def _last_named(parts: Sequence[str]) -> int:
    """Return the index of the last part that is called like a split, or else of the last one."""
    named = [index for index, part in enumerate(parts) if normalize_split(os.path.splitext(part)[0]) in NAMED]
    return named[-1] if named else len(parts) - 1


def split_of(key: Any) -> str:
    """The split that a key of ``data.yaml`` or a folder means; "" for others."""
    return normalize_split(key) if isinstance(key, str) and normalize_split(key) in NAMED else ""


def called(usual: Sequence[str], folders: Sequence[str]) -> str:
    """The first of some usual names that a folder has, as it is written there; the first of all where none has it."""
    there = {name.lower(): name for name in folders}
    return next((there[name] for name in usual if name in there), usual[0])


def _labels_in(folder: AnyPath) -> str:
    """The name of the folder of labels in another one."""
    return LABELS[0] if is_folder(folder / LABELS[0]) else called(LABELS, list_dir(folder)[0])


def label_path(folder: AnyPath, root: AnyPath) -> AnyPath:
    """The folder of the labels of the images in ``folder``: "labels" instead of the last "images" in its path, or
    what else the two are called (``LABELS``, ``IMAGES``), in capital or small letters."""
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
    """The lists of class names that lie beside labels, one in each folder at most."""
    found = (folder / name for folder in dict.fromkeys(folders) for name in list_dir(folder)[1] if name in CLASS_FILES)
    return list({file.parent: file for file in found}.values())


def class_file(folder: AnyPath, *others: AnyPath) -> AnyPath | None:
    """The list of class names of a folder, one a line: under a usual name, or the only file called so and so.names."""
    for path in (folder, folder / "labels", *others):
        for name in CLASS_FILES:
            if (path / name).is_file():
                return path / name
    names = [name for name in list_dir(folder)[1] if name.endswith(".names")]
    return folder / names[0] if len(names) == 1 else None


def listed_names(layout: Layout, file: AnyPath, texts: TextDecoder) -> tuple[Category, ...]:
    """The classes of a list, a name on each line."""
    return _categories(layout, enumerate(line.strip() for line in texts.read(file).rstrip().split("\n")))


def number_classes(layout: Layout, count: int) -> None:
    """Classes that have a number and no name."""
    layout.categories = tuple(Category(number, f"class_{number}") for number in range(count))
    layout.notes.append(f"{layout.source.name}: nothing names its classes; they are called class_0 and so on.")


def read_names(layout: Layout, content: dict[Any, Any]) -> tuple[Category, ...]:
    """The classes that a ``data.yaml`` names, or else a list beside it, or their number alone."""
    given, count = content.get("names"), content.get("nc")
    if given is None:
        return _without_names(layout, count)
    if isinstance(given, list):
        pairs = list(enumerate(given))
    elif isinstance(given, str) and (file := _names_file(layout, given)) is not None:
        return listed_names(layout, file, TextDecoder())
    elif isinstance(given, dict):
        pairs = [(_key(layout, key), name) for key, name in given.items()]
    else:
        raise DataError(
            f"{layout.source}: there are the names {short(given)} in it; list the classes in the order of their "
            "numbers, or name a text file in the data folder that has them, one a line"
        )
    if count is not None and str(count).strip() != str(len(pairs)):
        text = f"nc is {short(count)} but names has {counted(len(pairs), '(class|classes)')}"
        layout.problems.append(("bad-category", text, "take nc out, or fix the one that is wrong"))
    return _categories(layout, pairs)


def _names_file(layout: Layout, word: str) -> AnyPath | None:
    """The text file in the data folder that has the names of the classes, one a line."""
    folders = dict.fromkeys([layout.source.parent, layout.root])
    paths = (folder / tail for tail in tails_of(word) for folder in folders)
    found = next((path for path in paths if exists(path) and path.is_file()), None)
    return found if found is not None and found.name.lower().endswith((".txt", ".names", ".labels")) else None


def _without_names(layout: Layout, count: Any) -> tuple[Category, ...]:
    """The classes of a list beside ``data.yaml``, or by their numbers alone."""
    file = class_file(layout.root) or class_file(layout.source.parent)
    if file is not None:
        layout.notes.append(f"{layout.source.name}: there are no names in it; those of {file.name} are taken.")
        return listed_names(layout, file, TextDecoder())
    if type(count) is int and 0 < count < MOST_CLASSES:
        number_classes(layout, count)
        return layout.categories
    layout.unnamed = True
    layout.notes.append(f"{layout.source.name}: there are no names in it; classes are called by their numbers.")
    return ()


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
            hint = "write it in quotes" if isinstance(name, (bool, float)) else "give each class a name"
            layout.problems.append(("bad-category", f"class {number} has the name {short(name)}", hint))
            name = str(name)
        found.append(Category(number, name))
    for index in first_copies([one.id for one in found]):  # of names the boxes say whether two are one class
        layout.problems.append(("twice", f"the class number {found[index].id} is there twice", "each must be its own"))
    if not found:
        layout.problems.append(("bad-category", "names is empty", "list the classes in the order of their numbers"))
    return tuple(sorted(found, key=lambda one: one.id))
