"""Sweeps: which runs are trained, resumed or kept, and the content of the table."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from error_codes import raises_code
from rich.console import Console
from tiny_data import make_data

import varifocal.cli.experiments as experiments
import varifocal.recipes.sweep as sweep
from varifocal.data.digest import dataset_digest
from varifocal.losses import ClassificationLoss
from varifocal.recipes.build import build_job
from varifocal.recipes.recipe import load_recipe, write_recipe
from varifocal.recipes.sweep import SWEEPS, run_sweep, table
from varifocal.utils.errors import ConfigError


class Runs:
    """Replaces training: writes the files of a run, with an AP that depends on its recipe."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.resumed: list[str] = []
        self.stop_after: int | None = None

    def run(self, recipe, data, folder: Path) -> None:
        folder.mkdir(parents=True)
        write_recipe(recipe, folder / "recipe.yaml")
        (folder / "data.json").write_text(json.dumps({"sha256": f"digest of {data}"}))
        self.begun.append(folder.name)
        if self.stop_after is not None and len(self.begun) > self.stop_after:
            raise KeyboardInterrupt
        self.finish(recipe, folder)

    def resume(self, data, folder: Path) -> None:
        self.resumed.append(folder.name)
        self.finish(load_recipe(str(folder / "recipe.yaml")), folder)

    @staticmethod
    def finish(recipe, folder: Path) -> None:
        ap = 0.25 + 0.01 * recipe.train.seed + (0.1 if recipe.model.loss == "varifocal" else 0.0)
        (folder / "metrics.json").write_text(json.dumps({"AP": ap, "AP50": 2 * ap, "AP75": ap / 2}))


@pytest.fixture
def runs(monkeypatch) -> Runs:
    made = Runs()
    monkeypatch.setattr(sweep, "run_recipe", made.run)
    monkeypatch.setattr(sweep, "resume_run", made.resume)
    monkeypatch.setattr(sweep, "data_digest", lambda recipe, data: f"digest of {data}")
    return made


def names(seeds):
    return [f"{row.name}-seed{seed}" for seed in seeds for row in SWEEPS["table3"]]


def test_every_row_runs_once_a_seed_and_not_again(runs, tmp_path):
    results = run_sweep("table3", "data", tmp_path, recipe=None, seeds=[0, 1])
    assert runs.begun == names([0, 1])
    assert [result["metrics"]["AP"] for result in results[:5]] == [0.25, 0.25, 0.35, 0.35, 0.35]
    assert json.loads((tmp_path / "results.json").read_text())["runs"] == results
    assert run_sweep("table3", "data", tmp_path, recipe=None, seeds=[0, 1]) == results
    assert len(runs.begun) == 10
    assert runs.resumed == []


def test_a_run_that_was_cut_off_goes_on(runs, tmp_path):
    runs.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        run_sweep("table3", "data", tmp_path, recipe=None, seeds=[0])
    runs.stop_after = None
    assert len(run_sweep("table3", "data", tmp_path, recipe=None, seeds=[0])) == 5
    assert runs.resumed == ["raw-varifocal-seed0"]
    assert runs.begun == names([0])


def test_a_folder_of_another_recipe_is_refused(runs, tmp_path):
    run_sweep("table3", "data", tmp_path, recipe=None, seeds=[0])
    with raises_code("other-recipe", ConfigError):
        run_sweep("table3", "data", tmp_path, recipe=None, seeds=[0], overrides=["train.epochs=1"])


def test_a_folder_of_other_data_is_refused(runs, tmp_path):
    run_sweep("table3", "data", tmp_path, recipe=None, seeds=[0])
    with raises_code("sweep-other-data", ConfigError):
        run_sweep("table3", "others", tmp_path, recipe=None, seeds=[0])
    assert len(runs.begun) == 5


