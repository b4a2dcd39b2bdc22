"""The report as one page that needs nothing else: no network, no script, light and dark, narrow and wide.

This module chooses what the page shows; ``page.html`` says how it looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from varifocal.analysis.charts.heat_map import heat_map
from varifocal.analysis.pages.render import inline_chart, render
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
from varifocal.tools.check.statistics import Histogram, Statistics, split_table
from varifocal.tools.check.thumbnails import Thumb, thumbs_of

ROWS = 40  # findings of a kind that are listed; the JSON has more
FIRST = 4  # of these that are seen at once
THUMBS = 8  # of a kind
SUSPECTS = 24  # of a kind that a model doubts
MOST_THUMBS = 96  # of a page, which bounds its size
CLASSES = 100


class Item(NamedTuple):
    """A finding as the page says it. ``doubt`` is how much a model doubts it, None of other findings."""

    location: str
    text: str
    doubt: float | None
    thumbs: Sequence[Thumb] = ()


class Group(NamedTuple):
    """The findings of one kind: those with images, the first of the others, the further ones, and how many these are
    in words."""

    title: str
    meaning: str
    total: int
    with_images: list[Item]
    first: list[Item]
    others: list[Item]
    rest: str


class LevelSection(NamedTuple):
    """The kinds of one level."""

    level: Level
    title: str
    groups: list[Group]


class BarTable(NamedTuple):
    """A histogram: rows of words, count, and the part of the count that is marked."""

    caption: str
    head: tuple[str, str, str]
    rows: list[tuple[str, int, int]]
    mark: str = ""


def make_page(report: Report) -> str:
    """Return the whole page as HTML."""
    statistics = report.statistics
    columns, numbers = split_table(statistics.splits)
    sections = list(_sections(report))
    names = [split.name for split in report.splits]
    return render(
        "tools/check/page.html",
        report=report,
        verdict=verdict_words(report),
        sentences=[one for one in _sentences(report) if one],
        split_columns=columns,
        splits=list(zip([one.name for one in statistics.splits], numbers, strict=True)),
        advice="" if report.advice is None else advice_words(report),
        links=[*((f"level-{one.level}", one.title) for one in sections), ("plots", "sizes"), ("classes", "classes")],
        sections=sections,
        histograms=[*map(_bars, statistics.histograms), _image_sizes(statistics)],
        centers=_centers(statistics.centers),
        classes=sorted(report.classes, key=lambda row: -row.total)[:CLASSES],
        class_head=[
            *("class", ""),
            *(f"boxes, {name}" for name in names),
            *(f"images, {name}" for name in names),
            *("crowd", "difficult", "median side, pixels"),
        ],
        class_count=count_of(len(report.classes), "class"),
        other_classes=count_of(len(report.classes) - CLASSES, "other class") if len(report.classes) > CLASSES else "",
    )


def _sentences(report: Report) -> Iterator[str]:
    yield from (decoding_words(report), model_words(report), matching_words(report), *report.notes)


def _sections(report: Report) -> Iterator[LevelSection]:
    """The findings, level by level, with as many thumbnails as a page may have."""
    left = MOST_THUMBS
    for level in LEVELS:
        groups = []
        for kind in report.findings.kinds(level):
            group = _group(report, kind, level, left)
            groups.append(group)
            left -= sum(len(one.thumbs) for one in group.with_images)
        if groups:
            yield LevelSection(level, LEVEL_TITLES[level], groups)


def _group(report: Report, kind: str, level: Level, thumbs_left: int) -> Group:
    known, listed, total = kind_of(kind), report.findings.of(kind), report.findings.total(kind)
    shown = _with_images(report, listed[: SUSPECTS if level == "suspect" else THUMBS], thumbs_left)
    plain = [_item(one, report) for i, one in enumerate(listed[:ROWS]) if i not in shown]
    rest = f"{len(plain) - FIRST} more" + (f", of {total:,} in all" if total > len(plain) + len(shown) else "")
    return Group(known.title, known.meaning, total, list(shown.values()), plain[:FIRST], plain[FIRST:], rest)


def _with_images(report: Report, listed: Sequence[Finding], thumbs_left: int) -> dict[int, Item]:
    """The findings that have images, by their index in the list, while thumbnails are left."""
    items: dict[int, Item] = {}
    for i, one in enumerate(listed):
        if thumbs_left <= 0:
            break
        thumbs = thumbs_of(one, report.splits)
        if thumbs:
            items[i] = _item(one, report, thumbs)
            thumbs_left -= len(thumbs)
    return items


def _item(one: Finding, report: Report, thumbs: Sequence[Thumb] = ()) -> Item:
    return Item(where(one, report), one.text, one.rank if one.level == "suspect" else None, thumbs)


def _bars(one: Histogram) -> BarTable:
    rows = list(zip(one.words, one.counts, one.marked or (0,) * len(one.counts), strict=True))
    title = f"{one.title} (red: {one.mark})" if any(one.marked) else one.title
    return BarTable(title, ("", "", "boxes or images"), rows, one.mark)


def _image_sizes(statistics: Statistics) -> BarTable:
    rows = [(f"{width} x {height}", count, 0) for width, height, count in statistics.image_sizes]
    return BarTable("most frequent sizes of the images, pixels", ("size", "", "images"), rows)


def _centers(counts: Sequence[Sequence[int]]) -> str | None:
    """A map of the image with the number of box centers in each cell; None where there are none."""
    cells = np.array(counts)
    if not cells.any():
        return None
    most = int(cells.max())
    chart = heat_map(
        "Where the centers of the boxes lie in their images",
        f"The darker a cell, the more boxes; at most {most:,} boxes in a cell.",
        (),
        (),
        cells / most,
        [[f"{count:,}" for count in row] for row in counts],
    )
    return inline_chart(chart, "centers")
