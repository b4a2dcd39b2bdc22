"""A run from recipe to results: its folder, training or resuming, the metrics and images at its end."""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from varifocal.data.digest import dataset_digest
from varifocal.evaluation.coco_ap import CocoMetrics
from varifocal.evaluation.evaluate import evaluate
from varifocal.inference.draw import draw_comparison
from varifocal.inference.model import load
from varifocal.inference.pipeline import read_for
from varifocal.recipes.build import Splits, job_of, read_splits_of, with_batch_size
from varifocal.recipes.recipe import Recipe, read_recipe_of_run, write_recipe
from varifocal.recipes.resume import Progress, changed_recipe, flat_settings
from varifocal.training.callbacks import check_trackers, closing_callbacks, emit
from varifocal.training.loop import TrainJob, summary_metrics, train
from varifocal.training.state import STATE
from varifocal.types import Dataset
from varifocal.utils.atomic_write import atomic_write, is_part
from varifocal.utils.errors import ConfigError, Interrupted
from varifocal.utils.fonts import check_font, font_note
from varifocal.utils.locks import LOCK, claimed_folder, fresh
from varifocal.utils.progress import progress_bar

RECIPE = "recipe.yaml"
DATA = "data.json"
METRICS = "metrics.json"
IMAGES = "images"
RUNS = Path("runs")  # folder of runs that are started without --out
# files of a finished run that are for its user, in the order in which they are listed
RESULTS = ("best.safetensors", "last.safetensors", METRICS, "log.jsonl", RECIPE, f"{IMAGES}/")
DRAWN_IMAGES = 8
DRAWN_SCORE = 0.4


def run_recipe(
    recipe: Recipe,
    data: Path | str,
    run: Path,
    callbacks: Sequence[object] = (),
    splits: Splits | None = None,
) -> CocoMetrics | None:
    """Train from the start into a new folder; return the metrics of the best weights if there is a validation split.

    ``callbacks`` are objects with methods of :class:`varifocal.training.callbacks.Callback`. ``splits`` is what the
    recipe reads from ``data``, if it is read already.

    Raises:
        ConfigError: the folder exists and is not empty, or another process has just started a run in it.
        Interrupted: Ctrl-C; the message says what is saved and how to resume.
    """
    _check_extras(recipe)
    with _new_run(run):
        splits = splits or read_splits_of(recipe, data)
        recipe, note = with_batch_size(recipe, splits)
        job = _seeded_job(recipe, splits, run)
        if is_main_process():
            if note:
                print(note, file=sys.stderr)
            write_recipe(recipe, run / RECIPE)
            _write_data_location(run, data, job)
        return _train_and_evaluate(job, data, callbacks, resume=False)


def resume_run(
    data: Path | str | None,
    run: Path,
    changes: Sequence[str] = (),
    callbacks: Sequence[object] = (),
    *,
    or_start: bool = False,
) -> CocoMetrics | None:
    """Resume a run with its own recipe on the same data, which is found where it was if ``data`` is None.

    ``changes`` are ``key=value`` words for the settings that a started run may change
    (``varifocal.recipes.resume.CHANGEABLE``): more ``train.epochs`` extend it, even if it is finished. A finished run
    that is not extended is not trained or evaluated again. With ``or_start`` a run that was killed before it saved a
    state starts over, also if it has written weights.

    Raises:
        ConfigError: the folder is not that of a run, another process writes to it, the data is not that of the run, or
            a setting cannot change any more.
        Interrupted: Ctrl-C; the message says what is saved and how to resume.
    """
    _check_folder(run)
    data = find_data_of(run) if data is None else data
    with claimed_run(run, "or name another run"):
        if not or_start:
            _check_state(run)
        before = read_recipe_of_run(run / RECIPE)
        recipe = changed_recipe(before, changes, run)
        _check_extras(recipe)
        saved = (run / STATE).is_file()
        job = _seeded_job(recipe, read_splits_of(recipe, data, resumed=saved), run, resumed=saved)
        _check_data(job, data, run)
        progress = Progress.of(run, before, recipe, job)
        metrics = None if job.validation is None else read_metrics(run / METRICS)
        if progress.finished and (metrics is not None or job.validation is None):
            if is_main_process():
                print(progress.finished_note(_command(data, run)), file=sys.stderr)
            return metrics  # in all processes, since none would wait for the others
        if is_main_process():
            if recipe != before:
                _write_changed(recipe, run)
            _write_data_location(run, data, job)
            print(progress.note(), file=sys.stderr)
        return _train_and_evaluate(job, data, callbacks, resume=progress.saved)


def _check_extras(recipe: Recipe) -> None:
    """Check fonts and packages of trackers before the work, because they are needed at its end."""
    check_font()
    check_trackers(recipe.train.log)


