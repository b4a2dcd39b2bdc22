"""Images that are not where their names say: collected while a source is read, located when all names are known."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from varifocal.data.annotations import Issue, Problems, SourceLocation
from varifocal.data.archive import AnyPath, is_unsafe_path
from varifocal.data.find_images import AMBIGUOUS, Lost, locate, not_found, note_of
from varifocal.utils.text import short


class Words(NamedTuple):
    """How a reader reports that an image is not found.

    ``verb`` stands before its name, ``hint`` is the fix, and ``inside`` the fix for a name that leaves the data folder.
    """

    verb: str = "names the image"
    hint: str = "add it, or remove the line"
    inside: str = "write it relative to that folder, without '..'"


class _Named(NamedTuple):
    """An image that is not where its name says, its location in the source, and the record that describes it."""

    lost: Lost
    location: SourceLocation
    words: Words
    record: str


@dataclass
class Outcome:
    """The locations of images that were found by the end of their names, problems of the others, and notes."""

    locations: dict[int, tuple[AnyPath, str]] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)
    notes: list[str] = field(default_factory=list)


def record_of(file: AnyPath, source: AnyPath) -> str:
    """Return the name of a file of labels: its path from the source on, as two folders may have files of one name."""
    return str(file).removeprefix(str(source)).strip("/") or file.name


class Lookup:
    """The images of one split that are not found at once, and the record that describes each image.

    Problems name the index of their image, unless ``of_images`` is False.
    """

    def __init__(self, *, of_images: bool = True) -> None:
        self._of_images = of_images
        self._lost: list[_Named] = []
        self._records: dict[tuple[AnyPath, str], str] = {}

    def add(self, lost: Lost, location: SourceLocation, words: Words, record: str = "") -> None:
        """Remember an image that is not where its name says."""
        self._lost.append(_Named(lost, location, words, record))

    def second_record(
        self, image: int, found: tuple[AnyPath, str], location: SourceLocation, record: str
    ) -> Issue | None:
        """Return the problem that another record is of the same image; None where this is the first."""
        first = self._records.setdefault(found, record) if record else record
        if first == record:
            return None
        text = f"is of the image {found[1]}, of which {first} is, too"
        return Issue("twice", location, text, "remove one of the two", image=image)

    def finish(self, source: AnyPath, taken: Callable[[], set[tuple[AnyPath, str]]]) -> Outcome:
        """Locate all lost images; ``taken()`` returns the files that other images are by their complete names."""
        lost, self._lost = self._lost, []
        located = locate((named.lost for named in lost), taken)
        outcome = Outcome(located.locations)
        renamed: list[_Named] = []
        for named in lost:
            index = named.lost.image
            found = located.locations.get(index)
            if found is None:
                outcome.problems.add(_problem(named, located.several.get(index, []), index if self._of_images else -1))
                continue
            if (copy := self.second_record(index, found, named.location, named.record)) is not None:
                outcome.problems.add(copy)
            # the address of an upload was never a path here, so that its end in a usual folder needs no note
            if not named.lost.upload or index in located.far:
                renamed.append(named)
        if renamed:
            first = renamed[0].lost
            note = note_of(source, len(renamed), first.names[0], located.locations[first.image])
            outcome.notes.append(note)
        return outcome


def _problem(named: _Named, several: Sequence[str], image: int) -> Issue:
    name, words = named.lost.names[0], named.words
    if several:
        alike = len({os.path.splitext(path)[0] for path in several}) == 1 < len(several)
        hint = "rename one of them, or write the suffix of the one that is meant" if alike else AMBIGUOUS
        kind, text = "ambiguous-image", not_found(name, several, [])
    elif is_unsafe_path(name) and not named.lost.upload:
        kind, text, hint = "outside-folder", "which is not a file inside the data folder", words.inside
    else:
        kind, text, hint = "missing-image", not_found(name, [], named.lost.finder.roots), words.hint
    return Issue(kind, named.location, f"{words.verb} {short(name)}, {text}", hint, image=image)
