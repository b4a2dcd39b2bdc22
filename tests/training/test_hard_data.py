"""Rare classes, limited background, mosaics, a bad file: exact after kills, and the same for two processes."""

import json

import pytest
from safetensors.torch import load_file
from tiny_data import HARD, TINY, make_data

# group norms see the padding of a batch, so two processes equal one to rounding only where images are of one size
ONE_SIZE = ["data.augment={crop: 0, scale_jitter: [1, 1], rot90: false}"]
# overrides, processes, whether in float64, attempts
RUNS = {
    "whole": (["train.num_workers=0", "data.cache_bytes=0"], 1, False, [{}]),
    "killed": (["train.num_workers=2"], 1, False, [{"at": "half", "n": 3}, {"at": "step", "n": 4}, {}]),
    "one": (["train.num_workers=0", "data.cache_bytes=0"], 1, True, [{}]),
    "two": (["train.num_workers=1"], 2, True, [{}]),
}
TOLERANCE = 1e-10  # of float64, as in test_parallel.py


@pytest.fixture(scope="module")
def runs(tmp_path_factory, run_plan):
    folder = tmp_path_factory.mktemp("hard")
    data = make_data(folder / "data", images=9, empty=(2, 6), crowd=(4,))
    (data / "train" / "3.png").write_bytes(b"no image")
    cases = [
        {
            "data": str(data),
            "run": str(folder / name),
            "overrides": [*TINY, *HARD, *ONE_SIZE, *overrides],
            "world": world,
            "double": double,
            "attempts": attempts,
        }
        for name, (overrides, world, double, attempts) in RUNS.items()
    ]
    results, message = run_plan(folder, cases)
    return folder, {name: [a["codes"] for a in attempts] for name, attempts in zip(RUNS, results, strict=True)}, message


def lines(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_what_was_sampled_is_told(runs):
    _, codes, message = runs
    assert codes["whole"] == [[0]]
    assert "data.repeat_factor_threshold=1:" in message
    assert (
        "data.max_empty_fraction=0.1: 0 of 3 images without an object" in message
        or "data.max_empty_fraction=0.1: 1 of 3" in message
    )


def test_a_killed_run_ends_in_the_same_bytes(runs):
    folder, codes, _ = runs
    assert codes["killed"] == [[-9]] * 2 + [[0]]
    for file in ("state.safetensors", "unreadable_images.txt"):
        assert (folder / "whole" / file).read_bytes() == (folder / "killed" / file).read_bytes(), file
    for file in ("last.safetensors", "best.safetensors"):  # their recipes differ in workers and cache
        weights = [load_file(folder / name / file) for name in ("whole", "killed")]
        assert all((weights[0][key] == weights[1][key]).all() for key in weights[0]), file
    logs = [
        [{k: v for k, v in line.items() if k not in ("seconds", "memory_mb")} for line in lines(folder / name)]
        for name in ("whole", "killed")
    ]
    assert logs[0] == logs[1]


def test_two_processes_learn_what_one_does(runs):
    folder, codes, _ = runs
    assert codes["one"] == [[0]]
    assert codes["two"] == [[0, 0]]
    one, two = lines(folder / "one"), lines(folder / "two")
    assert [line["step"] for line in one] == [line["step"] for line in two]
    for a, b in zip(one, two, strict=True):
        assert a.get("unreadable_images") == b.get("unreadable_images")
        for term in {"loss", "cls", "initial", "refined"} & a.keys():
            assert a[term] == pytest.approx(b[term], abs=TOLERANCE), (a["step"], term)
    states = [load_file(folder / name / "state.safetensors") for name in ("one", "two")]
    assert max((states[0][k].double() - states[1][k].double()).abs().max().item() for k in states[0]) < TOLERANCE


def test_the_bad_image_is_told_of_in_both(runs):
    folder, _, _ = runs
    assert sum("unreadable_images" in line for line in lines(folder / "two")) > 0
    for name in ("whole", "two"):
        (line,) = (folder / name / "unreadable_images.txt").read_text().splitlines()
        assert "3.png: this is not an image" in line