def test_one_process_only(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with raises_code("several-processes", ConfigError):
        run_sweep("table3", "data", tmp_path, recipe=None, seeds=[0])


@pytest.mark.parametrize("base", ["vfnet_raw_r50_1x", "vfnet_r50_1x", "trees"])
def test_the_rows_of_table_3_say_all_that_they_name(base):
    baseline, *parts = SWEEPS["table3"]
    models = [load_recipe(base, row.overrides).model for row in parts]
    for recipe in (baseline.recipe, "retinanet_r50_1x"):
        assert load_recipe(recipe, baseline.overrides).model == load_recipe("fcos_atss_r50_1x").model
    assert [(model.star, model.refine, model.loss) for model in models] == [
        (False, False, "focal"), (False, False, "varifocal"), (True, False, "varifocal"), (True, True, "varifocal"),
    ]  # fmt: skip
    assert all(load_recipe(base, row.overrides).model.loss == "varifocal" for row in SWEEPS["table2"])
    papers = [*parts, *SWEEPS["table2"], *(row for row in SWEEPS["table5"] if row.name.startswith("reppoints"))]
    assert {load_recipe(base, row.overrides).model.star_norm for row in papers} == {"none"}


def test_varifocal_rows_of_table_5_start_as_the_paper_trained_them():
    starts = {row.name: load_recipe(row.recipe, row.overrides).train.warmup_factor for row in SWEEPS["table5"]}
    assert starts["retinanet-focal"] == 0.001
    assert starts["retinanet-varifocal"] == starts["foveabox-varifocal"] == starts["reppoints-varifocal"] == 0.1


def test_the_sweep_of_losses_has_each_on_both_detectors():
    """All rows of a detector differ only in the loss; the command lists every table and loss."""
    losses = get_args(ClassificationLoss)
    assert losses == experiments.LOSSES
    assert tuple(SWEEPS) == experiments.TABLES
    rows = {row.name: row for row in SWEEPS["losses"]}
    assert list(rows) == [f"{name}-{loss}" for name in ("vfnet-norm", "atss") for loss in losses]
    for name in ("vfnet-norm", "atss"):
        recipes = [load_recipe(rows[f"{name}-{loss}"].recipe, rows[f"{name}-{loss}"].overrides) for loss in losses]
        assert [one.model.loss for one in recipes] == list(losses)
        assert len({repr(replace(one, model=replace(one.model, loss="focal"))) for one in recipes}) == 1
        assert [rows[f"{name}-{loss}"].against for loss in losses] == [
            None if loss == "varifocal" else f"{name}-varifocal" for loss in losses
        ]
    assert recipes[0].detector == "atss"
    first = load_recipe("trees", rows["vfnet-norm-mal"].overrides)
    assert (first.detector, first.model.star_norm) == ("vfnet", "group")


def test_the_digest_is_that_of_the_run_folder(tmp_path):
    data = make_data(tmp_path / "data", images=2)
    recipe = load_recipe("trees", ["data.val_split=val"])
    digest = sweep.data_digest(recipe, data)
    assert digest == dataset_digest(build_job(recipe, data, tmp_path / "run", resumed=True).training)


def test_a_wrong_override_shows_before_the_first_run(runs, tmp_path):
    with pytest.raises(ConfigError, match="there is no 'nothing' here"):
        run_sweep("table2", "data", tmp_path, recipe="trees", seeds=[0], overrides=["train.nothing=1"])
    assert not runs.begun


def test_an_unknown_table_lists_the_known(tmp_path):
    with pytest.raises(ConfigError, match="choose from table2, table3, table5, losses"):
        run_sweep("table9", "data", tmp_path, recipe=None, seeds=[0])


@pytest.mark.parametrize("name", SWEEPS)
def test_the_rows_of_a_table_are_different_recipes(name):
    made = [load_recipe(row.recipe, row.overrides) for row in SWEEPS[name]]
    assert all(one != other for i, one in enumerate(made) for other in made[:i])
    assert len({row.name for row in SWEEPS[name]}) == len(made)


def test_the_table_has_mean_deviation_and_the_papers_number(runs, tmp_path):
    results = run_sweep("table3", "data", tmp_path, recipe=None, seeds=[0, 2])
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table(results, "table3"))
    line = next(line for line in capture.get().splitlines() if "raw-focal" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "raw-focal", "26.0 +- 1.4", "52.0 +- 2.8", "13.0 +- 0.7", "2", "39.0",
    ]  # fmt: skip
