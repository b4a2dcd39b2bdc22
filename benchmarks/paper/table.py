"""Write docs/paper.md from ``results.json``: python benchmarks/paper/table.py"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from varifocal.compare import Difference, paired_difference

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "paper.md"
METRICS = ("AP", "AP50", "AP75")


class Claim(NamedTuple):
    """``second`` should have a higher AP than ``first``, by ``paper`` points on COCO if the paper says so."""

    what: str
    first: str
    second: str
    paper: float | None


CLAIMS = (
    Claim("Table 3: varifocal for focal loss, raw VFNet", "raw-focal", "raw-varifocal", 1.1),
    Claim("Table 3: the star", "raw-varifocal", "star", 0.6),
    Claim("Table 3: the refinement", "star", "star-refine", 0.9),
    Claim("Table 3: VFNet beside FCOS+ATSS", "fcos-atss", "star-refine", 2.4),
    Claim("Losses: varifocal for focal, VFNet", "vfnet-focal", "star-refine", None),
    Claim("Losses: varifocal for quality focal, VFNet", "vfnet-quality-focal", "star-refine", None),
    Claim("Table 5: varifocal for focal, ATSS", "atss-focal", "atss-varifocal", 0.9),
    Claim("Table 5: varifocal for quality focal, ATSS", "atss-quality-focal", "atss-varifocal", 0.4),
    Claim("Table 2: positives weighted by their IoU", "vfnet-unweighted", "star-refine", 0.4),
    Claim("Twelve epochs: the star", "raw-varifocal-long", "star-long", 0.6),
    Claim("Twelve epochs: the refinement", "star-long", "star-refine-long", 0.9),
)
ORACLES = (  # of FCOS+ATSS: the row, what the paper's table 1 has without and with centerness
    ("nothing", 38.5, 39.2),
    ("gt_ctr", None, 41.1),
    ("gt_ctr_iou", None, 43.5),
    ("gt_bbox", 56.1, 56.3),
    ("gt_cls", 43.1, 58.1),
    ("gt_cls_iou", 74.7, 67.4),
)
WORTH = (  # the second should have a higher AP than the first: row and whether multiplied by centerness
    ("true centerness", ("nothing", True), ("gt_ctr", True), 1.9),
    ("IoU in the place of centerness", ("nothing", True), ("gt_ctr_iou", True), 4.3),
    ("true boxes", ("nothing", False), ("gt_bbox", False), 17.6),
    ("IoU as the score", ("nothing", False), ("gt_cls_iou", False), 36.2),
    ("IoU as the score, beside true boxes", ("gt_bbox", False), ("gt_cls_iou", False), 18.6),
    ("IoU as the score, beside certain classes with centerness", ("gt_cls", True), ("gt_cls_iou", False), 16.6),
)
NAMES = {
    "star-refine": "VFNet: star, refinement, varifocal",
    "star": "VFNet without refinement",
    "raw-varifocal": "raw VFNet, varifocal",
    "raw-focal": "raw VFNet, focal",
    "fcos-atss": "FCOS+ATSS, focal, centerness",
    "vfnet-focal": "VFNet, focal",
    "vfnet-quality-focal": "VFNet, quality focal",
    "atss-focal": "ATSS, focal",
    "atss-quality-focal": "ATSS, quality focal",
    "atss-varifocal": "ATSS, varifocal",
    "vfnet-unweighted": "VFNet, varifocal, positives not weighted",
    "raw-varifocal-long": "raw VFNet, varifocal, twelve epochs",
    "star-long": "VFNet without refinement, twelve epochs",
    "star-refine-long": "VFNet, varifocal, twelve epochs",
}
HEAD = """\
# The paper's claims, at a small scale

VarifocalNet's tables are of COCO, a ResNet-50 and twelve epochs on eight GPUs. Here the same comparisons are made on
frames that a game engine renders, with a small backbone: twelve classes, exact boxes, other maps for validation than
for training. What holds there need not hold here, and the other way round; an interval that has zero in it says that so
few and so short runs do not tell.

{train} frames to train on and {val} to measure on (320 x 240), EfficientNet-Lite0 with three stages frozen, three
epochs, 900 steps; {runs} runs of {each:.0f} minutes (median, two side by side on two cores), seeds {seeds}
({made}).
Made by `benchmarks/paper/table.py` of `benchmarks/paper/results.json`; not typed. To make it again:
`python benchmarks/paper/run.py`. All rows share the recipe, and nothing was tuned for one of them.
"""
ORACLE_HEAD = """\
## What the truth would buy

Table 1: the truth about one quantity at the positives of ATSS, all else as predicted, on the validation frames
([how](oracle.md)). Mean over the seeds and standard deviation; made by `benchmarks/paper/oracles.py`.
"""
READING = """\
## How to read it

- *Holds* and *does not hold* are said where the interval leaves zero out, *open* where it does not; with three seeds it
  reaches 2.5 standard deviations of the differences to each side. What is *not run* or has *one seed* waits for the
  same command.
