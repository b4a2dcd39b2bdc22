"""Table 1 at a small scale: python benchmarks/paper/oracles.py [--seeds 0,1,2]

Gives the truth to the detectors that ``run.py`` trained, on the frames they were measured on, and keeps what each row
of the oracle study reaches in ``results.json``. What stands there is not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from run import RESULTS, read_results

from varifocal.data.load import load_dataset
from varifocal.files import write_beside
from varifocal.oracle import oracle_study
from varifocal.oracle.rows import FURTHER, PAPER
from varifocal.predict import load
from varifocal.progress import progress_bar

DETECTORS = ("fcos-atss", "raw-varifocal", "star-refine")
METRICS = ("AP", "AP50", "AP75")
ROWS = (*PAPER, *FURTHER)


def study(checkpoint: Path, frames: Path, words: str) -> list[dict[str, Any]]:
    """The rows of one run."""
    data = load_dataset(frames, "val")
    with progress_bar(words, len(data.samples)) as advance:
        found = oracle_study(load(checkpoint), data, rows=ROWS, progress=advance)
    return [
        {
            "oracle": row.name,
            "centerness": row.centerness,
            "metrics": {metric: getattr(row.metrics, metric) for metric in METRICS},
        }
        for row in found.rows
    ]


def main() -> None:
    """Study what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name, seed in [(name, int(seed)) for seed in options.seeds.split(",") for name in DETECTORS]:
        checkpoint = options.runs / f"{name}-seed{seed}" / "best.safetensors"
        known = any((one["row"], one["seed"]) == (name, seed) for one in read_results().get("oracles", []))
        if known or not checkpoint.exists():
            continue
        rows = study(checkpoint, options.runs / "frames", f"{name}, seed {seed}")
        content = read_results()
        content.setdefault("oracles", []).append({"row": name, "seed": seed, "rows": rows})
        write_beside(RESULTS, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
