"""The report as one page that needs nothing else: no network, no script, light and dark, narrow and wide."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from varifocal.analysis.pages import html
from varifocal.analysis.pages.frame import document
from varifocal.tools.check.charts import heat_map, histogram
from varifocal.tools.check.findings import LEVELS, Finding, Level, kind_of
from varifocal.tools.check.messages import (
    LEVEL_TITLES,
    advice_words,
    count_of,
    decoding_words,
    matching_words,
    model_words,
    verdict_words,
    where,
)
from varifocal.tools.check.report import Report
from varifocal.tools.check.statistics import split_table
from varifocal.tools.check.thumbnails import thumbs_of

ROWS = 40  # findings of a kind that are listed; the JSON has more
FIRST = 4  # of these that are seen at once
THUMBS = 8  # of a kind
SUSPECTS = 24  # of a kind that a model doubts
MOST_THUMBS = 96  # of a page, which bounds its size
CLASSES = 100
KEY = " ".join(
    f'<span class="whole"><span class="key {kind}"></span> {words}</span>'
    for kind, words in (("a", "the label"), ("b", "what the model finds"), ("c", "other labels"))
)


def make_page(report: Report) -> str:
    """The whole page."""
    room = Room(MOST_THUMBS)
    parts = [_head(report), *_findings(report, room), _plots(report), _classes(report), _foot(report)]
    style = (files("varifocal.tools.check") / "page.css").read_text(encoding="utf-8")
    return document(f"{report.data}: data check", "".join(parts), styles=[style])


class Room:
    """How many thumbnails the page can still take."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, wanted: int) -> int:
        given = min(wanted, self.left)
        self.left -= given
        return given


def _head(report: Report) -> str:
    level = "loss" if report.findings.loses else "good"
    splits = report.statistics.splits
    names, numbers = split_table(splits)
    rows = [(html.text(one.name), *(f"{n:,}" for n in row)) for one, row in zip(splits, numbers, strict=True)]
    levels = [level for level in LEVELS if any(report.findings.kinds(level))]
    links = [*((f"level-{name}", LEVEL_TITLES[name]) for name in levels), ("plots", "sizes"), ("classes", "classes")]
    said = "".join(
        f"<p>{html.text(html.capital(sentence).rstrip('.'))}.</p>"
        for sentence in (decoding_words(report), model_words(report), matching_words(report), *report.notes)
        if sentence
    )
    return (
        f"<h1>{html.text(report.data)}</h1>"
        f'<p class="verdict {level}">{html.text(html.capital(verdict_words(report)))}.</p>'
        f"{html.navigation(links)}{html.table('Splits', ('split', *names), rows)}{said}{_advice(report)}"
    )


def _advice(report: Report) -> str:
    if report.advice is None:
        return ""
    typed = " ".join(report.advice.overrides)
    code = f"<p><code>{html.text(typed)}</code></p>" if typed else ""
    return f"<p>{html.text(html.capital(advice_words(report)))}.</p>{code}"


def _findings(report: Report, room: Room) -> Iterator[str]:
    for level in LEVELS:
        kinds = list(report.findings.kinds(level))
        if kinds:
            yield f'<section id="level-{level}"><h2>{html.text(html.capital(LEVEL_TITLES[level]))}</h2>'
            if level == "suspect":
                yield f"<p>{KEY}</p>"
            for kind in kinds:
                yield _kind(report, kind, level, room)
            yield "</section>"


def _kind(report: Report, kind: str, level: Level, room: Room) -> str:
    known, listed, total = kind_of(kind), report.findings.of(kind), report.findings.total(kind)
    mosaic, pictured = _mosaic(report, listed, room, SUSPECTS if level == "suspect" else THUMBS)
    shown = [one for i, one in enumerate(listed[:ROWS]) if i not in pictured]
    opened = " open" if level in ("loss", "suspect") else ""
    return (
        f'<details class="{level}"{opened}><summary><span class="count">{total:,}</span>'
        f'<span class="what">{html.text(html.capital(known.title))}'
        f"<span>{html.text(html.capital(known.meaning))}</span></span>"
        f'</summary><div class="inside">{mosaic}{_list(shown, total, len(pictured), report)}</div></details>'
    )


