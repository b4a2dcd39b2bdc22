"""The folder of a run: who may write to it, how a run is resumed and extended, and what Ctrl-C prints."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
import yaml
from error_codes import raises_code
from safetensors.torch import load_file
from tiny_data import TINY, make_data

import varifocal.recipes.run as run_module
import varifocal.training.loop as loop_module
import varifocal.training.step as step_module
from varifocal.cli import main
from varifocal.data.load import load_dataset
from varifocal.evaluation.evaluate import evaluate
from varifocal.inference.model import load
from varifocal.recipes.recipe import Recipe, write_recipe
from varifocal.recipes.resume import CHANGEABLE, changed_recipe
from varifocal.recipes.run import next_run_dir, read_metrics, resume_run, run_folder, run_recipe
from varifocal.utils.errors import ConfigError, Interrupted
from varifocal.utils.locks import claimed_folder
from varifocal.utils.overrides import override

# Two images of two crops each make two steps per epoch, all with one learning rate, so that a run of more epochs
# starts like a run of fewer epochs.
EVEN = [*TINY, "train.batch_size=2", "train.milestones=[]", "train.warmup_steps=0", "train.save_every_steps=0"]
BYTES = ("state", "last", "best")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("run") / "data", images=2)


def recipe(*words):
    return override(Recipe(), [*EVEN, *words])


def lines(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def train(data, tmp_path):
    """Return a function that runs the command with the recipe of these tests and returns its exit code."""

    def call(run, *words):
        write_recipe(recipe(), tmp_path / "even.yaml")
        return main(["train", str(data), "--recipe", str(tmp_path / "even.yaml"), "--out", str(run), *words])

    return call


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run of two epochs, for tests that do not change it."""
    run = tmp_path_factory.mktemp("finished") / "run"
    run_recipe(recipe("train.epochs=2"), data, run)
    return run


# one process at a time


def test_a_folder_that_is_in_use_is_refused_untouched(data, finished, tmp_path):
    before = {path.name: path.stat().st_mtime_ns for path in finished.iterdir()}
    (tmp_path / "new").mkdir()
    for run, go in ((finished, resume_run), (tmp_path / "new", lambda data, run: run_recipe(recipe(), data, run))):
        with (
            claimed_folder(run),
            pytest.raises(ConfigError, match=r"another process is writing to this folder; wait until it ends, or "),
        ):
            go(data, run)
    assert {path.name: path.stat().st_mtime_ns for path in finished.iterdir()} == before
    assert list((tmp_path / "new").iterdir()) == []


def test_a_run_that_another_process_made_in_between_is_not_written_over(data, tmp_path, monkeypatch):
    """Both have seen an empty folder; the other one starts and finishes before this one gets the lock."""
    look = run_module.create_run_dir

    def look_and_wait(run):
        look(run)
        (run / "recipe.yaml").write_text("of the other")

    monkeypatch.setattr(run_module, "create_run_dir", look_and_wait)
    with pytest.raises(ConfigError, match=r"resume its run with: varifocal train DATA --resume .*run"):
        run_recipe(recipe(), data, tmp_path / "run")
    assert [(path.name, path.read_text()) for path in (tmp_path / "run").iterdir()] == [("recipe.yaml", "of the other")]


