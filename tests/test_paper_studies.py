"""Studies of finished runs of the paper's claims: which runs, what is kept, and the numbers of the refinement."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detection_cases import iou_of
from tiny_data import TINY, make_data

from varifocal.data.load import load_dataset
from varifocal.inference.model import save
from varifocal.recipes.build import build_model
from varifocal.recipes.recipe import Recipe, write_recipe
from varifocal.structures import Outputs
from varifocal.utils.overrides import override

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks" / "paper"


@pytest.fixture
def scripts(monkeypatch):
    """Imports a script of the folder, which find one another as when they are run; none is left behind."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)
    yield importlib.import_module
    for path in FOLDER.glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)


@pytest.fixture
def runs(tmp_path):
    """A folder of runs with data, a VFNet of row star-refine-norm with seed 0 that was never trained, and results."""
    folder = tmp_path / "runs"
    data = make_data(folder / "frames", images=2)
    torch.manual_seed(0)
    recipe = override(Recipe(), [*TINY, "model.star_norm=group"])
    model = build_model(recipe, load_dataset(data, "val").categories)
    with torch.no_grad():  # boxes of some 24 pixels, with scores on both sides of 0.3
        model.detector.head.cls.bias.fill_(-1.0)
        model.detector.head.cls.weight.normal_(std=0.1)
        model.detector.head.reg.bias.fill_(-1.6)
    place = folder / "star-refine-norm-seed0"
    save(model, place / "best.safetensors")
    write_recipe(recipe, place / "recipe.yaml")
    (place / "metrics.json").write_text(json.dumps({"AP": 0.25}))
    results = tmp_path / "results.json"
    entry = {"row": "star-refine-norm", "seed": 0, "metrics": {"AP": 0.25}}
    results.write_text(json.dumps({"runs": [entry]}))
    return folder, results


def study(monkeypatch, module, runs, *words):
    """What the results hold after the command of a study."""
    places = ["--runs", str(runs[0]), "--results", str(runs[1])]
    monkeypatch.setattr(sys, "argv", ["study", *places, "--threads", "1", *words])
    module()
    return json.loads(runs[1].read_text())


def test_a_study_is_made_once_of_each_finished_run(scripts, runs, monkeypatch, capsys):
    studies, asked = scripts("studies"), []

    def look(checkpoint, frames, words):
        asked.append((checkpoint.parent.name, frames.name, words))
        return {"number": len(asked)}

    def command():
        studies.main("", "looks", look)

    found = study(monkeypatch, command, runs)
    assert asked == [("star-refine-norm-seed0", "frames", "star-refine-norm, seed 0")]
    assert found["looks"] == [{"row": "star-refine-norm", "seed": 0, "number": 1}]
    assert len(found["runs"]) == 1
    assert study(monkeypatch, command, runs) == found
    assert study(monkeypatch, command, runs, "--only", "atss") == found
    assert len(asked) == 1
    assert capsys.readouterr().err == ""


def test_a_checkpoint_of_another_training_is_left_out_and_said_so(scripts, runs, monkeypatch, capsys):
    """Its rank correlation would stand beside an AP that is not its own."""
    studies = scripts("studies")
    folder, results = runs
    (folder / "star-refine-norm-seed0" / "metrics.json").write_text(json.dumps({"AP": 0.26}))
    other = folder / "atss-mal-seed1"
    other.mkdir()
    for name in ("best.safetensors", "metrics.json"):
        (other / name).write_bytes((folder / "star-refine-norm-seed0" / name).read_bytes())
    (folder / "atss-mal-seed2").mkdir()  # still trained
    found = study(monkeypatch, lambda: studies.main("", "looks", lambda *_: pytest.fail("it was looked at")), runs)
    assert "looks" not in found
    first, second = capsys.readouterr().err.splitlines()
    assert first == (
        f"{folder / 'star-refine-norm-seed0'}: left out; its AP is 0.2600 and {results} has one of AP 0.2500"
    )
    assert second.endswith(f"its AP is 0.2600 and {results} has no such run")


def test_results_of_one_run_take_the_place_of_older_ones(scripts, tmp_path):
    keep, results = scripts("run").keep, tmp_path / "results.json"
    for seed, ap in ((0, 0.1), (1, 0.2), (0, 0.3)):
        found = keep(tmp_path, "runs", {"row": "a", "seed": seed, "AP": ap}, results)
    keep(tmp_path, "looks", {"row": "a", "seed": 0}, results)
    assert [(one["seed"], one["AP"]) for one in found["runs"]] == [(1, 0.2), (0, 0.3)]
    content = json.loads(results.read_text())
    assert (len(content["runs"]), len(content["looks"])) == (2, 1)


def test_runs_whose_checkpoint_is_gone_are_trained_again_on_request(scripts, runs, monkeypatch):
    module, (folder, results) = scripts("run"), runs
    monkeypatch.setattr(module, "RESULTS", results)
    (row,) = [row for group in module.rows() for row in group if row.name == "star-refine-norm"]
    assert module._done(row, 0, None)
    assert module._done(row, 0, folder)
    assert not module._done(row, 1, None)
    (folder / "star-refine-norm-seed0" / "best.safetensors").unlink()
    assert module._done(row, 0, None)
    assert not module._done(row, 0, folder)


