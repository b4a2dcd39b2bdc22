"""Training from Python: one call from a recipe and a data set to the folder of a run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varifocal.recipes.budget import parse_budget
from varifocal.recipes.recipe import Recipe, load_recipe
from varifocal.utils.errors import ConfigError
from varifocal.utils.locks import fresh
from varifocal.utils.overrides import override

if TYPE_CHECKING:
    from varifocal.evaluation.coco_ap import CocoMetrics
    from varifocal.recipes.plan import PlannedRun

BEST = "best.safetensors"


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A finished run: its folder, the path of its best detector, and the COCO metrics of that one.

    ``varifocal.load(result.best)`` loads the detector. ``metrics`` is None without validation data, and under
    ``torchrun`` in every process but the first.
    """

    run: Path
    best: Path
    metrics: CocoMetrics | None


def train(
    data: Path | str | None = None,
    recipe: Recipe | Mapping[str, Any] | Path | str | None = None,
    *,
    budget: str | float | None = None,
    epochs: float | None = None,
    model: str | None = None,
    overrides: Sequence[str] = (),
    out: Path | str | None = None,
    resume: Path | str | None = None,
    callbacks: Sequence[object] = (),
    begun: float | None = None,
) -> TrainResult:
    """Train a detector as ``varifocal train`` does, and return where it is and how good it is.

    Args:
        data: a data set: a folder, an annotation file or an archive. A resumed run finds its own.
        recipe: the name of a recipe or a YAML file, or a dictionary with the keys of one, such as
            ``{"base": "vfnet_r50_1x", "train": {"epochs": 3, "weights": "vfnet_r50_ms_2x"}}``. Without it a recipe is
            made from the data, the machine and the time; the decisions are printed (docs/own-data.md).
        budget: the time for the whole run: ``"8m"``, ``"2h"``, or seconds. For a run without ``recipe``.
        epochs: its length instead of a ``budget``. ``model`` is its size: nano, small, base or large.
        overrides: ``key=value`` words that change the recipe, such as ``"train.lr=0.005"``.
        out: the folder of the run, new or empty (``runs/NAME-N``).
        resume: the folder of a run that is resumed exactly where it stopped, with its own recipe.
        callbacks: objects with some methods of :class:`varifocal.Callback`.
        begun: when the budget began, by ``time.monotonic`` (now).

    Raises:
        ConfigError, DataError, CheckpointError: the recipe, the data, the folder or the weights to start from cannot be
            used, or the budget is too short.
        TrainingError: a loss is not finite, or an experiment tracker cannot be started.
        Interrupted: Ctrl-C, or the stop button of a notebook; the step is saved, and ``resume`` continues.
    """
    from varifocal.recipes.run import create_run_dir, resume_run, run_folder, run_recipe

    _check_arguments(recipe, out, resume, {"budget": budget, "epochs": epochs, "model": model}, overrides)
    if resume is not None:
        run = Path(resume)
        return TrainResult(run, run / BEST, resume_run(data, run, overrides, callbacks))
    if data is None:
        raise ConfigError("no data set given; use varifocal.train(data).", code="train-without-data")
    with run_folder(None if out is None else Path(out), _run_name(recipe, model)) as run:
        if recipe is None:
            with fresh(run):
                create_run_dir(run)  # a folder that is not empty is refused before the planning
                plan = _planned(Path(data), budget, epochs, model or "", overrides, begun or time.monotonic())
                return TrainResult(run, run / BEST, run_recipe(plan.recipe, data, run, callbacks, plan.splits))
        return TrainResult(run, run / BEST, run_recipe(_with_overrides(recipe, overrides), data, run, callbacks))


def _with_overrides(recipe: Recipe | Mapping[str, Any] | Path | str, overrides: Sequence[str]) -> Recipe:
    return override(recipe, overrides) if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)


def _run_name(recipe: object, model: str | None) -> str:
    """Return the beginning of the name of a new folder in ``runs/``."""
    if isinstance(recipe, (str, Path)):
        return Path(recipe).stem
    return "run" if recipe is not None else model or "auto"


def _check_arguments(
    recipe: object, out: object, resume: object, planning: Mapping[str, object], overrides: Sequence[str]
) -> None:
    """Raise ConfigError for arguments that contradict each other."""
    given = " and ".join(name for name, value in planning.items() if value is not None)
    if resume is not None and (given or recipe is not None or out is not None):
        raise ConfigError(
            "resume continues a run with its own recipe in its own folder; leave out recipe, out, budget, epochs and "
            "model.",
            code="resume-with-recipe",
        )
    if recipe is not None and given:
        raise ConfigError(
            f"{given}: a recipe decides that already; remove one of them, or write train.epochs=N.",
            code="recipe-and-budget",
        )
    _check_lengths(planning, overrides)


def _check_lengths(planning: Mapping[str, object], overrides: Sequence[str]) -> None:
    lengths = [name for name in ("budget", "epochs") if planning[name] is not None]
    lengths += [word for word in overrides if word.startswith("train.epochs=") and lengths]
    if len(lengths) > 1:
        raise ConfigError(f"{' and '.join(lengths)} both set the length of the run; give one.", code="two-lengths")


def _planned(
    data: Path, budget: str | float | None, epochs: float | None, model: str, overrides: Sequence[str], begun: float
) -> PlannedRun:
    """Plan a run from the data, the machine and the time, and print the decisions."""
    from varifocal.recipes.plan import Request, plan_run
    from varifocal.utils.progress import spinner

    if "WORLD_SIZE" in os.environ:
        raise ConfigError("several processes need the same recipe; add --recipe NAME.", code="no-common-recipe")
    seconds = parse_budget(budget) if isinstance(budget, str) else budget
    with spinner("planning the run"):
        planned = plan_run(Request(data, model, seconds, epochs, tuple(overrides), begun))
    for reason in planned.reasons:
        print(reason, file=sys.stderr)
    return planned