def _list(shown: list[Finding], total: int, pictured: int, report: Report) -> str:
    """What is not pictured: the first few, and the others behind a line to open."""
    if not shown:
        return ""
    rows = [_row(one, report) for one in shown]
    first, others = "".join(rows[:FIRST]), "".join(rows[FIRST:])
    if not others:
        return f'<ol class="rows">{first}</ol>'
    rest = f"{len(shown) - FIRST} more" + (f", of {total:,} in all" if total > len(shown) + pictured else "")
    return (
        f'<ol class="rows">{first}</ol><details class="more"><summary>{rest}</summary>'
        f'<ol class="rows">{others}</ol></details>'
    )


def _row(one: Finding, report: Report) -> str:
    return f"<li>{_said(one, report)}</li>"


def _said(one: Finding, report: Report) -> str:
    """Return the location and the sentence, and of what a model doubts how much."""
    doubt = f'<b title="how much less overlap there is than the score promises">{one.rank:.2f}</b> ' * (
        one.level == "suspect"
    )
    return f'{doubt}<span class="soft">{html.text(where(one, report))}</span> {html.text(one.text)}'


def _mosaic(report: Report, listed: list[Finding], room: Room, most: int) -> tuple[str, set[int]]:
    """The first ones as images with their sentences, and which these are."""
    items, pictured = [], set()
    for i, one in enumerate(listed[:most]):
        if not room.left:
            break
        thumbs = thumbs_of(one, report.splits)
        if not thumbs:
            continue
        room.take(len(thumbs))
        images = "".join(thumb.svg for thumb in thumbs)
        body = f'<div class="pair">{images}</div>' if len(thumbs) > 1 else images
        items.append(f"<li><figure>{body}<figcaption>{_said(one, report)}</figcaption></figure></li>")
        pictured.add(i)
    return (f'<ul class="mosaic">{"".join(items)}</ul>' if items else ""), pictured


def _plots(report: Report) -> str:
    statistics = report.statistics
    plots = "".join(histogram(one) for one in statistics.histograms)
    heat = heat_map("Where the centers of the boxes lie in their images", statistics.centers)
    sizes = ""
    if statistics.image_sizes:
        most = max(count for *_, count in statistics.image_sizes)
        rows = [(f"{w} x {h}", html.bar(count, most), f"{count:,}") for w, h, count in statistics.image_sizes]
        title = "most frequent sizes of the images, pixels"
        sizes = f'<div class="plot">{html.table(title, ("size", "", "images"), rows, classes="bars")}</div>'
    return f'<section id="plots"><h2>Sizes</h2><div class="plots">{plots}{sizes}{heat}</div></section>'


def _classes(report: Report) -> str:
    names = [split.name for split in report.splits]
    rows = sorted(report.classes, key=lambda row: -row.total)
    most = rows[0].total if rows else 0
    cells = [
        (
            html.text(row.name),
            html.bar(row.total, most),
            *(f"{row.boxes[name]:,}" for name in names),
            *(f"{row.images[name]:,}" for name in names),
            f"{row.crowd:,}",
            f"{row.difficult:,}",
            f"{row.median_side:.1f}",
        )
        for row in rows[:CLASSES]
    ]
    head = (
        "class",
        "",
        *(f"boxes, {name}" for name in names),
        *(f"images, {name}" for name in names),
        "crowd",
        "difficult",
        "median side, pixels",
    )
    rest = (
        f'<p class="soft">And {count_of(len(rows) - CLASSES, "other class")} with fewer boxes.</p>'
        if len(rows) > CLASSES
        else ""
    )
    return (
        f'<section id="classes"><h2>Classes</h2>{html.table(count_of(len(rows), "class"), head, cells)}{rest}</section>'
    )


def _foot(report: Report) -> str:
    recipe = f" with the recipe {report.matching.recipe}" if report.matching else ""
    more = "The file of --output-json lists more findings of each kind."
    return f"<footer>varifocal check{html.text(recipe)}. {more}</footer>"
