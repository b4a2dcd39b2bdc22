"""The report of a data check in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from varifocal.tools.check.findings import LEVELS, Level, kind_of
from varifocal.tools.check.messages import (
    LEVEL_TITLES,
    decoding_words,
    matching_words,
    model_words,
    verdict_words,
    where,
)
from varifocal.tools.check.report import Report
from varifocal.tools.check.statistics import split_table
from varifocal.utils.text import count_of

_STYLES: dict[Level, str] = {"loss": "bold red", "warning": "yellow", "suspect": "magenta", "note": "dim"}
EXAMPLES = 2  # of each kind
MOST_CLASSES = 25


def show(report: Report) -> RenderableType:
    """Return the splits, the findings with examples, the classes, and what to do."""
    blocks: list[RenderableType] = [_splits(report)]
    for level in LEVELS:
        kinds = list(report.findings.kinds(level))
        if kinds:
            blocks.append(_findings(report, level, kinds))
    blocks.append(_classes(report))
    blocks.append(_closing(report))
    return Group(blocks[0], *(Padding(block, (1, 0, 0, 0)) for block in blocks[1:]))


def _splits(report: Report) -> Table:
    splits = report.statistics.splits
    names, rows = split_table(splits)
    table = _table("split", *names)
    table.title = f"{report.data} ({splits[0].format})"
    for split, numbers in zip(splits, rows, strict=True):
        table.add_row(split.name, *(f"{number:,}" for number in numbers))
    return table


def _findings(report: Report, level: Level, kinds: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, title_justify="left", title_style=_STYLES[level])
    table.title = LEVEL_TITLES[level]
    table.add_column(justify="right", no_wrap=True, style=_STYLES[level])
    table.add_column()
    for kind in kinds:
        text = Text(kind_of(kind).title, style="bold")
        text.append(f": {kind_of(kind).meaning}", style="not bold")
        table.add_row(f"{report.findings.total(kind):,}", text)
        for line in _examples(report, kind):
            table.add_row("", Text(line, style="dim"))
    return table


def _examples(report: Report, kind: str) -> Iterator[str]:
    for finding in report.findings.of(kind)[:EXAMPLES]:
        yield f"{where(finding, report)}: {finding.text}"


def _classes(report: Report) -> Table:
    names = [split.name for split in report.splits]
    table = _table("class", *(f"{name} boxes" for name in names), "crowd", "difficult", "median side")
    rows = sorted(report.classes, key=lambda row: -row.total)
    for row in rows[:MOST_CLASSES]:
        boxes = (f"{row.boxes[name]:,}" for name in names)
        table.add_row(Text(row.name), *boxes, f"{row.crowd:,}", f"{row.difficult:,}", f"{row.median_side:.1f}")
    if len(rows) > MOST_CLASSES:
        table.caption = f"and {count_of(len(rows) - MOST_CLASSES, 'other class')} with fewer boxes"
    return table


def _closing(report: Report) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for key, value in (
        ("model", model_words(report)),
        ("assignment", matching_words(report)),
        ("image size", report.advice.text if report.advice else ""),
        ("options", " ".join(report.advice.overrides) if report.advice else ""),
        ("decoding", decoding_words(report)),
        *(("note", note) for note in report.notes),
        ("verdict", verdict_words(report)),
    ):
        if value:
            grid.add_row(key, Text(value))
    return grid


def _table(*head: str) -> Table:
    table = Table(*head, box=None, pad_edge=False, title_justify="left", title_style="bold", caption_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    return table