def test_what_a_kill_left_before_the_run_began_is_no_run(data, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in (".lock", ".recipe.yaml.part"):
        (run / name).touch()
    run_recipe(recipe("train.epochs=1", "data.val_split="), data, run)
    assert {path.name for path in run.iterdir() if path.name.startswith(".")} == set()


def test_nobody_gets_the_folder_of_another_without_a_name(tmp_path, monkeypatch):
    """As if two processes had looked at the same moment; runs that do not start leave nothing behind."""
    monkeypatch.chdir(tmp_path)
    assert [str(next_run_dir("a")) for _ in range(3)] == [str(Path("runs") / f"a-{n}") for n in (1, 2, 3)]
    with run_folder(None, "b") as first, run_folder(None, "b") as second:
        assert (first.name, second.name) == ("b-1", "b-2")
        (second / "x").touch()
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["a-1", "a-2", "a-3", "b-2"]
    with run_folder(tmp_path / "mine", "b") as run:
        assert run == tmp_path / "mine"
    assert not run.exists()


def test_data_that_cannot_be_read_leaves_no_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in ([], ["--out", "run"]):
        assert main(["train", "nowhere", *words]) == 2
        assert "nowhere" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


# resuming


def test_an_extended_run_is_the_longer_run(data, tmp_path, capsys):
    """If every step has the same learning rate: exactly, with the numbers of each step and each validation."""
    short, whole = tmp_path / "short", tmp_path / "whole"
    run_recipe(recipe("train.epochs=2"), data, short)
    kept = lines(short)
    capsys.readouterr()
    metrics = resume_run(data, short, ["train.epochs=4"])
    message = capsys.readouterr().err
    assert f"{short}: resumes at step 5 of 8; train.epochs=4 (was 2); the milestones are fractions" in message
    assert metrics == run_recipe(recipe("train.epochs=4"), data, whole)
    for name in ("state", "last"):
        assert (short / f"{name}.safetensors").read_bytes() == (whole / f"{name}.safetensors").read_bytes(), name
    # the best weights are of the first epochs, and their recipe has the number of epochs of that time
    best, expected = (load_file(run / "best.safetensors") for run in (short, whole))
    assert best.keys() == expected.keys()
    assert all(torch.equal(best[key], expected[key]) for key in expected)
    assert (short / "recipe.yaml").read_bytes() == (whole / "recipe.yaml").read_bytes()
    assert (short / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()
    assert lines(short)[: len(kept)] == kept
    assert [line["step"] for line in lines(short) if "loss" in line] == list(range(8))


def test_milestones_move_with_the_length(data, tmp_path, capsys):
    """With 4 steps the rate drops after 3, with 8 after 6: finished steps keep theirs, step 5 has the initial one."""
    run = tmp_path / "run"
    words = ("train.milestones=[0.75]", "train.lr=0.01", "data.val_split=")
    run_recipe(recipe("train.epochs=2", *words), data, run)
    capsys.readouterr()
    resume_run(data, run, ["train.epochs=4", "train.num_workers=1"])
    message = capsys.readouterr().err
    assert "train.num_workers=1 (was 0)" in message
    assert "so the learning rate is now 0.01 and drops after step 6" in message
    rates = [line["lr"] for line in lines(run) if "loss" in line]
    assert rates == pytest.approx([0.01, 0.01, 0.01, 0.001, 0.01, 0.01, 0.001, 0.001])


def test_a_finished_run_says_so_and_is_not_measured_again(data, finished, capsys, monkeypatch):
    before = {path.name: path.stat().st_mtime_ns for path in finished.iterdir()}
    for name in ("train", "write_results"):
        monkeypatch.setattr(run_module, name, None)
    assert main(["train", str(data), "--resume", str(finished)]) == 0
    message = capsys.readouterr()
    command = f"varifocal train {data} --resume {finished}"
    assert f"{finished}: is finished after all 4 steps; extend it with: {command} train.epochs=4" in message.err
    assert "AP" in message.out
    assert main(["train", str(data), "--resume", str(finished), "train.lr=0.001", "train.clip_grad_norm=1"]) == 0
    message = capsys.readouterr().err
    assert "steps, so train.lr, train.clip_grad_norm have no effect; only train.epochs extends it: " in message
    assert message.count("\n") == 1
    assert {path.name: path.stat().st_mtime_ns for path in finished.iterdir()} == before


def test_a_run_knows_its_data(tmp_path, capsys):
    """Also if a key=value word comes first, and if both were moved; if the data is gone, the error says what to do."""
    old, new = tmp_path / "old", tmp_path / "new"
    run_recipe(recipe("train.epochs=1", "data.val_split="), make_data(old / "data", images=2), old / "run")
    old.rename(new)
    assert main(["train", "--resume", str(new / "run"), "train.epochs=2"]) == 0
    assert "resumes at step 3 of 4; train.epochs=2 (was 1)" in capsys.readouterr().err
    (new / "data").rename(new / "elsewhere")
    assert main(["train", str(new / "elsewhere"), "--resume", str(new / "run"), "train.epochs=3"]) == 0
    assert main(["train", "--resume", str(new / "run")]) == 0  # it knows the new path
    (new / "elsewhere").rename(new / "away")
    capsys.readouterr()
    assert main(["train", "--resume", str(new / "run"), "train.epochs=4"]) == 2
    assert (
        f"no longer exists; name its new location: varifocal train DATA --resume {new / 'run'}."
        in capsys.readouterr().err
    )


def test_weights_without_their_state_are_not_written_over(data, tmp_path):
    run = tmp_path / "run"
    run_recipe(recipe("train.epochs=1", "data.val_split="), data, run)
    (run / "state.safetensors").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    with raises_code("no-state", ConfigError):
        resume_run(data, run, ["train.epochs=2"])
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_the_best_weights_are_not_measured_twice(data, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "evaluate", None)
    measured = run_recipe(recipe("train.epochs=1"), data, tmp_path / "run")
    monkeypatch.undo()
    metrics, _ = evaluate(load(tmp_path / "run/best.safetensors"), load_dataset(data, "val"))
    assert metrics == measured == read_metrics(tmp_path / "run/metrics.json")
    assert len(list((tmp_path / "run/images").glob("*.png"))) == len(load_dataset(data, "val").samples)


def test_a_run_that_was_only_not_measured_is(data, tmp_path):
    run = tmp_path / "run"
    expected = run_recipe(recipe("train.epochs=1"), data, run)
    for damage in (Path.unlink, lambda file: file.write_text("{")):
        damage(run / "metrics.json")
        assert resume_run(data, run) == expected
        assert json.loads((run / "metrics.json").read_text())["AP"] == expected.AP


def test_what_can_no_more_change_is_named(finished, data):
    before = {path.name: path.stat().st_mtime_ns for path in finished.iterdir()}
    for words, named in (
        (["train.batch_size=4"], "train.batch_size"),
        (["train={batch_size: 4, epochs: 4}"], "train.batch_size"),
        (["model.channels=64", "train.epochs=4"], "model.channels"),
        (["data.augment.hflip=0", "train.seed=1"], "data.augment.hflip, train.seed"),
    ):
        with pytest.raises(ConfigError) as error:
            resume_run(data, finished, words)
        assert str(error.value).startswith(f"{finished}: {named} cannot change in a run that has started, only data.")
        assert f"train.weights={finished / 'last.safetensors'} --out NEW" in str(error.value)
    with raises_code("too-few-epochs", ConfigError):
        resume_run(data, finished, ["train.epochs=1"])
    assert {path.name: path.stat().st_mtime_ns for path in finished.iterdir()} == before


def test_a_file_of_a_run_is_said_with_its_folder(finished, data):
    with pytest.raises(ConfigError, match=f"; use {finished}\\.$"):
        resume_run(data, finished / "best.safetensors")
    with raises_code("not-a-run", ConfigError):
        resume_run(data, data)


def test_every_changeable_key_is_one(tmp_path):
    values = {
        "data.cache_bytes": 0,
        "train.device": "cuda",
        "train.milestones": [0.3],
        "train.log": ["wandb"],
        "train.val_every_epochs": 2,
    }
    for key in CHANGEABLE:
        new = changed_recipe(Recipe(), [f"{key}={values.get(key, 1)}"], tmp_path)
        assert new != Recipe(), key
    assert changed_recipe(Recipe(), ["train.batch_size=16", "model.loss=varifocal"], tmp_path) == Recipe()  # unchanged


def test_weights_that_are_averaged_already_are_not_extended(data, tmp_path):
    run = tmp_path / "run"
    run_recipe(recipe("train.epochs=1", "train.swa_epochs=1", "data.val_split="), data, run)
    with raises_code("already-averaging", ConfigError):
        resume_run(data, run, ["train.epochs=9"])


def test_old_metrics_are_not_those_of_an_extended_run(data, tmp_path, monkeypatch):
    """They are removed when it is extended: it may be interrupted before it is evaluated, and is evaluated then."""
    run = tmp_path / "run"
    run_recipe(recipe("train.epochs=1"), data, run)
    measure = run_module.write_results

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "write_results", interrupted)
    with pytest.raises(Interrupted, match=r"^interrupted; resume with: varifocal train "):
        resume_run(data, run, ["train.epochs=2"])
    assert not (run / "metrics.json").exists()
    monkeypatch.setattr(run_module, "write_results", measure)
    assert resume_run(data, run) is not None
    assert yaml.safe_load((run / "recipe.yaml").read_text())["train"]["epochs"] == 2


# Ctrl-C


@pytest.fixture
def default_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_at(monkeypatch, name, at):
    """Press Ctrl-C during the ``at``-th call of a function of the loop or of a step."""
    home = {"_add_gradients": step_module.Stepper, "ensure_finite_loss": step_module}.get(name, loop_module)
    function, calls = getattr(home, name), [0]

    def call(*values, **named):
        calls[0] += 1
        if calls[0] == at:
            os.kill(os.getpid(), signal.SIGINT)
        return function(*values, **named)

    monkeypatch.setattr(home, name, call)


@pytest.mark.usefixtures("default_handler")
@pytest.mark.parametrize(
    ("name", "at", "step"),
    [("_add_gradients", 2, 2), ("_add_gradients", 3, 3), ("detect_all", 1, 2), ("detect_all", 2, 4)],
    ids=["last step of an epoch", "first step of an epoch", "measuring", "measuring at the end"],
)
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    train, data, finished, tmp_path, capfd, monkeypatch, name, at, step
):
    run = tmp_path / "a run"
    press_at(monkeypatch, name, at)
    assert train(run, "train.epochs=2") == 130
    message = capfd.readouterr().err
    command = f"varifocal train {data} --resume '{run}'"
    assert f"interrupted after step {step} of 4, which is saved; resume with: {command}\n" in message
    assert "interrupted: finishing and saving the current step first; press Ctrl-C again to stop at once" in message
    assert "Traceback" not in message
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.undo()
    assert main(["train", str(data), "--resume", str(run)]) == 0
    for file in (*(f"{one}.safetensors" for one in BYTES), "metrics.json"):
        assert (run / file).read_bytes() == (finished / file).read_bytes(), file
    logs = [
        [{k: v for k, v in line.items() if k not in ("seconds", "memory_mb")} for line in lines(one)]
        for one in (run, finished)
    ]
    assert logs[0] == logs[1]


