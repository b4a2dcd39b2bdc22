"""Write docs/paper.md from ``results.json``: python benchmarks/paper/table.py"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advice import advice
from cells import gain, gain_cell, gain_cells, mean_cell, table, values_of
from claims import NAMES, NORM_CLAIMS, OTHER_CLAIMS, PARTS, STAR_CLAIMS, Claim
from loss_table import loss_section, refinement_section
from oracle_table import oracle_section

from varifocal.analysis.comparison import Difference

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "paper.md"
METRICS = ("AP", "AP50", "AP75")
HEAD = """\
# The paper's claims, at a small scale

VarifocalNet's tables are of COCO, a ResNet-50 and twelve epochs on eight GPUs. Here the same comparisons are made on
frames that a game engine renders, with a small backbone: twelve classes, exact boxes, other maps for validation than
for training. What holds there need not hold here, and the other way round; an interval that has zero in it says that so
few and so short runs do not tell.

{train} frames to train on and {val} to measure on (320 x 240), EfficientNet-Lite0 with three stages frozen, three
epochs, 900 steps; {runs} (median, one thread), seeds {seeds}
({made}).
Made by `benchmarks/paper/table.py` of `benchmarks/paper/results.json`; not typed. To make it again:
`python benchmarks/paper/run.py`. All rows use the same recipe, and nothing was tuned for one of them.
"""
NORM_HEAD = """\
## Table 3, both ways

The star convolution is the one layer of VFNet's head without a norm. *As published* it has none; *with the norm* a
group norm stands between it and its ReLU, in both branches (`model.star_norm=group`), and nothing else differs. AP,
mean over the seeds and standard deviation, after 900 steps and after twelve epochs.
"""
READING = """\
## How to read it

- *Holds* and *does not hold* are said where the interval leaves zero out, *open* where it does not; with three seeds it
  reaches 2.5 standard deviations of the differences to each side. What is *not run* or has *one seed* waits for the
  same command.
- As published, the star learns late. `varifocal report runs/paper` shows that its class loss falls later than that of
  plain convolutions, while recall and first boxes are alike: objects are found and taken for another class. The
  authors' class loss does not fall in its first 700 to 1,000 steps either ([VarifocalNet, issue
  32](https://github.com/hyz-xmaster/VarifocalNet/issues/32)), and the short runs end there. The rows of twelve epochs
  ask whether the gap closes, those with the norm whether the star or its missing norm is the reason.
- Table 1 needs no long training: it asks what is lost between boxes that are there and their order.
"""


def page(content: dict[str, Any]) -> str:
    """The whole of docs/paper.md."""
    runs = content["runs"]
    return "\n".join(
        [
            _head(runs, content["frames"]),
            *advice(runs),
            NORM_HEAD,
            *_parts(runs),
            *_claims(runs),
            *loss_section(content),
            *refinement_section(content.get("refinement", [])),
            "## Rows",
            "",
            *table(
                ("", *METRICS, "runs", "AP on COCO (paper)"), [_row(name, runs) for name in NAMES if _has(name, runs)]
            ),
            *oracle_section(content.get("oracles", [])),
            READING,
        ]
    )


def _head(runs: list[dict[str, Any]], frames: dict[str, Any]) -> str:
    machines = sorted({(run["machine"]["cpu"], run["machine"]["versions"]["torch"]) for run in runs})
    made = []
    for cpu, torch in machines:
        own = [run["machine"] for run in runs]
        dates = sorted({one["date"] for one in own if (one["cpu"], one["versions"]["torch"]) == (cpu, torch)})
        when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        made.append(f"{when}, {cpu}, torch {torch}")
    longer = [run for run in runs if run["row"].endswith("-long")]
    lengths = [_number([run for run in runs if run not in longer])]
    lengths += [f"and {_number(longer)} with twelve epochs"] if longer else []
    seeds = ", ".join(map(str, sorted({run["seed"] for run in runs})))
    return HEAD.format(**frames, runs=" ".join(lengths), seeds=seeds, made=";\n".join(made))


def _number(runs: list[dict[str, Any]]) -> str:
    """So many runs, and how long one took."""
    return f"{len(runs)} runs of {statistics.median(run['minutes'] for run in runs):.0f} minutes"


def _parts(runs: list[dict[str, Any]]) -> list[str]:
    """Table 3 in four columns: two ways, two lengths; then what the norm changes."""
    head = (
        "",
        "as published",
        "with the norm",
        "twelve epochs, as published",
        "twelve epochs, with the norm",
        "COCO (paper)",
    )
    rows = []
    for what, published, normed, paper in PARTS:
        cells = [
            "no star" if name is None else mean_cell(values_of(runs, f"{name}{length}", "AP"))
            for length in ("", "-long")
            for name in (published, normed)
        ]
        rows.append([what, *cells, f"{paper:.1f}"])
    changes = [[one.what, gain_cell(difference(one, runs)), str(_pairs(one, runs))] for one in NORM_CLAIMS]
    return [*table(head, rows), *table(("what the norm changes", "AP (95 % interval)", "pairs"), changes)]


def _claims(runs: list[dict[str, Any]]) -> list[str]:
    both = [
        [one.what, _expected(one), *gain_cells(difference(one, runs)), *gain_cells(_normed(one, runs))]
        for one in STAR_CLAIMS
    ]
    others = [[one.what, _expected(one), *gain_cells(difference(one, runs))] for one in OTHER_CLAIMS]
    return [
        "## Claims",
        "",
        "The difference of AP in points over runs of the same seed: mean, its 95 % interval (Student's t) and p.",
        "",
        *table(("claim", "on COCO (paper)", "as published", "", "with the norm", ""), both),
        *table(("claim, without a star or as published", "on COCO (paper)", "here", ""), others),
    ]


def difference(one: Claim, runs: Sequence[dict[str, Any]]) -> Difference | None:
    """Of the seeds that both rows have; None without any."""
    return gain(values_of(runs, one.first, "AP"), values_of(runs, one.second, "AP"))


def _normed(one: Claim, runs: list[dict[str, Any]]) -> Difference | None:
    assert one.normed is not None, "a claim about a star"
    return gain(*(values_of(runs, name, "AP") for name in one.normed))


def _pairs(one: Claim, runs: list[dict[str, Any]]) -> int:
    found = difference(one, runs)
    return 0 if found is None else found.pairs


def _expected(one: Claim) -> str:
    return "-" if one.paper is None else f"{one.paper:+.1f}"


def _has(name: str, runs: list[dict[str, Any]]) -> bool:
    return any(run["row"] == name for run in runs)


def _row(name: str, runs: list[dict[str, Any]]) -> list[str]:
    means = [mean_cell(values_of(runs, name, metric)) for metric in METRICS]
    own = [run for run in runs if run["row"] == name]
    # a row with the norm, or of another length, is none of the paper's, whatever it was made from
    paper = None if "norm" in name or name.endswith("-long") else own[0]["paper_AP"]
    return [NAMES[name], *means, str(len(own)), "-" if paper is None else f"{paper:.1f}"]


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(json.loads((HERE / "results.json").read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
