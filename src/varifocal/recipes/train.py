"""Training from Python: one call from a recipe and a data set to the folder of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varifocal.recipes.recipe import Recipe, load_recipe
from varifocal.utils.errors import ConfigError
from varifocal.utils.overrides import override

if TYPE_CHECKING:
    from varifocal.evaluation.coco_ap import CocoMetrics

RECIPE = "vfnet_r50_1x"


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
    recipe: Recipe | Mapping[str, Any] | Path | str | None = None,
    data: Path | str | None = None,
    *,
    overrides: Sequence[str] = (),
    out: Path | str | None = None,
    resume: Path | str | None = None,
    callbacks: Sequence[object] = (),
) -> TrainResult:
    """Train a detector as ``varifocal train`` does, and return where it is and how good it is.

    Args:
        recipe: the name of a recipe or a YAML file (``vfnet_r50_1x``), or a dictionary with the keys of one, such as
            ``{"base": "vfnet_r50_1x", "train": {"epochs": 3, "weights": "vfnet_r50_ms_2x"}}``.
        data: a data set: a folder, an annotation file or an archive. A resumed run finds its own.
        overrides: ``key=value`` words that change the recipe, such as ``"train.lr=0.005"``.
        out: the folder of the run, new or empty (``runs/NAME-N``).
        resume: the folder of a run that is resumed exactly where it stopped, with its own recipe and in that folder.
        callbacks: objects with some methods of :class:`varifocal.Callback`.

    Raises:
        ConfigError: the recipe, the data or the folder cannot be used.
        DataError: the data cannot be read.
        CheckpointError: the weights to start from cannot be read or do not fit.
        TrainingError: a loss is not finite, or an experiment tracker cannot be started.
        Interrupted: Ctrl-C, or the stop button of a notebook; the step is saved, and ``resume`` continues.
    """
    from varifocal.recipes.run import resume_run, run_folder, run_recipe

    if resume is not None:
        if recipe is not None or out is not None:
            raise ConfigError(
                "resume continues a run with its own recipe in its own folder; leave out recipe and out.",
                code="resume-with-recipe",
            )
        run = Path(resume)
        return TrainResult(run, run / "best.safetensors", resume_run(data, run, overrides, callbacks))
    if data is None:
        raise ConfigError("no data set given; use varifocal.train(recipe, data).", code="no-data")
    recipe = RECIPE if recipe is None else recipe
    settings = override(recipe, overrides) if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    name = Path(recipe).stem if isinstance(recipe, (str, Path)) else settings.detector
    with run_folder(None if out is None else Path(out), name) as run:
        return TrainResult(run, run / "best.safetensors", run_recipe(settings, data, run, callbacks))
