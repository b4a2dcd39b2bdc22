"""A run from recipe to results: its folder, training or going on, and what is left for a person."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from varifocal.evaluation.coco_ap import CocoMetrics
from varifocal.recipes.recipe import Recipe, build_job, read_recipe_of_run, write_recipe
from varifocal.recipes.resume import Progress, changed
from varifocal.train.loop import TrainJob, train
from varifocal.train.results import IMAGES, METRICS, read_metrics, write_results
from varifocal.train.state import STATE
from varifocal.types import Dataset
from varifocal.utils.atomic_write import atomic_write, is_part
from varifocal.utils.errors import ConfigError, Interrupted
from varifocal.utils.fonts import check_font, font_note
from varifocal.utils.locks import LOCK, claimed_folder, fresh
from varifocal.utils.progress import progress_bar

RECIPE = "recipe.yaml"
DATA = "data.json"
RUNS = Path("runs")  # where a run goes that nobody gave a folder
# what a run leaves for a person, in the order in which it is listed
RESULTS = ("best.safetensors", "last.safetensors", METRICS, "log.jsonl", RECIPE, f"{IMAGES}/")


def run_recipe(recipe: Recipe, data: Path | str, run: Path) -> CocoMetrics | None:
    """Train from the start into a new folder; the best weights' metrics, if there is a validation split.

    Raises:
        ConfigError: the folder is there and not empty, or another process has just begun a run in it.
        Interrupted: Ctrl-C; the message says what is kept and how to go on.
    """
    with _begun(run):
        job = _seeded_job(recipe, data, run)
        if is_main_process():
            write_recipe(recipe, run / RECIPE)
            _write_data_location(run, data, job)
        return _train_and_measure(job, data, resume=False)


def _write_data_location(run: Path, data: Path | str, job: TrainJob) -> None:
    """Write down where the data of a run is, and which it is."""
    record = {"data": str(data), **_data_paths(data, run), "sha256": dataset_digest(job.training)}
    atomic_write(run / DATA, json.dumps(record).encode())


def _data_paths(data: Path | str, run: Path) -> dict[str, str]:
    """Where the data is, for who looks from another working directory or after both were moved together."""
    absolute = os.path.abspath(data)
    try:
        return {"absolute": absolute, "from_run": os.path.relpath(absolute, os.path.realpath(run))}
    except ValueError:  # on another drive of Windows
        return {"absolute": absolute}


def resume_run(data: Path | str | None, run: Path, changes: Sequence[str] = ()) -> CocoMetrics | None:
    """Go on where a run was cut off, with its own recipe and on the same data; None finds the data where it was.

    ``changes`` are ``key=value`` words for what may change in a run that has begun
    (``varifocal.recipes.resume.CHANGEABLE``): more ``train.epochs`` extend one, also one that is finished. A finished
    run that is not extended is not trained or measured again.

    Raises:
        ConfigError: the folder is no run, or another process writes to it; the data is not what the run began with; or
            a change cannot be made any more.
        Interrupted: Ctrl-C; the message says what is kept and how to go on.
    """
    _check_folder(run)
    data = _data_of(run) if data is None else data
    with claimed_run(run, "or name another run"):
        resume = (run / STATE).is_file()
        _check_state(run)
        before = read_recipe_of_run(run / RECIPE)
        recipe = changed(before, changes, run)
        job = _seeded_job(recipe, data, run, resumed=resume)
        _check_data(job, data, run)
        progress = Progress.of(run, before, recipe, job) if resume else None
        if not is_main_process():
            return _train_and_measure(job, data, resume=resume)
        if progress is not None and progress.finished:
            metrics = read_metrics(run / METRICS) if job.validation is not None else None
            if metrics is not None or job.validation is None:
                print(progress.tell_end(_command(data, run)), file=sys.stderr)
                return metrics
        if recipe != before:
            _write_changed(recipe, run)
        _write_data_location(run, data, job)
        print(progress.tell() if progress else f"{run}: has kept no step yet and begins again", file=sys.stderr)
        return _train_and_measure(job, data, resume=resume)


def _check_folder(run: Path) -> None:
    """Raise where the folder is no run; for a file of a run the error names its folder."""
    if not (run / RECIPE).is_file() or not (run / DATA).is_file():
        fix = f"; name {run.parent}" if run.is_file() and (run.parent / RECIPE).is_file() else ""
        raise ConfigError(f"{run}: not the folder of a run ({RECIPE} or {DATA} is missing){fix}.")


def _check_state(run: Path) -> None:
    """Raise where weights are there and the state that training goes on from is not: they would be written over."""
    kept = next((name for name in ("last.safetensors", "best.safetensors") if (run / name).is_file()), None)
    if kept is not None and not (run / STATE).is_file():
        raise ConfigError(
            f"{run}: has weights and no {STATE}, without which it cannot go on; put that file back, or start a new run "
            f"from its weights: train.weights={run / kept} --out NEW."
        )


def _data_of(run: Path) -> str:
    """Where the data of a run is found.

    Raises:
        ConfigError: nowhere.
    """
    begun_with = json.loads((run / DATA).read_text(encoding="utf-8"))
    data = find_data(run, begun_with["data"], begun_with.get("absolute"), begun_with.get("from_run"))
    if data is None or not Path(data).exists():
        raise ConfigError(f"{run}: its data {data} is not there any more; say where it is: {_command('DATA', run)}.")
    return data


def find_data(run: Path, typed: str | None, absolute: str | None, from_run: str | None) -> str | None:
    """Where the data of a run is found from here: where it was, at what was ``typed``, or where it was from the run,
    since both may have been moved together; what was typed if nowhere."""
    moved = None if from_run is None else os.path.normpath(run.resolve() / from_run)
    paths = [path for path in (absolute, typed, moved) if path is not None]
    return next((folder for folder in paths if Path(folder).exists()), typed)


def _write_changed(recipe: Recipe, run: Path) -> None:
    """Write the recipe of a run that goes on otherwise, whose metrics are of weights that will not be the best."""
    with suppress(FileNotFoundError):
        (run / METRICS).unlink()
    write_recipe(recipe, run / RECIPE)


def _check_data(job: TrainJob, data: Path | str, run: Path) -> None:
    begun_with = json.loads((run / DATA).read_text(encoding="utf-8"))
    if begun_with["sha256"] != dataset_digest(job.training):
        raise ConfigError(
            f"{data}: not the data that {run} began with ({begun_with['data']}), or its labels were changed since; "
            "give that data, or start a new run with train.weights."
        )


def _seeded_job(recipe: Recipe, data: Path | str, run: Path, *, resumed: bool = False) -> TrainJob:
    """The same fresh weights for the same seed, also for a run that was cut off before its first checkpoint."""
    check_font()  # before the work: it is needed at the end
    torch.manual_seed(recipe.train.seed)
    return build_job(recipe, data, run, resumed=resumed)


def _train_and_measure(job: TrainJob, data: Path | str, *, resume: bool) -> CocoMetrics | None:
    if is_main_process():
        _introduce(job)
    try:
        train(job, resume=resume)
        if not is_main_process() or job.validation is None:
            return None
        device = str(next(job.model.parameters()).device)
        with progress_bar("measuring the best weights", len(job.validation.samples)) as advance:
            return write_results(job.run, job.validation, device, advance)
    except KeyboardInterrupt as error:
        raise Interrupted(f"{str(error) or 'interrupted'}; go on with: {_command(data, job.run)}") from error


def _introduce(job: TrainJob) -> None:
    notes = (note for part in (job.training, job.validation) if part for note in part.notes)
    drawn = () if job.validation is None else font_note(one.name for one in job.validation.categories)
    for note in dict.fromkeys([*job.notes, *notes, *drawn]):
        print(note, file=sys.stderr)
    if not any((~sample.crowd).any() for sample in job.training.samples):
        images = f"none of the {len(job.training.samples)} training images"
        print(f"{images} has an object to learn: the detector will learn to find nothing.", file=sys.stderr)


def _command(data: Path | str, run: Path) -> str:
    return shlex.join(["varifocal", "train", str(data), "--resume", str(run)])


def is_main_process() -> bool:
    """Whether this process speaks for all that ``torchrun`` started."""
    return os.environ.get("RANK", "0") == "0"


def create_run_dir(run: Path) -> None:
    """Make the folder of a new run.

    Raises:
        ConfigError: there is something in it, or it cannot be made.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        _refuse_busy(run)
    except OSError as error:
        raise ConfigError(
            f"{run}: cannot be made into a run folder ({error.strerror}); choose another --out."
        ) from error


