"""The paper's claims at a small scale: python benchmarks/paper/run.py [--minutes 180] [--seeds 0,1,2] [--only atss]

Trains every row of ROWS with every seed, the first seed of all rows first, on the frames of ``frames.py`` (made if they
are not there), and keeps metrics in ``results.json`` beside this file. A run that stands there is not done again, one
that was cut off goes on; after ``--minutes`` no new one is begun. ``table.py`` makes the page of the results.

All rows share ``recipe.yaml``, seeds, data and number of steps; nothing was tuned for one of them. The seed decides
the weights that are not pretrained and the order of the pictures, so that runs of one seed make a pair.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from harness import machine  # noqa: E402
from varifocal.files import write_beside  # noqa: E402
from varifocal.sweep import SWEEPS, Row, run_rows  # noqa: E402

RESULTS = HERE / "results.json"
RECIPE = HERE / "recipe.yaml"
FRAMES = {"train": 1200, "val": 400, "seed": 0}


def _losses(detector: str) -> list[Row]:
    return [
        Row(f"{detector}-{loss}", (f"detector={detector}", f"model.loss={loss}"))
        for loss in ("focal", "quality-focal", "varifocal")
    ]


def rows() -> dict[str, Row]:
    """By name, the claims that matter most first. Table 3's last row is VFNet with the varifocal loss."""
    named = {row.name: row for row in SWEEPS["table3"]}
    vfnet = {row.name: row for row in _losses("vfnet")}
    weighting = ("detector=vfnet", "model.loss=varifocal", "model.iou_weighted=false")
    listed = [
        named["star-refine"],
        named["raw-focal"],
        named["raw-varifocal"],
        named["star"],
        named["fcos-atss"],
        vfnet["vfnet-focal"],
        vfnet["vfnet-quality-focal"],
        *_losses("atss"),
        Row("vfnet-unweighted", weighting),
    ]
    return {row.name: row for row in listed}


def make_frames(folder: Path) -> None:
    """The data, if it is not there."""
    if folder.exists():
        return
    from frames import Split, write_split

    beside = folder.with_name(f"{folder.name}.part")
    for i, name in enumerate(("train", "val")):
        write_split(Split(name, FRAMES[name], FRAMES["seed"] + i), beside)
    beside.rename(folder)


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=180.0)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default="", help="rows whose names begin so")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"), help="where data and checkpoints lie")
    options = parser.parse_args()
    torch.set_num_threads(2)
    data = options.runs / "frames"
    options.runs.mkdir(parents=True, exist_ok=True)
    make_frames(data)
    content: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"runs": []}
    done = {(run["row"], run["seed"]) for run in content["runs"]}
    begun = time.monotonic()
    for seed in (int(word) for word in options.seeds.split(",")):
        for name, row in rows().items():
            if (name, seed) in done or not name.startswith(options.only):
                continue
            if time.monotonic() - begun > options.minutes * 60:
                raise SystemExit(f"{options.minutes:g} minutes are over; the rest is the same command again.")
            started = time.monotonic()
            print(f"{name}, seed {seed}", flush=True)
            folder = options.runs / name
            (one,) = run_rows([row], data, folder, recipe=str(RECIPE), seeds=[seed], name="paper")
            minutes = (time.monotonic() - started) / 60
            content["runs"].append({**one, "minutes": round(minutes, 2), "machine": machine()})
            content["frames"], content["script"] = FRAMES, "benchmarks/paper/run.py"
            write_beside(RESULTS, (json.dumps(content, indent=1) + "\n").encode())
            print(f"  AP {100 * one['metrics']['AP']:.1f}, {minutes:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
