"""Building blocks of all charts: frame, colors, text, legend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from zlib import crc32

TONES = 6  # colors that can be distinguished, also by color-blind readers
SMALL = 11.0  # font size in the units of the drawing; a title has 14
WIDTH = 480.0

_RULES = """
.vf text { fill: var(--ink); } .vf .soft { fill: var(--soft); } .vf .title { font-size: 14px; font-weight: 600; }
.vf .grid { stroke: var(--line); stroke-width: 1; } .vf .paper { fill: var(--paper); }
.vf .curve { fill: none; stroke-width: 2; stroke-linejoin: round; } .vf .faint { stroke-width: 1; opacity: 0.35; }
.vf .dots { fill: none; stroke-width: 3.2; stroke-linecap: round; stroke-opacity: 0.5; }
"""
_TONES = "\n".join(
    f".vf .s{tone} {{ stroke: var(--t{tone}); }} .vf .f{tone} {{ fill: var(--t{tone}); }}" for tone in range(TONES)
)
# style of charts on a light page, and what a dark page changes: pages with many charts include them once
STYLE = (
    """.vf { --ink: #1d1f24; --soft: #5b6069; --line: #dcdad5; --paper: #ffffff; --t0: #2f6db3;
 --t1: #c2500f; --t2: #1d7a3e; --t3: #8d4bab; --t4: #85690a; --t5: #6b7079; font: 11px system-ui, sans-serif; }"""
    + _RULES
    + _TONES
)
DARK_STYLE = """.vf { --ink: #e8e6e1; --soft: #a9aeb7; --line: #3b4048; --paper: #1e2126;
 --t0: #7fb0ee; --t1: #ff9a5c; --t2: #6fd08f; --t3: #d3a1f0; --t4: #e0c04a; --t5: #9aa0a9; }"""
DASHES = ("", "7 4", "2 3", "9 3 2 3", "4 2", "1 4")  # of lines, for readers who cannot tell the colors apart


def draw(title: str, description: str, height: float, body: Iterable[str], width: float = WIDTH) -> str:
    """Return a whole chart; ``body`` is SVG below the title, which takes the first 28 units."""
    content = "".join(body)
    key = f"vf{crc32(f'{title}{description}{content}'.encode()):08x}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="vf" viewBox="0 0 {width:g} {height:g}" '
        f'role="img" aria-labelledby="{key}t {key}d">'
        f'<title id="{key}t">{escape(title)}</title><desc id="{key}d">{escape(description)}</desc>'
        # light or dark as the reader's system is set
        f"<style>.vf {{ color-scheme: light dark; }} {STYLE} "
        f"@media (prefers-color-scheme: dark) {{ {DARK_STYLE} }}</style>"
        f'<rect class="paper" width="{width:g}" height="{height:g}"/>'
        f"{text(12, 20, ellipsize(title, width - 20, 14), 'title')}{content}</svg>\n"
    )


def text(x: float, y: float, words: str, classes: str = "", anchor: str = "start", turn: float = 0) -> str:
    """Return text on its base line, rotated by ``turn`` degrees about its anchor."""
    turned = f' transform="rotate({turn:g} {x:.1f} {y:.1f})"' if turn else ""
    kind = f' class="{classes}"' if classes else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}{turned}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, classes: str = "grid") -> str:
    """Return a line from one point to another."""
    return f'<line class="{classes}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def rect(x: float, y: float, width: float, height: float, classes: str, tooltip: str = "", opacity: float = 1.0) -> str:
    """Return a filled rectangle; ``tooltip`` is shown when the pointer is on it."""
    inside = f"><title>{escape(tooltip)}</title></rect>" if tooltip else "/>"
    clear = f' fill-opacity="{opacity:.3f}"' if opacity < 1 else ""
    size = f'width="{max(width, 0):.2f}" height="{max(height, 0):.2f}"'
    return f'<rect class="{classes}" x="{x:.2f}" y="{y:.2f}" {size}{clear}{inside}'


def length(words: str, size: float = SMALL) -> float:
    """Return an upper estimate of the width of the words."""
    wide = sum(
        1.0 if ord(letter) > 0x2E80 else 0.57 if letter.islower() or letter in " .,:;'" else 0.68 for letter in words
    )
    return wide * size


def ellipsize(words: str, width: float, size: float = SMALL) -> str:
    """Return the words, cut with an ellipsis if they do not fit into the width."""
    while words and length(words, size) > width:
        words = words[:-2].rstrip() + "…" if len(words) > 2 else ""
    return words


def legend(entries: Sequence[tuple[str, str]], x: float, y: float, width: float) -> tuple[str, float]:
    """Return the legend in rows of at most ``width``, and its height.

    An entry is the SVG of its mark, in a box of 18 x 10 from (0, 0), and its words.
    """
    parts, left, top = [], x, y
    for mark, words in entries:
        words = ellipsize(words, width - 24)
        wide = 24 + length(words) + 14
        if left > x and left + wide > x + width:
            left, top = x, top + 16
        parts.append(f'<g transform="translate({left:.1f} {top - 9:.1f})">{mark}</g>{text(left + 24, top, words)}')
        left += wide
    return "".join(parts), (top - y + 16 if entries else 0)
