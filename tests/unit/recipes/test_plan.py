"""Planning a run: the words of the user win, the time is kept, and the recipe is an ordinary one."""

import gc
import json
import time
from dataclasses import replace

import pytest
import yaml
from error_codes import raises_code
from PIL import Image
from tiny_data import make_data

from varifocal.cli import main
from varifocal.data.summary import summarize
from varifocal.inference.model import create_model, save
from varifocal.models import pretrained
from varifocal.recipes import plan
from varifocal.recipes.plan import Request, plan_run, untimed_recipe
from varifocal.recipes.recipe import load_recipe, write_recipe
from varifocal.training.measure import Costs

TINY = ("model.backbone.pretrained=none", "model.channels=16", "train.device=cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"), images=40)


@pytest.fixture(autouse=True)
def memory_given_back():
    """The networks of a plan are in reference cycles, and one test after the other would add a hundred megabytes."""
    yield
    gc.collect()


@pytest.fixture
def costs(monkeypatch):
    """Measurements that return these costs whatever the size, and the number of measurements."""
    calls = []

    def give(step=0.5, validation=2.0, batches=10):
        def measure(job, seconds):
            calls.append(job.model.info.recipe)
            return Costs(step, validation, batches)

        monkeypatch.setattr(plan, "measure_costs", measure)
        return calls

    return give


def planned(data, *words, **more):
    return plan_run(Request(data, words=(*TINY, *words), begun=time.monotonic(), **more))


def test_the_time_is_spent(data, costs):
    costs(validation=0.0)
    run = planned(data, budget=600.0)
    steps = run.recipe.train.epochs * 10
    assert 600 - plan.RESERVE - 60 < steps * 0.5 <= 600 - plan.RESERVE
    assert run.recipe.train.lr == pytest.approx(0.0014 / 2**0.5, rel=0.02)
    assert run.recipe.train.batch_size == 4
    assert run.recipe.model.star_norm == "group"
    assert len(run.reasons) <= 10
    assert run.reasons[0].startswith("data: 40 images of about ")
    assert run.splits[1] is not None


def test_time_that_has_passed_does_not_count(data, costs):
    costs(validation=0.0)
    late = plan_run(Request(data, budget=600.0, words=TINY, begun=time.monotonic() - 300))
    assert late.recipe.train.epochs * 10 * 0.5 < 300


def test_a_time_that_is_too_short(data, costs):
    costs(step=10.0)
    with raises_code("budget-too-short"):
        planned(data, budget=120.0)


def test_the_words_of_the_user_win(data, costs):
    calls = costs()
    words = ("train.epochs=3", "train.batch_size=2", "data.preprocess.short_side=96", "train.lr=0.5")
    recipe = planned(data, *words, preset="nano").recipe
    assert (recipe.train.epochs, recipe.train.batch_size, recipe.train.lr) == (3, 2, 0.5)
    assert (recipe.data.preprocess.short_side, recipe.tiling.size) == (96, 0)
    assert recipe.model.num_convs == load_recipe("nano").model.num_convs
    assert len(calls) == 1


def test_epochs_instead_of_a_budget(data, costs):
    costs()
    assert planned(data, epochs=1.5).recipe.train.epochs == 1.5
    assert planned(data).recipe.train.epochs == 100


def test_the_recipe_can_be_used_again(data, costs, tmp_path):
    costs()
    recipe = planned(data, budget=600.0).recipe
    write_recipe(recipe, tmp_path / "again.yaml")
    assert load_recipe(str(tmp_path / "again.yaml")) == recipe


def test_weights_that_are_not_installed_come_from_timm(data, costs, monkeypatch):
    costs()
    monkeypatch.setattr(plan, "has_package", lambda: False)
    run = plan_run(Request(data, words=("model.channels=16", "train.device=cpu"), begun=time.monotonic()))
    assert run.recipe.model.backbone.pretrained == "timm"
    assert any("timm downloads" in reason for reason in run.reasons)
    assert pretrained.has_package()


def test_data_without_an_object_is_trained_on_as_it_is(tmp_path, costs):
    costs()
    run = planned(make_data(tmp_path, images=3, empty=(0, 1, 2)))
    assert run.recipe.data.preprocess.short_side == 80  # as it is
    assert "0.0 objects in each" in run.reasons[0]


def test_training_with_a_plan_from_the_command_line(data, tmp_path, capfd):
    words = [*TINY, "data.preprocess.short_side=64", "data.preprocess.max_long_side=96", "train.batch_size=8"]
    assert main(["train", str(data), "--model", "nano", "--epochs", "1", "--out", str(tmp_path / "run"), *words]) == 0
    _, err = capfd.readouterr()
    assert "data: 40 images" in err
    assert "(1 epochs)" in err or "5 steps" in err
    stored = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert stored["train"]["epochs"] == 1
    assert stored["train"]["ema"] == 0.998
    assert main(["train", str(data), "--resume", str(tmp_path / "run"), "--budget", "8m"]) == 2
    assert "remove --budget" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--budget", "soon"], "not a duration"),
        (["--budget", "8m", "--epochs", "3"], "give one"),
        (["--recipe", "trees", "--budget", "8m"], "budget: a recipe decides that already"),
    ],
)
def test_options_that_contradict_each_other(data, options, part, capfd):
    assert main(["train", str(data), *options]) == 2
    assert part in capfd.readouterr().err


