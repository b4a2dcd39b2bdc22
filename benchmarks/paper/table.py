"""Generate docs/paper.md from ``results.json``: python benchmarks/paper/table.py"""

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
# The paper's claims at a small scale

The tables of VarifocalNet were measured on COCO with a ResNet-50, twelve epochs and eight GPUs. This page repeats the
comparisons with a small backbone on frames rendered by a game engine, with twelve classes, exact boxes, and different
maps for training and validation. A claim may hold on COCO and not here, or the other way around. An interval that
contains zero means that these few and short runs cannot decide the question.

{train} training frames and {val} validation frames (320 x 240), EfficientNet-Lite0 with three frozen stages, three
epochs, 900 steps; {runs} (median, one thread), seeds {seeds}
({made}).
`benchmarks/paper/table.py` generates this page from `benchmarks/paper/results.json`; do not edit it by hand. To rerun
the experiments: `python benchmarks/paper/run.py`. All rows use the same recipe; nothing was tuned for any of them.
"""
NORM_HEAD = """\
## Table 3, as published and with the norm

The star convolution is the only convolution of VFNet's head without a norm. *As published*, it has none. *With the
norm*, a group norm follows it, before its ReLU, in both branches (`model.star_norm=group`); nothing else differs. Each
cell is the mean AP and its standard deviation over the seeds, after 900 steps or after twelve epochs.
"""
READING = """\
## How to read it

- *Holds* and *does not hold* mean that the interval excludes zero, *open* that it contains zero. With three seeds the
  interval extends 2.5 standard deviations of the differences to each side. Running the same command again fills in
  *not run* and *one seed*.
- As published, the star learns late. `varifocal report runs/paper` shows that its classification loss falls later than
  that of plain convolutions, while recall and first boxes are similar: objects are found but given the wrong class. The
  authors' classification loss does not fall in its first 700 to 1,000 steps either ([VarifocalNet, issue
  32](https://github.com/hyz-xmaster/VarifocalNet/issues/32)), and the short runs end there. The rows with twelve epochs
  test whether the gap closes. The rows with the norm test whether the star itself or its missing norm is the cause.
- Table 1 needs no long training: it measures how much AP the ranking of the predicted boxes loses.
"""


def page(content: dict[str, Any]) -> str:
    """Return the content of docs/paper.md."""
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
    """Return the number of runs and their median duration."""
    return f"{len(runs)} runs of {statistics.median(run['minutes'] for run in runs):.0f} minutes"


def _parts(runs: list[dict[str, Any]]) -> list[str]:
    """Return Table 3 in four columns, with and without the norm after two lengths, and then the effect of the norm."""
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
    return [*table(head, rows), *table(("effect of the norm on", "AP (95 % interval)", "pairs"), changes)]


def _claims(runs: list[dict[str, Any]]) -> list[str]:
    both = [
        [one.what, _expected(one), *gain_cells(difference(one, runs)), *gain_cells(_normed(one, runs))]
        for one in STAR_CLAIMS
    ]
    others = [[one.what, _expected(one), *gain_cells(difference(one, runs))] for one in OTHER_CLAIMS]
    return [
        "## Claims",
        "",
        "Differences of AP in points over pairs of runs with the same seed: mean, 95 % interval (Student's t) and p.",
        "",
        *table(("claim", "on COCO (paper)", "as published", "", "with the norm", ""), both),
        *table(("claim (no star, or VFNet as published)", "on COCO (paper)", "here", ""), others),
    ]


def difference(one: Claim, runs: Sequence[dict[str, Any]]) -> Difference | None:
    """Return the difference over the seeds that both rows have; None without any."""
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
    # rows with the norm or with twelve epochs do not exist in the paper, even if the row they derive from does
    paper = None if "norm" in name or name.endswith("-long") else own[0]["paper_AP"]
    return [NAMES[name], *means, str(len(own)), "-" if paper is None else f"{paper:.1f}"]


def main() -> None:
    """Generate the page."""
    PAGE.write_text(page(json.loads((HERE / "results.json").read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
