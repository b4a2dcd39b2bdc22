"""Fonts for texts on images: Pillow's own, or a font of the system for letters that it lacks."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path

from PIL import ImageFont

from varifocal.utils.errors import ConfigError

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

FONT = "VARIFOCAL_FONT"  # environment variable with the path of a font file
MOST = 1500  # font files that are searched
_SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
_STYLES = ("bold", "italic", "oblique", "mono", "condensed", "light", "thin", "black", "medium", "serif", "extra")
_FIRST = ("notosans", "dejavusans", "arial", "segoeui", "pingfang", "helvetica")  # families with many letters
_ALWAYS = frozenset("0123456789.")  # for the score after a name
_TRIED = 32  # size in pixels at which fonts are searched
_NOBODY = "\U0010ffff"  # no character: a font draws it like every letter that it lacks
_IGNORED = ("Mn", "Me", "Cf", "Cc", "Zs")  # marks on other letters, and invisible characters
_SHOWN = 4  # names in a note


def font_for(text: str, size: int) -> Font:
    """Return a font of that size in pixels with the letters of a text; Pillow's own if no font has them all.

    Raises:
        ConfigError: the file in the environment variable is not a font.
    """
    found = _search().find(_letters(text))
    return _load(found, size)


def can_write(text: str) -> bool:
    """Return whether there is a font with the letters of a text and digits."""
    return _search().find(_letters(text) | _ALWAYS) is not None


def shown_name(name: str, number: int) -> str:
    """Return a class name as it is written on an image: on one line, or "class" and its number if it has no visible
    letters or no font has them."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
    return line if _letters(line) and can_write(line) else f"class {number}"


def font_note(names: Iterable[str]) -> list[str]:
    """Return a sentence on names whose letters no font has, if there are any."""
    lost = [name for name in names if not can_write(name)]
    if not lost:
        return []
    listed = ", ".join(lost[:_SHOWN]) + (f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else "")
    return [
        f"No installed font has the letters of {listed}, so class numbers are drawn instead; install a font "
        f"that has them (Noto Sans, Noto Sans CJK), or name its file with --font or the environment variable {FONT}."
    ]


def check_font() -> None:
    """Raise ``ConfigError`` if the file in the environment variable is not a font."""
    _search()


def _letters(text: str) -> frozenset[str]:
    return frozenset(letter for letter in text if unicodedata.category(letter) not in _IGNORED)


class _Search:
    """The fonts of this machine, and the results of earlier searches; "" is Pillow's own font."""

    def __init__(self, files: Sequence[str]) -> None:
        self._files = list(files)
        self._found: dict[frozenset[str], str | None] = {}
        self._nowhere: set[str] = set()  # letters that no font has

    def find(self, letters: frozenset[str]) -> str | None:
        """Return the first font that has all of these letters, or None."""
        if letters not in self._found:
            self._found[letters] = None if letters & self._nowhere else self._search_files(letters)
        return self._found[letters]

    def _search_files(self, letters: frozenset[str]) -> str | None:
        seen: set[str] = set()
        for index, file in enumerate(self._files):
            has = {letter for letter in letters if _has(file, letter)}
            if len(has) == len(letters):
                if index > 1:  # the next name is probably in the same script
                    self._files.insert(2, self._files.pop(index))
                return file
            seen |= has
        self._nowhere |= letters - seen
        return None


def _search() -> _Search:
    return _search_with(os.environ.get(FONT, ""))


@cache
def _search_with(named: str) -> _Search:
    if named and _face(named) is None:
        raise ConfigError(
            f"{named}: is not a font that can be read; name a .ttf, .otf or .ttc file with --font or {FONT}.",
            code="font-unreadable",
        )
    return _Search(([named, ""] if named else [""]) + _font_files())


def _font_files() -> list[str]:
    """Return the font files of the system, plain styles and families with many letters first."""
    found: list[Path] = []
    for folder in _folders():
        for root, folders, names in os.walk(folder):
            folders.sort()
            found += [Path(root, name) for name in sorted(names) if name.lower().endswith(_SUFFIXES)]
    return [str(file) for file in sorted(found, key=_rank)[:MOST]]


def _folders() -> list[Path]:
    home = Path(os.path.expanduser("~"))
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    local = os.environ.get("LOCALAPPDATA")
    return [
        data / "fonts",
        home / ".fonts",
        home / "Library" / "Fonts",
        *([Path(local) / "Microsoft" / "Windows" / "Fonts"] if local else []),
        *map(Path, ("/usr/local/share/fonts", "/usr/share/fonts", "/Library/Fonts", "/System/Library/Fonts")),
        Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts",
    ]


def _rank(file: Path) -> tuple[bool, bool, int]:
    name = file.stem.lower().replace("-", "").replace(" ", "")
    return any(style in name for style in _STYLES), not name.startswith(_FIRST), len(name)


@lru_cache(64)
def _face(file: str) -> Font | None:
    """Return the font at one size, or None if the file is not a font."""
    try:
        return _load(file, _TRIED)
    except (OSError, ValueError):  # damaged, or a font of colored images in fixed sizes
        return None


@lru_cache(64)
def _load(file: str | None, size: int) -> Font:
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)


def _has(file: str, letter: str) -> bool:
    font = _face(file)
    if not isinstance(font, ImageFont.FreeTypeFont):
        return font is not None and ord(letter) < 256  # Pillow without FreeType
    return _drawn(font, letter) != _missing(file)


@cache
def _missing(file: str) -> tuple[tuple[int, int], bytes]:
    font = _face(file)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return _drawn(font, _NOBODY)


def _drawn(font: ImageFont.FreeTypeFont, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter, "L")
    return mask.size, bytes(mask)
