"""Images that are not where their names say: remembered while a source is read, looked for when all names are known."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from varifocal.data.annotations import Issue, SourceLocation
from varifocal.data.archive import AnyPath, is_unsafe_path
from varifocal.data.find_images import AMBIGUOUS, Lost, locate, not_found, note_of
from varifocal.utils.text import short


class Words(NamedTuple):
    """How a reader says that an image is not found: a verb before its name, what to do, and what to do about a name
    that leaves the data folder."""

    said: str = "names the image"
    hint: str = "put it there or take the line out"
    inside: str = "write it relative to that folder, without '..'"


class _Named(NamedTuple):
    """An image that is not where its name says, where it stands in the source, and the record that is of it."""

    lost: Lost
    location: SourceLocation
    words: Words
    record: str


@dataclass
class Outcome:
    """Where images were found after all, what is wrong with the others, and a note for the user."""

    locations: dict[int, tuple[AnyPath, str]] = field(default_factory=dict)
    problems: list[Issue] = field(default_factory=list)
    note: str = ""


def record_of(file: AnyPath, source: AnyPath) -> str:
    """What a file of labels is called: its path from the source on, as two folders may have files of one name."""
    return str(file).removeprefix(str(source)).strip("/") or file.name


class Lookup:
    """The images of one split that are not found at once, and the records that images belong to."""

    def __init__(self) -> None:
        self._lost: list[_Named] = []
        self._records: dict[tuple[AnyPath, str], str] = {}

    def add(self, lost: Lost, location: SourceLocation, words: Words, record: str = "") -> None:
        """Remember an image that is not where its name says."""
        self._lost.append(_Named(lost, location, words, record))

    def twice(self, image: int, found: tuple[AnyPath, str], location: SourceLocation, record: str) -> Issue | None:
        """The problem that a second record is of the same image."""
        first = self._records.setdefault(found, record) if record else record
        if first == record:
            return None
        text = f"is of the image {found[1]}, of which {first} is, too"
        return Issue("twice", location, text, "take one of the two away", image=image)

    def finish(self, source: AnyPath, taken: Callable[[], set[tuple[AnyPath, str]]]) -> Outcome:
        """Look for all that were lost; ``taken`` gives the images that others are, by their whole names."""
        lost, self._lost = self._lost, []
        located = locate((one.lost for one in lost), taken)
        outcome = Outcome(located.locations)
        renamed: list[_Named] = []
        for one in lost:
            index = one.lost.image
            found = located.locations.get(index)
            if found is None:
                outcome.problems.append(_problem(one, located.several.get(index, [])))
                continue
            if (copy := self.twice(index, found, one.location, one.record)) is not None:
                outcome.problems.append(copy)
            # a server's address has never been a path, so that its end in a usual folder is what is meant
            if not one.lost.upload or index in located.far:
                renamed.append(one)
        if renamed:
            first = renamed[0].lost
            outcome.note = note_of(source, len(renamed), first.names[0], located.locations[first.image])
        return outcome


def _problem(one: _Named, several: Sequence[str]) -> Issue:
    name, words = one.lost.names[0], one.words
    if several:
        alike = len({os.path.splitext(path)[0] for path in several}) == 1 < len(several)
        hint = "rename one of them, or write the suffix of the one that is meant" if alike else AMBIGUOUS
        kind, text = "ambiguous-image", not_found(name, several, [])
    elif is_unsafe_path(name) and not one.lost.upload:
        kind, text, hint = "outside-folder", "which is not a file inside the data folder", words.inside
    else:
        kind, text, hint = "missing-image", not_found(name, [], one.lost.finder.roots), words.hint
    return Issue(kind, one.location, f"{words.said} {short(name)}, {text}", hint, image=one.lost.image)
