"""Where a Pascal VOC data set keeps its files: the XML files of each split, the lists that name them, the images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from varifocal.data.archive import AnyPath
from varifocal.data.find_images import fold, parts_of
from varifocal.data.paths import TextDecoder, is_image, list_dir, split_lists, walk
from varifocal.data.readers.xml_text import root_tag
from varifocal.data.splits import NAMED, normalize_split
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted, short_list

FOLDERS = ("Annotations", "annotations", "xmls", "labels")
_LISTS = "ImageSets"
_DEEP = 3  # levels of folders that are looked through
_LOOKED_AT = 200  # lines of a list that say what kind of list it is
_FLAGS = ("-1", "0", "1")  # of an image in the list of a class: not in it, in it but difficult, in it
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(.*)')


@dataclass
class Lists:
    """The lists of a folder by split, those of single classes, and those of which nothing is understood."""

    path: AnyPath
    splits: dict[str, AnyPath] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    stems: dict[str, str] = field(default_factory=dict)  # as of xml_stems

    @property
    def folder(self) -> str:
        """The folder of the lists, for a note."""
        if self.path.name == "Main":
            return f"{_LISTS}/Main"
        return self.path.name  # ImageSets, or the folder of the data set itself

    @property
    def files(self) -> dict[str, list[AnyPath]]:
        """The lists of each split: one, or those of the single classes of it where there are no others.

        VOC's own list of a class names all images of its split, whether the class is in them or not.
        """
        if self.splits:
            return {split: [file] for split, file in self.splits.items()}
        found: dict[str, list[AnyPath]] = {}
        for name in self.classes:
            split = normalize_split(name[:-4].rpartition("_")[2])
            if split in NAMED:
                found.setdefault(split, []).append(self.path / name)
        return found

    def unlisted(self) -> list[str]:
        """The XML files that no list of a split names."""
        left = dict.fromkeys(self.stems.values())
        left.pop("", None)
        for file in (file for files in self.files.values() for file in files):
            lines = [line.strip() for line in TextDecoder().read(file).split("\n")]
            for line in lines if left else ():
                if line:
                    left.pop(self.stems.get(line) or entry_of(line, self.stems), None)
        return list(left)

    def notes(self) -> list[str]:
        """What a user should know of the lists that are left out."""
        notes = self.passed()
        for split, files in self.files.items() if not self.splits else ():
            notes.append(f"{self.folder}: {split} has no list of its own, and is what {_names(files)} names together.")
        if unlisted := self.unlisted():
            count = counted(len(unlisted), "XML (file is|files are)")
            notes.append(f"{self.folder}: {count} in no list and left out, first {unlisted[0]}.")
        return notes

    def passed(self) -> list[str]:
        """Notes on the lists that are not used."""
        used = {file.name for files in self.files.values() for file in files}
        notes, classes = [], [name for name in self.classes if name not in used]
        if classes:
            count = counted(len(classes), "(list of a single class is|lists of single classes are)")
            notes.append(f"{self.folder}: {count} left out, first {classes[0]}.")
        if self.others:
            what = "list that is empty or names no XML file of the set"
            notes.append(f"{self.folder}: left out is a {what}: {short_list(self.others)}.")
        return notes


def _names(files: Sequence[AnyPath]) -> str:
    return short_list((file.name for file in files), 3)


def find_voc(path: AnyPath) -> dict[str, AnyPath]:
    """The splits: the lists in ``ImageSets/Main``, or folders of XML files called train, val and so on, or all.

    Raises:
        DataError: there are no XML files, or several data sets.
    """
    if path.is_file():
        return {"all": path}
    kits = _kits(path)
    if len(kits) > 1:
        return _of_kits(path, kits)
    folder = kits[0] if kits else path
    lists = lists_folder(folder)
    if lists is not None and (found := read_lists(lists, folder).files):
        return {split: files[0] for split, files in found.items()}
    base = next((folder / name for name in FOLDERS if (folder / name).is_dir()), folder)
    if splits := _called_like_splits(base) or _called_like_splits(folder) or _split_folders(folder):
        return splits
    if not has_xml(base):
        raise DataError(f"{path}: there are no XML files of VOC in it; expected Annotations/ with one for each image")
    return {"all": base}


def _called_like_splits(path: AnyPath) -> dict[str, AnyPath]:
    """Split -> the folder of XML files that is called like it; train1 and train2 keep their names."""
    inner = [path / name for name in list_dir(path)[0] if normalize_split(name) in NAMED and has_xml(path / name)]
    meant = [normalize_split(one.name) for one in inner]
    return {one.name if meant.count(name) > 1 else name: one for one, name in zip(inner, meant, strict=True)}


def unsplit(source: AnyPath) -> list[str]:
    """Notes on XML files beside the folders of the splits, of which ``source`` is one, or on lists of no split."""
    if not source.is_dir():
        return []
    if normalize_split(source.name) not in NAMED:
        base = source.parent if source.name in FOLDERS else source
        folder_of_lists = lists_folder(base)
        return [] if folder_of_lists is None else read_lists(folder_of_lists, base).passed()
    folders, files = list_dir(source.parent)
    others = [name for name in folders if normalize_split(name) not in NAMED and has_xml(source.parent / name)]
    parent = source.parent.name
    notes = [f"{parent}: the folder {name} has XML files, belongs to no split and is left out." for name in others]
    loose = [name for name in files if name.lower().endswith(".xml") and root_tag(source.parent / name) == "annotation"]
    if loose:
        count = counted(
            len(loose),
            "XML (file|files) beside the folders of the splits (belongs to no split and is|belong to no split and are)",
        )
        notes.append(f"{source.parent.name}: {count} left out, first {loose[0]}.")
    return notes


def _below(path: AnyPath) -> Iterator[AnyPath]:
    """The folders in a folder, those in these, and so on, a few levels deep."""
    level = [path]
    for _ in range(_DEEP):
        level = [folder / name for folder in level for name in list_dir(folder)[0]]
        yield from level


def _kits(path: AnyPath) -> list[AnyPath]:
    """The development kits in a folder: the folder itself if it has ``Annotations``, or else those below that do.

    Folders called train, val and so on are splits of one and no kits.
    """
    if (path / FOLDERS[0]).is_dir():
        return []
    found = [folder for folder in _below(path) if (folder / FOLDERS[0]).is_dir()]
    return [] if any(normalize_split(location.name) in NAMED for location in found) else found


def _of_kits(path: AnyPath, kits: Sequence[AnyPath]) -> dict[str, AnyPath]:
    """The splits of several development kits, as VOC's own are of training and of test images.

    Raises:
        DataError: the lists in them do not distinguish them.
    """
    found: dict[str, AnyPath] = {}
    for kit in kits:
        folder_of_lists = lists_folder(kit)
        files = {} if folder_of_lists is None else read_lists(folder_of_lists, kit).files
        lists = {split: one[0] for split, one in files.items()}
        if not lists or set(lists) & set(found):
            names = [str(one).removeprefix(str(path)).strip("/") for one in kits]
            raise DataError(f"{path}: there are several data sets, {short_list(names)}; name one")
        found |= lists
    return found


def _split_folders(path: AnyPath) -> dict[str, AnyPath]:
    """Folders of XML files deeper in a folder that are called train, val and so on, if there is one of each name."""
    found: dict[str, list[AnyPath]] = {}
    for folder in _below(path):
        if normalize_split(folder.name) in NAMED and has_xml(folder):
            found.setdefault(normalize_split(folder.name), []).append(folder)
    return (
        {name: locations[0] for name, locations in found.items()}
        if all(len(one) == 1 for one in found.values())
        else {}
    )


def lists_folder(folder: AnyPath) -> AnyPath | None:
    """The folder of the lists: ``ImageSets/Main``, or else ``ImageSets`` itself, or the folder with the annotations,
    where its lists are called like splits, as PaddleDetection has them."""
    for path in (folder / _LISTS / "Main", folder / _LISTS):
        if any(name.endswith(".txt") for name in list_dir(path)[1]):
            return path
    beside = any((folder / name).is_dir() for name in FOLDERS)
    return folder if beside and split_lists(folder) else None


def base_of(source: AnyPath) -> AnyPath:
    """The data set that a list belongs to."""
    folder = source.parent
    if folder.name == "Main" and folder.parent.name == _LISTS:
        return folder.parent.parent
    return folder.parent if folder.name == _LISTS else folder


def xml_path(base: AnyPath) -> AnyPath:
    """The folder of the XML files that lists name."""
    return next((base / name for name in FOLDERS if (base / name).is_dir()), base / FOLDERS[0])


def xml_stems(folder: AnyPath) -> dict[str, str]:
    """The paths of the XML files below a folder, by what a list may call them: the path without suffix, as it is and in
    the form in which names are compared, or the name alone; "" where several have it."""
    found: dict[str, str] = {}
    alone: dict[str, str] = {}
    for _, path, names in walk(folder):
        for name in names:
            if name.lower().endswith(".xml"):
                whole = f"{path}/{name}" if path else name
                found[whole[:-4]] = whole
                if path:
                    alone[name[:-4]] = "" if name[:-4] in alone else whole
    for stem, whole in list(found.items()):
        found.setdefault(fold(stem), whole)
    return alone | found


def read_lists(path: AnyPath, base: AnyPath) -> Lists:
    """The lists of images in a folder, and the others."""
    stems = xml_stems(xml_path(base))
    lists = Lists(path, stems=stems)
    names = split_lists(path) if path == base else [name for name in list_dir(path)[1] if name.endswith(".txt")]
    for name in names:
        lines = [line.strip() for line in TextDecoder().read(path / name).split("\n")[: 4 * _LOOKED_AT]]
        lines = [line for line in lines if line][:_LOOKED_AT]
        if not lines:
            lists.others.append(name)
        elif any(known(line, stems) for line in lines) or all(len(line.split()) == 1 for line in lines):
            lists.splits[os.path.splitext(name)[0]] = path / name
        elif normalize_split(name[:-4]) not in NAMED and all(line.split()[-1] in _FLAGS for line in lines):
            lists.classes.append(name)
        elif any(entry_of(line, stems) for line in lines):
            lists.splits[os.path.splitext(name)[0]] = path / name
        else:
            lists.others.append(name)
    return lists


def known(text: str, stems: Mapping[str, str]) -> str:
    """The XML file that a whole text names: by its stem or an image's name, in quotes or behind folders; or ""."""
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None and not quoted[2]:
        plain = re.sub(r"\\(.)", r"\1", quoted[1])
        # a backslash in quotes may stand before a quote, or between folders of Windows
        return _named(plain, stems) or (_named(quoted[1], stems) if plain != quoted[1] else "")
    if len(text) > 2 and text[0] == text[-1] == "'" and text not in stems:
        text = text[1:-1]
    return _named(text, stems)


