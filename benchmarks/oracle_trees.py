"""Make the table of docs/oracle.md: oracles for the detector of ``varifocal demo`` on its held-out scene.

    python benchmarks/oracle_trees.py runs/trees-1/best.safetensors

Writes the rows, with date and machine, and the chart into the documentation.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness import machine
from varifocal.data.load import load_dataset
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.inference.model import load
from varifocal.tools.oracle.chart import chart
from varifocal.tools.oracle.result import BASELINE, OracleStudy
from varifocal.tools.oracle.study import oracle_study

DOC = Path(__file__).parents[1] / "docs" / "oracle.md"
BEGIN, END = "<!-- table: benchmarks/oracle_trees.py -->\n", "<!-- end of table -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    data = load_dataset(sample_dataset_dir(), "test")
    study = oracle_study(load(parser.parse_args().checkpoint), data)
    before, rest = DOC.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    DOC.write_text(before + BEGIN + "\n".join(shown(study)) + "\n" + END + after, encoding="utf-8")
    (DOC.parent / "oracle.svg").write_text(chart(replace(study, data="trees")), encoding="utf-8")


def shown(study: OracleStudy) -> Iterator[str]:
    """Yield the lines of the table and its notes."""
    yield "| row | AP | AP50 | AP75 | gain |"
    yield "|---|---|---|---|---|"
    for row in study.rows:
        numbers = " | ".join(f"{100 * value:.1f}" for value in (row.metrics.AP, row.metrics.AP50, row.metrics.AP75))
        yield f"| {row.name} | {numbers} | {'' if row.name == BASELINE else f'{100 * row.gain:+.1f}'} |"
    where = machine()
    yield ""
    yield "![the AP of each row as bars](oracle.svg)"
    yield ""
    yield (
        f"{where['date']}, {where['cpu']}; VFNet from one run of `varifocal demo`, one scene with {study.objects} "
        "boxes, read in tiles."
    )


if __name__ == "__main__":
    main()
