"""Pieces of the page: tables, bars and maps, as text. What comes from a data set is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from varifocal.check.count import Histogram


def text(value: object) -> str:
    """Escaped."""
    return escape(str(value))


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, classes: str = "") -> str:
    """``rows`` are HTML, the first cell names the row; it scrolls by itself where it is too wide."""
    cells = "".join(f'<th scope="col">{text(word)}</th>' for word in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption, quote=True)}">'
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


def histogram(one: Histogram) -> str:
    """Bars with words and numbers; nothing for one without bars."""
    if not one.counts:
        return ""
    most = max(one.counts)
    rows = []
    for i, (word, count) in enumerate(zip(one.words, one.counts, strict=True)):
        marked = one.marked[i] if one.marked else 0
        said = f' <span class="lost" title="{escape(one.mark, quote=True)}">{marked:,}</span>' if marked else ""
        rows.append((text(word), bar(count, most, marked), f"{count:,}{said}"))
    title = f"{one.title} (red: {one.mark})" if any(one.marked) else one.title
    return f'<div class="plot">{table(title, ("", "", "boxes or pictures"), rows, classes="bars")}</div>'


def heat_map(title: str, cells: Sequence[Sequence[int]]) -> str:
    """Squares, the darker the more."""
    most = max((count for row in cells for count in row), default=0)
    if not most:
        return ""
    squares = "".join(
        f'<rect x="{x}" y="{y}" width="1.02" height="1.02" fill-opacity="{count / most:.3f}">'
        f"<title>{count:,}</title></rect>"
        for y, row in enumerate(cells)
        for x, count in enumerate(row)
        if count
    )
    size = len(cells)
    return (
        f'<figure class="plot heat"><figcaption>{text(title)}</figcaption>'
        f'<svg viewBox="0 0 {size} {size}" role="img" aria-label="{escape(title, quote=True)}, at most {most:,} boxes '
        f'in a cell"><rect class="ground" width="{size}" height="{size}"/>{squares}</svg></figure>'
    )
