"""A run from recipe to results: its folder, training or going on, and what is left for a person."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import torch

from varifocal.errors import ConfigError
from varifocal.evaluate.coco_ap import CocoMetrics
from varifocal.fonts import check_font, font_note
from varifocal.models.weights import write_beside
from varifocal.progress import progress_bar
from varifocal.recipe import Recipe, make_job, read_recipe_of_run, write_recipe
from varifocal.train.checkpoint import STATE
from varifocal.train.loop import Job, train
from varifocal.train.results import write_results
from varifocal.types import DataSet

RECIPE = "recipe.yaml"
DATA = "data.json"


def run_recipe(recipe: Recipe, data: Path | str, run: Path) -> CocoMetrics | None:
    """Train from the start into a new folder; the best weights' metrics, if there is a validation split.

    Raises:
        ConfigError: the folder is there and not empty.
    """
    job = _seeded_job(recipe, data, run)
    if first_process():
        start_folder(run)
        write_recipe(recipe, run / RECIPE)
        write_beside(run / DATA, json.dumps({"data": str(data), "sha256": fingerprint(job.training)}).encode())
    return _train_and_measure(job, resume=False)


def resume_run(data: Path | str, run: Path) -> CocoMetrics | None:
    """Go on where a run was cut off, with its own recipe and on the same data.

    Raises:
        ConfigError: the folder is no run, or the data is not what the run began with.
    """
    if not (run / RECIPE).is_file() or not (run / DATA).is_file():
        raise ConfigError(f"{run}: not the folder of a run ({RECIPE} or {DATA} is missing).")
    resume = (run / STATE).is_file()
    job = _seeded_job(read_recipe_of_run(run / RECIPE), data, run, resumed=resume)
    begun_with = json.loads((run / DATA).read_text(encoding="utf-8"))
    if begun_with["sha256"] != fingerprint(job.training):
        raise ConfigError(
            f"{data}: not the data that {run} began with ({begun_with['data']}), or its labels were changed since; "
            "give that data, or start a new run with train.weights."
        )
    return _train_and_measure(job, resume=resume)


def _seeded_job(recipe: Recipe, data: Path | str, run: Path, *, resumed: bool = False) -> Job:
    """The same fresh weights for the same seed, also for a run that was cut off before its first checkpoint."""
    check_font()  # before the work: it is wanted at the end
    torch.manual_seed(recipe.train.seed)
    return make_job(recipe, data, run, resumed=resumed)


def _train_and_measure(job: Job, *, resume: bool) -> CocoMetrics | None:
    if first_process():
        notes = (note for part in (job.training, job.validation) if part for note in part.notes)
        drawn = () if job.validation is None else font_note(one.name for one in job.validation.categories)
        for note in dict.fromkeys([*notes, *drawn]):
            print(note, file=sys.stderr)
        if not any((~sample.crowd).any() for sample in job.training.samples):
            pictures = f"none of the {len(job.training.samples)} training pictures"
            print(f"{pictures} has an object to learn: the detector will learn to find nothing.", file=sys.stderr)
    train(job, resume=resume)
    if not first_process() or job.validation is None:
        return None
    device = str(next(job.model.parameters()).device)
    with progress_bar("measuring the best weights", len(job.validation.samples)) as advance:
        return write_results(job.run, job.validation, device, advance)


def first_process() -> bool:
    """Whether this process speaks for all that ``torchrun`` started."""
    return os.environ.get("RANK", "0") == "0"


def start_folder(run: Path) -> None:
    """Make the folder of a new run.

    Raises:
        ConfigError: there is something in it, or it cannot be made.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        busy = any(run.iterdir())
    except OSError as error:
        raise ConfigError(
            f"{run}: cannot be made into a run folder ({error.strerror}); choose another --out."
        ) from error
    if busy:
        raise ConfigError(
            f"{run}: is not empty; go on with: varifocal train DATA --resume {run}, or choose another --out."
        )


def free_folder(name: str) -> Path:
    """``runs/NAME-1``, or with the first number that is free."""
    number = 1
    while (Path("runs") / f"{name}-{number}").exists():
        number += 1
    return Path("runs") / f"{name}-{number}"


def fingerprint(data: DataSet) -> str:
    """A digest of file names and labels, which says whether two data sets train the same."""
    digest = hashlib.sha256()
    for sample in data.samples:
        digest.update(
            f"{sample.image_id} {sample.file.name} {sample.width} {sample.height}".encode(errors="surrogatepass")
        )
        for part in (sample.boxes, sample.labels, sample.crowd):
            digest.update(part.tobytes())
    digest.update(repr(data.categories).encode())
    return digest.hexdigest()