def test_weights_bring_their_own_model(data, costs, tmp_path):
    costs()
    model = create_model("atss", backbone="test_resnet", num_classes=2, channels=16, num_levels=3, num_convs=1)
    save(model, tmp_path / "old.safetensors")
    words = (f"train.weights={tmp_path / 'old.safetensors'}", "train.device=cpu", "model.num_convs=1")
    run = plan_run(Request(data, words=words, begun=time.monotonic()))
    assert (run.recipe.detector, run.recipe.model.backbone.name) == ("atss", "test_resnet")
    assert (run.recipe.model.channels, run.recipe.model.num_classes) == (16, 0)
    assert run.recipe.data.preprocess.mean == model.info.preprocess.mean
    assert run.recipe.train.lr == pytest.approx(0.3 * 0.0014 / 2**0.5, rel=0.03)
    assert any("fine-tuned" in reason for reason in run.reasons)


def test_a_folder_that_is_not_empty_is_refused_before_the_planning(data, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(plan, "plan_run", lambda request: pytest.fail("planned"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert main(["train", str(data), "--out", str(tmp_path / "run")]) == 2
    assert "is not empty" in capfd.readouterr().err


def test_a_plan_that_fails_leaves_no_folder(data, tmp_path, capfd):
    assert main(["train", str(data), "--budget", "1s", "--out", str(tmp_path / "run"), *TINY]) == 2
    assert "too short" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words", [(), ("data.preprocess.short_side=96",), ("data.repeat_factor_threshold=0.3",)], ids=str
)
def test_other_commands_assume_the_recipe_of_train(data, costs, words):
    """Without a limit of time nothing that they use has to be measured."""
    costs(batches=10)  # of 40 images
    run = planned(data, *words)
    assumed = untimed_recipe(summarize(run.splits[0]), (*TINY, *words))
    assert replace(assumed, train=run.recipe.train) == run.recipe
    assert (assumed.train.epochs, assumed.train.batch_size) == (run.recipe.train.epochs, run.recipe.train.batch_size)


def test_check_show_assignment_and_preview_assume_the_recipe_of_train(data, costs, tmp_path, capsys, monkeypatch):
    costs()
    size = planned(data).recipe.data.preprocess
    assert main(["check", str(data), "--output-json", str(tmp_path / "check.json"), *TINY]) in (0, 1)
    checked = json.loads((tmp_path / "check.json").read_text())
    assert checked["matching"]["recipe"].startswith("varifocal train ")
    assert "the recipe's size is right" in checked["advice"]["text"]
    assert main(["show-assignment", str(data), "--out", str(tmp_path / "assigned"), *TINY]) == 0
    assert "Assigned as by varifocal train" in capsys.readouterr().out
    assigned = json.loads((tmp_path / "assigned/assign.json").read_text())
    assert min(assigned["images"][0]["seen"]) == size.short_side
    cells = []
    monkeypatch.setattr("varifocal.tools.preview._draw", lambda cell, _: cells.append(cell) or Image.new("RGB", (9, 9)))
    whole = "data.augment.scale_jitter=[1.0,1.0]"
    assert main(["preview", str(data), "--out", str(tmp_path / "p.png"), whole, *TINY]) == 0
    assert {min(cell.targets.size) for cell in cells} == {size.short_side}


@pytest.mark.parametrize(
    ("more", "light"),
    [
        ({"budget": 60.0}, True),
        ({"budget": 600.0}, False),
        ({"epochs": 11}, True),
        ({"epochs": 12}, False),
        ({}, False),
    ],
    ids=str,
)
def test_a_short_run_has_cheap_steps(data, costs, more, light):
    """10 batches an epoch and half a second a step: 60 seconds are about 11 epochs."""
    calls = costs(validation=0.0)
    run = planned(data, **more)
    assert run.recipe.data.augment.scale_jitter == ((1.0, 1.0) if light else (0.7, 1.3))
    assert run.recipe.data.augment.color_jitter == (0.0 if light else 0.3)
    assert run.recipe.model.backbone.frozen_stages == (3 if light else 1)
    assert sum("seen only about 11 times" in reason for reason in run.reasons) == light
    last = calls[-1]  # the costs are those of the recipe
    assert last["model"]["backbone"]["frozen_stages"] == run.recipe.model.backbone.frozen_stages


def test_what_the_user_decides_is_not_made_light(data, costs):
    costs(validation=0.0)
    words = ("data.augment.scale_jitter=[0.5,1.0]", "model.backbone.frozen_stages=0")
    recipe = planned(data, *words, budget=60.0).recipe
    assert recipe.data.augment.scale_jitter == (0.5, 1.0)
    assert recipe.model.backbone.frozen_stages == 0
    resnet = planned(data, "model.backbone.name=test_resnet", budget=60.0).recipe
    assert resnet.model.backbone.frozen_stages == 1
