"""Images by the end of their names: annotations written on another machine begin with its folders and not with ours.

``C:\\Users\\me\\a.jpg``, ``/data/upload/3/a.jpg``, ``data/local-files/?d=my%20set/a.jpg`` and ``s3://bucket/a.jpg`` are
all the image ``a.jpg`` of the data folder, if only one there ends so. Case and the two forms in which Unicode writes an
accent make no difference. Nothing outside the data folder is looked at, and nothing is guessed: an end that several
images have is a problem of the set.
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

from varifocal.data.annotations import counted, short
from varifocal.data.archive import AnyPath
from varifocal.data.names import NAMED, have_common_images, normalize_split
from varifocal.data.options import ReadOptions
from varifocal.data.paths import ImageFinder, is_image, walk
from varifocal.data.sibling_folders import Siblings

FoundImage = tuple[AnyPath, str]  # folder and file name

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_DRIVE = re.compile(r"^[A-Za-z]:")
_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio writes before the names of uploaded files
_LIKELY = re.compile(r"^(?=[0-9]*[a-f])[0-9a-f]{8}-(?=.)")
AMBIGUOUS = "write the folders of the one that is meant, or name the folder of the images with --images"
_MOST = 5_000_000  # images that are indexed; in a folder of more none is found by its end


def fold(name: str) -> str:
    """A name as it is compared: in small letters, and with its accents in one form."""
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
    """Looks for the images of a split in ``roots``, and anywhere below ``top`` by the ends of their names, but not in
    the folders that belong to labels other than those that name them: ``siblings`` is asked for these when first an
    image is lost.

    A folder of images that the user names replaces both.
    """
    images = options.images
    if images is None:
        return ImageFinder(roots, top, split, siblings)
    names = dict.fromkeys([split, normalize_split(split)])
    roots = [*(images / name for name in names if not set(name) & set("/\\\x00")), images]
    return ImageFinder(roots, images, split, siblings)


def parts_of(name: str) -> tuple[str, ...]:
    """The folders and the file of a path of any system, without what stands for a drive, a server or a climb."""
    path = _DRIVE.sub("", _SCHEME.sub("", name)).replace("\\", "/")
    return tuple(part for part in path.split("/") if part not in ("", ".", ".."))


def spellings(name: str) -> Iterator[tuple[str, ...]]:
    """What a name may mean as folders and file: as it is written, without an address's query, and decoded."""
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
    """Images whose paths end alike, and those of them that also have the next folder in common."""

    members: list[int]
    children: dict[str, _Node] | None = None


class Ends:
    """The images below a folder by the ends of their paths; the folder is walked once, when first it is asked."""

    def __init__(self, top: AnyPath) -> None:
        self._top = top
        self._walked = False
        self._folders: list[tuple[AnyPath, tuple[str, ...]]] = []
        self._names: list[str] = []
        self._folder_of = array("q")
        self._by_name: dict[str, int | _Node] = {}
        self._by_stem: dict[str, int | _Node] | None = None

    def search(self, parts: Sequence[str]) -> tuple[int, list[int]]:
        """How many of the last ``parts`` agree with those of an image, and all images that agree in so many."""
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
        """Folder and file name of an image."""
        return self._folders[self._folder_of[image]][0], self._names[image]

    def folders_of(self, image: int) -> tuple[str, ...]:
        """The names of the folders that an image lies in, from the top on."""
        return self._folders[self._folder_of[image]][1]

    def path(self, image: int) -> str:
        """The path of an image from the top on."""
        return "/".join((*self.folders_of(image), self._names[image]))

    def name(self, image: int) -> str:
        """The file name of an image."""
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
        """The images of a node by the folder before the ``length`` parts in which they agree."""
        if node.children is None:
            node.children = {}
            for image in node.members:
                folders = self.folders_of(image)
                if len(folders) >= length:
                    node.children.setdefault(fold(folders[-length]), _Node([])).members.append(image)
        return node.children


def _add(index: dict[str, int | _Node], key: str, image: int) -> None:
    """Note an image under a key; a million keys with one image each are held without lists."""
    known = index.setdefault(key, image)
    if isinstance(known, _Node):
        known.members.append(image)
    elif known != image:
        index[key] = _Node([known, image])


class Lost(NamedTuple):
    """An image that does not lie where its name says. ``names`` are what it is called, the first counts most.

    ``upload`` says that a server may have written eight letters before the name.
    """

    image: int
    names: tuple[str, ...]
    finder: ImageFinder
    upload: bool = False


class _Near(NamedTuple):
    """The folders where images usually lie, and those of other labels, where they never do."""

    usual: Sequence[tuple[str, ...]]
    siblings: Siblings


@dataclass
class Located:
    """Of images that did not lie where their names say: where they are, or all the paths that could be meant.

    ``far`` are those that do not even lie in a usual folder.
    """

    locations: dict[int, FoundImage] = field(default_factory=dict)
    several: dict[int, list[str]] = field(default_factory=dict)
    far: set[int] = field(default_factory=set)


