"""Repeat the paper's table 1 at a small scale: python benchmarks/paper/oracles.py [--seeds 0,1,2]

Runs the oracle study on the detectors that ``run.py`` trained, on the validation frames, and stores the AP of each of
its rows in ``results.json``. Results that are already there are not computed again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import studies

from varifocal.data.load import load_dataset
from varifocal.inference.model import load
from varifocal.tools.oracle.rows import FURTHER, PAPER
from varifocal.tools.oracle.study import oracle_study
from varifocal.utils.progress import progress_bar

DETECTORS = ("fcos-atss", "raw-varifocal", "star-refine", "star-refine-norm")
METRICS = ("AP", "AP50", "AP75")
ROWS = (*PAPER, *FURTHER)


def study(checkpoint: Path, frames: Path, words: str) -> dict[str, Any]:
    """Return the rows of the oracle study for one run."""
    data = load_dataset(frames, "val")
    with progress_bar(words, len(data.samples)) as advance:
        found = oracle_study(load(checkpoint), data, rows=ROWS, progress=advance)
    rows = [
        {
            "oracle": row.name,
            "centerness": row.centerness,
            "metrics": {metric: getattr(row.metrics, metric) for metric in METRICS},
        }
        for row in found.rows
    ]
    return {"rows": rows}


if __name__ == "__main__":
    studies.main(__doc__, "oracles", study, DETECTORS)