def _named(text: str, stems: Mapping[str, str]) -> str:
    """The XML file that a text without quotes names; or ""."""
    parts = parts_of(text)
    for name in (text, *("/".join(parts[start:]) for start in range(len(parts)))):
        stem = os.path.splitext(name)[0] if is_image(name) or name.lower().endswith(".xml") else name
        for spelling in (name, stem, fold(stem)):
            if stems.get(spelling):
                return stems[spelling]
    return ""


def entry_of(line: str, stems: Mapping[str, str]) -> str:
    """The XML file that a line of a list names; "" where there is none. Names may have spaces, with quotes or without;
    what may follow is a number, or the XML file itself after the image."""
    quoted = _QUOTED.fullmatch(line)
    words = line.split()
    texts = [line, f'"{quoted[1]}"' if quoted else "", without_flag(line)]
    texts += [words[-1] if words[-1].lower().endswith(".xml") else "", words[0]]
    return next((found for text in texts if text and (found := known(text, stems))), "")


def without_flag(line: str) -> str:
    """A line of a list without what says at its end whether a class is in the image."""
    words = line.split()
    return " ".join(words[:-1]) if len(words) > 1 and words[-1] in _FLAGS else line


def xml_folders(data: AnyPath) -> list[AnyPath]:
    """The folders below a data folder in which there are XML files."""
    found = walk(data) if data.is_dir() else []
    return [folder for folder, _, names in found if any(name.lower().endswith(".xml") for name in names)]