def _seeded_job(recipe: Recipe, splits: Splits, run: Path, *, resumed: bool = False) -> TrainJob:
    """Return the job of a run; the seed gives the same initial weights, also to a run without a checkpoint yet."""
    torch.manual_seed(recipe.train.seed)
    job = job_of(recipe, splits, run, weights=not resumed)
    return replace(job, facts=_facts(recipe, job)) if "WORLD_SIZE" in os.environ else job


def _facts(recipe: Recipe, job: TrainJob) -> dict[str, object]:
    """Return what several processes must have in common: the data, by digests, and every setting of the recipe."""
    facts: dict[str, object] = {}
    for name, data in (("training", job.training), ("validation", job.validation)):
        digest = "missing" if data is None else f"{len(data.samples)} images, SHA-256 {dataset_digest(data)[:12]}..."
        facts[f"the {name} data"] = digest
    return facts | dict(flat_settings(recipe))


def _train_and_evaluate(
    job: TrainJob, data: Path | str, callbacks: Sequence[object], *, resume: bool
) -> CocoMetrics | None:
    try:
        if not is_main_process():
            train(job, resume=resume)
            return None
        _print_notes(job)
        with closing_callbacks(callbacks, job.config.log) as members:
            trained = train(replace(job, callbacks=members), resume=resume)
            metrics = None if job.validation is None else _measure(job, job.validation, trained.measured)
            images = [] if metrics is None else sorted((job.run / IMAGES).glob("*.png"))
            emit(members, "on_end", {} if metrics is None else summary_metrics(metrics), images)
        return metrics
    except KeyboardInterrupt as error:
        raise Interrupted(f"{str(error) or 'interrupted'}; resume with: {_command(data, job.run)}") from error


def _measure(job: TrainJob, data: Dataset, measured: CocoMetrics | None) -> CocoMetrics:
    """Write the results of the best weights of a run, which are measured, with a progress bar, if they are not yet."""
    device = str(next(job.model.parameters()).device)
    if measured is not None:
        return write_results(job.run, data, device, measured=measured)
    with progress_bar("measuring the best weights", len(data.samples)) as advance:
        return write_results(job.run, data, device, advance)


def _print_notes(job: TrainJob) -> None:
    notes = (note for part in (job.training, job.validation) if part for note in part.notes)
    fonts = () if job.validation is None else font_note(category.name for category in job.validation.categories)
    for note in dict.fromkeys([*job.notes, *notes, *fonts]):
        print(note, file=sys.stderr)
    if not any((~sample.crowd).any() for sample in job.training.samples):
        images = f"none of the {len(job.training.samples)} training images"
        print(f"{images} has an object to learn: the detector will learn to find nothing.", file=sys.stderr)


def write_results(
    run: Path,
    data: Dataset,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
    measured: CocoMetrics | None = None,
) -> CocoMetrics:
    """Evaluate ``best.safetensors``, unless its metrics are ``measured`` already, and return the metrics.

    Writes ``metrics.json`` and ``images/`` (labels left, detections right).
    """
    model = load(run / "best.safetensors", device)
    metrics = measured or evaluate(model, data, progress)[0]
    atomic_write(run / METRICS, json.dumps(metrics.to_json(), indent=1).encode())
    for sample in sorted(data.samples, key=lambda sample: -len(sample.boxes))[:DRAWN_IMAGES]:
        image = read_for(model.info, sample.file)
        drawing = draw_comparison(image, sample, data.categories, model.predict(image), threshold=DRAWN_SCORE)
        buffer = io.BytesIO()
        drawing.save(buffer, format="PNG")
        atomic_write(run / IMAGES / f"{sample.image_id}-{sample.file.stem}.png", buffer.getvalue())
    return metrics


