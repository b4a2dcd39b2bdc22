"""Images found by the end of their path: annotations from another machine contain the folders of that machine.

``C:\\Users\\me\\a.jpg``, ``/data/upload/3/a.jpg``, ``data/local-files/?d=my%20set/a.jpg`` and ``s3://bucket/a.jpg`` all
mean the image ``a.jpg`` of the data set, if only one path there ends so. Case and the Unicode form of accents do not
matter. Nothing outside the data set is searched, and nothing is guessed: a path end that several images have is a
problem of the data set.
"""

from __future__ import annotations

import os
import re
import unicodedata
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

from varifocal.data.archive import AnyPath
from varifocal.data.options import ReadOptions
from varifocal.data.paths import ImageFinder, is_image, walk
from varifocal.data.sibling_folders import Siblings
from varifocal.data.splits import NAMED, have_common_images, normalize_split
from varifocal.utils.text import counted, short

FoundImage = tuple[AnyPath, str]  # folder and file name

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_DRIVE = re.compile(r"^[A-Za-z]:")
_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")  # the prefix of Label Studio for the names of uploaded files
_LIKELY = re.compile(r"^(?=[0-9]*[a-f])[0-9a-f]{8}-(?=.)")
AMBIGUOUS = "write the folders of the right one, or name the folder of the images with --images"
_MOST = 5_000_000  # images that are indexed; in a folder with more, none is found by the end of its path


