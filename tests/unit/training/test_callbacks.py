"""Trackers write what a run reports to their own files, and a resumed run goes on in the same place."""

import json

import pytest
from error_codes import raises_code
from PIL import Image

import varifocal.training.callbacks as callbacks_module
from varifocal.training.callbacks import (
    Callback,
    Guarded,
    check_trackers,
    closing_callbacks,
    flatten,
    make_tracker,
    stored_id,
)
from varifocal.utils.errors import TrainingError

OTHERS = pytest.mark.filterwarnings("ignore")  # what the trackers' own dependencies warn of
RECIPE = {"detector": "vfnet", "model": {"channels": 64, "empty": {}}}


def report(tracker, run, steps=(0, 1)):
    """What training calls, without its network."""
    run.mkdir(exist_ok=True)
    Image.new("RGB", (8, 6), "red").save(run / "a.png")
    tracker.on_start(run, RECIPE, steps[0], 3)
    for step in steps:
        tracker.on_step(step, {"loss": 2.0 - step, "lr": 0.1})
    tracker.on_validation(steps[-1], {"AP": 0.5})
    tracker.on_end({"AP": 0.5}, [run / "a.png"])
    tracker.close()


def test_a_callback_may_leave_everything_out(tmp_path):
    report(Callback(), tmp_path)


def test_flatten():
    assert flatten(RECIPE) == {"detector": "vfnet", "model.channels": 64, "model.empty": {}}


def test_an_id_is_made_once(tmp_path):
    made = iter("abc")
    assert [stored_id(tmp_path, "wandb", lambda: next(made)) for _ in range(2)] == ["a", "a"]
    assert stored_id(tmp_path, "mlflow", lambda: next(made)) == "b"


def test_a_tracker_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    for check in (lambda: make_tracker("wandb"), lambda: check_trackers(["tensorboard", "wandb"])):
        with raises_code("tracker-package") as caught:
            check()
        assert "pip install 'varifocal[wandb]'" in str(caught.value)


class Failing(Callback):
    """A tracker whose method of this name fails."""

    def __init__(self, event):
        self.event, self.calls = event, []

    def __getattribute__(self, name):
        if not name.startswith("on_") and name != "close":
            return object.__getattribute__(self, name)
        self.calls.append(name)
        if name == self.event:
            raise OSError("no\nconnection")
        return lambda *values: None


def test_a_tracker_that_cannot_be_started_stops_the_run(tmp_path):
    tracker = Failing("on_start")
    with raises_code("tracker-start", TrainingError) as caught:
        report(Guarded("wandb", tracker), tmp_path)
    assert "train.log=wandb: cannot be started (no connection)" in str(caught.value)


@pytest.mark.parametrize("event", ["on_step", "on_validation", "on_end", "close"])
def test_a_tracker_that_fails_later_does_not_cost_the_run(tmp_path, capsys, event):
    tracker = Failing(event)
    report(Guarded("wandb", tracker), tmp_path)
    assert capsys.readouterr().err == "train.log=wandb failed (no connection); the run goes on without it\n"
    assert tracker.calls[-1] == event


def test_callbacks_are_closed_also_after_an_error_of_another(tmp_path):
    closed = []

    class One(Callback):
        def close(self):
            closed.append(self)
            raise ValueError(len(closed))

    members = [One(), One(), object()]
    with pytest.raises(ValueError, match="2"), closing_callbacks(members, []) as given:
        assert given == tuple(members)
    assert closed == [members[1], members[0]]


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    report(make_tracker("tensorboard"), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("train/loss")] == [2.0, 1.0]
    assert [event.value for event in events.Scalars("validation/AP")] == [0.5]
    assert events.Tags()["images"] == ["predictions/a"]


@OTHERS
def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    run = tmp_path / "run"
    report(make_tracker("mlflow"), run)
    report(make_tracker("mlflow"), run, steps=(2,))
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (known,) = client.search_runs([client.get_experiment_by_name("varifocal").experiment_id])
    assert known.info.run_id == json.loads((run / "tracker.json").read_text())["mlflow"]
    assert (known.info.status, known.info.run_name) == ("FINISHED", "run")
    assert [m.value for m in client.get_metric_history(known.info.run_id, "train/loss")] == [2.0, 1.0, 0.0]
    assert known.data.params["model.channels"] == "64"
    assert (tmp_path / "mlflow-artifacts" / known.info.run_id / "artifacts/predictions/a.png").is_file()
    assert list((tmp_path / "work").iterdir()) == []


@OTHERS
@pytest.mark.parametrize(("ended", "status"), [(True, "FINISHED"), (False, "KILLED")])
def test_the_last_steps_of_mlflow_are_sent(tmp_path, monkeypatch, ended, status):
    """Also of a run without validation, and of one that is cut off."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'own.db'}")
    monkeypatch.chdir(tmp_path)  # where MLflow makes its folder mlruns
    monkeypatch.setattr(callbacks_module, "_FLUSH_SECONDS", 1e9)
    (tmp_path / "run").mkdir()
    tracker = make_tracker("mlflow")
    tracker.on_start(tmp_path / "run", RECIPE, 0, 3)
    tracker.on_step(0, {"loss": 4.0})
    if ended:
        tracker.on_end({}, [])
    tracker.close()
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'own.db'}")
    (known,) = client.search_runs([client.get_experiment_by_name("varifocal").experiment_id])
    assert (known.info.status, known.data.metrics) == (status, {"train/loss": 4.0})


@OTHERS
def test_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = tmp_path / "run"
    report(make_tracker("wandb"), run)
    wandb.teardown()  # its own process writes the file, and is done now
    (folder,) = [path for path in (run / "wandb").iterdir() if path.name.startswith("offline-run-")]
    assert folder.name.endswith(json.loads((run / "tracker.json").read_text())["wandb"])
    (file,) = folder.glob("*.wandb")
    content = file.read_bytes()
    for part in (b"train/loss", b"validation/AP", b"best/AP", b"channels"):
        assert part in content
