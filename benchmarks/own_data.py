"""VFNet trained by ``varifocal train DATA --budget``, beside torchvision's FCOS in the same wall time.

    python benchmarks/own_data.py --budget 8m --seeds 0 1 2      # trees and frames, 16 minutes a seed and data set
    python benchmarks/own_data.py --models fcos --threads 1 & python benchmarks/own_data.py --models vfnet --threads 1
    python benchmarks/own_data.py --data frames --budget 4m --images 50 100 200 400      # the learning curve

FCOS gets the recipe that was decided for VFNet (image size, crops, augmentation, backbone, batch, learning rate), and
as many steps as fit into the same time by its own measured costs, so that a faster network trains longer. A run that is
in the results file is not repeated. With ``--threads 1`` the two models can be trained at the same time by two
commands. The frames are made by ``benchmarks/paper/frames.py``; ``--images`` takes some of the 1,200 training images,
the same for every seed and model. ``own_data_table.py`` writes the page from the results.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import random
import sys
import tempfile
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent / "paper"))

from run import make_frames

from harness import machine
from trees_vs_fcos import TorchvisionFCOS
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.inference.model import Model
from varifocal.recipes.auto import steps_in
from varifocal.recipes.budget import parse_budget
from varifocal.recipes.build import job_of
from varifocal.recipes.plan import RESERVE, PlannedRun, Request, plan_run
from varifocal.recipes.run import run_recipe
from varifocal.training.loop import TrainJob, train
from varifocal.training.measure import measure_costs
from varifocal.utils.atomic_write import atomic_write

RESULTS = Path(__file__).with_name("own_data.json")
FRAMES = Path("runs/paper/frames")
SUBSETS = Path("runs/own_data")
MODELS = ("vfnet", "fcos")


def folder_of(name: str, images: int) -> Path:
    """The folder of a data set; the frames are made if they are not there. ``images`` 0 takes all."""
    if name == "trees":
        return sample_dataset_dir()
    make_frames(FRAMES)
    return subset(images) if images else FRAMES


def subset(images: int) -> Path:
    """The frames with that many training images, drawn once."""
    out = SUBSETS / f"frames-{images}"
    (out / "annotations").mkdir(parents=True, exist_ok=True)
    if not (out / "images").exists():
        (out / "images").symlink_to((FRAMES / "images").resolve())
    for split in ("train", "val"):
        content = json.loads((FRAMES / "annotations" / f"instances_{split}.json").read_text())
        if split == "train":
            kept = {one["id"] for one in random.Random(0).sample(content["images"], images)}
            content["images"] = [one for one in content["images"] if one["id"] in kept]
            content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
        (out / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return out


def planned(data: Path, budget: float, seed: int, begun: float) -> PlannedRun:
    """The recipe that the command line would decide on."""
    return plan_run(Request(data, budget=budget, words=(f"train.seed={seed}",), begun=begun))


def run_vfnet(data: Path, budget: float, seed: int, folder: Path) -> dict[str, Any]:
    """Train as the command line does and return the metrics of the best weights."""
    begun = time.monotonic()
    plan = planned(data, budget, seed, begun)
    metrics = run_recipe(plan.recipe, data, folder, plan.splits)
    assert metrics is not None
    numbers = {key: value for key, value in metrics.to_json().items() if isinstance(value, float)}
    return {**numbers, "seconds": time.monotonic() - begun, "decisions": list(plan.reasons)}


def fcos_job(plan: PlannedRun, folder: Path) -> TrainJob:
    """The job of a plan with torchvision's FCOS in the place of VFNet."""
    torch.manual_seed(plan.recipe.train.seed)
    job = job_of(plan.recipe, plan.splits, folder)
    model = plan.recipe.model
    detector = TorchvisionFCOS(model.backbone, model.channels, len(job.model.categories))
    return replace(job, model=Model(detector, job.model.info))


def run_fcos(data: Path, budget: float, seed: int, folder: Path) -> dict[str, Any]:
    """Train FCOS on VFNet's plan for the same time and return the metrics of its best weights."""
    begun = time.monotonic()
    plan = planned(data, budget, seed, begun)
    costs = measure_costs(fcos_job(plan, folder), 0.012 * budget)
    steps, _ = steps_in(budget - (time.monotonic() - begun) - RESERVE, costs)
    config = replace(plan.recipe.train, epochs=steps / costs.batches)
    plan = replace(plan, recipe=replace(plan.recipe, train=config))
    job = fcos_job(plan, folder)
    metrics = train(job).metrics
    return {**metrics, "seconds": time.monotonic() - begun, "decisions": [f"{steps} steps of {costs.step:.2g} s"]}


def results() -> list[dict[str, Any]]:
    """The rows that are there."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def keep(row: dict[str, Any]) -> None:
    """Store a row; another of these commands may run at the same time, each on some of the cores."""
    with RESULTS.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        atomic_write(RESULTS, (json.dumps([*results(), row], indent=1) + "\n").encode())


def main() -> None:
    """Do the runs that are missing and print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="8m")
    parser.add_argument("--data", nargs="+", choices=("trees", "frames"), default=["trees", "frames"])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--images", nargs="+", type=int, default=[0], help="training frames; 0 for all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run = {"vfnet": run_vfnet, "fcos": run_fcos}
    for seed, data, images, name in product(options.seeds, options.data, options.images, options.models):
        key = {"data": data, "images": images, "model": name, "seed": seed, "budget": options.budget}
        key["threads"] = options.threads
        if any(all(row[word] == value for word, value in key.items()) for row in results()):
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = run[name](folder_of(data, images), parse_budget(options.budget), seed, Path(folder) / "run")
        keep({**key, **found, **machine()})
    for row in results():
        name = f"{row['data']} {row['images'] or ''}"
        text = f"{name:12} {row['model']:6} seed {row['seed']} {row['budget']:>4} {row['seconds']:6.0f} s"
        print(f"{text}  AP {100 * row['AP']:5.1f}  AP50 {100 * row['AP50']:5.1f}  AP75 {100 * row['AP75']:5.1f}")


if __name__ == "__main__":
    main()
