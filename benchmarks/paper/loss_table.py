"""The page's sections on losses and refinement, from the results of ``ranking.py`` and ``refinement.py``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cells import gain, gain_cell, interval, line, mean_cell, table, values_of
from claims import LOSS_ROWS, NAMES, spoken


class Column(NamedTuple):
    """A column of the table of losses: its list in the results and metric, a factor, and the number of decimals."""

    what: str
    place: str
    metric: str
    factor: float = 100.0
    digits: int = 1


COLUMNS = (
    Column("AP", "runs", "AP"),
    Column("AP75", "runs", "AP75"),
    Column("rank correlation", "ranking", "spearman", 1.0, 3),
    Column("calibration error", "ranking", "laece"),
)
TREES = Path(__file__).parents[1] / "trees_refinement.json"
LOSS_HEAD = """\
## The losses

Focal loss and every IoU-aware classification loss of the package, on two detectors; `varifocal sweep losses` trains the
same rows. *Rank correlation* is Spearman's, between the score and the IoU with the best box of the class, over the
detections near such a box; higher is better. *Calibration error* is LaECE in points; lower is better
([definitions](diagnose.md)). Cells are means and standard deviations over the seeds. `benchmarks/paper/ranking.py`
measures rank correlation and calibration error.
"""
PAIRS = """\
Differences from varifocal over pairs of runs with the same seed: mean and 95 % interval, bold if it excludes zero.
"""
REFINEMENT_HEAD = """\
## Effect of the refinement on the boxes

Mean IoU of the first box and of the refined box with their object, at the points of the validation frames that would be
positives in training; measured by `benchmarks/paper/refinement.py`. *Improved* is the percentage of points at which the
refined box has the higher IoU.
"""


def loss_section(content: Mapping[str, Any]) -> list[str]:
    """Return the section on five losses for two detectors, with differences; nothing if none was trained."""
    trained = {run["row"] for run in content["runs"]}
    if not any(row in trained for rows in LOSS_ROWS.values() for row in rows.values()):
        return []
    means = table(("", *(column.what for column in COLUMNS), "runs"), _means(content))
    return [LOSS_HEAD, *means, PAIRS, *table(("", *(column.what for column in COLUMNS)), _pairs(content))]


def _means(content: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for detector, names in LOSS_ROWS.items():
        for loss, name in names.items():
            cells = [mean_cell(_values(content, name, column), column.digits) for column in COLUMNS]
            count = sum(run["row"] == name for run in content["runs"])
            rows.append([f"{detector}, {spoken(loss)}", *cells, str(count)])
    return rows


def _pairs(content: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for detector, names in LOSS_ROWS.items():
        for loss, name in names.items():
            if loss != "varifocal":
                sides = [[_values(content, row, column) for row in (names["varifocal"], name)] for column in COLUMNS]
                cells = [gain_cell(gain(*pair), column.digits) for pair, column in zip(sides, COLUMNS, strict=True)]
                rows.append([f"{detector}: {spoken(loss)} instead of varifocal", *cells])
    return rows


def _values(content: Mapping[str, Any], row: str, column: Column) -> dict[int, float]:
    return values_of(content.get(column.place, []), row, column.metric, column.factor)


def refinement_section(studies: list[dict[str, Any]]) -> list[str]:
    """Return the section on first and refined boxes; nothing if none was measured."""
    names = [name for name in NAMES if any(one["row"] == name for one in studies)]
    if not names:
        return []
    rows = []
    for name in names:
        first, refined, better = (
            {one["seed"]: 100 * one["positives"][key] for one in studies if one["row"] == name}
            for key in ("initial", "refined", "better")
        )
        found = gain(first, refined)
        assert found is not None, "both are of the same studies"
        cells = mean_cell(first), mean_cell(refined), f"{found.mean:+.1f}", interval(found) or "one seed"
        rows.append([NAMES[name], *cells, mean_cell(better, 0)])
    head = ("mean IoU, points", "first box", "refined box", "gain", "95 % interval", "improved, %")
    return [REFINEMENT_HEAD, *table(head, rows), *_by_first_box(studies, names), *_on_trees()]


def _on_trees() -> list[str]:
    """Return what the refinement does on the trees, whose labels are imprecise; nothing if it was not measured."""
    if not TREES.exists():
        return []
    content = json.loads(TREES.read_text(encoding="utf-8"))
    first, refined = ({i: 100 * row[key] for i, row in enumerate(content["rows"])} for key in ("initial", "refined"))
    found = gain(first, refined)
    assert found is not None, "the file has rows"
    means = [sum(side.values()) / len(side) for side in (first, refined)]
    better = 100 * sum(row["better"] for row in content["rows"]) / len(content["rows"])
    made = content["machine"]
    words = (
        f"On the trees of the demonstration the refinement changes nothing: mean IoU {means[0]:.1f} before and "
        f"{means[1]:.1f} after it ({found.mean:+.2f}, {interval(found, 2) or 'one run'}), {better:.0f} % improved. A "
        f"perfect detector would have the first box's IoU if label edges were off by {100 * content['noise']:.1f} % of "
        "the side, and the detections differ from the labels by as much (README): what is left is no more than label "
        "noise would be, and no box can be refined towards that. On frames, whose boxes are exact, it gains. "
        f"(`benchmarks/trees_refinement.py`, {made['date']}, {made['cpu']})"
    )
    return [*textwrap.wrap(words, 120, break_long_words=False, break_on_hyphens=False), ""]


def _by_first_box(studies: list[dict[str, Any]], names: list[str]) -> list[str]:
    """Return the table of the gain by the IoU of the first box, over all seeds together."""
    bins = list(dict.fromkeys((part["from"], part["to"]) for one in studies for part in one["bins"]))
    lines = [
        "The same gain by the IoU of the first box, over all seeds together, with the percentage of points:",
        "",
        line("", *(f"{100 * low:.0f} to {100 * high:.0f}" for low, high in bins)),
        f"|---|{'---|' * len(bins)}",
    ]
    for name in names:
        cells = []
        total = sum(one["positives"]["count"] for one in studies if one["row"] == name)
        for low, high in bins:
            parts = [
                p for one in studies if one["row"] == name for p in one["bins"] if (p["from"], p["to"]) == (low, high)
            ]
            count = sum(part["count"] for part in parts)
            if not count:
                cells.append("-")
                continue
            moved = sum(part["count"] * (part["refined"] - part["initial"]) for part in parts if part["count"])
            cells.append(f"{100 * moved / count:+.1f} ({100 * count / total:.0f} %)")
        lines.append(line(NAMES[name], *cells))
    return [*lines, ""]
