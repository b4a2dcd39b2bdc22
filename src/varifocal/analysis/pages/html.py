"""Pieces of a page as text. What comes from a data set or a run is escaped here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape


def text(value: object) -> str:
    """Escaped."""
    return escape(str(value))


def attribute(value: object) -> str:
    """Escaped for double quotes."""
    return escape(str(value), quote=True)


def capital(sentence: str) -> str:
    """With a capital letter at its beginning."""
    return sentence[:1].upper() + sentence[1:]


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, classes: str = "") -> str:
    """``rows`` are HTML, the first cell names the row; it scrolls by itself where it is too wide."""
    cells = "".join(f'<th scope="col">{text(word)}</th>' for word in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{attribute(caption)}">'
        f'<table class="{classes}"><caption>{text(caption)}</caption>'
        f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def bar(value: float, most: float, marked: float = 0.0) -> str:
    """A bar as long as ``value`` of ``most``, the first part of it marked."""
    if not most:
        return ""
    whole, part = 100 * value / most, 100 * marked / most
    return (
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{whole:.2f}" height="10"/><rect class="marked" width="{part:.2f}" height="10"/></svg>'
    )


def navigation(links: Iterable[tuple[str, str]]) -> str:
    """Links to parts of the page: (id, words)."""
    items = "".join(f'<li><a href="#{place}">{text(word)}</a></li>' for place, word in links)
    return f'<nav aria-label="Parts of this page"><ul>{items}</ul></nav>'


def chart(svg: str, number: int) -> str:
    """A chart of :mod:`varifocal.analysis.charts` as part of a page, which has its style already: ids get a
    ``number``.
    """
    bare = re.sub(r"<style>.*?</style>", "", svg, count=1, flags=re.DOTALL).replace(
        ' xmlns="http://www.w3.org/2000/svg"', "", 1
    )
    key = re.search(r'aria-labelledby="(vf[0-9a-f]{8})t ', bare)
    return bare.replace(key[1], f"{key[1]}-{number}").strip() if key else bare.strip()
