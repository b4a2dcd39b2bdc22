"""Which folders of images belong to which folders of labels, where a data folder holds several data sets side by side.

``monday/ann`` and ``tuesday/ann`` name their images alike, so that a name alone does not say whose an image is. The
folder of labels whose path has most in common with that of the images does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from varifocal.data.archive import AnyPath
from varifocal.utils.errors import DataError


def parts_between(data: AnyPath, folder: AnyPath) -> tuple[str, ...]:
    """The names of the folders from the data folder down to one below it."""
    parts: list[str] = []
    while str(folder) != str(data) and folder.name and folder != folder.parent:
        parts.append(folder.name)
        folder = folder.parent
    return tuple(reversed(parts))


def shared_parts(labels: Sequence[str], images: Sequence[str]) -> int:
    """How many folders on the way to labels are also on the way to images."""
    return sum(part in images for part in labels)


class LabelFolders:
    """The folders of labels of a data folder, by their paths from there on."""

    def __init__(self, data: AnyPath, folders: Iterable[AnyPath]) -> None:
        self._paths = list(dict.fromkeys(parts_between(data, folder) for folder in folders))
        self._most: dict[tuple[str, ...], int] = {}

    def most(self, images: tuple[str, ...]) -> int:
        """Return how many folders of its path a folder of images has in common with the nearest labels."""
        if images not in self._most:
            self._most[images] = max((shared_parts(path, images) for path in self._paths), default=0)
        return self._most[images]


@dataclass(frozen=True)
class Siblings:
    """The path of a folder of labels from the data folder on, among all that there are; without them no folder is
    preferred."""

    own: tuple[str, ...] = ()
    all: LabelFolders | None = None

    def claim(self, images: tuple[str, ...], agreeing: int = 0) -> bool:
        """Whether a folder of images belongs to other labels.

        ``agreeing`` is how many of its last folders the name of an image has, too: a name that has all of those that
        tell the two data sets apart says by itself whose the image is.
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
    """Gives the siblings of a file of labels: those of the other splits, which ``find`` gives when it is asked."""

    def siblings() -> Siblings:
        try:
            files = find(data).values() if data.is_dir() else []
        except DataError:
            return Siblings()
        return Siblings(parts_between(data, source.parent), LabelFolders(data, [file.parent for file in files]))

    return siblings