def read_metrics(file: Path) -> CocoMetrics | None:
    """Return the metrics that :func:`write_results` wrote to a file, or None if it is missing or incomplete."""
    try:
        return CocoMetrics(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _command(data: Path | str, run: Path) -> str:
    return shlex.join(["varifocal", "train", str(data), "--resume", str(run)])


def is_main_process() -> bool:
    """Return whether this is the first of the processes that ``torchrun`` started, which writes and prints."""
    return os.environ.get("RANK", "0") == "0"


# the folder of a run


def _write_data_location(run: Path, data: Path | str, job: TrainJob) -> None:
    """Write where the data of a run is, as absolute path and relative to the run, and its digest."""
    absolute = os.path.abspath(data)
    record = {"data": str(data), "absolute": absolute}
    with suppress(ValueError):  # on another drive of Windows
        record["from_run"] = os.path.relpath(absolute, os.path.realpath(run))
    record["sha256"] = dataset_digest(job.training)
    atomic_write(run / DATA, json.dumps(record).encode())


def find_data_of(run: Path) -> str:
    """Return where the data of a run is now.

    Raises:
        ConfigError: it is in none of the locations that the run knows.
    """
    record = json.loads((run / DATA).read_text(encoding="utf-8"))
    data = find_data(run, record["data"], record.get("absolute"), record.get("from_run"))
    if data is None or not Path(data).exists():
        raise ConfigError(
            f"{run}: its data {data} no longer exists; name its new location: {_command('DATA', run)}.",
            code="data-moved",
        )
    return data


def find_data(run: Path, typed: str | None, absolute: str | None, from_run: str | None) -> str | None:
    """Return the first existing one of: the absolute path, the path as ``typed``, the path relative to the run.

    The last one exists if run and data were moved together. If none exists, the result is ``typed``.
    """
    moved = None if from_run is None else os.path.normpath(run.resolve() / from_run)
    paths = [path for path in (absolute, typed, moved) if path is not None]
    return next((path for path in paths if Path(path).exists()), typed)


def has_begun(run: Path) -> bool:
    """Return whether the folder holds a run that :func:`resume_run` can resume, be it from its first step.

    The recipe that a process leaves which was killed before it wrote where the data is, is removed.
    """
    if (run / RECIPE).is_file() and (run / DATA).is_file():
        return True
    others = [path for path in run.iterdir() if path.name != RECIPE and not is_part(path)] if run.is_dir() else [run]
    if is_main_process() and all(path.name.startswith(LOCK) for path in others):
        with claimed_run(run):
            (run / RECIPE).unlink(missing_ok=True)
    return False


def _check_folder(run: Path) -> None:
    """Raise ConfigError if the folder is not that of a run; for a file in a run, the error names its folder."""
    if not (run / RECIPE).is_file() or not (run / DATA).is_file():
        fix = f"; use {run.parent}" if run.is_file() and (run.parent / RECIPE).is_file() else ""
        raise ConfigError(f"{run}: not the folder of a run ({RECIPE} or {DATA} is missing){fix}.", code="not-a-run")


def _check_state(run: Path) -> None:
    """Raise ConfigError if there are weights but no state to resume from: training would overwrite them."""
    weights = next((name for name in ("last.safetensors", "best.safetensors") if (run / name).is_file()), None)
    if weights is not None and not (run / STATE).is_file():
        raise ConfigError(
            f"{run}: has weights but no {STATE}, which is needed to resume; restore that file, or start a new run from "
            f"the weights: train.weights={run / weights} --out NEW.",
            code="no-state",
        )


def _check_data(job: TrainJob, data: Path | str, run: Path) -> None:
    """Raise ConfigError if the training data is not that of the run."""
    record = json.loads((run / DATA).read_text(encoding="utf-8"))
    if record["sha256"] != dataset_digest(job.training):
        raise ConfigError(
            f"{data}: not the data that {run} was started with ({record['data']}), or its labels have changed since; "
            "use that data, or start a new run with train.weights.",
            code="other-data",
        )


def _write_changed(recipe: Recipe, run: Path) -> None:
    """Write the changed recipe of a resumed run, and remove the metrics, which will be out of date."""
    with suppress(FileNotFoundError):
        (run / METRICS).unlink()
    write_recipe(recipe, run / RECIPE)


@contextmanager
def _new_run(run: Path) -> Iterator[None]:
    """Make and claim the folder of a new run for the block; it is removed if it stays empty."""
    if not is_main_process():
        yield
        return
    with fresh(run):
        create_run_dir(run)
        with claimed_run(run):
            _check_empty(run)  # again: another process may have started and finished a run in between
            yield


def create_run_dir(run: Path) -> None:
    """Make the folder of a new run.

    Raises:
        ConfigError: it is not empty, or it cannot be made.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        _check_empty(run)
    except OSError as error:
        raise ConfigError(
            f"{run}: cannot be made into a run folder ({error.strerror}); choose another --out.", code="run-folder"
        ) from error


def _check_empty(run: Path) -> None:
    # a process that was killed, or has just started, may leave files that do not count
    if not all(path.name.startswith(LOCK) or is_part(path) for path in run.iterdir()):
        raise ConfigError(
            f"{run}: is not empty; resume its run with: varifocal train DATA --resume {run}, or choose another --out.",
            code="run-not-empty",
        )


@contextmanager
def claimed_run(run: Path, instead: str = "or choose another --out") -> Iterator[None]:
    """Claim the folder of a run for this process, or for the processes of which it is the first.

    Raises:
        ConfigError: another process is writing to it; ``instead`` ends the message.
    """
    if not is_main_process():
        yield
        return
    with claimed_folder(run, instead):
        yield


@contextmanager
def run_folder(out: Path | None, name: str) -> Iterator[Path]:
    """Give the block the folder ``out``, or a new one in ``runs/``, which is removed if it stays empty."""
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
    """Make and return ``runs/NAME-1``, or with the first free number.

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
            raise ConfigError(
                f"{run}: cannot be made ({error.strerror}); choose another folder with --out.", code="runs-folder"
            ) from error
        else:
            return run
