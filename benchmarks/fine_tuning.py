"""A start from a detector that knows one of the classes, beside a start from ImageNet, at equal steps.

    python benchmarks/fine_tuning.py [--seeds 0 1 2] [--threads 1]

For every seed, VFNet with the norm in its star (``paper/recipe.yaml``) learns half of the classes of the frames in 900
steps. Then it learns the other half and one old class in 300 steps, once from ImageNet's weights and once from those of
the first run, whose class rows are copied by name. The AP of the old class is also measured before the first of these
steps. Results are stored in ``fine_tuning.json``; what is there is not repeated, and an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent / "paper"))

from cells import gain, interval
from run import RECIPE, make_frames

from harness import machine
from varifocal.evaluation.evaluate import evaluate
from varifocal.recipes.build import build_job
from varifocal.recipes.recipe import Recipe, load_recipe
from varifocal.recipes.run import resume_run, run_recipe

RESULTS = Path(__file__).with_name("fine_tuning.json")
OLD_CLASSES = 6  # the first ones; the others and one of these are learned afterwards
OLD = "zombie"
EPOCHS = {"first": 3, "imagenet": 1, "detector": 1}  # of 300 steps


def write_half(frames: Path, out: Path, *, old: bool) -> Path:
    """Write the frames with half of the classes: the old ones, or the new ones and one old class."""
    (out / "annotations").mkdir(parents=True, exist_ok=True)
    if not (out / "images").exists():
        (out / "images").symlink_to((frames / "images").resolve())
    for split in ("train", "val"):
        content = json.loads((frames / "annotations" / f"instances_{split}.json").read_text())
        kept = [
            one
            for i, one in enumerate(content["categories"])
            if (i < OLD_CLASSES if old else i >= OLD_CLASSES or one["name"] == OLD)
        ]
        ids = {one["id"] for one in kept}
        boxes = [one for one in content["annotations"] if one["category_id"] in ids]
        content |= {"categories": kept, "annotations": boxes}
        (out / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return out


def recipe_of(name: str, seed: int, weights: Path | None = None) -> Recipe:
    """The recipe of a run; ``weights`` is a checkpoint to start from."""
    epochs = EPOCHS[name]
    words = ["detector=vfnet", "model.star_norm=group", f"train.seed={seed}"]
    words += [f"train.epochs={epochs}", f"train.val_every_epochs={epochs}"]
    return load_recipe(str(RECIPE), [*words, *([] if weights is None else [f"train.weights={weights}"])])


def trained(recipe: Recipe, data: Path, run: Path) -> dict[str, Any]:
    """Train or resume a run and return its metrics; AP of the old class and mean AP of the others apart."""
    metrics = resume_run(data, run) if (run / "recipe.yaml").exists() else run_recipe(recipe, data, run)
    assert metrics is not None
    others = [ap for name, ap in metrics.per_class.items() if name != OLD]
    return {"AP": metrics.AP, "AP75": metrics.AP75, "old": metrics.per_class[OLD], "others": statistics.mean(others)}


def old_at_start(recipe: Recipe, data: Path, run: Path) -> float:
    """The AP of the old class with the copied weights, before any step."""
    job = build_job(recipe, data, run)
    assert job.validation is not None
    return evaluate(job.model, job.validation)[0].per_class[OLD]


def runs_of(seed: int, folder: Path) -> dict[str, Any]:
    """Do the three runs of a seed."""
    frames = folder / "frames"
    make_frames(frames)
    first = write_half(frames, folder / "old", old=True)
    second = write_half(frames, folder / "new", old=False)
    run = folder / f"first-seed{seed}"
    found: dict[str, Any] = {"seed": seed, "first": trained(recipe_of("first", seed), first, run)}
    start = recipe_of("detector", seed, run / "best.safetensors")
    found["old_at_start"] = old_at_start(start, second, folder)
    found["imagenet"] = trained(recipe_of("imagenet", seed), second, folder / f"imagenet-seed{seed}")
    found["detector"] = trained(start, second, folder / f"detector-seed{seed}")
    return found


def show(results: list[dict[str, Any]]) -> None:
    """Print the rows and the gain over pairs of the same seed, in points."""
    for row in results:
        old, start = 100 * row["first"]["old"], 100 * row["old_at_start"]
        print(f"seed {row['seed']}: {OLD} has AP {old:.1f} after the first run, {start:.1f} at the start of the second")
        for name in ("imagenet", "detector"):
            numbers = ", ".join(f"{key} {100 * value:.1f}" for key, value in row[name].items())
            print(f"  from {name}: {numbers}")
    for key in ("AP", "others", "old"):
        sides = [{row["seed"]: 100 * row[name][key] for row in results} for name in ("imagenet", "detector")]
        found = gain(*sides)
        if found is not None:
            print(f"{key}: {found.mean:+.1f} ({interval(found) or 'one seed'})")


def main() -> None:
    """Do the runs that are missing and print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/fine_tuning"), help="folder of data and checkpoints")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.runs.mkdir(parents=True, exist_ok=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for seed in options.seeds:
        if all(row["seed"] != seed for row in results):
            results.append({**runs_of(seed, options.runs), **machine(), "threads": options.threads})
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    show(results)


if __name__ == "__main__":
    main()
