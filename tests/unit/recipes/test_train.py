"""Training from Python: the same run as from the command line, with callbacks."""

import inspect
import json
import re
from pathlib import Path

import pytest
from error_codes import raises_code
from tiny_data import TINY, make_data

import varifocal
import varifocal.recipes.run as run_module
from varifocal import cli
from varifocal.evaluation.coco_ap import CocoMetrics
from varifocal.recipes.recipe import Recipe, load_recipe, read_recipe_of_run
from varifocal.training.callbacks import emit
from varifocal.utils.config import to_dict
from varifocal.utils.errors import ConfigError
from varifocal.utils.overrides import override

SHORT = [*TINY, "model.backbone.pretrained=none", "train.epochs=2"]
NAMED = ["--recipe", "vfnet_r50_1x", *SHORT]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("train") / "data", images=4)


class Events(varifocal.Callback):
    def __init__(self):
        self.names, self.end = [], None

    def on_step(self, step, values):
        self.names.append(f"step {step}")

    def on_validation(self, step, metrics):
        self.names.append(f"validation {step}")

    def on_end(self, metrics, images):
        self.end = metrics, images

    def close(self):
        self.names.append("close")


def test_a_run_from_python(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    events = Events()
    result = varifocal.train(data, "vfnet_r50_1x", overrides=SHORT, callbacks=[events])
    assert result.run == Path("runs/vfnet_r50_1x-1")
    assert events.names == ["step 0", "step 1", "validation 1", "step 2", "step 3", "validation 3", "close"]
    metrics, images = events.end
    assert metrics["AP"] == result.metrics.AP
    assert [path.name for path in images] == ["0-0.png", "1-1.png"]
    assert all(path.parent == result.run / "images" for path in images)
    best = varifocal.load(result.best)
    assert best.info.metrics["AP"] == pytest.approx(result.metrics.AP, abs=1e-6)

    more = Events()
    extended = varifocal.train(resume=result.run, overrides=["train.epochs=3"], callbacks=[more])
    assert (extended.run, more.names[0]) == (result.run, "step 4")
    assert varifocal.train(resume=result.run, callbacks=[more]).metrics == extended.metrics  # finished: nothing is run
    assert more.names.count("close") == 1


def test_without_validation_there_are_no_metrics(data, tmp_path):
    events = Events()
    result = varifocal.train(
        data=data,
        recipe="vfnet_r50_1x",
        overrides=[*SHORT, "data.val_split="],
        out=tmp_path / "run",
        callbacks=[events],
    )
    assert (result.metrics, events.end) == (None, ({}, []))


def test_every_kind_of_recipe(data, tmp_path):
    """A name, a file, a dictionary and a recipe give the same run as the command line."""
    values = to_dict(override(load_recipe("vfnet_r50_1x"), SHORT))
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(values))
    given = {
        "dictionary": {"base": "vfnet_r50_1x", **values},
        "file": file,
        "recipe": override(load_recipe("vfnet_r50_1x"), SHORT),
    }
    assert cli.main(["train", str(data), "--out", str(tmp_path / "cli"), *NAMED]) == 0
    expected = read_recipe_of_run(tmp_path / "cli/recipe.yaml")
    for name, recipe in given.items():
        result = varifocal.train(data, recipe, out=tmp_path / name)
        assert read_recipe_of_run(result.run / "recipe.yaml") == expected
        assert result.best.read_bytes() == (tmp_path / "cli/best.safetensors").read_bytes()


def test_a_dictionary_with_a_base(tmp_path, monkeypatch):
    made = load_recipe({"base": "vfnet_r50_ms_2x", "train": {"epochs": 3}}, ["train.lr=0.5"])
    assert made == override(load_recipe("vfnet_r50_ms_2x"), ["train.epochs=3", "train.lr=0.5"])
    assert load_recipe({}) == Recipe()
    (tmp_path / "base.yaml").write_text("train: {epochs: 4}")
    monkeypatch.chdir(tmp_path)
    assert load_recipe({"base": "base.yaml"}).train.epochs == 4
    with pytest.raises(ConfigError, match=r"^recipe: .*'epoch'.*'epochs'"):
        load_recipe({"train": {"epoch": 3}})


def test_what_contradicts_itself(data, tmp_path):
    with raises_code("train-without-data"):
        varifocal.train(recipe="vfnet_r50_1x")
    for values in ({"recipe": "vfnet_r50_1x"}, {"out": tmp_path}):
        with raises_code("resume-with-recipe"):
            varifocal.train(resume=tmp_path, **values)


