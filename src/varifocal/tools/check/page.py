"""The report of a data check as a self-contained HTML page without scripts, for any screen, light or dark.

This module chooses the content of the page; ``page.html`` lays it out.
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
    decoding_words,
    matching_words,
    model_words,
    verdict_words,
    where,
)
from varifocal.tools.check.report import Report
from varifocal.tools.check.statistics import Histogram, Statistics, split_table
from varifocal.tools.check.thumbnails import Thumb, make_thumbnails
from varifocal.utils.text import count_of

ROWS = 40  # findings of a kind that are listed; the JSON has more
FIRST = 4  # of these that are visible at first
THUMBS = 8  # findings of a kind that are shown with images
SUSPECTS = 24  # the same for kinds of the level "suspect"
MOST_THUMBS = 96  # images of a page, which bounds its size
CLASSES = 100


class Item(NamedTuple):
    """A finding on the page; ``rank`` is shown for suspects and None for other findings."""

    location: str
    text: str
    rank: float | None
    thumbs: Sequence[Thumb] = ()


class Group(NamedTuple):
    """The findings of one kind: those with images, the first of the others, and the ``rest`` with its heading."""

    title: str
    meaning: str
    total: int
    with_images: list[Item]
    first: list[Item]
    rest: list[Item]
    rest_title: str


class LevelSection(NamedTuple):
    """The groups of one level."""

    level: Level
    title: str
    groups: list[Group]


class BarTable(NamedTuple):
    """A histogram; a row is its words, its count, and the part of the count that is marked."""

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
        sentences=[sentence for sentence in _sentences(report) if sentence],
        split_columns=columns,
        splits=list(zip([split.name for split in statistics.splits], numbers, strict=True)),
        links=[
            *((f"level-{section.level}", section.title) for section in sections),
            ("plots", "sizes"),
            ("classes", "classes"),
        ],
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
    """Yield the findings level by level, with at most ``MOST_THUMBS`` images in all."""
    left = MOST_THUMBS
    for level in LEVELS:
        groups = []
        for kind in report.findings.kinds(level):
            group = _group(report, kind, level, left)
            groups.append(group)
            left -= sum(len(item.thumbs) for item in group.with_images)
        if groups:
            yield LevelSection(level, LEVEL_TITLES[level], groups)


def _group(report: Report, kind: str, level: Level, thumbs_left: int) -> Group:
    known, listed, total = kind_of(kind), report.findings.of(kind), report.findings.total(kind)
    shown = _with_images(report, listed[: SUSPECTS if level == "suspect" else THUMBS], thumbs_left)
    plain = [_item(finding, report) for i, finding in enumerate(listed[:ROWS]) if i not in shown]
    rest = f"{len(plain) - FIRST} more" + (f" ({total:,} in all)" if total > len(plain) + len(shown) else "")
    return Group(known.title, known.meaning, total, list(shown.values()), plain[:FIRST], plain[FIRST:], rest)


def _with_images(report: Report, listed: Sequence[Finding], thumbs_left: int) -> dict[int, Item]:
    """Return the findings that have images, by their index in the list, while thumbnails are left."""
    items: dict[int, Item] = {}
    for i, finding in enumerate(listed):
        if thumbs_left <= 0:
            break
        thumbs = make_thumbnails(finding, report.splits)
        if thumbs:
            items[i] = _item(finding, report, thumbs)
            thumbs_left -= len(thumbs)
    return items


def _item(finding: Finding, report: Report, thumbs: Sequence[Thumb] = ()) -> Item:
    return Item(where(finding, report), finding.text, finding.rank if finding.level == "suspect" else None, thumbs)


def _bars(histogram: Histogram) -> BarTable:
    marked = histogram.marked or (0,) * len(histogram.counts)
    title = f"{histogram.title} (red: {histogram.mark})" if any(marked) else histogram.title
    rows = list(zip(histogram.words, histogram.counts, marked, strict=True))
    return BarTable(title, ("", "", "boxes or images"), rows, histogram.mark)


def _image_sizes(statistics: Statistics) -> BarTable:
    rows = [(f"{width} x {height}", count, 0) for width, height, count in statistics.image_sizes]
    return BarTable("most frequent image sizes, pixels", ("size", "", "images"), rows)


def _centers(counts: Sequence[Sequence[int]]) -> str | None:
    """Return a map of the image with the number of box centers in each cell; None without boxes."""
    cells = np.array(counts)
    if not cells.any():
        return None
    most = int(cells.max())
    chart = heat_map(
        "Centers of the boxes in their images",
        f"The darker a cell, the more boxes; at most {most:,} boxes in a cell.",
        (),
        (),
        cells / most,
        [[f"{count:,}" for count in row] for row in counts],
    )
    return inline_chart(chart, "centers")