@pytest.mark.usefixtures("default_handler")
def test_the_second_time_stops_at_once(train, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("varifocal.training.processes.PATIENCE", -1)
    press_at(monkeypatch, "_add_gradients", 2)
    press_at(monkeypatch, "ensure_finite_loss", 2)
    assert train(tmp_path / "run") == 130
    assert f"interrupted; resume with: varifocal train {data} --resume {tmp_path / 'run'}\n" in capsys.readouterr().err
    assert not (tmp_path / "run" / "state.safetensors").exists()
    assert main(["train", str(data), "--resume", str(tmp_path / "run"), "train.epochs=1"]) == 0
    assert "has saved no step yet and starts over" in capsys.readouterr().err


def test_another_handler_is_left_alone(data, tmp_path):
    called = []
    before = signal.signal(signal.SIGINT, lambda number, frame: called.append(number))
    try:
        with pytest.MonkeyPatch.context() as patch:
            press_at(patch, "_add_gradients", 1)
            run_recipe(recipe("train.epochs=1", "data.val_split="), data, tmp_path / "run")
    finally:
        signal.signal(signal.SIGINT, before)
    assert called == [signal.SIGINT]


def test_a_sweep_says_to_repeat_the_command(data, tmp_path, monkeypatch):
    from varifocal.recipes import sweep

    def interrupted(*_, **__):
        raise Interrupted("interrupted; resume with: varifocal train ...")

    monkeypatch.setattr(sweep, "run_rows", interrupted)
    with pytest.raises(Interrupted, match=r"^interrupted; finished work is saved, repeat the command to continue\.$"):
        sweep.run_sweep("table3", data, tmp_path / "out", recipe=None, seeds=[0])
    with claimed_folder(tmp_path / "out"), pytest.raises(ConfigError, match="another process is writing"):
        sweep.run_sweep("table3", data, tmp_path / "out", recipe=None, seeds=[0])


# what is printed


@pytest.mark.parametrize("validation", [True, False])
def test_the_last_line_names_what_is_there(train, tmp_path, capsys, validation):
    run = tmp_path / "run"
    assert train(run, "train.epochs=1", *([] if validation else ["data.val_split="])) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Run folder: ")]
    named = line[line.index("(") + 1 : -1].split(", ")
    assert all((run / name).exists() for name in named)
    assert ("metrics.json" in named, "images/" in named) == (validation, validation)
    assert {"best.safetensors", "log.jsonl", "recipe.yaml"} <= set(named)


def test_the_data_is_kept_as_it_was_typed_and_where_it_is(data, tmp_path, monkeypatch):
    monkeypatch.chdir(data.parent)
    run_recipe(recipe("train.epochs=1", "data.val_split="), "data", tmp_path / "run")
    known = json.loads((tmp_path / "run" / "data.json").read_text())
    assert (known["data"], known["absolute"]) == ("data", str(data))
    assert (tmp_path / "run" / known["from_run"]).resolve() == data.resolve()


def test_auto_starts_a_run_and_then_resumes_it(data, train, tmp_path, capsys):
    """The same command again and again, as after a crash: the run goes on from where it is, and is never begun anew."""
    words = [tmp_path / "run", "--resume", "auto"]
    assert train(*words, "train.epochs=1") == 0
    first = lines(tmp_path / "run")
    capsys.readouterr()
    assert train(*words, "train.epochs=1") == 0
    assert "is finished after all 2 steps" in capsys.readouterr().err
    assert train(*words, "train.epochs=2", "train.num_workers=1") == 0
    message = capsys.readouterr().err
    assert "resumes at step 3 of 4; " in message
    assert "train.epochs=2 (was 1)" in message
    assert lines(tmp_path / "run")[: len(first)] == first
    assert train(*words, "train.epochs=2", "train.num_workers=1", "train.batch_size=4") == 2
    assert "train.batch_size cannot change" in capsys.readouterr().err


@pytest.mark.parametrize("left", [(), ("recipe.yaml",), ("recipe.yaml", ".lock"), ("recipe.yaml", "data.json")])
def test_auto_starts_over_what_was_killed_before_its_first_step(data, train, tmp_path, left):
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert train(whole, "train.epochs=1") == 0
    run.mkdir()
    for name in left:
        (run / name).write_bytes(b"" if name == ".lock" else (whole / name).read_bytes())
    assert train(run, "--resume", "auto", "train.epochs=1") == 0
    for name in BYTES:
        assert (run / f"{name}.safetensors").read_bytes() == (whole / f"{name}.safetensors").read_bytes()


def test_auto_does_not_write_over_other_files(data, train, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("recipe.yaml", "thesis.txt"):
        (run / name).write_text("x")
    assert train(run, "--resume", "auto") == 2
    assert "is not empty" in capsys.readouterr().err
    assert {path.name for path in run.iterdir()} == {"recipe.yaml", "thesis.txt"}
    assert main(["train", str(data), "--resume", "auto"]) == 2
    assert "add --out RUN" in capsys.readouterr().err


def test_auto_starts_over_what_has_weights_but_no_state(data, train, tmp_path):
    """A run that was killed between its first validation and its first saved state."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    for folder in (whole, run):
        assert train(folder, "train.epochs=1") == 0
    (run / "state.safetensors").unlink()
    (run / "metrics.json").unlink()
    assert train(run, "--resume", "auto", "train.epochs=1") == 0
    for name in BYTES:
        assert (run / f"{name}.safetensors").read_bytes() == (whole / f"{name}.safetensors").read_bytes()


def test_auto_refuses_another_detector_and_says_what_counted_at_the_start(data, train, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(run, "train.epochs=1") == 0
    capsys.readouterr()
    assert main(["train", str(data), "--epochs", "9", "--out", str(run), "--resume", "auto"]) == 0
    assert "epochs counted only at its start" in capsys.readouterr().err
    assert main(["train", str(data), "--recipe", "fcos_r50_1x", "--out", str(run), "--resume", "auto"]) == 2
    assert "is a run of vfnet and not of fcos" in capsys.readouterr().err