def test_a_tracker_whose_package_is_missing_stops_before_the_data_is_read(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with raises_code("tracker-package"):
        varifocal.train(
            data=tmp_path / "gone", recipe="vfnet_r50_1x", overrides=["train.log=[wandb]"], out=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_the_switches_of_the_command_line(data, tmp_path):
    board = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tmp_path / "run"
    words = ["--log", "tensorboard", "--log", "tensorboard", *NAMED]
    assert cli.main(["train", str(data), "--out", str(run), *words]) == 0
    assert read_recipe_of_run(run / "recipe.yaml").train.log == ("tensorboard",)
    events = board.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert len(events.Scalars("train/loss")) == 4
    assert len(events.Tags()["images"]) == 2
    # the next run starts from this one
    assert cli.main(["train", str(data), "--out", str(tmp_path / "next"), "--weights", str(run), *NAMED]) == 0
    assert read_recipe_of_run(tmp_path / "next/recipe.yaml").train.weights == str(run)


@pytest.mark.filterwarnings("ignore")  # the trackers' own dependencies warn
@pytest.mark.parametrize("tracker", ["wandb", "mlflow"])
def test_a_tracker_follows_a_run_that_is_resumed(data, tmp_path, monkeypatch, capsys, tracker):
    pytest.importorskip(tracker)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    run = tmp_path / "runs/first"
    varifocal.train(data, "vfnet_r50_1x", overrides=[*SHORT, f"train.log=[{tracker}]"], out=run)
    known = (run / "tracker.json").read_text()
    varifocal.train(resume=run, overrides=["train.epochs=3"])
    assert (run / "tracker.json").read_text() == known
    assert "the run goes on without it" not in capsys.readouterr().err
    assert list((tmp_path / "work").iterdir()) == []
    if tracker == "mlflow":
        assert sorted(path.name for path in run.parent.rglob("*.png") if run not in path.parents) == [
            "0-0.png",
            "1-1.png",
        ]
    else:
        assert len(list((run / "wandb").glob("offline-run-*"))) == 2


def test_recipes_of_older_versions_with_tensorboard(tmp_path):
    for value, log in (("true", ("tensorboard",)), ("false", ())):
        (tmp_path / "recipe.yaml").write_text(f"train: {{tensorboard: {value}}}")
        assert read_recipe_of_run(tmp_path / "recipe.yaml").train.log == log
    with pytest.raises(ConfigError, match="'tensorboard' is called 'log' now"):
        load_recipe("vfnet_r50_1x", ["train.tensorboard=true"])


def test_the_notebook_of_the_documentation(tmp_path, monkeypatch, capsys):
    """The code as it stands there, with a run that trains nothing."""
    text = (Path(__file__).parents[3] / "docs/train.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    made = varifocal.create_model(
        "vfnet", backbone="test_resnet", classes=["a"], channels=32, num_levels=3, num_convs=1
    )

    def run(recipe, data, folder, callbacks):
        assert (recipe.train.epochs, recipe.train.weights, data) == (6, "vfnet_r50_ms_2x", "my_data")
        varifocal.save(made, folder / "best.safetensors")
        emit(callbacks, "on_step", 0, {"loss": 2.0})
        emit(callbacks, "on_validation", 0, {"AP": 0.5})
        emit(callbacks, "on_end", {"AP": 0.5}, [folder / "images/0.png"])
        return CocoMetrics(0.5, 0.75, *[0.0] * 10, {})

    monkeypatch.setattr(run_module, "run_recipe", run)
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(code, scope)
    assert capsys.readouterr().out == "AP 50.0; predictions: runs/run-1/images\nruns/run-1 0.75\n"
    assert (scope["plot"].losses, scope["plot"].ap) == ([2.0], [(0, 0.5)])
    assert scope["model"].categories == made.categories


def test_every_method_of_a_callback_is_in_the_documentation():
    text = (Path(__file__).parents[3] / "docs/train.md").read_text(encoding="utf-8")
    methods = {name: method for name, method in vars(varifocal.Callback).items() if inspect.isfunction(method)}
    for name, method in methods.items():
        assert f"`{name}({', '.join(list(inspect.signature(method).parameters)[1:])})`" in text


def test_unknown_weights_are_reported_before_the_data_is_read(tmp_path, capsys):
    words = ["train", str(tmp_path / "gone"), "--out", str(tmp_path / "run"), "--weights", "vfnet_r50_2x"]
    assert cli.main(words) == 2
    assert "vfnet_r50_2x: there is no such file or run" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"budget": "8m", "epochs": 3}, "budget and epochs both"),
        ({"budget": "8m", "overrides": ["train.epochs=3"]}, "budget and train.epochs=3 both"),
        ({"epochs": 2, "overrides": ["train.epochs=3"]}, "epochs and train.epochs=3 both"),
    ],
    ids=str,
)
def test_two_lengths_contradict_each_other(tmp_path, more, said):
    with raises_code("two-lengths", ConfigError) as caught:
        varifocal.train(tmp_path / "data", out=tmp_path / "run", **more)
    assert str(caught.value).startswith(said)
    assert not (tmp_path / "run").exists()
