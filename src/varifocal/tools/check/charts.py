"""Pieces of the page that only a check has: histograms and maps, as text."""

from __future__ import annotations

from collections.abc import Sequence

from varifocal.analysis.pages.html import attribute, bar, table, text
from varifocal.tools.check.statistics import Histogram


def histogram(one: Histogram) -> str:
    """Bars with words and numbers; nothing for one without bars."""
    if not one.counts:
        return ""
    most = max(one.counts)
    rows = []
    for i, (word, count) in enumerate(zip(one.words, one.counts, strict=True)):
        marked = one.marked[i] if one.marked else 0
        said = f' <span class="lost" title="{attribute(one.mark)}">{marked:,}</span>' if marked else ""
        rows.append((text(word), bar(count, most, marked), f"{count:,}{said}"))
    title = f"{one.title} (red: {one.mark})" if any(one.marked) else one.title
    return f'<div class="plot">{table(title, ("", "", "boxes or images"), rows, classes="bars")}</div>'


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
        f'<svg viewBox="0 0 {size} {size}" role="img" aria-label="{attribute(title)}, at most {most:,} boxes '
        f'in a cell"><rect class="ground" width="{size}" height="{size}"/>{squares}</svg></figure>'
    )
