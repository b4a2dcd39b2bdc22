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
from varifocal.recipes.recipe import Recipe, load_recipe, read_recipe_of_run
from varifocal.recipes.resume import changes_to
from varifocal.utils.errors import ConfigError
from varifocal.utils.locks import fresh
from varifocal.utils.overrides import override

if TYPE_CHECKING:
    from varifocal.evaluation.coco_ap import CocoMetrics
    from varifocal.recipes.plan import PlannedRun

BEST = "best.safetensors"
AUTO = "auto"


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
        resume: the folder of a run that is resumed exactly where it stopped, with its own recipe; or ``"auto"``, which
            resumes the run in ``out`` if there is one, and otherwise starts it.
        callbacks: objects with some methods of :class:`varifocal.Callback`.
        begun: when the budget began, by ``time.monotonic`` (now).

    Raises:
        ConfigError, DataError, CheckpointError: the recipe, the data, the folder or the weights to start from cannot be
            used, or the budget is too short.
        TrainingError: a loss is not finite, or an experiment tracker cannot be started.
        Interrupted: Ctrl-C, or the stop button of a notebook; the step is saved, and ``resume`` continues.
    """
    from varifocal.recipes.run import resume_run

    plan = _Plan(budget, epochs, model or "", begun or time.monotonic())
    if auto := resume == AUTO:
        resume, overrides = _found(recipe, out, plan, overrides)
        if resume is not None:
            recipe, out, plan = None, None, _Plan()
    _check_arguments(recipe, out, resume, plan, overrides)
    if resume is not None:
        run = Path(resume)
        return TrainResult(run, run / BEST, resume_run(data, run, overrides, callbacks, or_start=auto))
    if data is None:
        raise ConfigError("no data set given; use varifocal.train(data).", code="train-without-data")
    return _start(data, recipe, plan, overrides, out, callbacks)


@dataclass(frozen=True)
class _Plan:
    """The length and the size of the model of a run whose recipe is made; ``begun`` is when its budget began."""

    budget: str | float | None = None
    epochs: float | None = None
    model: str = ""
    begun: float = 0.0

    @property
    def given(self) -> list[str]:
        """The names of the options that are given."""
        values = {"budget": self.budget, "epochs": self.epochs, "model": self.model or None}
        return [name for name, value in values.items() if value is not None]

    def check_lengths(self, overrides: Sequence[str]) -> None:
        """Raise ConfigError if the length of the run is given twice."""
        lengths = [name for name in self.given if name != "model"]
        lengths += [word for word in overrides if word.startswith("train.epochs=") and lengths]
        if len(lengths) > 1:
            raise ConfigError(f"{' and '.join(lengths)} both set the length of the run; give one.", code="two-lengths")


def _start(
    data: Path | str,
    recipe: Recipe | Mapping[str, Any] | Path | str | None,
    plan: _Plan,
    overrides: Sequence[str],
    out: Path | str | None,
    callbacks: Sequence[object],
) -> TrainResult:
    """Train a new run."""
    from varifocal.recipes.run import create_run_dir, run_folder, run_recipe

    with run_folder(None if out is None else Path(out), _run_name(recipe, plan.model)) as run:
        if recipe is None:
            with fresh(run):
                create_run_dir(run)  # a folder that is not empty is refused before the planning
                planned = _planned(Path(data), plan, overrides)
                return TrainResult(run, run / BEST, run_recipe(planned.recipe, data, run, callbacks, planned.splits))
        return TrainResult(run, run / BEST, run_recipe(_with_overrides(recipe, overrides), data, run, callbacks))


def _found(
    recipe: Recipe | Mapping[str, Any] | Path | str | None,
    out: Path | str | None,
    plan: _Plan,
    overrides: Sequence[str],
) -> tuple[Path | None, Sequence[str]]:
    """Return the run to resume, None to start one, and the overrides: all that differs from the run's own recipe.

    Raises:
        ConfigError: ``out`` is not given, or the recipe is for another detector than the run.
    """
    from varifocal.recipes.run import RECIPE, has_begun, is_main_process

    if out is None:
        raise ConfigError("resume=auto looks for the run in its folder; add --out RUN.", code="resume-auto-without-out")
    if not has_begun(Path(out)):
        return None, overrides
    if plan.given and is_main_process():
        given = " and ".join(plan.given)
        print(f"{out}: goes on with its own recipe; {given} counted only at its start.", file=sys.stderr)
    if recipe is None:  # a planned one is not planned again
        return Path(out), overrides
    before, after = read_recipe_of_run(Path(out) / RECIPE), _with_overrides(recipe, overrides)
    if before.detector != after.detector:
        raise ConfigError(
            f"{out}: is a run of {before.detector} and not of {after.detector}; choose another --out.",
            code="resume-other-detector",
        )
    return Path(out), changes_to(before, after)


def _with_overrides(recipe: Recipe | Mapping[str, Any] | Path | str, overrides: Sequence[str]) -> Recipe:
    return override(recipe, overrides) if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)


def _run_name(recipe: object, model: str) -> str:
    """Return the beginning of the name of a new folder in ``runs/``."""
    if isinstance(recipe, (str, Path)):
        return Path(recipe).stem
    return "run" if recipe is not None else model or "auto"


def _check_arguments(recipe: object, out: object, resume: object, plan: _Plan, overrides: Sequence[str]) -> None:
    """Raise ConfigError for arguments that contradict each other."""
    given = " and ".join(plan.given)
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
    plan.check_lengths(overrides)


def _planned(data: Path, plan: _Plan, overrides: Sequence[str]) -> PlannedRun:
    """Plan a run from the data, the machine and the time, and print the decisions."""
    from varifocal.recipes.plan import Request, plan_run
    from varifocal.utils.progress import spinner

    if "WORLD_SIZE" in os.environ:
        raise ConfigError("several processes need the same recipe; add --recipe NAME.", code="no-common-recipe")
    seconds = parse_budget(plan.budget) if isinstance(plan.budget, str) else plan.budget
    with spinner("planning the run"):
        planned = plan_run(Request(data, plan.model, seconds, plan.epochs, tuple(overrides), plan.begun))
    for reason in planned.reasons:
        print(reason, file=sys.stderr)
    return planned
