"""Test the paper's claims at a small scale.

    python benchmarks/paper/run.py [--minutes 180] [--seeds 0,1,2] [--only atss]

Trains every row of :func:`rows` with every seed, the most important claims first, on the frames of ``frames.py``, which
are rendered if they do not exist. Metrics are stored in ``results.json`` next to this file. A run that is already there
is not repeated (except with ``--again``, if its checkpoint is gone), an interrupted run resumes, and after
``--minutes`` no new run starts. ``table.py`` makes the page from the results; ``varifocal report runs/paper`` shows
curves, images and a diagnosis. Several of these commands may run at the same time, each on some of the cores
(``--threads``): a run belongs to the command that started it.

All rows share ``recipe.yaml``, seeds, data and number of steps; nothing was tuned for any of them. The seed determines
the weights that are not pretrained and the order of the images, so two runs with the same seed are a pair.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from harness import machine  # noqa: E402
from varifocal.recipes.sweep import SWEEPS, Row, run_rows  # noqa: E402
from varifocal.utils.atomic_write import atomic_write  # noqa: E402

RESULTS = HERE / "results.json"
RECIPE = HERE / "recipe.yaml"
CHECKPOINT = "best.safetensors"
LONG = 12  # epochs of the rows that test whether a component only needs more training
FRAMES = {"train": 1200, "val": 400, "seed": 0}


LOSSES = ("focal", "quality-focal", "varifocal", "mal", "ia-bce")
NORM = "model.star_norm=group"


def _losses(detector: str, name: str, *overrides: str) -> dict[str, Row]:
    """Return a row for each loss, by the name of the loss."""
    return {loss: Row(f"{name}-{loss}", (f"detector={detector}", *overrides, f"model.loss={loss}")) for loss in LOSSES}


def rows() -> list[list[Row]]:
    """Return the rows in groups, the most important claims first.

    The last row of table 3 is also VFNet with the varifocal loss, both with and without the norm.
    """
    named = {row.name: row for row in SWEEPS["table3"]}
    normed = {f"{name}-norm": _changed(named[name], "norm", NORM) for name in ("star", "star-refine")}
    normed["star-refine-norm"] = replace(normed["star-refine-norm"], against="star-norm")
    vfnet, normed_vfnet = _losses("vfnet", "vfnet"), _losses("vfnet", "vfnet-norm", NORM)
    atss = _losses("atss", "atss")
    weighting = ("detector=vfnet", "model.loss=varifocal", "model.iou_weighted=false")
    reppoints = Row("reppoints-varifocal", ("detector=reppoints", "model.loss=varifocal"))
    times = (f"train.epochs={LONG}", f"train.val_every_epochs={LONG}")
    long = [named[name] for name in ("raw-varifocal", "star", "star-refine")]
    longer = [_changed(row, "long", *times) for row in (*long, *normed.values(), named["fcos-atss"])]
    both = {row.name for row in longer}
    longer = [replace(row, against=f"{row.against}-long" if f"{row.against}-long" in both else None) for row in longer]
    return [
        list(named.values()),
        list(normed.values()),
        [vfnet["focal"], atss["focal"], atss["varifocal"]],
        [row for loss, row in normed_vfnet.items() if loss != "varifocal"],
        [atss[loss] for loss in ("quality-focal", "mal", "ia-bce")],
        [reppoints, _changed(reppoints, "norm", NORM)],
        longer,
        [vfnet["quality-focal"], Row("vfnet-unweighted", weighting)],
    ]


def _changed(row: Row, how: str, *overrides: str) -> Row:
    """Return the row with changes that the paper does not have, and therefore without the paper's AP."""
    return replace(row, name=f"{row.name}-{how}", overrides=(*row.overrides, *overrides), paper=None)


def make_frames(folder: Path) -> None:
    """Render the data set, unless it exists."""
    if folder.exists():
        return
    from frames import Split, write_split

    beside = folder.with_name(f"{folder.name}.part")
    for i, name in enumerate(("train", "val")):
        write_split(Split(name, FRAMES[name], FRAMES["seed"] + i), beside)
    beside.rename(folder)


def main() -> None:
    """Train the missing runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=180.0)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default="", help="only rows whose names start with this")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"), help="folder of data and checkpoints")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--again", action="store_true", help="also repeat runs in results.json whose checkpoint is not in --runs"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.runs.mkdir(parents=True, exist_ok=True)
    make_frames(options.runs / "frames")
    begun = time.monotonic()
    seeds = [int(word) for word in options.seeds.split(",")]
    for row, seed in [(row, seed) for group in rows() for seed in seeds for row in group]:
        if not row.name.startswith(options.only):
            continue
        if time.monotonic() - begun > options.minutes * 60:
            raise SystemExit(f"{options.minutes:g} minutes are over; run the same command again for the rest.")
        with (options.runs / f".{row.name}-seed{seed}.lock").open("w") as lock:
            if _taken(lock) or _done(row, seed, options.runs if options.again else None):
                continue
            _train(row, seed, options.runs)


def _taken(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _done(row: Row, seed: int, runs: Path | None) -> bool:
    """Return whether the results have the run and, if ``runs`` is given, its folder has the checkpoint."""
    known = any((run["row"], run["seed"]) == (row.name, seed) for run in read_results()["runs"])
    return known and (runs is None or (runs / f"{row.name}-seed{seed}" / CHECKPOINT).is_file())


def _train(row: Row, seed: int, folder: Path) -> None:
    started = time.monotonic()
    print(f"{row.name}, seed {seed}", flush=True)
    (one,) = run_rows([row], folder / "frames", folder, recipe=str(RECIPE), seeds=[seed], name="paper")
    minutes = (time.monotonic() - started) / 60
    content = keep(folder, "runs", {**one, "minutes": round(minutes, 2), "machine": machine()})
    atomic_write(folder / "results.json", json.dumps({"sweep": "paper", "runs": content["runs"]}).encode())
    print(f"{row.name}, seed {seed}: AP {100 * one['metrics']['AP']:.1f}, {minutes:.1f} minutes", flush=True)


def keep(folder: Path, key: str, entry: dict[str, Any], results: Path | None = None) -> dict[str, Any]:
    """Store an entry in a list of the results, replacing that of the same row and seed; return the new results.

    Other commands that work on the same ``folder`` of runs wait until this is done.
    """
    with (folder / ".results.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        content = read_results(results)
        others = [one for one in content.get(key, []) if any(one[name] != entry[name] for name in ("row", "seed"))]
        content[key] = [_as_now(one) for one in (*others, entry)]
        atomic_write(results or RESULTS, (json.dumps(content, indent=1) + "\n").encode())
    return content


def _as_now(run: dict[str, Any]) -> dict[str, Any]:
    """Return a run of the results, updated with the baseline and the paper's AP that its row has now."""
    row = next((row for group in rows() for row in group if row.name == run["row"]), None)
    if row is None or "against" not in run:
        return run
    return {**run, "against": row.against, "paper_AP": row.paper}


def read_results(results: Path | None = None) -> dict[str, Any]:
    """Return the content of ``results.json``, or of another results file; without a file, no runs."""
    file = results or RESULTS
    if file.exists():
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return content
    return {"script": "benchmarks/paper/run.py", "frames": FRAMES, "runs": []}


if __name__ == "__main__":
    main()