- What learns late is at a disadvantage in so few steps. The star reads nine points of a box that is wrong at first,
  and no norm follows it, as in the paper. `varifocal report runs/paper` shows that its class loss falls later than that
  of plain convolutions, while recall and first boxes are alike: objects are found and taken for another class. The
  authors' class loss does not fall in its first 700 to 1,000 steps either ([VarifocalNet, issue
  32](https://github.com/hyz-xmaster/VarifocalNet/issues/32)), and these runs end there. The rows of twelve epochs ask
  whether the gap closes.
- Table 1 needs no long training: it asks what is lost between boxes that are there and their order.
"""
VERDICTS = {"better": "holds", "worse": "**does not hold**", "open": "open"}


def page(content: dict[str, Any]) -> str:
    """The whole of docs/paper.md."""
    runs = content["runs"]
    frames = content["frames"]
    machines = {(run["machine"]["date"], run["machine"]["cpu"], run["machine"]["versions"]["torch"]) for run in runs}
    made = "; ".join(f"{date}, {cpu}, torch {torch}" for date, cpu, torch in sorted(machines))
    minutes = statistics.median(run["minutes"] for run in runs)
    seeds = sorted({run["seed"] for run in runs})
    head = HEAD.format(**frames, runs=len(runs), each=minutes, seeds=", ".join(map(str, seeds)), made=made)
    return "\n".join(
        [
            head,
            "## Claims",
            "",
            "The difference of AP in points over runs of the same seed: mean, its 95 % interval (Student's t) and p.",
            "",
            "| claim | on COCO (paper) | here | 95 % interval | p | |",
            "|---|---|---|---|---|---|",
            *(_claim(one, runs) for one in CLAIMS),
            "",
            "## Rows",
            "",
            "| | AP | AP50 | AP75 | runs | AP on COCO (paper) |",
            "|---|---|---|---|---|---|",
            *(_row(name, runs) for name in NAMES if any(run["row"] == name for run in runs)),
            "",
            *_oracles(content.get("oracles", [])),
            READING,
        ]
    )


def difference(one: Claim, runs: list[dict[str, Any]]) -> Difference | None:
    """Of the seeds that both rows have; None without any."""
    found = [{run["seed"]: 100 * run["metrics"]["AP"] for run in runs if run["row"] == name} for name in one[1:3]]
    seeds = sorted(found[0].keys() & found[1].keys())
    return paired_difference(*([side[seed] for seed in seeds] for side in found)) if seeds else None


def _claim(one: Claim, runs: list[dict[str, Any]]) -> str:
    return _said(one.what, one.paper, difference(one, runs))


def _said(what: str, expected: float | None, found: Difference | None) -> str:
    paper = "-" if expected is None else f"{expected:+.1f}"
    if found is None:
        cells = ("-", "-", "-", "not run")
    elif found.low is None or found.high is None or found.p is None:
        cells = (f"{found.mean:+.1f}", "-", "-", "one seed")
    else:
        cells = (
            f"{found.mean:+.1f}",
            f"{found.low:+.1f} to {found.high:+.1f}",
            f"{found.p:.2g}",
            VERDICTS[found.verdict],
        )
    return f"| {' | '.join((what, paper, *cells))} |"


def _row(name: str, runs: list[dict[str, Any]]) -> str:
    own = [run for run in runs if run["row"] == name]
    cells = [_mean({run["seed"]: 100 * run["metrics"][metric] for run in own}) for metric in METRICS]
    paper = own[0]["paper_AP"]
    return f"| {' | '.join((NAMES[name], *cells, str(len(own)), '-' if paper is None else f'{paper:.1f}'))} |"


Found = dict[tuple[str, bool | None], dict[int, float]]  # AP by oracle and centerness, then by seed


def _oracles(studies: list[dict[str, Any]]) -> list[str]:
    """Table 1; nothing where none was made."""
    found: dict[str, Found] = {}
    for one in studies:
        for row in one["rows"]:
            place = found.setdefault(one["row"], {}).setdefault((row["oracle"], row["centerness"]), {})
            place[one["seed"]] = 100 * row["metrics"]["AP"]
    if not found:
        return []
    own = found.pop("fcos-atss", {})
    lines = [
        ORACLE_HEAD,
        "| FCOS+ATSS | AP | AP x centerness | COCO (paper) | COCO x centerness (paper) |",
        "|---|---|---|---|---|",
    ]
    for name, *papers in ORACLES:
        cells = [_mean(own.get((name, with_it), {})) for with_it in (False, True)]
        lines.append(f"| {' | '.join((f'`{name}`', *cells, *('-' if one is None else str(one) for one in papers)))} |")
    lines += ["", "| claim | on COCO (paper) | here | 95 % interval | p | |", "|---|---|---|---|---|---|"]
    lines += [_said(what, paper, _gain(own, first, second)) for what, first, second, paper in WORTH]
    return [*lines, "", *_others(found)]


def _gain(found: Found, first: tuple[str, bool], second: tuple[str, bool]) -> Difference | None:
    sides = found.get(first, {}), found.get(second, {})
    seeds = sorted(sides[0].keys() & sides[1].keys())
    return paired_difference(*([side[seed] for seed in seeds] for side in sides)) if seeds else None


def _others(found: dict[str, Found]) -> list[str]:
    """The same rows of detectors without centerness."""
    names = [name for name in NAMES if name in found]
    if not names:
        return []
    rows = list(dict.fromkeys(row for name in names for row, _ in found[name]))
    lines = [f"| | {' | '.join(NAMES[name] for name in names)} |", f"|---|{'---|' * len(names)}"]
    lines += [f"| {' | '.join((f'`{row}`', *(_mean(found[n].get((row, None), {})) for n in names)))} |" for row in rows]
    return [*lines, ""]


def _mean(values: dict[int, float]) -> str:
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values.values()):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values.values()):.1f}{spread}"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(json.loads((HERE / "results.json").read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
