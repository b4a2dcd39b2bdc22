"""Formats with one file of labels for each split: where data sets keep it, and how its records become columns.

The file lies beside the images or in a folder of its own; its name, or that of a folder around it, names the split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from varifocal.data.annotations import RawDataset
from varifocal.data.archive import AnyPath
from varifocal.data.find_images import finder_of
from varifocal.data.options import ReadOptions
from varifocal.data.paths import list_dir, walk
from varifocal.data.readers.columns import ColumnBuilder
from varifocal.data.readers.items import Item, Items, LocationOf, finished
from varifocal.data.readers.label_files import SNIFFED, image_folders, image_roots, split_of_parts
from varifocal.data.sibling_folders import parts_between, siblings_of_source
from varifocal.data.splits import NAMED, normalize_split
from varifocal.utils.errors import DataError


@dataclass(frozen=True)
class RecordFiles:
    """A format with a file for each split.

    ``kind`` returns the format of a file. ``scan(file, columns, add)`` calls ``add`` with each image of a file, and may
    declare classes or add notes. ``words`` describes the location of an object.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    kind: Callable[[AnyPath], str]
    scan: Callable[[AnyPath, ColumnBuilder, Callable[[Item], None]], None]
    words: LocationOf

    def files(self, data: AnyPath) -> Iterator[AnyPath]:
        """Yield the files of this format below a folder."""
        for folder, _, _ in walk(data):
            yield from self.files_in(folder)

    def files_in(self, folder: AnyPath) -> Iterator[AnyPath]:
        """Yield the files of this format in a folder; one with very many files of a suffix has none."""
        names = [name for name in list_dir(folder)[1] if name.lower().endswith(self.suffixes)]
        if len(names) <= SNIFFED:
            yield from (folder / name for name in names if self.kind(folder / name) == self.name)

    def splits(self, data: AnyPath) -> dict[str, AnyPath]:
        """Return the splits, each with its file.

        Raises:
            DataError: there is none, or several of one split.
        """
        if data.is_file():
            return {split_of_parts([data.stem]): data}
        found: dict[str, AnyPath] = {}
        for file in self.files(data):
            split = split_of_parts([*parts_between(data, file.parent), file.stem])
            if split in found:
                raise _duplicate_split(data, split, found[split], file)
            found[split] = file
        if not found:
            raise DataError(f"{data}: there is no file of {self.title} in it; name the file", code="no-record-file")
        return found

    def read(self, source: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
        """Read one split, as ``splits`` gives it.

        Raises:
            DataError: the file cannot be read. Whatever is wrong with a record is a problem of the set.
        """
        columns = ColumnBuilder(self.name, source, split)
        items = Items(columns)
        base = data if data.is_dir() else source.parent
        roots = image_roots(base, source.parent, split, image_folders(base))
        finder = finder_of(roots, base, split, options, siblings_of_source(data, source, self.splits))

        def add(item: Item) -> None:
            items.add(item, source, finder, self.words)

        self.scan(source, columns, add)
        return finished(items, [source], self.words)


def files_of_exports(folder: AnyPath, find: Callable[[AnyPath], list[AnyPath]]) -> list[AnyPath]:
    """Return the files that ``find`` finds in a folder, or else in the folders in it that are called like splits."""
    names = [name for name in list_dir(folder)[0] if normalize_split(name) in NAMED]
    return find(folder) or [file for name in names for file in find(folder / name)]


def exports_by_split(data: AnyPath, files: Sequence[AnyPath]) -> dict[str, AnyPath]:
    """Return several exports by the splits in their names or those of their folders; empty where these are unclear."""
    found = {split_of_parts([*parts_between(data, file.parent), file.stem]): file for file in files}
    return found if len(found) == len(files) > 1 and found.keys() <= NAMED else {}


def _duplicate_split(data: AnyPath, split: str, first: AnyPath, second: AnyPath) -> DataError:
    """Return the error that two files seem to be of one split."""
    if split in NAMED:
        text = f"{first} and {second} are both of the split {split}; name the one that is meant"
        return DataError(f"{data}: {text}", code="record-duplicate-split")
    text = f"the names of {first} and {second} do not say which split each of them is"
    hint = "give them the names of splits (train, val, test), or name the one that is meant"
    return DataError(f"{data}: {text}; {hint}", code="record-no-split")
