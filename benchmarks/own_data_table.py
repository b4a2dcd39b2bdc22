"""Write the tables and the chart of docs/own-data.md from ``own_data.json``: python benchmarks/own_data_table.py"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "paper"))

from cells import BySeed, gain, gain_cell, mean_cell, table

from varifocal.analysis.charts.plot import Axis, Dots, Line, plot
from varifocal.utils.text import count_of

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "own-data.md"
CHART = HERE.parent / "docs" / "own-data-images.svg"
BEGIN, END = "<!-- measured: benchmarks/own_data_table.py -->\n", "<!-- end of measured -->"
ALL_FRAMES = 1200
NAMES = {"vfnet": "varifocal train", "fcos": "torchvision FCOS"}


def values(rows: Sequence[Mapping[str, Any]], metric: str, **key: object) -> dict[int, float]:
    """One metric in points by seed, of the rows with these keys."""
    own = [row for row in rows if all(row[word] == value for word, value in key.items())]
    return {row["seed"]: 100 * row[metric] for row in own}


def budget_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Both models on whole data sets in the same wall time."""
    keys = dict.fromkeys((row["data"], row["budget"], row["threads"]) for row in rows if not row["images"])
    cells = []
    for data, budget, threads in keys:
        key = {"data": data, "budget": budget, "threads": threads, "images": 0}
        vfnet, fcos = (values(rows, "AP", model=name, **key) for name in NAMES)
        seconds = [
            row["seconds"] for row in rows if row["model"] == "vfnet" and all(row[k] == v for k, v in key.items())
        ]
        ends = dict.fromkeys(f"{second:.0f}" for second in (min(seconds, default=0), max(seconds, default=0)))
        took = f"{' to '.join(ends)} s"
        cells.append(
            [
                data,
                f"{budget}, {count_of(threads, 'thread')}",
                took,
                mean_cell(vfnet),
                mean_cell(fcos),
                gain_cell(gain(fcos, vfnet)),
                above(vfnet, fcos),
            ]
        )
    head = ("data", "`--budget`", "took", *(f"AP, {name}" for name in NAMES.values()), "difference", "seeds above")
    return table(head, cells)


def above(first: BySeed, second: BySeed) -> str:
    """How many seeds are better than the other model with the same seed."""
    both = first.keys() & second.keys()
    return f"{sum(first[seed] > second[seed] for seed in both)} of {len(both)}"


def curve(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """AP over the number of training frames, as a table; the chart is written beside the page."""
    some = [row for row in rows if row["data"] == "frames" and row["images"]]
    if not some:
        return []
    budget = some[0]["budget"]
    counts = sorted({row["images"] for row in some if row["budget"] == budget})
    sides = {name: {n: values(some, "AP", model=name, images=n, budget=budget) for n in counts} for name in NAMES}
    cells = [
        [f"{n:,}", *(mean_cell(sides[name][n]) for name in NAMES), gain_cell(gain(sides["fcos"][n], sides["vfnet"][n]))]
        for n in counts
    ]
    CHART.write_text(chart(counts, sides, budget), encoding="utf-8")
    head = ("training frames", *(f"AP, {name}" for name in NAMES.values()), "difference")
    return [
        f"AP by the number of training frames, in {budget} each:",
        "",
        *table(head, cells),
        f"![AP by the number of training frames]({CHART.name})",
        "",
    ]


def chart(counts: Sequence[int], sides: Mapping[str, Mapping[int, BySeed]], budget: str) -> str:
    """The curve of each model, with a dot for each seed."""
    marks: list[Line | Dots] = []
    highest = 0.0
    for tone, (name, words) in enumerate(NAMES.items()):
        dots = [(n, ap) for n in counts for ap in sides[name][n].values()]
        means = [(n, sum(side.values()) / len(side)) for n, side in sides[name].items() if side]
        highest = max([highest, *(ap for _, ap in dots)])
        marks += [
            Line([n for n, _ in means], [ap for _, ap in means], words, tone),
            Dots([n for n, _ in dots], [ap for _, ap in dots], "", tone),
        ]
    words = f"AP of two detectors trained for {budget} on {counts[0]} to {counts[-1]} frames"
    x, y = Axis("training frames", 0, max(counts)), Axis("AP", 0, highest + 5)
    return plot("AP by the number of training frames", words, x, y, marks)


def main() -> None:
    """Write the part of the page."""
    rows = json.loads((HERE / "own_data.json").read_text(encoding="utf-8"))
    machines = ", ".join(dict.fromkeys(f"{row['cpu']}, {row['date']}" for row in rows))
    lines = [*budget_table(rows), *curve(rows), f"{machines} (`benchmarks/own_data.py`)."]
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(before + BEGIN + "\n".join(lines) + "\n" + END + rest.split(END)[1], encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
