"""What a run lacks is said, and the rest is shown; nothing at all is an error."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from error_codes import raises_code
from page_reader import Page
from PIL import Image
from run_folders import make_model

import varifocal as vf
from varifocal.cli import main
from varifocal.data.load import load_dataset
from varifocal.inference.model import save
from varifocal.tools.report import measure
from varifocal.tools.report.make import make_report
from varifocal.tools.report.page import make_page
from varifocal.utils.errors import ConfigError


@pytest.fixture
def run(folders, tmp_path):
    return shutil.copytree(folders[1][1], tmp_path / "run")


def read(report):
    return Page(make_page(report))


@pytest.mark.parametrize(
    ("name", "said", "lost", "kept"),
    [
        ("log.jsonl", "run: log.jsonl is missing.", "Learning rate", "Metrics, %"),
        ("best.safetensors", "without its best weights there is no diagnosis", "Precision and recall", "Metrics, %"),
        ("data.json", "its folder does not name the data", "Precision and recall", "Learning rate"),
        ("recipe.yaml", "run: recipe.yaml is missing.", "Precision and recall", "Learning rate"),
        ("metrics.json", "run: metrics.json is missing.", "no such words", "Metrics, %"),
    ],
)
def test_without_one_file(run, name, said, lost, kept):
    (run / name).unlink()
    words = read(make_report([run], examples=1)).words
    assert said in words
    assert lost not in words
    assert kept in words


@pytest.mark.parametrize("name", ["log.jsonl", "data.json", "recipe.yaml", "metrics.json", "best.safetensors"])
@pytest.mark.parametrize("content", [b"", b"[1]", b'{"a": ', b"\xff\x00", b'{"AP": NaN, "per_class": 3, "data": 4}'])
def test_with_one_file_damaged(run, name, content):
    (run / name).write_bytes(content)
    make_page(make_report([run], examples=1))


def test_without_metrics_they_are_measured(run):
    (run / "metrics.json").unlink()
    report = make_report([run], examples=0)
    measured = report.runs[0].measured
    assert report.runs[0].metrics["AP"] == pytest.approx(measured.diagnosis.ap["AP"], abs=1e-9)


def test_other_data(folders, run):
    """Named data is measured, whatever the run says of itself."""
    data = load_dataset(folders[0], "train")
    report = make_report([run], data=data, examples=1)
    shown = report.runs[0]
    assert shown.metrics["AP"] == pytest.approx(shown.measured.diagnosis.ap["AP"], abs=1e-9) != 0.133
    assert f"Evaluated on {data.source}" in read(report).words
    (run / "best.safetensors").unlink()
    assert make_report([run], data=data).runs[0].metrics is None


def test_data_that_is_gone_or_changed(run):
    known = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({**known, "data": "nowhere"}))
    assert (
        f"its data nowhere does not exist (searched in {Path.cwd()}); name it with --data"
        in read(make_report([run])).words
    )
    (run / "data.json").write_text(json.dumps({**known, "sha256": "0"}))
    report = make_report([run], examples=1)
    assert report.runs[0].measured is not None
    assert "have changed since it was trained" in read(report).words


def test_data_is_found_from_another_working_directory(folders, tmp_path, monkeypatch):
    """Where it was when the run began, or where it was from the run, for both may have been moved together."""
    data = shutil.copytree(folders[0], tmp_path / "work" / "set")
    run = shutil.copytree(folders[1][1], tmp_path / "work" / "runs" / "one")
    known = json.loads((run / "data.json").read_text())
    places = {"data": "set", "absolute": str(data), "from_run": "../../set"}
    (run / "data.json").write_text(json.dumps({**known, **places}))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for folder in (tmp_path / "work", tmp_path / "moved"):
        if not folder.exists():
            shutil.move(tmp_path / "work", folder)
        report = make_report([Path("..") / folder.name / "runs" / "one"], examples=1)
        assert report.runs[0].measured is not None
        assert "does not exist" not in read(report).words
    shutil.move(tmp_path / "moved" / "runs", tmp_path / "runs")  # without its data
    assert "its data set does not exist" in read(make_report([tmp_path / "runs" / "one"])).words


def test_a_model_that_lacks_a_class(run):
    save(make_model(["berry"]), run / "best.safetensors")
    assert "the model was not trained on" in read(make_report([run])).words


def test_another_detector_has_no_star(run):
    model = vf.create_model(
        "atss", backbone="test_resnet", classes=[c.name for c in make_model(["a"]).categories], channels=32
    )
    save(model, run / "best.safetensors")
    data = run.parent / "data"
    data.mkdir()
    Image.new("RGB", (96, 80), (90, 120, 40)).save(data / "1.png")
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 96, "height": 80}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 30, 30]}],
        "categories": [{"id": 1, "name": "a"}],
    }
    (data / "annotations.json").write_text(json.dumps(content))
    report = make_report([run], data=load_dataset(data))
    assert report.runs[0].measured.stars is None
    assert report.runs[0].measured.gain is None
    Page(make_page(report))


def test_nothing_is_an_error(tmp_path):
    with raises_code("no-run-folder", ConfigError):
        make_report([tmp_path])
    with raises_code("no-folder", ConfigError):
        make_report([])


def test_more_runs_than_colors(run, tmp_path):
    others = [shutil.copytree(run, tmp_path / f"other{i}") for i in range(6)]
    report = make_report([run, *others], inference=False)
    assert len(report.runs) == 6
    assert report.notes == ("a page shows 6 runs side by side; left out: other5",)
    assert "inference skipped (--no-inference)" in read(report).words


def test_runs_of_one_name(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "b" / "run")
    assert [one.name for one in make_report([run, other], inference=False).runs] == [f"{tmp_path.name}/run", "b/run"]


def test_the_verb(folders, run, tmp_path, capsys):
    out = tmp_path / "page.html"
    words = ["report", str(run), "--out", str(out), "--output-json", str(tmp_path / "r.json"), "--examples", "1"]
    assert main([*words, "--data", str(folders[0]), "--split", "val"]) == 0
    assert Page(out.read_text(encoding="utf-8")).table("Metrics")["metric"] == ["run"]
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["runs"][0]["diagnosis"]["images"] == 3
    assert f"{out}: 1 run" in capsys.readouterr().out
    for wrong, said in (
        ([str(tmp_path / "no")], "neither a run"),
        ([str(run), "--split", "val"], "apply to --data"),
        ([str(run), "--examples", "-1"], "a page shows 0 to 100 images"),
        ([str(run), "--baseline", "a"], "must be a row of a sweep"),
        ([str(run), "--output-json", str(out)], "give each a file of its own"),
    ):
        assert main(["report", "--out", str(out), *wrong]) == 2
        assert said in capsys.readouterr().err


HUGE = "1" + "0" * 400


@pytest.mark.parametrize(
    "log",
    [
        f'{{"step": {HUGE}, "loss": 1}}',
        f'{{"step": 1, "loss": {HUGE}}}',
        '{"step": 1, "loss": 1' + "0" * 5000 + "}",
        '{"step": 0, "loss": NaN, "lr": 0.1}',
        '{"step": 0, "loss": 1, "validation": {"AP": null}}',
        "[" * 100_000,
    ],
)
def test_a_log_with_numbers_that_are_none(run, log):
    (run / "log.jsonl").write_text(log + '\n{"step": 4, "loss": 2, "lr": 0.5}\n')
    page = make_page(make_report([run], inference=False))
    assert "run ends at 2." in page
    assert 'points="nan' not in page
    assert ",nan" not in page


@pytest.mark.parametrize("metrics", ["[" * 100_000, f'{{"AP": {HUGE}, "AP50": 0.2}}'])
def test_metrics_that_are_too_much(run, metrics):
    (run / "metrics.json").write_text(metrics)
    assert "AP" not in (make_report([run], inference=False).runs[0].metrics or {})


def test_a_step_before_the_first_is_none(run):
    (run / "log.jsonl").write_text('{"step": -1, "loss": 2, "lr": 0.5}\n')
    assert (
        "log.jsonl cannot be read (it has no line of a training step)"
        in read(make_report([run], inference=False)).words
    )


def test_other_images_are_not_subtracted(folders, run, tmp_path):
    """Numbers of other images, or of other labels of the same ones, are no gain over the first run's."""
    data = shutil.copytree(folders[0], tmp_path / "fewer")
    file = data / "val" / "annotations.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "annotations": content["annotations"][1:]}))
    known = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({**known, "data": str(data)}))
    first = folders[1][0]
    for folders_, cells in (([first, run], ["12.3", "13.3"]), ([run, first], ["13.3", "12.3"])):
        report = make_report(folders_, examples=1)
        page = read(report)
        assert page.table("Metrics")["AP"] == cells
        assert page.table("AP by class")["berry"] == [f"{float(cell) + 7.7:.1f}" for cell in cells]
        assert all("(" not in cell for row in page.table("Reasons").values() for cell in row)
        said = f"{report.runs[1].name}: was evaluated on other images or labels than {report.runs[0].name}"
        assert said in page.words
        assert [len(one.scenes) for one in report.examples] == [1]
    assert "(+1.0)" in read(make_report([first, folders[1][1]], examples=0)).table("Metrics")["AP"][1]


