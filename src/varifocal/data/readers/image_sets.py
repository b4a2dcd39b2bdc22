"""Lists of images in ``ImageSets``: the split that each list is of, and the label files that its lines name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from varifocal.data.archive import AnyPath
from varifocal.data.find_images import FoundImage, fold, parts_of
from varifocal.data.paths import ImageFinder, TextDecoder, is_image, list_dir
from varifocal.data.readers.columns import ColumnBuilder
from varifocal.data.splits import NAMED, normalize_split
from varifocal.utils.text import counted, cut, short, short_list

FOLDER = "ImageSets"
_READ_LINES = 200  # lines of a list that are read to see what kind of list it is
_FLAGS = ("-1", "0", "1")  # of an image in the list of a class: not in it, in it but difficult, in it
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(.*)')


def lists_folder(data: AnyPath) -> AnyPath | None:
    """Return the folder of the lists of a data set, ``ImageSets/Main`` or else ``ImageSets``; None without lists."""
    for path in (data / FOLDER / "Main", data / FOLDER):
        if any(name.endswith(".txt") for name in list_dir(path)[1]):
            return path
    return None


def index_labels(paths: Iterable[str]) -> dict[str, str]:
    """Return the paths of label files by what a list may call them.

    That is the path without its suffix, as it is and folded, or the name alone; "" where several files have that name.
    """
    whole: dict[str, str] = {}
    alone: dict[str, str] = {}
    for path in paths:
        stem = os.path.splitext(path)[0]
        whole[stem] = path
        folder, _, name = stem.rpartition("/")
        if folder:
            alone[name] = "" if name in alone else path
    for stem, path in list(whole.items()):
        whole.setdefault(fold(stem), path)
    return alone | whole


@dataclass
class ImageSets:
    """The lists in ``path``: those of a split, those of a single class, and those of which nothing is understood.

    ``labels`` is the result of :func:`index_labels`; ``what`` names a label file in messages ("XML", ".json").
    """

    path: AnyPath
    labels: Mapping[str, str]
    what: str
    splits: dict[str, AnyPath] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The folder of the lists, for a note."""
        return f"{FOLDER}/Main" if self.path.name == "Main" else self.path.name

    @property
    def files(self) -> dict[str, list[AnyPath]]:
        """The lists of each split: one, or those of single classes where a split has no list of its own.

        VOC's own list of a class names all images of its split, whether they have the class or not.
        """
        if self.splits:
            return {split: [file] for split, file in self.splits.items()}
        found: dict[str, list[AnyPath]] = {}
        for name in self.classes:
            split = normalize_split(name[:-4].rpartition("_")[2])
            if split in NAMED:
                found.setdefault(split, []).append(self.path / name)
        return found

    def notes(self) -> list[str]:
        """Return notes on lists that are not used, splits made of several lists, and label files that no list names."""
        notes = self.unused_notes()
        for split, files in self.files.items() if not self.splits else ():
            names = short_list((file.name for file in files), 3)
            notes.append(f"{self.title}: {split} has no list of its own, and is what {names} names together.")
        if unlisted := self._unlisted():
            count = counted(len(unlisted), f"{self.what} (file is|files are)")
            notes.append(f"{self.title}: {count} in no list and left out, first {unlisted[0]}.")
        return notes

    def unused_notes(self) -> list[str]:
        """Return notes on the lists that are not used."""
        used = {file.name for files in self.files.values() for file in files}
        notes, classes = [], [name for name in self.classes if name not in used]
        if classes:
            count = counted(len(classes), "(list of a single class is|lists of single classes are)")
            notes.append(f"{self.title}: {count} left out, first {classes[0]}.")
        if self.others:
            text = "(list is left out, which is empty or names|lists are left out, which are empty or name)"
            count = counted(len(self.others), f"{text} no {self.what} file of the set")
            notes.append(f"{self.title}: {count}: {short_list(self.others)}.")
        return notes

    def _unlisted(self) -> list[str]:
        """Return the label files that no list of a split names."""
        left = dict.fromkeys(self.labels.values())
        left.pop("", None)
        for _, _, line in _lines(file for files in self.files.values() for file in files):
            left.pop(self.labels.get(line) or entry_of(line, self.labels), None)
        return list(left)

    def read(
        self, source: AnyPath, columns: ColumnBuilder, finder: ImageFinder, where: str
    ) -> tuple[list[str], list[FoundImage]]:
        """Return the label files that the lists of a split name, and the images that they name and that have none.

        ``source`` is the first list of the split. A line that names neither is a problem of ``columns``, whose
        sentence says with ``where`` in which folder the label files are.
        """
        files = next((files for files in self.files.values() if source in files), [source])
        paths: list[str] = []
        bare: list[FoundImage] = []
        seen: set[str] = set()
        for file, number, line in _lines(files):
            path, name = entry_of(line, self.labels), without_flag(line)
            if len(files) > 1 and (path or name) in seen:  # the lists of several classes name the same images
                continue
            seen.add(path or name)
            if path:
                paths.append(path)
            elif (image := self._image(line, finder)) is not None:
                bare.append(image)
            else:
                columns.report("missing-labels", file, f"line {number}", *self._missing(line, where))
        return paths, bare

    def _image(self, line: str, finder: ImageFinder) -> FoundImage | None:
        """Return the image that a line names, unless label files of several folders have its name."""
        stems = (_stem_of(text) for text in (line, without_flag(line)))
        found = (finder.find_stem(stem) for stem in stems if stem not in self.labels)
        return next(filter(None, found), None)

    def _missing(self, line: str, where: str) -> tuple[str, str]:
        """Return the text and the fix of the problem of a line that names no label file."""
        stem = _stem_of(line)
        file = cut(stem) + (".xml" if self.what == "XML" else self.what)
        if stem in self.labels:
            text = f"names {short(line)}, and several folders {where} have a file {file}"
            return text, "write the folder of the one that is meant"
        return f"names {short(line)}, and there is no {file} {where}", "add it, or remove the line"


