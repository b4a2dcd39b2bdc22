"""Where data sets with a label file for each image keep them, and the loop over these files.

Labels lie beside their images or in a folder of their own (``labels/train`` beside ``images/train``, ``train/ann``
beside ``train/img``, ``label_2`` beside ``image_2``); the format is recognized by the content of the files, not by the
names of the folders. Splits are folders, or the lists in ``ImageSets``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from varifocal.data.annotations import Files, RawDataset
from varifocal.data.archive import AnyPath
from varifocal.data.find_images import FoundImage, finder_of
from varifocal.data.listing import passed_over
from varifocal.data.options import ReadOptions
from varifocal.data.paths import ImageFinder, TextDecoder, is_image, list_dir, read_many, walk
from varifocal.data.readers.columns import ColumnBuilder
from varifocal.data.readers.image_sets import ImageSets, index_labels, lists_folder, names_any, read_lists
from varifocal.data.readers.items import Item, Items, LocationOf, add_unlabeled, finished
from varifocal.data.readers.yolo_layout import NOT_LABELS
from varifocal.data.sibling_folders import LabelFolders, Siblings, parts_between, shared_parts
from varifocal.data.splits import NAMED, have_common_images, normalize_split
from varifocal.utils.errors import DataError

SNIFFED = 8  # files of a folder that are read to recognize its format
_MAX_ROOTS = 8  # folders with images that are searched for each folder of labels


def split_of_parts(parts: Sequence[str]) -> str:
    """Return the split that folders name, the last folder first: "train", "val", "test" or "trainval"; else "all".

    The split may be a part of a longer name, such as "VisDrone2019-DET-train".
    """
    for part in reversed(parts):
        for word in (part, *reversed(re.split(r"[-_. ]+", part))):
            if normalize_split(word) in NAMED:
                return normalize_split(word)
    return "all"


def image_folders(data: AnyPath) -> list[AnyPath]:
    """Return all folders with images, below and including ``data``."""
    return [folder for folder, _, names in walk(data) if any(map(is_image, names))]


def image_roots(
    data: AnyPath,
    labels: AnyPath,
    split: str,
    folders: Sequence[AnyPath],
    siblings: Siblings = Siblings(),  # noqa: B008  # it never changes
) -> list[AnyPath]:
    """Return the folders in which the images of a folder of labels may lie, the most likely first.

    These are the nearest of ``folders``, without those of other splits and of other labels (``siblings``): first those
    whose name ends in the number of the label folder (``image_2`` of ``label_2``), then the others by name. The folders
    above the labels come last, for image names that have folders in them.
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
    most = max(map(shared, fitting), default=0)  # an image farther away is unusual, and a note says where it was found
    near = sorted((folder for folder in fitting if shared(folder) == most), key=order)[:_MAX_ROOTS]
    return list(dict.fromkeys([*beside, *near, *around]))


def _finder(
    base: AnyPath, labels: AnyPath, folders: Sequence[AnyPath], labeled: LabelFolders, options: ReadOptions
) -> ImageFinder:
    """Return the finder for the images of a folder of labels among the ``folders`` with images."""
    own = parts_between(base, labels)
    split, siblings = split_of_parts(own), Siblings(own, labeled)  # a list may name another split
    roots = image_roots(base, labels, split, folders, siblings)
    return finder_of(roots, base, split, options, lambda: siblings)


