"""Matching of image folders to label folders, where one folder contains several data sets side by side.

``monday/ann`` and ``tuesday/ann`` may use the same image names. An image then belongs to the label folder whose path
has most in common with the path of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from varifocal.data.archive import AnyPath
from varifocal.utils.errors import DataError


def parts_between(data: AnyPath, folder: AnyPath) -> tuple[str, ...]:
    """Return the names of the folders on the way from the data folder to one below it."""
    parts: list[str] = []
    while str(folder) != str(data) and folder.name and folder != folder.parent:
        parts.append(folder.name)
        folder = folder.parent
    return tuple(reversed(parts))


def shared_parts(labels: Sequence[str], images: Sequence[str]) -> int:
    """Return how many folders on the way to the labels are also on the way to the images."""
    return sum(part in images for part in labels)


class LabelFolders:
    """The label folders of a data set, by their paths relative to it."""

    def __init__(self, data: AnyPath, folders: Iterable[AnyPath]) -> None:
        self._paths = list(dict.fromkeys(parts_between(data, folder) for folder in folders))
        self._most: dict[tuple[str, ...], int] = {}

    def most(self, images: tuple[str, ...]) -> int:
        """Return how many folders the path of an image folder has in common with that of its nearest label folder."""
        if images not in self._most:
            self._most[images] = max((shared_parts(path, images) for path in self._paths), default=0)
        return self._most[images]


@dataclass(frozen=True)
class Siblings:
    """The path of a label folder relative to the data set, and all label folders; without these no folder is
    preferred."""

    own: tuple[str, ...] = ()
    all: LabelFolders | None = None

    def claim(self, images: tuple[str, ...], agreeing: int = 0) -> bool:
        """Return whether an image folder belongs to other labels.

        ``agreeing`` is the number of its last folders that the name of the image contains: a name that contains all
        folders in which the two data sets differ is unambiguous by itself.
        """
        common = 0
        while common < min(len(self.own), len(images)) and self.own[common] == images[common]:
            common += 1
        if self.all is None or 0 < len(images) - common <= agreeing:
            return False
        return self.all.most(images) > shared_parts(self.own, images)


def siblings_of_source(
    data: AnyPath, source: AnyPath, find: Callable[[AnyPath], Mapping[str, AnyPath]]
) -> Callable[[], Siblings]:
    """Return a function that returns the siblings of a label file: the files of the other splits, found by ``find``."""

    def siblings() -> Siblings:
        try:
            files = find(data).values() if data.is_dir() else []
        except DataError:
            return Siblings()
        return Siblings(parts_between(data, source.parent), LabelFolders(data, [file.parent for file in files]))

    return siblings