def _refuse_busy(run: Path) -> None:
    # what a process that was killed, or has just begun, may leave is nothing yet
    if not all(path.name.startswith(LOCK) or is_part(path) for path in run.iterdir()):
        raise ConfigError(
            f"{run}: is not empty; go on with: varifocal train DATA --resume {run}, or choose another --out."
        )


@contextmanager
def _begun(run: Path) -> Iterator[None]:
    """The folder of a new run, for this process alone; it goes away again where nothing was put into it."""
    if not is_main_process():
        yield
        return
    with fresh(run):
        create_run_dir(run)
        with claimed_run(run):
            _refuse_busy(run)  # again: another process may have begun, and ended, in between
            yield


@contextmanager
def claimed_run(run: Path, instead: str = "or choose another --out") -> Iterator[None]:
    """The folder of a run for this process alone, or for the processes of which it is the first.

    Raises:
        ConfigError: another process is writing to it.
    """
    if not is_main_process():
        yield
        return
    with claimed_folder(run, instead):
        yield


@contextmanager
def run_folder(out: Path | None, name: str) -> Iterator[Path]:
    """``out``, or without one a new folder, which goes away again where nothing was put into it."""
    if out is not None:
        yield out
        return
    with fresh(RUNS):
        run = next_run_dir(name)
        try:
            yield run
        finally:
            with suppress(OSError):
                run.rmdir()


def next_run_dir(name: str) -> Path:
    """``runs/NAME-1``, or with the first number that is free; it is made, so that no other process takes it.

    Raises:
        ConfigError: it cannot be made.
    """
    number = 1
    while True:
        run = RUNS / f"{name}-{number}"
        try:
            RUNS.mkdir(exist_ok=True)
            run.mkdir()
        except FileExistsError:
            number += 1
        except OSError as error:
            raise ConfigError(f"{run}: cannot be made ({error.strerror}); name another folder with --out.") from error
        else:
            return run


def dataset_digest(data: Dataset) -> str:
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
