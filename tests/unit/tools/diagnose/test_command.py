"""The verb from end to end: what is written, what is shown, what is said of mistakes."""

import io
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from detection_cases import make_data, xywh
from PIL import Image
from rich.console import Console

from varifocal.analysis.diagnosis import diagnose
from varifocal.analysis.diagnosis_plots import make_plots
from varifocal.cli import main
from varifocal.data.coco_results import read_results
from varifocal.data.load import load_dataset
from varifocal.tools.diagnose.console import show
from varifocal.types import TTA, Preprocess, Tiling

PLOTS = ["confusion.svg", "errors.svg", "precision-recall.svg", "reliability.svg", "score-iou.svg", "worth.svg"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A COCO data set with images, and the results of a made detector."""
    root = tmp_path_factory.mktemp("made") / "data"
    root.mkdir()
    data, detections = make_data(0, images=8)
    boxes = [
        (sample, box, label, crowd)
        for sample in data.samples
        for box, label, crowd in zip(sample.boxes, sample.labels, sample.crowd, strict=True)
    ]
    content = {
        "images": [
            {"id": s.image_id, "file_name": s.file.name, "width": s.width, "height": s.height} for s in data.samples
        ],
        "categories": [{"id": category.id, "name": category.name} for category in data.categories],
        "annotations": [
            {
                "id": i,
                "image_id": sample.image_id,
                "category_id": data.categories[label].id,
                "bbox": xywh(box),
                "iscrowd": int(crowd),
            }
            for i, (sample, box, label, crowd) in enumerate(boxes)
        ],
    }
    for sample in data.samples:
        Image.new("RGB", (sample.width, sample.height)).save(root / sample.file.name)
    (root / "val.json").write_text(json.dumps(content), encoding="utf-8")
    results = [
        entry
        for sample, one in zip(data.samples, detections, strict=True)
        for entry in one.to_coco(sample.image_id, "")
    ]
    (root.parent / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return root


def run(folder, *words):
    return main(["diagnose", str(folder), "--predictions", str(folder.parent / "results.json"), *map(str, words)])


def test_everything_is_shown_and_written(folder, tmp_path, capsys):
    assert run(folder, "--output-json", tmp_path / "d.json", "--plot-dir", tmp_path / "plots", "--num-worst", 3) == 0

    shown = capsys.readouterr().out
    for words in ("what separates AP from 100", "errors (TIDE)", "LaECE", "worst images", "best F1", "brush"):
        assert words in shown
    found = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))
    assert found["version"] == 1
    assert len(found["worst"]) == 3
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == PLOTS
    for path in (tmp_path / "plots").iterdir():
        ElementTree.parse(path)


def test_the_json_is_that_of_python(folder, tmp_path):
    assert run(folder, "--output-json", tmp_path / "d.json") == 0
    data = load_dataset(folder)
    found = diagnose(read_results(folder.parent / "results.json", data), data)
    told = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))
    assert told == json.loads(json.dumps(found.to_json()))
    assert told["ap"]["AP"] == pytest.approx(found.ap["AP"], abs=1e-6)
    assert told["classes"][1]["curves"]["iou50"] == pytest.approx(found.given.whole.precision[0, :, 1], abs=1e-6)
    assert len(told["curves"]["recall"]) == len(told["curves"]["mean"]) == 101
    assert sum(map(sum, told["scatter"]["cells"])) == told["scatter"]["total"]
    parts = told["ranking"]["worth"]
    assert parts["given"] + parts["ranking"] + parts["duplicates"] + parts["boxes"] == pytest.approx(1, abs=1e-5)


def test_a_model_is_asked_for_what_it_finds(folder, capsys, monkeypatch):
    """Its AP is that of eval; its classes have another order than those of the data."""
    from varifocal.evaluation.evaluate import measure
    from varifocal.types import Category, Detections

    data = load_dataset(folder)
    found = iter(read_results(folder.parent / "results.json", data))
    categories = (Category(1, "dog"), Category(2, "zebra"), Category(3, "brush"), Category(4, "cat"))
    place = np.array([[c.name for c in categories].index(c.name) for c in data.categories])
    made = [Detections(one.boxes, one.scores, place[one.labels], categories) for one in found]

    class Post:
        max_detections = 300

    class Info:
        postprocess = Post()
        preprocess, tiling, tta = Preprocess(), Tiling(), TTA()

    class Model:
        info, device = Info(), "cpu"
        waiting = iter(made)

        def __init__(self):
            self.categories = categories

        def predict(self, image, **_):
            return next(self.waiting)

    model = Model()
    monkeypatch.setattr("varifocal.cli.study.load_model", lambda options: model)
    assert main(["diagnose", "any.safetensors", str(folder)]) == 0
    ap = measure(model, data, made).AP
    assert f"AP {100 * ap:.1f}, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["any.safetensors", "DATA", "--predictions", "RESULTS"], "name either a checkpoint before DATA"),
        (["DATA"], "name either a checkpoint before DATA"),
        (["DATA", "--predictions", "no.json"], "no.json: the file cannot be read"),
        (
            ["DATA", "--predictions", "RESULTS", "--target-precision", "90"],
            "target precision 90: must be above 0 and at most 1",
        ),
        (["DATA", "--predictions", "RESULTS", "--iou-threshold", "0"], "IoU threshold 0: must be at least 0.1"),
        (["DATA", "--predictions", "RESULTS", "--max-detections", "0"], "0 detections per class and 20 worst images"),
        (["DATA", "--predictions", "RESULTS", "--output-json", "/dev/null/x"], "cannot be written"),
        (["DATA", "--predictions", "RESULTS", "--plot-dir", "RESULTS"], "cannot be written"),
        (["DATA", "--predictions", "RESULTS", "--tta"], "--tta applies to a checkpoint"),
        (["DATA", "DATA"], "is a folder, not a checkpoint"),
        (["nowhere", "--predictions", "RESULTS"], "nowhere: there is no such file or folder"),
    ],
)
def test_mistakes_are_said_in_a_sentence(folder, capsys, words, message):
    paths = {"DATA": str(folder), "RESULTS": str(folder.parent / "results.json")}
    assert main(["diagnose", *(paths.get(word, word) for word in words)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("score", ["nan", "inf"])
def test_a_least_score_is_a_number(folder, capsys, score):
    assert (
        main(
            ["diagnose", str(folder), "--predictions", str(folder.parent / "results.json"), "--score-threshold", score]
        )
        == 2
    )
    assert f"score threshold {score}: must be a finite number" in capsys.readouterr().err


def test_nothing_is_shown_as_dashes(tmp_path):
    data, detections = make_data(0, images=3)
    nothing = [one.filter(2.0) for one in detections]
    console = Console(width=80, record=True, file=io.StringIO())
    found = diagnose(nothing, data)
    console.print(show(found))
    text = console.export_text()
    assert "AP 0.0, AP50 0.0" in text
    assert not {"nan", "None"} & set(text.split())
    assert sorted(make_plots(found)) == ["confusion.svg", "errors.svg", "precision-recall.svg", "worth.svg"]


def test_eighty_columns_are_enough(folder):
    data = load_dataset(folder)
    found = diagnose(read_results(folder.parent / "results.json", data), data)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(show(found))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 50
    assert not any("…" in line for line in lines)


def test_a_name_that_is_no_text_is_shown(folder):
    """Linux lets a file be called by bytes that are no UTF-8, which no terminal can show."""
    data = load_dataset(folder, "val")
    data = replace(data, samples=tuple(replace(one, file=Path("caf\udce9.png")) for one in data.samples))
    found = diagnose(read_results(folder.parent / "results.json", data), data)
    terminal = io.TextIOWrapper(io.BytesIO(), "utf-8")
    Console(width=120, file=terminal).print(show(found))
    terminal.flush()
    assert b"caf?.png" in terminal.buffer.getvalue()


def test_without_any_object_there_is_no_chart(tmp_path, capsys):
    root = tmp_path / "data"
    root.mkdir()
    Image.new("RGB", (20, 10)).save(root / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [],
    }
    (root / "val.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "results.json").write_text("[]", encoding="utf-8")
    assert run(root, "--plot-dir", tmp_path / "plots") == 0
    assert f"{tmp_path / 'plots'}: no chart, since no object is labeled" in capsys.readouterr().out