@dataclass(frozen=True)
class LabelFiles:
    """A format with a label file for each image.

    ``kind`` returns the format of a file. ``parse`` returns the item that its text holds, or None where the file is
    something else. ``words`` describes the location of an object in it. ``classes`` are the names of all classes where
    the format fixes them.
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
        """Return the splits, each with what to read: a label file, a list in ``ImageSets``, or a folder.

        Raises:
            DataError: there are no labels of this format.
        """
        if data.is_file():
            return {"all": data}
        found: dict[str, list[AnyPath]] = {}
        for folder in self.folders(data):
            found.setdefault(split_of_parts(parts_between(data, folder)), []).append(folder)
        if not found:
            text = f"there are no labels of {self.title} in it ({self.suffix} files); name the folder that has them"
            raise DataError(f"{data}: {text}", code="no-label-files")
        lists = self._lists(data) if len(found) == 1 else None
        if lists is not None and lists.splits:
            return lists.splits
        return {split: folders[0] if len(folders) == 1 else data for split, folders in found.items()}

    def _lists(self, data: AnyPath) -> ImageSets | None:
        """Return the lists in ``ImageSets``, those of a split without those that name no label file."""
        folder = lists_folder(data)
        if folder is None:
            return None
        paths = (
            "/".join((*parts_between(data, path), name))
            for path in self.folders(data)
            for name in _labels_in(path, self.suffix)
        )
        labels = index_labels(paths)
        names = [name for name in list_dir(folder)[1] if name.endswith(".txt")]
        lists = read_lists(folder, names, labels, self.suffix)
        texts = {split: map(str.strip, TextDecoder().read(file).split("\n")) for split, file in lists.splits.items()}
        splits = {split: file for split, file in lists.splits.items() if names_any(texts[split], labels)}
        others = [file.name for split, file in lists.splits.items() if split not in splits]
        return replace(lists, splits=splits, others=[*lists.others, *others])

    def read(self, source: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
        """Read one split, as ``splits`` gives it.

        Raises:
            DataError: a folder or a list cannot be read. Whatever is wrong with a label file is a problem of the set.
        """
        columns, texts = ColumnBuilder(self.name, source, split), TextDecoder()
        if self.classes:
            columns.declare_classes(self.classes)
        items = Items(columns)
        base = data if data.is_dir() else source.parent
        find = self._finders(base, options)
        files: list[tuple[AnyPath, str] | None] = []
        locations, bare = self._files(columns, base, find)
        for (folder, name), (file, content) in zip(locations, read_many(f / n for f, n in locations), strict=True):
            item = self._item(columns, content, file, texts, find(folder))
            if item is not None and items.add(item, file, find(folder), self.words):
                files.append((folder, name))
        columns.find_lost()
        add_unlabeled(columns, bare or self._unlabeled(columns), f"{self.suffix} file of labels", options, files)
        columns.notes += texts.notes(source)
        return finished(items, Files.of(files), self.words)

    def _finders(self, base: AnyPath, options: ReadOptions) -> Callable[[AnyPath], ImageFinder]:
        """Return a function that returns the finder for the images of a folder of labels."""
        folders, labeled = image_folders(base), LabelFolders(base, self.folders(base))
        finders: dict[AnyPath, ImageFinder] = {}

        def find(folder: AnyPath) -> ImageFinder:
            if folder not in finders:
                finders[folder] = _finder(base, folder, folders, labeled, options)
            return finders[folder]

        return find

    def _item(
        self, columns: ColumnBuilder, content: bytes | DataError, file: AnyPath, texts: TextDecoder, finder: ImageFinder
    ) -> Item | None:
        """Return the item in a label file; None where the file is something else or wrong, which is reported."""
        try:
            if isinstance(content, DataError):
                raise content
            item = self.parse(texts.decode(content, file), file)
        except DataError as error:
            columns.report_error("malformed", file, error)
            return None
        stem = os.path.splitext(file.stem)[0] if is_image(file.stem) else file.stem
        if item is None and finder.find_stem(stem) is not None:
            text = f"this is not a label file of {self.title}, though an image has its name"
            columns.report("malformed", file, "", text, "fix or remove it")
        elif item is None:
            columns.changed[
                f"{self.suffix} (file that is no label file was|files that are no label files were) passed over"
            ] += 1
        return item

    def _files(
        self, columns: ColumnBuilder, base: AnyPath, find: Callable[[AnyPath], ImageFinder]
    ) -> tuple[list[FoundImage], list[FoundImage]]:
        """Return folder and name of each label file of a split, and of the images without one that a list names."""
        source, lists = columns.source, self._lists(base)
        if source.is_file():
            if lists is None or source not in lists.splits.values():
                return [(source.parent, source.name)], []
            columns.notes += lists.notes()
            folder = next(iter(self.folders(base)), base)
            paths, bare = lists.read(source, columns, find(folder), "among the labels")
            return [_located(base, path) for path in paths], bare
        if lists is not None and not lists.splits:
            columns.notes += lists.unused_notes()
        folders = (path for path in self.folders(source) if split_of_parts(parts_between(base, path)) == columns.split)
        return [(path, name) for path in folders for name in _labels_in(path, self.suffix)], []

    def _unlabeled(self, columns: ColumnBuilder) -> list[FoundImage]:
        """Return the images beside those that have labels; none where a list or a file says what is in the split."""
        if columns.source.is_file():
            return []
        used = columns.names_by_folder()
        beside = [(folder, name) for folder, names in used.items() for name in list_dir(folder)[1] if name not in names]
        columns.notes += passed_over([name for _, name in beside], columns.source.name)
        return [(folder, name) for folder, name in beside if is_image(name)]


def _labels_in(folder: AnyPath, suffix: str) -> list[str]:
    """Return the names of the label files in a folder."""
    return [name for name in list_dir(folder)[1] if name.lower().endswith(suffix) and name.lower() not in NOT_LABELS]


def _located(base: AnyPath, path: str) -> FoundImage:
    """Return the folder and the name of a file by its path from ``base`` on."""
    folder, _, name = path.rpartition("/")
    return (base / folder if folder else base), name