def test_other_training_data_is_told_where_nothing_was_measured(folders, run):
    known = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({**known, "sha256": "0"}))
    first = folders[1][0]
    said = "run: was trained on other images or labels than "
    assert said in read(make_report([first, run], inference=False)).words
    assert "was trained on other" not in read(make_report([first, folders[1][1]], inference=False)).words


def test_what_reading_left_out_of_the_data_is_told(folders, run):
    data = replace(load_dataset(folders[0], "val"), notes=("3 boxes were left out",))
    assert "3 boxes were left out." in read(make_report([run], data=data, examples=0)).words


def test_a_folder_named_twice_is_one_run(folders, run, tmp_path, monkeypatch):
    (tmp_path / "results.json").write_text('{"runs": [{"row": "a", "seed": 0, "metrics": {"AP": 0.5}}]}')
    monkeypatch.chdir(tmp_path)
    report = make_report(["run", tmp_path, run, "."], inference=False)
    assert (len(report.runs), len(report.sweeps)) == (1, 1)


@pytest.mark.parametrize("count", [-1, 101])
def test_how_many_images_a_page_holds(run, count):
    with raises_code("number-of-examples", ConfigError):
        make_report([run], examples=count)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_a_run_without_memory_leaves_the_others(folders, monkeypatch, error):
    """What was found for the others may have taken hours."""
    usual, asked = measure._detect, []

    def detect(*arguments):
        asked.append(arguments)
        if len(asked) == 2:
            raise error
        return usual(*arguments)

    monkeypatch.setattr(measure, "_detect", detect)
    report = make_report(folders[1], examples=1)
    assert [one.measured is None for one in report.runs] == [False, True]
    assert "second: there is not enough memory on cpu" in read(report).words


def test_names_that_are_no_text(folders, run, tmp_path, capsys):
    """Linux lets a file be called by bytes that are no UTF-8."""
    names = [category.name for category in load_dataset(folders[0], "val").categories]
    for part in ("images", "labels"):
        (tmp_path / "yolo" / part).mkdir(parents=True)
    try:
        Image.new("RGB", (96, 80)).save(file := tmp_path / "made.png")
        file.rename(tmp_path / "yolo/images/caf\udce9.png")
    except OSError:
        pytest.skip("this file system takes no such name")
    (tmp_path / "yolo/labels/caf\udce9.txt").write_text("0 0.5 0.5 0.3 0.3\n")
    (tmp_path / "yolo/data.yaml").write_text(json.dumps({"train": "images", "val": "images", "names": names}))
    words = ["report", str(run), "--data", str(tmp_path / "yolo"), "--split", "val", "--out", str(tmp_path / "p.html")]
    assert main([*words, "--output-json", str(tmp_path / "p.json")]) == 0
    assert "caf?.png: number 1 of the worst" in (tmp_path / "p.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "p.json").read_text())["examples"][0]["file"].endswith("caf\udce9.png")
