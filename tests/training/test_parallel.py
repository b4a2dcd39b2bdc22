"""Two processes learn the same as one with the joint batch, and none waits for one that failed."""

import json
import subprocess
import sys
import tarfile
import time

import pytest
from safetensors.torch import load_file
from tiny_data import TINY, make_data

from conftest import ENVIRONMENT, SCRIPT

# Whole images of one size in the order of the JSON: indexes 0 and 1 of each four go to the first process.
IN_ORDER = [
    "data.augment={crop: 0, scale_jitter: [1, 1], rot90: false}",
    "train.epochs=2",
    "train.val_every_epochs=2",
]
IN_ORDER += ["train.lr=0.05", "train.warmup_steps=0"]
SECOND = (2, 3, 6, 7)  # the images of the second process
CASES = {
    "varifocal": ("empty", []),
    "focal": ("full", ["train.accumulate_grad_batches=2", "train.epochs=4"]),
    "quality-focal": ("crowd", ["train.clip_grad_norm=1.0", "model.star_norm=group"]),
}
# The processes' sums are added in another order. In float64 that moves losses and weights by 1e-14, whatever the order;
# a wrong fraction, count or step moves them by 1e-3. In float32 it is 1e-6 to 1e-5, depending on the processor.
TOLERANCE = 1e-10


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    sets = {
        "full": make_data(folder / "full", images=8),
        "empty": make_data(folder / "empty", images=8, empty=SECOND),
        "crowd": make_data(folder / "crowd", images=8, crowd=SECOND),
        "bad": make_data(folder / "bad", images=8),
    }
    (sets["bad"] / "train" / "3.png").write_bytes(b"no image")
    sets["tar"] = folder / "empty.tar"
    with tarfile.open(sets["tar"], "w") as archive:
        archive.add(sets["empty"], "data")
    return folder, sets


@pytest.fixture(scope="module")
def runs(data, run_plan):
    folder, sets = data
    cases, names = [], []

    def add(name, kind, overrides, world, attempt, double=False):
        names.append(name)
        run, overrides = str(folder / name), [*TINY, *IN_ORDER, *overrides]
        case = {"data": str(sets[kind]), "run": run, "overrides": overrides, "in_order": True, "world": world}
        cases.append({**case, "double": double, "attempts": [attempt]})

    for loss, (kind, overrides) in CASES.items():
        for world in (1, 2):
            add(f"{loss} {world}", kind, [f"model.loss={loss}", *overrides], world, {}, double=True)
    for world in (1, 2):
        add(f"float32 {world}", "empty", ["model.loss=varifocal"], world, {})
    add("tar 2", "tar", ["model.loss=varifocal", *CASES["varifocal"][1]], 2, {}, double=True)
    add("bad image", "bad", ["train.num_workers=1"], 2, {})
    add("bad number", "full", [], 2, {"nan_rank": 1})
    results, message = run_plan(folder, cases)
    return folder, {name: attempts[0] for name, attempts in zip(names, results, strict=True)}, message


@pytest.mark.parametrize("loss", CASES)
def test_two_processes_learn_what_one_does(runs, loss):
    folder, results, _ = runs
    assert results[f"{loss} 1"]["codes"] == [0]
    assert results[f"{loss} 2"]["codes"] == [0, 0]
    one, two = folder / f"{loss} 1", folder / f"{loss} 2"
    logs = [[json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in (one, two)]
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]]
    for a, b in zip(*logs, strict=True):
        for term in {"loss", "cls", "initial", "refined"} & a.keys():
            assert a[term] == pytest.approx(b[term], abs=TOLERANCE), (a["step"], term)
        assert a.get("validation") == pytest.approx(b.get("validation"), abs=TOLERANCE)
    assert apart(one, two) < TOLERANCE


def test_two_processes_learn_the_same_from_an_archive(runs):
    """Each reads its images from the one archive; there is no shard for which one could wait."""
    folder, results, _ = runs
    assert results["tar 2"]["codes"] == [0, 0]
    assert apart(folder / "tar 2", folder / "varifocal 2") < TOLERANCE


def apart(one, two):
    """Return the largest difference between the weights, averages and momenta of two runs."""
    states = [load_file(run / "state.safetensors") for run in (one, two)]
    assert states[0].keys() == states[1].keys()
    return max((states[0][key].double() - states[1][key].double()).abs().max().item() for key in states[0])


def test_two_processes_in_float32(runs):
    """They round no worse than one process does on this processor, measured by the distance from float64.

    The largest error of a run is that of a few weights of the first layers, whose gradients are the longest sums, times
    the momentum of all steps; for one run it was up to five times that of the other. Sums in half precision, or of one
    process alone, are a thousand times as far off.
    """
    folder, results, _ = runs
    assert results["float32 1"]["codes"] == [0]
    assert results["float32 2"]["codes"] == [0, 0]
    one, two = (apart(folder / f"float32 {world}", folder / f"varifocal {world}") for world in (1, 2))
    assert 0 < one < 1e-4
    assert 0 < two < 30 * one


def test_the_compared_runs_did_learn_something(runs):
    folder, _, _ = runs
    before, after = (load_file(folder / f"{loss} 1" / "state.safetensors") for loss in ("varifocal", "focal"))
    assert (before["model.neck.lateral.0.weight"] - after["model.neck.lateral.0.weight"]).abs().max() > 1e-4


def test_a_bad_image_of_one_process_ends_both(runs):
    _, results, message = runs
    first, second = results["bad image"]["codes"]
    assert second == 2
    assert first not in (0, "timeout")
    assert "rank 1: DataError" in message
    assert "3.png: this is not an image" in message


def test_a_bad_number_of_one_process_ends_both_with_a_sentence(runs):
    _, results, message = runs
    assert results["bad number"]["codes"] == [2, 2]
    assert "rank 0: TrainingError: step 3: the loss is not finite or too large in another process" in message
    assert "rank 1: TrainingError: step 3: the loss is nan (largest term: cls = nan) on " in message


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "good"), [("empty", True), ("bad", False)])
def test_torchrun(data, runs, kind, good):
    """The same through torchrun itself, which ends in time whether all processes succeed or one fails."""
    folder, sets = data
    run = folder / f"torchrun {kind}"
    case = {"data": str(sets[kind]), "run": str(run), "overrides": TINY + IN_ORDER, "in_order": True}
    spec = folder / f"{kind}.json"
    spec.write_text(json.dumps({**case, "attempts": [{}]}))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    begun = time.monotonic()
    done = subprocess.run(
        [*launcher, str(SCRIPT), "--one", str(spec)],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=120,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == good, done.stderr[-3000:]
    assert time.monotonic() - begun < 90
    if good:
        states = [load_file(path / "state.safetensors") for path in (run, folder / "float32 2")]
        assert all((states[0][key] == states[1][key]).all() for key in states[0])
    else:
        assert "rank 1: DataError" in done.stderr
