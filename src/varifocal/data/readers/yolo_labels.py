"""The file of labels of each image of a YOLO data set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from varifocal.data.archive import AnyPath
from varifocal.data.find_images import fold, upload_names
from varifocal.data.options import ReadOptions
from varifocal.data.paths import is_image, list_dir
from varifocal.data.readers.yolo_layout import NOT_LABELS, Entry, Layout, label_path, tails_of


class Found(NamedTuple):
    """An image: its folder, the path of that from the data folder on, and its file name.

    ``written`` are the folders before its name as the source has them, which may begin with those of another machine.
    """

    folder: AnyPath
    path: str
    name: str
    written: str


class LabelFinder:
    """Finds the files of labels of images; each folder is listed once.

    ``listings`` are the folders that were searched with their files of labels, ``lonely`` the files that no image has
    yet, and ``prefixed`` the files that were found with Label Studio's prefix of eight letters.
    """

    def __init__(self, layout: Layout, options: ReadOptions) -> None:
        self._layout, self._options = layout, options
        self.listings: dict[AnyPath, frozenset[str]] = {}
        self.lonely: dict[AnyPath, set[str]] = {}
        self.prefixed: list[str] = []
        # folder, path and written folders of images -> folders of their labels
        self._locations: dict[tuple[AnyPath, str, str], tuple[AnyPath, ...]] = {}
        self._folded: dict[AnyPath, dict[str, str]] = {}  # files in the form in which names are compared
        self._uploads: dict[AnyPath, dict[str, str]] = {}  # files by their names without the letters of an upload
        self._stems: dict[AnyPath, set[str]] = {}  # folder -> names of its images without their suffix

    def find(self, entry: Entry, found: Found) -> tuple[AnyPath, str] | None:
        """Return folder and name of the file of labels of an image; None where there is none.

        It is in the folder of labels that mirrors that of images, or beside the image: a.txt, or else a.jpg.txt, or
        else one with Label Studio's prefix of eight letters, if no image has its complete name.
        """
        key = (found.folder, found.path, found.written)
        if key not in self._locations:
            self._locations[key] = tuple(dict.fromkeys(self._label_locations(entry, found)))
        paths, stem = self._locations[key], os.path.splitext(found.name)[0]
        return self._exact(paths, stem) or self._exact(paths, found.name) or self._upload(paths, found, stem)

    def _exact(self, locations: tuple[AnyPath, ...], stem: str) -> tuple[AnyPath, str] | None:
        for location in locations:
            if location not in self.listings:
                names = [file for file in list_dir(location)[1] if _is_label(file)]
                self.listings[location] = frozenset(names)
                self.lonely[location] = set(names)
            name = f"{stem}.txt"
            if name in self.listings[location]:
                return location, name
            if location not in self._folded:
                self._folded[location] = {fold(file): file for file in self.listings[location]}
            other = self._folded[location].get(fold(name))
            if other is not None:
                return location, other
        return None

    def _upload(self, locations: tuple[AnyPath, ...], found: Found, stem: str) -> tuple[AnyPath, str] | None:
        for location in locations:
            if location not in self._uploads:
                self._uploads[location] = upload_names(self.listings[location])
            name = self._uploads[location].get(fold(f"{stem}.txt"))
            if name is None:
                continue
            if found.folder not in self._stems:
                images = filter(is_image, list_dir(found.folder)[1])
                self._stems[found.folder] = {os.path.splitext(image)[0] for image in images}
            if os.path.splitext(name)[0] not in self._stems[found.folder]:
                self.prefixed.append(name)
                return location, name
        return None

    def _label_locations(self, entry: Entry, found: Found) -> Iterator[AnyPath]:
        """Yield the folders in which the labels of the images of a folder may lie, the most likely first.

        The folders that a list has before the names of images may begin on another machine: CVAT's "YOLO 1.1" has
        data/obj_train_data for labels in obj_train_data.
        """
        top = root = self._layout.root
        path, images = found.path, self._options.images
        written = [root / tail for tail in tails_of(found.written)] if entry.path.is_file() else []
        if images is not None:
            if entry.path.is_file():
                yield label_path(root / path, root)
                yield from (root / "labels" / tail for tail in (path, path.rpartition("/")[2], ""))
                yield root
            elif entry.labels is not None:
                yield entry.labels / path if path else entry.labels
                yield entry.labels
            top = images
        yield label_path(found.folder, top)
        yield found.folder
        for location in written:
            yield label_path(location, root)
            yield location


def _is_label(file: str) -> bool:
    return file.lower().endswith(".txt") and file.lower() not in NOT_LABELS
