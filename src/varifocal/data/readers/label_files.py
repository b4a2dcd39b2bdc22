"""Where data sets with a label file for each image keep them, and the loop over these files.

Labels lie beside their images or in a folder of their own (``labels/train`` beside ``images/train``, ``train/ann``
beside ``train/img``, ``label_2`` beside ``image_2``); the format is recognized by the content of the files, not by the
names of the folders. Splits are folders, or the lists in ``ImageSets``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from varifocal.data.annotations import Files, RawDataset
from varifocal.data.archive import AnyPath
from varifocal.data.find_images import finder_of
from varifocal.data.listing import passed_over
from varifocal.data.options import ReadOptions
from varifocal.data.paths import ImageFinder, TextDecoder, is_image, list_dir, read_many, walk
from varifocal.data.readers.columns import ColumnBuilder
from varifocal.data.readers.items import Item, Items, LocationOf, finished
from varifocal.data.readers.yolo_layout import NOT_LABELS
from varifocal.data.sibling_folders import LabelFolders, Siblings, parts_between, shared_parts
from varifocal.data.splits import NAMED, have_common_images, normalize_split
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted, cut, short

SNIFFED = 8  # files of a folder that are looked at to tell its format
_FEW = 8  # folders with images that are looked through for each folder of labels


def split_of_parts(parts: Sequence[str]) -> str:
    """The split that folders name, the last one first: "train", "val", "test" or "trainval", also within longer
    names such as "VisDrone2019-DET-train"; else "all"."""
    for part in reversed(parts):
        for word in (part, *reversed(re.split(r"[-_. ]+", part))):
            if normalize_split(word) in NAMED:
                return normalize_split(word)
    return "all"


def image_folders(data: AnyPath) -> list[AnyPath]:
    """All folders with images, below and including ``data``."""
    return [folder for folder, _, names in walk(data) if any(map(is_image, names))]


def image_roots(
    data: AnyPath,
    labels: AnyPath,
    split: str,
    folders: Sequence[AnyPath],
    siblings: Siblings = Siblings(),  # noqa: B008  # it never changes
) -> list[AnyPath]:
    """Where the images of a folder of labels may lie: the nearest folders, without those of other splits and of other
    labels (``siblings``).

    Those come first whose name ends in the number of the label folder (``image_2`` of ``label_2``), then by name. At
    last come the folders around, for names that have folders in them.
    """
    own = parts_between(data, labels)
    number = re.findall(r"\d+$", labels.name)

    def shared(folder: AnyPath) -> int:
        return shared_parts(own, parts_between(data, folder))

    def order(folder: AnyPath) -> tuple[bool, str]:
        return re.findall(r"\d+$", folder.name) != number, str(folder)

    def fits(folder: AnyPath) -> bool:
        parts = parts_between(data, folder)
        found = split_of_parts(parts)
        of_split = "all" in (split, found) or found == split or have_common_images(found, split)
        return of_split and not siblings.claim(parts)

    around = [labels]
    while str(around[-1]) != str(data) and around[-1] != around[-1].parent:
        around.append(around[-1].parent)
    beside = [labels] if labels in folders else []
    fitting = [] if beside else list(filter(fits, folders))
    most = max(map(shared, fitting), default=0)  # one farther away is unusual, and is reported if it is taken
    near = sorted((folder for folder in fitting if shared(folder) == most), key=order)[:_FEW]
    return list(dict.fromkeys([*beside, *near, *around]))


def _finder(
    base: AnyPath, labels: AnyPath, folders: Sequence[AnyPath], labeled: LabelFolders, options: ReadOptions
) -> ImageFinder:
    """Finds the images of a folder of labels among the ``folders`` with images."""
    own = parts_between(base, labels)
    split, siblings = split_of_parts(own), Siblings(own, labeled)  # a list may name another split
    roots = image_roots(base, labels, split, folders, siblings)
    return finder_of(roots, base, split, options, lambda: siblings)


@dataclass(frozen=True)
class LabelFiles:
    """A format with a label file for each image.

    ``kind`` returns the format of a file, ``parse`` makes an item of its text, or None of a file that is something
    else; ``words`` puts the location of an object in it into words. ``classes`` are the names of all classes where the
    format has them.
    """

    name: str
    title: str
    suffix: str
    kind: Callable[[AnyPath], str]
    parse: Callable[[str, AnyPath], Item | None]
    words: LocationOf
    classes: tuple[str, ...] = ()

    def folders(self, data: AnyPath) -> Iterator[AnyPath]:
        """Yield the folders from ``data`` down whose first label files are of this format."""
        for folder, _, names in walk(data):
            files = [folder / name for name in names if name.lower().endswith(self.suffix)][:SNIFFED]
            if any(self.kind(file) == self.name for file in files):
                yield folder

    def splits(self, data: AnyPath) -> dict[str, AnyPath]:
        """The splits: a single label file, the lists in ImageSets, or folders; each with the file or folder to read.

        Raises:
            DataError: there are no labels of this format.
        """
        if data.is_file():
            return {"all": data}
        found: dict[str, list[AnyPath]] = {}
        for folder in self.folders(data):
            found.setdefault(split_of_parts(parts_between(data, folder)), []).append(folder)
        if not found:
            hint = "name the folder that has them"
            raise DataError(f"{data}: there are no labels of {self.title} in it ({self.suffix} files); {hint}")
        lists = _lists(data) if len(found) == 1 else {}
        return lists or {split: locations[0] if len(locations) == 1 else data for split, locations in found.items()}

    def read(self, source: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
        """One split, as ``splits`` gives it.

        Raises:
            DataError: a folder or a list cannot be read. Whatever is wrong with a label file is a problem of the set.
        """
        columns, texts = ColumnBuilder(self.name, source, split), TextDecoder()
        if self.classes:
            columns.declare(self.classes)
        items = Items(columns)
        base = data if data.is_dir() else source.parent
        folders, labeled = image_folders(base), LabelFolders(base, self.folders(base))
        finders: dict[AnyPath, ImageFinder] = {}
        kept: list[tuple[AnyPath, str] | None] = []
        locations = list(self._files(columns, base, texts))
        for (folder, name), (file, content) in zip(locations, read_many(f / n for f, n in locations), strict=True):
            if folder not in finders:
                finders[folder] = _finder(base, folder, folders, labeled, options)
            item = self._item(columns, content, file, texts, finders[folder])
            if item is not None and items.add(item, file, finders[folder], self.words):
                kept.append((folder, name))
        columns.find_lost()
        for location in self._unlabeled(columns, options):
            columns.image(location[1], location)
            kept.append(None)
        columns.notes += texts.notes(source)
        return finished(items, Files.of(kept), self.words)

    def _item(
        self, columns: ColumnBuilder, content: bytes | DataError, file: AnyPath, texts: TextDecoder, finder: ImageFinder
    ) -> Item | None:
        """What a label file says, None where it is something else or wrong, which is noted."""
        try:
            if isinstance(content, DataError):
                raise content
            item = self.parse(texts.decode(content, file), file)
        except DataError as error:
            columns.failure("malformed", file, error)
            return None
        stem = os.path.splitext(file.stem)[0] if is_image(file.stem) else file.stem
        if item is None and finder.find_stem(stem) is not None:
            text = f"this is not a label file of {self.title}, though an image has its name"
            columns.problem("malformed", file, "", text, "fix or remove it")
        elif item is None:
            columns.changed[
                f"{self.suffix} (file that is no label file was|files that are no label files were) passed over"
            ] += 1
        return item

    def _files(self, columns: ColumnBuilder, base: AnyPath, texts: TextDecoder) -> Iterator[tuple[AnyPath, str]]:
        """Folder and name of each label file of a split."""
        source, split = columns.source, columns.split
        if source.is_file() and not _is_list(source):
            yield source.parent, source.name
        elif source.is_file():
            yield from self._listed(columns, base, texts)
        else:
            for folder in self.folders(source):
                if split_of_parts(parts_between(base, folder)) == split:
                    yield from ((folder, name) for name in self._names(folder))

    def _listed(self, columns: ColumnBuilder, base: AnyPath, texts: TextDecoder) -> Iterator[tuple[AnyPath, str]]:
        """The label files that a list names by their stems, a line for each."""
        found = {
            os.path.splitext(name)[0]: (folder, name) for folder in self.folders(base) for name in self._names(folder)
        }
        for number, line in enumerate(texts.read(columns.source).split("\n"), start=1):
            stem = line.strip()
            if stem in found:
                yield found[stem]
            elif stem:
                text = f"names {short(stem)}, and there is no {cut(stem)}{self.suffix} among the labels"
                hint = "put it there or take the line out"
                columns.problem("missing-labels", columns.source, f"line {number}", text, hint)

    def _names(self, folder: AnyPath) -> Iterator[str]:
        for name in list_dir(folder)[1]:
            if name.lower().endswith(self.suffix) and name.lower() not in NOT_LABELS:
                yield name

    def _unlabeled(self, columns: ColumnBuilder, options: ReadOptions) -> list[tuple[AnyPath, str]]:
        """The images beside those that have labels, if the user says that nothing is on them; else they are counted."""
        if columns.source.is_file():
            return []
        used: dict[AnyPath, set[str]] = {}
        for folder, name in columns.locations():
            used.setdefault(folder, set()).add(name)
        beside = [(folder, name) for folder, names in used.items() for name in list_dir(folder)[1] if name not in names]
        columns.notes += passed_over([name for _, name in beside], columns.source.name)
        left = [(folder, name) for folder, name in beside if is_image(name)]
        if left and options.unlabeled != "background":
            text = f"(image has|images have) no {self.suffix} file of labels and (is|are) left out"
            columns.notes.append(
                f"{columns.source.name}: {counted(len(left), text)}, first {left[0][1]}; "
                "--unlabeled background takes them as images without objects."
            )
        return left if options.unlabeled == "background" else []


def _is_list(file: AnyPath) -> bool:
    return file.suffix == ".txt" and file.parent.name in ("ImageSets", "Main")


def _lists(data: AnyPath) -> dict[str, AnyPath]:
    """The lists in ``ImageSets``, by split."""
    for folder in (data / "ImageSets" / "Main", data / "ImageSets"):
        names = [name for name in list_dir(folder)[1] if name.endswith(".txt")]
        if names:
            return {os.path.splitext(name)[0]: folder / name for name in names}
    return {}
