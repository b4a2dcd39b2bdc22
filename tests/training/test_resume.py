"""A run that is killed again and again ends with the same bytes as one that is not."""

import json

import pytest
from tiny_data import TINY, make_data

SGD = ["train.optimizer=sgd", "train.num_workers=0"]
ADAMW = [
    "train.optimizer=adamw",
    "train.lr=0.001",
    "train.accumulate_grad_batches=2",
    "train.epochs=8",
    "train.num_workers=1",
    "train.clip_grad_norm=5.0",
    "train.val_every_epochs=2",
    "train.schedule=cosine",
    "model.star_norm=group",
]
SWA = [*SGD, "train.epochs=2", "train.swa_epochs=2"]

# With save_every_steps=2 and a validation each third step the files written are, in order: the log, the state after
# step 2, last and best after step 3, the state after step 4, and so on; a resumed run begins with the log again.
KILLS = {
    "sgd": (
        SGD,
        [
            {"at": "half", "n": 3},  # the weights of the first validation
            {"at": "half", "n": 4},  # the state after step 4
            {"at": "flushed", "n": 1},  # the log, cut back to the state
            {"at": "logged", "n": 3},
            {"seconds": 0.5},
        ],
    ),
    "adamw": (
        ADAMW,
        [
            {"at": "step", "n": 1},  # before there is a state
            {"at": "moved", "n": 2},
            {"at": "moved", "n": 3},  # after the best weights, before the state that records them
            {"at": "flushed", "n": 4},
            {"seconds": 1.0},
        ],
    ),
    "swa": (
        SWA,
        [
            {"at": "step", "n": 8},  # in the first epoch that is averaged; the state is of its beginning
            {"at": "moved", "n": 3},  # after the log and the state after step 8: the first average, not yet in a state
            {"at": "step", "n": 3},  # in the last epoch; the state has the average of one
        ],
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, run_plan):
    """Return the run folders by name, "sgd", "adamw", "swa" and each as "... killed", and all exit statuses."""
    folder = tmp_path_factory.mktemp("resume")
    data = str(make_data(folder / "data"))
    cases, names = [], []
    for name, (overrides, kills) in KILLS.items():
        for kind, attempts in ((name, [{}]), (f"{name} killed", [*kills, {}])):
            names.append(kind)
            run = str(folder / kind)
            cases.append({"data": data, "run": run, "overrides": TINY + overrides, "attempts": attempts})
    results, _ = run_plan(folder, cases)
    codes = {kind: [a["codes"] for a in attempts] for kind, attempts in zip(names, results, strict=True)}
    return folder, codes


@pytest.mark.parametrize("name", KILLS)
def test_every_kill_happened_and_the_last_attempt_ends_well(runs, name):
    _, codes = runs
    assert codes[name] == [[0]]
    assert codes[f"{name} killed"] == [[-9]] * len(KILLS[name][1]) + [[0]]


@pytest.mark.parametrize("file", ["state", "last", "best"])
@pytest.mark.parametrize("name", KILLS)
def test_resumed_run_ends_in_the_same_bytes(runs, name, file):
    """The state holds weights, EMA, optimizer and progress; header and tensors are compared byte by byte."""
    folder, _ = runs
    whole, killed = ((folder / kind / f"{file}.safetensors").read_bytes() for kind in (name, f"{name} killed"))
    assert len(whole) > 100_000
    assert whole == killed


@pytest.mark.parametrize("name", KILLS)
def test_log_has_each_step_once_with_the_same_numbers(runs, name):
    folder, _ = runs
    logs = []
    for kind in (name, f"{name} killed"):
        lines = [json.loads(line) for line in (folder / kind / "log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if "loss" in line] == list(range(12))
        assert [line["step"] for line in lines if "validation" in line] == [2, 5, 8, 11]
        logs.append([{k: v for k, v in line.items() if k not in ("seconds", "memory_mb")} for line in lines])
    assert logs[0] == logs[1]


@pytest.mark.parametrize("name", KILLS)
def test_kills_leave_nothing_behind(runs, name):
    folder, _ = runs
    kept = {"state.safetensors", "last.safetensors", "best.safetensors", "log.jsonl"}
    assert {path.name for path in (folder / f"{name} killed").iterdir()} == kept