def read_lists(path: AnyPath, names: Iterable[str], labels: Mapping[str, str], what: str) -> ImageSets:
    """Return the lists ``names`` in the folder ``path``, sorted by their kinds."""
    lists = ImageSets(path, labels, what)
    for name in names:
        lines = [line.strip() for line in TextDecoder().read(path / name).split("\n")[: 4 * _READ_LINES]]
        kind = _kind_of([line for line in lines if line][:_READ_LINES], name, labels)
        if kind == "split":
            lists.splits[os.path.splitext(name)[0]] = path / name
        else:
            (lists.classes if kind == "class" else lists.others).append(name)
    return lists


def _kind_of(lines: Sequence[str], name: str, labels: Mapping[str, str]) -> str:
    """Return what a list is: of a "split", of a "class" with flags behind the names, or "other"."""
    if not lines:
        return "other"
    words = [line.split() for line in lines]
    if any(label_of(line, labels) for line in lines) or max(map(len, words)) == 1:
        return "split"
    if normalize_split(name[:-4]) not in NAMED and all(last in _FLAGS for *_, last in words):
        return "class"
    return "split" if names_any(lines, labels) else "other"


def names_any(lines: Iterable[str], labels: Mapping[str, str]) -> bool:
    """Return whether a line of a list names a label file."""
    return any(entry_of(line, labels) for line in lines if line)


def _lines(files: Iterable[AnyPath]) -> Iterator[tuple[AnyPath, int, str]]:
    """Yield file, number and text of each line of lists that is not empty."""
    for file in files:
        for number, line in enumerate(TextDecoder().read(file).split("\n"), start=1):
            if line := line.strip():
                yield file, number, line


def _stem_of(line: str) -> str:
    """Return the stem of the image that a line of a list names."""
    name = (parts_of(line) or (line,))[-1]
    return os.path.splitext(name)[0] if is_image(name) else name


def entry_of(line: str, labels: Mapping[str, str]) -> str:
    """Return the label file that a line of a list names; "" where there is none.

    Names may have spaces, with quotes or without; what may follow is a number, or the XML file itself after the image.
    """
    quoted = _QUOTED.fullmatch(line)
    words = line.split()
    texts = [line, f'"{quoted[1]}"' if quoted else "", without_flag(line)]
    texts += [words[-1] if words[-1].lower().endswith(".xml") else "", words[0]]
    return next((found for text in texts if text and (found := label_of(text, labels))), "")


def label_of(text: str, labels: Mapping[str, str]) -> str:
    """Return the label file that a whole text names, by its stem or an image's name, in quotes or behind folders."""
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None and not quoted[2]:
        plain = re.sub(r"\\(.)", r"\1", quoted[1])
        # a backslash in quotes may stand before a quote, or between folders of Windows
        return _unquoted(plain, labels) or (_unquoted(quoted[1], labels) if plain != quoted[1] else "")
    if len(text) > 2 and text[0] == text[-1] == "'" and text not in labels:
        text = text[1:-1]
    return _unquoted(text, labels)


def _unquoted(text: str, labels: Mapping[str, str]) -> str:
    """Return the label file that a text without quotes names; "" where there is none."""
    parts = parts_of(text)
    for name in (text, *("/".join(parts[start:]) for start in range(len(parts)))):
        stem, suffix = os.path.splitext(name)
        stem = stem if is_image(name) or suffix.lower() in (".xml", ".json", ".txt") else name
        for spelling in (name, stem, fold(stem)):
            if labels.get(spelling):
                return labels[spelling]
    return ""


def without_flag(line: str) -> str:
    """Return a line of a list without the flag at its end that says whether a class is in the image."""
    words = line.split()
    return " ".join(words[:-1]) if len(words) > 1 and words[-1] in _FLAGS else line