def fold(name: str) -> str:
    """Return a name for comparison: in lower case, and with accents in one Unicode form."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def finder_of(
    roots: Sequence[AnyPath],
    top: AnyPath,
    split: str,
    options: ReadOptions,
    siblings: Callable[[], Siblings] = Siblings,
) -> ImageFinder:
    """Return a finder of the images of a split in ``roots``, and anywhere below ``top`` by the end of their path.

    Folders that belong to other labels are left out; ``siblings`` is called for these when the first image is missing.
    A folder of images that the user names replaces both ``roots`` and ``top``.
    """
    images = options.images
    if images is None:
        return ImageFinder(roots, top, split, siblings)
    names = dict.fromkeys([split, normalize_split(split)])
    roots = [*(images / name for name in names if not set(name) & set("/\\\x00")), images]
    return ImageFinder(roots, images, split, siblings)


def parts_of(name: str) -> tuple[str, ...]:
    """Return the folders and the file of a path of any system, without drive, server and parent folders."""
    path = _DRIVE.sub("", _SCHEME.sub("", name)).replace("\\", "/")
    return tuple(part for part in path.split("/") if part not in ("", ".", ".."))


def spellings(name: str) -> Iterator[tuple[str, ...]]:
    """Yield what a name may mean as folders and file: as written, without the query of a URL, and percent-decoded."""
    plain = [name]
    if "?" in name:
        path, _, query = name.partition("?")
        plain += [path, *parse_qs(query).get("d", [])]
    for one in plain:
        yield parts_of(one)
        if "%" in one:
            yield parts_of(unquote(one))


@dataclass
class _Node:
    """Images whose paths have the same end, and below it those that also have the next folder in common."""

    members: list[int]
    children: dict[str, _Node] | None = None


class Ends:
    """The images below a folder by the end of their path; the folder is walked at the first search."""

    def __init__(self, top: AnyPath) -> None:
        self._top = top
        self._walked = False
        self._folders: list[tuple[AnyPath, tuple[str, ...]]] = []
        self._names: list[str] = []
        self._folder_of = array("q")
        self._by_name: dict[str, int | _Node] = {}
        self._by_stem: dict[str, int | _Node] | None = None

    def search(self, parts: Sequence[str]) -> tuple[int, list[int]]:
        """Return the largest number of last ``parts`` that agree with the path of an image, and all such images."""
        self._walk()
        if not parts:
            return 0, []
        last = fold(parts[-1])
        found = self._by_name.get(last) if is_image(last) else self._stems().get(last)
        if found is None:
            return 0, []
        if isinstance(found, int):
            return self._agreeing(found, parts), [found]
        length = 1
        while length < len(parts):
            below = self._children(found, length).get(fold(parts[-1 - length]))
            if below is None:
                break
            found, length = below, length + 1
        return length, found.members

    def location(self, image: int) -> FoundImage:
        """Return the folder and the file name of an image."""
        return self._folders[self._folder_of[image]][0], self._names[image]

    def folders_of(self, image: int) -> tuple[str, ...]:
        """Return the names of the folders around an image, from the top."""
        return self._folders[self._folder_of[image]][1]

    def path(self, image: int) -> str:
        """Return the path of an image relative to the top."""
        return "/".join((*self.folders_of(image), self._names[image]))

    def name(self, image: int) -> str:
        """Return the file name of an image."""
        return self._names[image]

    def _walk(self) -> None:
        if self._walked:
            return
        self._walked = True
        for folder, path, files in walk(self._top, skip_closed=True):
            images = [name for name in files if is_image(name)]
            if images:
                self._folders.append((folder, tuple(path.split("/")) if path else ()))
            for name in images:
                _add(self._by_name, fold(name), len(self._names))
                self._names.append(name)
                self._folder_of.append(len(self._folders) - 1)
            if len(self._names) > _MOST:
                self._by_name.clear()
                self._names.clear()
                return

    def _stems(self) -> dict[str, int | _Node]:
        if self._by_stem is None:
            self._by_stem = {}
            for image, name in enumerate(self._names):
                _add(self._by_stem, fold(os.path.splitext(name)[0]), image)
        return self._by_stem

    def _agreeing(self, image: int, parts: Sequence[str]) -> int:
        folders = self.folders_of(image)
        length = 1
        while length < len(parts) and length <= len(folders) and fold(parts[-1 - length]) == fold(folders[-length]):
            length += 1
        return length

    def _children(self, node: _Node, length: int) -> dict[str, _Node]:
        """Return the images of a node by the folder before the ``length`` parts in which they agree."""
        if node.children is None:
            node.children = {}
            for image in node.members:
                folders = self.folders_of(image)
                if len(folders) >= length:
                    node.children.setdefault(fold(folders[-length]), _Node([])).members.append(image)
        return node.children


def _add(index: dict[str, int | _Node], key: str, image: int) -> None:
    """Add an image under a key; a million keys with one image each need no lists."""
    known = index.setdefault(key, image)
    if isinstance(known, _Node):
        known.members.append(image)
    elif known != image:
        index[key] = _Node([known, image])


class Lost(NamedTuple):
    """An image that is not where its name says; ``names`` are its possible names, the most reliable first.

    ``upload`` says that the name may have the prefix of uploaded files.
    """

    image: int
    names: tuple[str, ...]
    finder: ImageFinder
    upload: bool = False


class _Near(NamedTuple):
    """The folders where images usually are, and those of other labels, where they never are."""

    usual: Sequence[tuple[str, ...]]
    siblings: Siblings


@dataclass
class Located:
    """Results of :func:`locate` by image: its location, or all paths that it could mean.

    ``far`` are the images that are not even in a usual folder.
    """

    locations: dict[int, FoundImage] = field(default_factory=dict)
    several: dict[int, list[str]] = field(default_factory=dict)
    far: set[int] = field(default_factory=set)


def locate(lost: Iterable[Lost], taken: Callable[[], set[FoundImage]]) -> Located:
    """Find images by the longest end of their names that the path of an image in the data set has, too.

    ``taken`` returns the images that other annotations name by their whole path; they belong to those. An image that
    two different names fit is given to neither.
    """
    ends: dict[AnyPath, Ends] = {}
    near_by: dict[ImageFinder, _Near] = {}
    name_of: dict[FoundImage, str] = {}
    clashes: set[FoundImage] = set()
    used: set[FoundImage] | None = None
    found = Located()
    for image in lost:
        finder, name = image.finder, image.names[0].replace("\\", "/")
        if finder.top is None:
            continue
        used = taken() if used is None else used
        index = ends.setdefault(finder.top, Ends(finder.top))
        if finder not in near_by:
            near_by[finder] = _Near(_usual(finder), finder.siblings())
        meant, near = _meant(image, index, near_by[finder], used)
        if len(meant) == 1:
            location = found.locations[image.image] = index.location(meant[0])
            if name_of.setdefault(location, name) != name:
                clashes.add(location)
            if not near:
                found.far.add(image.image)
        elif meant:
            found.several[image.image] = [index.path(candidate) for candidate in meant[:5]]
    _reject(found, clashes)
    return found


def _reject(found: Located, clashes: set[FoundImage]) -> None:
    """Give images that different names fit to none of them."""
    for image in [image for image, location in found.locations.items() if clashes and location in clashes]:
        found.several[image] = [str(_joined(found.locations.pop(image)))]


def _joined(location: FoundImage) -> AnyPath:
    return location[0] / location[1]


def _meant(one: Lost, ends: Ends, near: _Near, taken: set[FoundImage]) -> tuple[list[int], bool]:
    """Return the images that a missing one may be, one if it is certain, and whether that is in a usual folder.

    As a last resort that is the image of the same name with another suffix (a.jpg for a.png), but only in a usual
    folder: masks and drawings of predictions lie in others.
    """
    for name in one.names:
        written = list(dict.fromkeys(spellings(name)))
        for parts in (written, without_upload(written, one.upload)):
            if found := _by_ends(parts, one, ends, near, taken):
                return found
    for name in one.names:
        stems = [(*part[:-1], os.path.splitext(part[-1])[0]) for part in spellings(name) if part and is_image(part[-1])]
        images, is_near = _by_ends(stems, one, ends, near, taken) or ([], False)
        if images and is_near:
            return images, True
    return [], False


def _by_ends(
    parts: list[tuple[str, ...]], one: Lost, ends: Ends, near: _Near, taken: set[FoundImage]
) -> tuple[list[int], bool] | None:
    """Return what :func:`_meant` does for paths that an image may have; None where no image ends like one of them."""
    length, images = max((ends.search(part) for part in parts), key=lambda hit: hit[0], default=(0, []))
    if not images:
        return None
    names = {part[-1] for part in parts if part}
    candidates = _candidates(ends, images, length, one.finder.split, taken)
    return _sure(ends, _own(candidates, ends, length, near), names, near.usual)


def without_upload(written: Iterable[tuple[str, ...]], sure: bool) -> list[tuple[str, ...]]:
    """Return the paths without the prefix that Label Studio writes before the names of uploaded files.

    Unless something else indicates an upload, eight digits are a date and no prefix.
    """
    sure_or_not = ((sure or "upload" in parts, parts) for parts in written if parts)
    uploaded = [parts for known, parts in sure_or_not if (_UPLOAD if known else _LIKELY).match(parts[-1])]
    return [(*parts[:-1], _UPLOAD.sub("", parts[-1])) for parts in uploaded]


def upload_names(names: Collection[str]) -> dict[str, str]:
    """Return files by their names without Label Studio's prefix, folded; names that are not unique then are left out.

    Eight digits are a prefix if all files begin so, and at least one with letters.
    """
    sure = all(map(_UPLOAD.match, names)) and any(map(_LIKELY.match, names))
    found: dict[str, str] = {}
    several: set[str] = set()
    for name in names:
        if (_UPLOAD if sure else _LIKELY).match(name):
            rest = fold(_UPLOAD.sub("", name))
            if found.setdefault(rest, name) != name:
                several.add(rest)
    return {rest: name for rest, name in found.items() if rest not in several}


def _candidates(
    ends: Ends, images: Sequence[int], length: int, split: str, taken: set[FoundImage]
) -> dict[int, tuple[str, ...]]:
    """Return the folders before the last ``length`` parts for each image that agrees in these and may be meant."""
    outer = {image: ends.folders_of(image) for image in images}
    outer = {image: folders[: len(folders) - length + 1] for image, folders in outer.items()}
    return {
        image: folders
        for image, folders in outer.items()
        if not _of_other_split(folders, split) and ends.location(image) not in taken
    }


def _own(outer: dict[int, tuple[str, ...]], ends: Ends, length: int, near: _Near) -> dict[int, tuple[str, ...]]:
    """Return the candidates without those in folders that belong to other labels."""
    return {
        image: folders
        for image, folders in outer.items()
        if folders in near.usual or not near.siblings.claim(ends.folders_of(image), length - 1)
    }


def _sure(
    ends: Ends, outer: dict[int, tuple[str, ...]], names: set[str], usual: Sequence[tuple[str, ...]]
) -> tuple[list[int], bool]:
    """Return the candidates of exactly that name, and of these the ones in the first usual folder, if there are any."""
    images = [image for image in outer if ends.name(image) in names] or list(outer)
    for root in usual:
        there = [image for image in images if outer[image] == root]
        if there:
            return there, True
    return images, False


def _usual(finder: ImageFinder) -> list[tuple[str, ...]]:
    """Return the folders in which images are searched first, as paths relative to the top."""
    top = str(finder.top).rstrip("/")
    paths = [str(root) for root in finder.roots]
    return [
        tuple(path[len(top) :].strip("/").split("/")) if path.rstrip("/") != top else ()
        for path in paths
        if f"{path}/".startswith(f"{top}/")
    ]


def _of_other_split(folders: Sequence[str], split: str) -> bool:
    """Return whether a path leads through the folder of another split, whose images are never meant."""
    own = normalize_split(split)
    others = (name for name in folders if normalize_split(name) in NAMED - {own})
    return own in NAMED and any(not have_common_images(own, name) for name in others)


def not_found(name: str, several: Sequence[str], roots: Iterable[AnyPath]) -> str:
    """Return the end of a sentence about an image that is not found, which follows a verb and its name."""
    if len(several) == 1:
        return f"which is not found, because {short(several[0])} fits other names, too"
    if several:
        return f"which fits several images: {', '.join(map(str, several))}"
    return f"which is not found in {', '.join(map(str, roots))}"


def note_of(source: AnyPath, count: int, name: str, location: FoundImage) -> str:
    """Return a note on images that were found by the end of their path: their number, and the first one's path."""
    images = counted(count, "(image is found by the end of its name|images are found by the end of their names)")
    return f"{source.name}: {images}, first {short(name)} as {_joined(location)}."
