"""Sweeps: the rows of a table of the paper, trained on any data set and compared."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from varifocal.data.digest import dataset_digest
from varifocal.losses import ClassificationLoss
from varifocal.recipes.build import read_splits
from varifocal.recipes.recipe import Recipe, load_recipe, read_stored_recipe
from varifocal.recipes.run import DATA, METRICS, RECIPE, resume_run, run_recipe
from varifocal.utils.atomic_write import atomic_write
from varifocal.utils.config import to_dict
from varifocal.utils.errors import ConfigError, Interrupted
from varifocal.utils.locks import claimed_folder

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = ("AP", "AP50", "AP75")


@dataclass(frozen=True)
class Row:
    """One row of a table: its overrides, and the AP that the paper reports for it on COCO val2017.

    ``recipe`` is the recipe to start from unless the caller names one, ``against`` the row of the same table to compare
    this one with.
    """

    name: str
    overrides: tuple[str, ...]
    paper: float | None = None
    recipe: str = "vfnet_r50_1x"
    against: str | None = None


# recipes for other data may have a norm in the star, which the paper's detectors do not have
NO_NORM = "model.star_norm=none"
BEST_VARIFOCAL = "gamma-2.0-alpha-0.75"


def _varifocal(gamma: float, alpha: float, paper: float | None = None, *, weighted: bool = True) -> Row:
    name = f"gamma-{gamma}-alpha-{alpha}" + ("" if weighted else "-unweighted")
    settings = (
        "model.loss=varifocal",
        f"model.gamma={gamma}",
        f"model.alpha={alpha}",
        f"model.iou_weighted={str(weighted).lower()}",
        NO_NORM,
    )
    return Row(name, settings, paper, against=None if name == BEST_VARIFOCAL else BEST_VARIFOCAL)


def _losses(detector: str, *papers: float) -> tuple[Row, ...]:
    losses = ("focal", "quality-focal", "varifocal")
    rows = []
    for loss, paper in zip(losses, papers, strict=True):
        recipe = f"{'vfl_' if loss == 'varifocal' else ''}{detector}_r50_1x"
        against = None if loss == "focal" else f"{detector}-focal"
        settings = (f"detector={detector}", f"model.loss={loss}", *((NO_NORM,) if detector == "reppoints" else ()))
        rows.append(Row(f"{detector}-{loss}", settings, paper, recipe, against))
    return tuple(rows)


def _every_loss(name: str, recipe: str, *settings: str) -> tuple[Row, ...]:
    """Return a row for each loss, all of them from one recipe and compared with the varifocal loss."""
    rows = []
    for loss in get_args(ClassificationLoss):
        against = None if loss == "varifocal" else f"{name}-varifocal"
        rows.append(Row(f"{name}-{loss}", (*settings, f"model.loss={loss}"), None, recipe, against))
    return tuple(rows)


def _part(name: str, paper: float, against: str, *, star: bool, refine: bool, loss: str) -> Row:
    settings = (
        "detector=vfnet",
        f"model.star={str(star).lower()}",
        f"model.refine={str(refine).lower()}",
        f"model.loss={loss}",
        NO_NORM,
    )
    return Row(name, settings, paper, against=against)


FCOS_ATSS = (
    "detector=fcos",
    "model.assigner=atss",
    "model.loss=focal",
    "model.centerness_on_reg=true",
    "model.norm_on_bbox=true",
    "model.box_loss=giou",
    "model.conv_bias=true",
)

SWEEPS: dict[str, tuple[Row, ...]] = {
    # the settings of the varifocal loss; the paper finds alpha .75, gamma 2 best, and measures the weighting
    "table2": (
        _varifocal(1.0, 0.5),
        _varifocal(1.5, 0.75),
        _varifocal(2.0, 0.75, 41.6),
        _varifocal(2.0, 0.75, 41.2, weighted=False),
        _varifocal(2.5, 1.25),
        _varifocal(3.0, 1.0),
    ),
    # the parts of VFNet, one after the other, and the baseline
    "table3": (
        Row("fcos-atss", FCOS_ATSS, 39.2, "fcos_atss_r50_1x"),
        _part("raw-focal", 39.0, "fcos-atss", star=False, refine=False, loss="focal"),
        _part("raw-varifocal", 40.1, "raw-focal", star=False, refine=False, loss="varifocal"),
        _part("star", 40.7, "raw-varifocal", star=True, refine=False, loss="varifocal"),
        _part("star-refine", 41.6, "star", star=True, refine=True, loss="varifocal"),
    ),
    # the losses in other detectors
    "table5": (
        *_losses("retinanet", 36.5, 37.3, 37.4),
        *_losses("foveabox", 36.3, 36.9, 37.2),
        *_losses("reppoints", 38.3, 39.2, 39.7),
        *_losses("atss", 39.3, 39.8, 40.2),
    ),
    # every loss on two detectors; this table is not in the paper, so there is no AP to compare with
    "losses": (
        *_every_loss("vfnet-norm", "vfnet_r50_1x", "detector=vfnet", "model.star_norm=group"),
        *_every_loss("atss", "vfl_atss_r50_1x", "detector=atss"),
    ),
}


def run_sweep(
    name: str, data: Path | str, out: Path, *, recipe: str | None, seeds: Sequence[int], overrides: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Train the missing runs of a sweep, seed by seed, and write ``results.json`` after every run.

    Each run has its folder ``out/ROW-seedN``. Finished runs are kept, interrupted ones are resumed.

    Args:
        name: a key of :data:`SWEEPS`.
        data: the data set; it needs a validation split.
        out: the folder of all runs.
        recipe: the recipe that every row starts from; None: each row's own, as in the paper.
        seeds: the seeds of each row.
        overrides: ``key=value`` words for every row; those of the row itself come after them.

    Raises:
        ConfigError: there is no such sweep, another process writes to ``out``, or as :func:`run_rows`.
        Interrupted: Ctrl-C; the message says how to continue.
    """
    if name not in SWEEPS:
        raise ConfigError(
            f"sweep {name!r}: there is no such table; choose from {', '.join(SWEEPS)}.", code="unknown-sweep"
        )
    try:
        with claimed_folder(out):
            return run_rows(SWEEPS[name], data, out, recipe=recipe, seeds=seeds, overrides=overrides, name=name)
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted; finished work is saved, repeat the command to continue.") from error