def locate(lost: Iterable[Lost], taken: Callable[[], set[FoundImage]]) -> Located:
    """Find images by the longest end of their names that an image of the data folder has, too.

    ``taken`` gives the images that are called by their whole names elsewhere in the set: they are no other's. One that
    two different names end in is given to neither.
    """
    ends: dict[AnyPath, Ends] = {}
    near_by: dict[ImageFinder, _Near] = {}
    called: dict[FoundImage, str] = {}
    clashes: set[FoundImage] = set()
    used: set[FoundImage] | None = None
    found = Located()
    for one in lost:
        finder, name = one.finder, one.names[0].replace("\\", "/")
        if finder.top is None:
            continue
        used = taken() if used is None else used
        index = ends.setdefault(finder.top, Ends(finder.top))
        if finder not in near_by:
            near_by[finder] = _Near(_usual(finder), finder.siblings())
        images, near = _meant(one, index, near_by[finder], used)
        if len(images) == 1:
            location = found.locations[one.image] = index.location(images[0])
            if called.setdefault(location, name) != name:
                clashes.add(location)
            if not near:
                found.far.add(one.image)
        elif images:
            found.several[one.image] = [index.path(image) for image in images[:5]]
    for image in [image for image, position in found.locations.items() if clashes and position in clashes]:
        found.several[image] = [str(_joined(found.locations.pop(image)))]
    return found


def _joined(location: FoundImage) -> AnyPath:
    return location[0] / location[1]


def _meant(one: Lost, ends: Ends, near: _Near, taken: set[FoundImage]) -> tuple[list[int], bool]:
    """The images that a lost one may be, one where it is sure; and whether it lies in a usual folder."""
    for name in one.names:
        written = list(dict.fromkeys(spellings(name)))
        for parts in (written, without_upload(written, one.upload)):
            length, images = max((ends.search(part) for part in parts), key=lambda hit: hit[0], default=(0, []))
            if images:
                names = {part[-1] for part in parts if part}
                candidates = _candidates(ends, images, length, one.finder.split, taken)
                return _sure(ends, _own(candidates, ends, length, near), names, near.usual)
    return [], False


def without_upload(written: Iterable[tuple[str, ...]], sure: bool) -> list[tuple[str, ...]]:
    """The same without the eight letters that Label Studio writes before the names of uploaded files, in all exports.

    Where nothing else speaks for an upload, eight digits are a date.
    """
    sure_or_not = ((sure or "upload" in parts, parts) for parts in written if parts)
    uploaded = [parts for known, parts in sure_or_not if (_UPLOAD if known else _LIKELY).match(parts[-1])]
    return [(*parts[:-1], _UPLOAD.sub("", parts[-1])) for parts in uploaded]


def upload_names(names: Collection[str]) -> dict[str, str]:
    """Files by their names without the eight letters that Label Studio writes before them, as names are compared; what
    is left of several is left out. Eight digits count where all files begin so, and one of them has letters."""
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
    """Images that agree with a name in its last ``length`` parts and may be meant: the folders before these parts."""
    outer = {image: ends.folders_of(image) for image in images}
    outer = {image: folders[: len(folders) - length + 1] for image, folders in outer.items()}
    return {
        image: folders
        for image, folders in outer.items()
        if not _of_other_split(folders, split) and ends.location(image) not in taken
    }


def _own(outer: dict[int, tuple[str, ...]], ends: Ends, length: int, near: _Near) -> dict[int, tuple[str, ...]]:
    """The candidates without those in folders that belong to other labels."""
    return {
        image: folders
        for image, folders in outer.items()
        if folders in near.usual or not near.siblings.claim(ends.folders_of(image), length - 1)
    }


def _sure(
    ends: Ends, outer: dict[int, tuple[str, ...]], names: set[str], usual: Sequence[tuple[str, ...]]
) -> tuple[list[int], bool]:
    """Those with the very letters of the name, and of these those in the first usual folder, where there are any."""
    images = [image for image in outer if ends.name(image) in names] or list(outer)
    for root in usual:
        there = [image for image in images if outer[image] == root]
        if there:
            return there, True
    return images, False


def _usual(finder: ImageFinder) -> list[tuple[str, ...]]:
    """The folders that images are looked for in, as the names of folders from the top on."""
    top = str(finder.top).rstrip("/")
    paths = [str(root) for root in finder.roots]
    return [
        tuple(path[len(top) :].strip("/").split("/")) if path.rstrip("/") != top else ()
        for path in paths
        if f"{path}/".startswith(f"{top}/")
    ]


def _of_other_split(folders: Sequence[str], split: str) -> bool:
    """Whether a path leads through the folder of another split, whose images are not ours, whatever their names."""
    own = normalize_split(split)
    others = (name for name in folders if normalize_split(name) in NAMED - {own})
    return own in NAMED and any(not have_common_images(own, name) for name in others)


def not_found(name: str, several: Sequence[str], roots: Iterable[AnyPath]) -> str:
    """What to say of an image that is not found, after a verb and its name."""
    if len(several) == 1:
        return f"which is not found, as {short(several[0])} has the end of other names, too"
    if several:
        return f"whose end several images have: {', '.join(map(str, several))}"
    return f"which is not found in {', '.join(map(str, roots))}"


def note_of(source: AnyPath, count: int, name: str, location: FoundImage) -> str:
    """The note on images that were found by the end of their names: how many, the first's name and where it is."""
    images = counted(count, "(image is found by the end of its name|images are found by the end of their names)")
    return f"{source.name}: {images}, first {short(name)} as {_joined(location)}."
