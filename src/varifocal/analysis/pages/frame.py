"""The frame of a page that needs nothing else: no network, light and dark, narrow and wide."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from varifocal.analysis.pages.html import text

_FOLDER = files("varifocal.analysis.pages")


def document(title: str, body: str, *, styles: Sequence[str] = (), dark: str = "", script: str = "") -> str:
    """A whole page; ``body`` is the HTML of ``<main>``.

    ``styles`` are CSS texts after the common ones. ``dark`` is one for dark pages; it stands with the common dark
    colors in an element of its own, ``#dark``, whose ``media`` a script may change.
    """
    light, night = _read("base.css"), _read("dark.css")
    code = f"<script>{script}</script>" if script else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{light}{''.join(styles)}</style>"
        f'<style id="dark" media="(prefers-color-scheme: dark)">{night}{dark}</style></head>'
        f'<body><a class="skip" href="#main">To the content</a><main id="main" tabindex="-1">{body}</main>{code}'
        "</body></html>\n"
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