def has_xml(folder: AnyPath) -> bool:
    """Whether the first XML file below a folder is one of VOC."""
    for path, _, names in walk(folder):
        for name in names:
            if name.lower().endswith(".xml"):
                return root_tag(path / name) == "annotation"
    return False


def has_voc(folder: AnyPath) -> str:
    """What speaks for VOC in a folder: its first XML file, or those of the folder that the annotations have."""
    path = next((folder / name for name in FOLDERS[:3] if (folder / name).is_dir()), None)
    if path is not None:
        return path.name if has_xml(path) else ""
    if any((folder / name / "Annotations").is_dir() for name in list_dir(folder)[0]):
        return "Annotations"
    return "XML files" if has_xml(folder) else ""


def image_roots(folder: AnyPath, data: AnyPath) -> list[AnyPath]:
    """Where the images of a folder of XML files may lie."""
    above = folder.parent
    roots = [above / "JPEGImages", above / "images", folder]
    if folder.name not in FOLDERS and above.name in FOLDERS:  # Annotations/train beside JPEGImages/train
        beside = above.parent
        roots = [beside / name / folder.name for name in ("JPEGImages", "images")] + [beside / "JPEGImages"] + roots
    return [*roots, above, data if data.is_dir() else data.parent]


def top_of(folder: AnyPath, data: AnyPath) -> AnyPath:
    """The data folder of XML files in ``folder``."""
    if data.is_dir():
        return data
    return folder.parent if folder.name in FOLDERS else folder
