"""The page's section on the paper's table 1, from the results of ``oracles.py``."""

from __future__ import annotations

from typing import Any

from cells import BySeed, gain, gain_cells, mean_cell, table
from claims import NAMES

ORACLES = (  # for FCOS+ATSS: the row, and AP in the paper's table 1 without and with centerness
    ("nothing", 38.5, 39.2),
    ("gt_ctr", None, 41.1),
    ("gt_ctr_iou", None, 43.5),
    ("gt_bbox", 56.1, 56.3),
    ("gt_cls", 43.1, 58.1),
    ("gt_cls_iou", 74.7, 67.4),
)
WORTH = (  # claims that the second has a higher AP than the first: row, and whether scores use centerness
    ("ground-truth centerness", ("nothing", True), ("gt_ctr", True), 1.9),
    ("IoU instead of centerness", ("nothing", True), ("gt_ctr_iou", True), 4.3),
    ("ground-truth boxes", ("nothing", False), ("gt_bbox", False), 17.6),
    ("IoU as the score", ("nothing", False), ("gt_cls_iou", False), 36.2),
    ("IoU as the score, vs. ground-truth boxes", ("gt_bbox", False), ("gt_cls_iou", False), 18.6),
    ("IoU as the score, vs. ground-truth classes with centerness", ("gt_cls", True), ("gt_cls_iou", False), 16.6),
)
HEAD = """\
## Oracle study (Table 1)

Ground truth replaces one quantity at the positives of ATSS; everything else stays as predicted ([how](oracle.md)).
Cells are means and standard deviations of AP on the validation frames over the seeds, measured by
`benchmarks/paper/oracles.py`.
"""

Found = dict[tuple[str, bool | None], dict[int, float]]  # AP by oracle and centerness, then by seed


def oracle_section(studies: list[dict[str, Any]]) -> list[str]:
    """Return the section on table 1; nothing if there are no results."""
    found: dict[str, Found] = {}
    for one in studies:
        for row in one["rows"]:
            place = found.setdefault(one["row"], {}).setdefault((row["oracle"], row["centerness"]), {})
            place[one["seed"]] = 100 * row["metrics"]["AP"]
    if not found:
        return []
    own = found.pop("fcos-atss", {})
    rows = []
    for name, *papers in ORACLES:
        means = [mean_cell(own.get((name, with_it), {})) for with_it in (False, True)]
        rows.append([f"`{name}`", *means, *("-" if one is None else str(one) for one in papers)])
    head = ("FCOS+ATSS", "AP", "AP x centerness", "COCO (paper)", "COCO x centerness (paper)")
    worth = [[what, f"{paper:+.1f}", *gain_cells(_between(own, *sides))] for what, *sides, paper in WORTH]
    return [
        HEAD,
        *table(head, rows),
        *table(("claim", "on COCO (paper)", "here (95 % interval)", ""), worth),
        *_others(found),
    ]


def _between(found: Found, first: tuple[str, bool], second: tuple[str, bool]) -> Any:
    sides: list[BySeed] = [found.get(first, {}), found.get(second, {})]
    return gain(*sides)


def _others(found: dict[str, Found]) -> list[str]:
    """Return the same rows for detectors without centerness."""
    names = [name for name in NAMES if name in found]
    if not names:
        return []
    rows = list(dict.fromkeys(row for name in names for row, _ in found[name]))
    cells = [[f"`{row}`", *(mean_cell(found[name].get((row, None), {})) for name in names)] for row in rows]
    return table(("", *(NAMES[name] for name in names)), cells)
