"""Make the example of docs/diagnose.md: a diagnosis of the detector of ``varifocal demo`` on its held-out scene.

    python benchmarks/diagnose_trees.py runs/trees-1/best.safetensors

Writes the terminal output, with date and machine, and two of the plots into the documentation.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from rich.console import Console

from harness import machine
from varifocal.analysis.diagnosis import Diagnosis, Settings, diagnose
from varifocal.analysis.diagnosis_plots import make_plots
from varifocal.data.load import load_dataset
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.evaluation.evaluate import detect_all, relabel
from varifocal.inference.loading import load
from varifocal.tools.diagnose.console import show

DOC = Path(__file__).parents[1] / "docs" / "diagnose.md"
BEGIN, END = "<!-- example: benchmarks/diagnose_trees.py -->\n", "<!-- end of example -->"
PLOTS = {"worth.svg": "diagnose-worth.svg", "reliability.svg": "diagnose-reliability.svg"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    model = load(parser.parse_args().checkpoint)
    data = load_dataset(sample_dataset_dir(), "test")
    detections = [relabel(one, data.categories) for one in detect_all(model, data.samples)]
    found = diagnose(detections, data, Settings(max_detections=model.info.postprocess.max_detections))
    text = DOC.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    DOC.write_text(before + BEGIN + shown(found) + END + after, encoding="utf-8")
    plots = make_plots(found)
    for name, target in PLOTS.items():
        (DOC.parent / target).write_text(plots[name], encoding="utf-8")


def shown(found: Diagnosis) -> str:
    """Return the example's part of the page."""
    console = Console(file=io.StringIO(), width=100)
    console.print(show(found))
    lines = [line.rstrip() for line in console.file.getvalue().replace(str(sample_dataset_dir()), "trees").splitlines()]
    where = machine()
    return (
        "```\n" + "\n".join(lines) + "\n```\n\n"
        "![bars: what separates AP from 100](diagnose-worth.svg)\n![reliability diagram](diagnose-reliability.svg)\n\n"
        f"{where['date']}, {where['cpu']}; one training run, one scene with 279 boxes.\n"
    )


if __name__ == "__main__":
    main()