def test_ranking_is_that_of_the_diagnosis(scripts, runs, monkeypatch):
    """The same numbers as the verb writes."""
    from varifocal.cli import main

    found = study(monkeypatch, lambda: scripts("studies").main("", "ranking", scripts("ranking").study), runs)
    folder, results = runs
    (entry,) = found["ranking"]
    assert (entry["row"], entry["seed"]) == ("star-refine-norm", 0)
    file = results.with_name("diagnosis.json")
    checkpoint = folder / "star-refine-norm-seed0" / "best.safetensors"
    assert (
        main(["diagnose", str(checkpoint), str(folder / "frames"), "--split", "val", "--output-json", str(file)]) == 0
    )
    wanted, numbers = json.loads(file.read_text()), entry["metrics"]
    near, worth = wanted["ranking"]["near"], wanted["ranking"]["worth"]
    assert numbers["near"] == near["count"] > 10
    pairs = [
        ("spearman", near["spearman"]),
        ("kendall", near["kendall"]),
        ("spearman_all", wanted["ranking"]["all"]["spearman"]),
        ("laece", wanted["calibration"]["laece"]),
        ("laece_all", wanted["calibration"]["laece_all"]),
        ("AP", wanted["ap"]["AP"]),
        ("AP75", wanted["ap"]["AP75"]),
        *((f"lost_to_{name}", worth[name]) for name in ("ranking", "duplicates", "boxes")),
    ]
    assert {name for name, _ in pairs} | {"near"} == set(numbers)
    for name, value in pairs:
        assert numbers[name] == pytest.approx(value, abs=1e-6), name


def test_refinement_of_a_run(scripts, runs, monkeypatch):
    found = study(monkeypatch, lambda: scripts("studies").main("", "refinement", scripts("refinement").study), runs)
    (entry,) = found["refinement"]
    assert entry["positives"]["count"] == sum(part["count"] for part in entry["bins"]) > 5
    assert 0 < entry["positives"]["initial"] < 1
    assert entry["true_positives"] is None or entry["true_positives"]["count"] > 0


def test_boxes_of_positives_by_a_literal_loop(scripts, runs, monkeypatch):
    """Boxes of any sides at every point; which points are positive says the detector's own assignment."""
    from varifocal.inference.model import load

    module, folder = scripts("refinement"), runs[0]
    data = load_dataset(folder / "frames", "val")
    data = replace(data, samples=data.samples[:1])
    model = load(folder / "star-refine-norm-seed0" / "best.safetensors")
    sample = data.samples[0]  # 96 x 80 pixels, seen as they are
    said, given = [], []
    rng = torch.Generator().manual_seed(1)
    sides = {name: torch.rand(1, 189, 4, generator=rng) * 20 + 2 for name in ("initial", "refined")}

    def forward(images):
        said.append(tuple(images.shape))
        rows = [(images.shape[2] // stride, images.shape[3] // stride) for stride in (8, 16, 32)]
        count = sum(height * width for height, width in rows)
        tensors = {name: value[:, :count] for name, value in sides.items()}
        return Outputs({"logits": torch.zeros(1, count, 2), **tensors}, tuple(rows))

    assign = model.detector.assign
    monkeypatch.setattr(model, "forward_optimized", forward)
    monkeypatch.setattr(model.detector, "assign", lambda *args: given.append(assign(*args)) or given[-1])
    pairs = module.at_positives(model, data)
    (dense,) = given
    ((_, _, height, width),) = said
    points = [
        (column * stride, row * stride)
        for stride in (8, 16, 32)
        for row in range(height // stride)
        for column in range(width // stride)
    ]
    wanted = {"initial": [], "refined": []}
    for place in range(len(points)):
        if dense.positive[0, place]:
            x, y = points[place]
            for name, found in wanted.items():
                left, top, right, bottom = sides[name][0, place].tolist()
                box = [x - left, y - top, x + right, y + bottom]
                found.append(iou_of(box, dense.boxes[0, place].tolist()))
    assert len(pairs.initial) == len(wanted["initial"]) > 5
    for name, values in wanted.items():
        np.testing.assert_allclose(getattr(pairs, name), np.maximum(values, 0), atol=1e-5)
    assert {tuple(box) for box in dense.boxes[0][dense.positive[0]].tolist()} <= {
        tuple(box) for box in sample.boxes.astype(np.float32).tolist()
    }


def test_means_and_parts_by_hand(scripts):
    module = scripts("refinement")
    pairs = module.Pairs(np.array([0.2, 0.3, 0.65, 1.0]), np.array([0.4, 0.1, 0.75, 1.0]))
    assert module.moved(pairs) == {
        "count": 4,
        "initial": pytest.approx(2.15 / 4),
        "refined": pytest.approx(2.25 / 4),
        "better": 0.5,
    }
    parts = module.by_first_box(pairs)
    assert [(part["from"], part["to"]) for part in parts][:2] == [(0.0, 0.3), (0.3, 0.5)]
    assert [part["count"] for part in parts] == [1, 1, 0, 1, 0, 0, 1]  # 1 is in the last part
    assert parts[0]["refined"] == pytest.approx(0.4)
    assert parts[2] == {"from": 0.5, "to": 0.6, "count": 0, "initial": None, "refined": None, "better": None}
    empty = module.moved(module.Pairs(np.zeros(0), np.zeros(0)))
    assert empty == {"count": 0, "initial": None, "refined": None, "better": None}


def test_the_rows_that_refine(scripts):
    names = scripts("refinement").refining()
    assert {"star-refine", "star-refine-norm", "vfnet-norm-mal", "star-refine-norm-long"} <= set(names)
    assert not {"star", "star-norm", "raw-varifocal", "fcos-atss", "atss-mal", "reppoints-varifocal"} & set(names)