def run_rows(
    rows: Sequence[Row],
    data: Path | str,
    out: Path,
    *,
    recipe: str | None,
    seeds: Sequence[int],
    overrides: Sequence[str] = (),
    name: str = "",
) -> list[dict[str, Any]]:
    """Do as :func:`run_sweep` with any rows; ``name`` is the name of the results.

    Raises:
        ConfigError: there are several processes, or a folder in ``out`` holds a run of another recipe or data set.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "a sweep runs in one process; train rows that need several with varifocal train.", code="several-processes"
        )
    recipes = [  # all of them before the first run, so that a wrong override is reported at once
        (row, seed, load_recipe(recipe or row.recipe, [*overrides, *row.overrides, f"train.seed={seed}"]))
        for seed in seeds
        for row in rows
    ]
    digest = data_digest(recipes[0][2], data)
    results: list[dict[str, Any]] = []
    for row, seed, of_row in recipes:
        metrics = _train_row(of_row, data, digest, out / f"{row.name}-seed{seed}")
        results.append(
            {"row": row.name, "against": row.against, "seed": seed, "paper_AP": row.paper, "metrics": metrics}
        )
        atomic_write(out / "results.json", json.dumps({"sweep": name, "runs": results}, indent=1).encode())
    return results


def data_digest(recipe: Recipe, data: Path | str) -> str:
    """Return the digest that a run on this data has in its folder."""
    return dataset_digest(read_splits(Path(data), recipe.data, recipe.model.num_classes)[0])


def _train_row(recipe: Recipe, data: Path | str, digest: str, run: Path) -> dict[str, Any]:
    """Train, resume or keep the run in a folder, and return its metrics."""
    if (run / RECIPE).is_file():
        stored = read_stored_recipe(run / RECIPE)
        if recipe.train.batch_size == "auto":  # which the run has replaced by a number
            recipe = replace(recipe, train=replace(recipe.train, batch_size=stored.train.batch_size))
        if to_dict(stored) != to_dict(recipe):
            raise ConfigError(f"{run}: holds a run of another recipe; choose another --out.", code="other-recipe")
        if json.loads((run / DATA).read_text(encoding="utf-8"))["sha256"] != digest:
            raise ConfigError(
                f"{run}: holds a run on other data than {data}; choose another --out.", code="sweep-other-data"
            )
        if not (run / METRICS).is_file():
            resume_run(data, run)
    else:
        run_recipe(recipe, data, run)
    if not (run / METRICS).is_file():
        raise ConfigError(
            f"{data}: has no validation split, so there is nothing to compare; add one.", code="no-validation"
        )
    metrics: dict[str, Any] = json.loads((run / METRICS).read_text(encoding="utf-8"))
    return metrics


def table(results: Sequence[dict[str, Any]], name: str) -> Table:
    """Return a table of the rows: the mean over seeds, the standard deviation if there are several, the paper's AP."""
    from rich.table import Table

    shown = Table("row", *SHOWN, "seeds", "paper AP", title=f"{name} (mean over seeds, %)")
    for column in shown.columns[1:]:
        column.justify = "right"
    for row in dict.fromkeys(result["row"] for result in results):
        runs = [result for result in results if result["row"] == row]
        cells = [_spread([100 * run["metrics"][key] for run in runs]) for key in SHOWN]
        paper = runs[0]["paper_AP"]
        shown.add_row(row, *cells, str(len(runs)), "-" if paper is None else f"{paper:.1f}")
    return shown


def _spread(values: Sequence[float]) -> str:
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} +- {statistics.stdev(values):.1f}"
