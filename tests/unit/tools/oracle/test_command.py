"""The verbs as a person meets them."""

import contextlib
import json

import pytest
import torch
from PIL import Image

from varifocal.cli import main
from varifocal.inference.model import create_model, save

TINY = {"channels": 32, "num_levels": 3, "num_convs": 1}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A COCO data set of two images, one of them without boxes, and a checkpoint of FCOS; its path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/images").mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (96, 64), (120, 60, 30)).save(tmp_path / f"data/images/{name}.png")
    images = [{"id": i, "file_name": f"{name}.png", "width": 96, "height": 64} for i, name in ((1, "a"), (2, "b"))]
    boxes = [[8, 8, 40, 40], [60, 20, 30, 36], [44, 0, 3, 3]]
    annotations = [
        {"id": i, "image_id": 1, "category_id": 5, "bbox": box, "iscrowd": 0} for i, box in enumerate(boxes, start=1)
    ]
    text = json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 5, "name": "cat"}]})
    (tmp_path / "data/annotations.json").write_text(text)
    torch.manual_seed(0)
    model = create_model("fcos", backbone="test_resnet", classes=["cat"], **TINY)
    torch.nn.init.constant_(model.detector.head.cls.bias, 0.0)
    save(model, "fcos.safetensors")
    return tmp_path


def test_oracle_shows_and_writes(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert (
        main(
            [
                "oracle",
                "fcos.safetensors",
                "data",
                "--output-json",
                "o.json",
                "--plot",
                "o.svg",
                "--assigner",
                "detector",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "perfect_threshold" in out
    assert "assigned by detector" in out
    held = json.loads((folder / "o.json").read_text())
    assert (held["images"], held["objects"], held["assign"]) == (2, 3, "detector")
    assert [row["name"] for row in held["rows"] if row["centerness"]][:3] == ["nothing", "gt_ctr", "gt_ctr_iou"]
    assert held["absent"] == {"gt_refine": "fcos does not refine a first box; only a VFNet with refine=true does"}
    assert (folder / "o.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("words", [["oracle", "--max-images", "1"], ["diagnose"]])
def test_a_closed_pipe_costs_no_file(folder, monkeypatch, words):
    def closed(*_):
        raise BrokenPipeError

    monkeypatch.setattr(f"varifocal.tools.{words[0]}.command.show", closed)
    with contextlib.suppress(BrokenPipeError, SystemExit):
        main([*words, "fcos.safetensors", "data", "--output-json", "o.json"])
    assert (folder / "o.json").exists()


def test_oracle_limits_images_and_agrees_with_eval(folder):
    assert (
        main(["oracle", "fcos.safetensors", "data", "--output-json", "o.json", "--max-images", "1", "--topk", "5"]) == 0
    )
    held = json.loads((folder / "o.json").read_text())
    assert (held["images"], held["assign"]) == (1, "atss top-k 5")
    assert not [row for row in held["rows"] if row["name"] == "gt_bbox@5"]
    assert main(["eval", "fcos.safetensors", "data", "--output-json", "e.json"]) == 0
    assert main(["oracle", "fcos.safetensors", "data", "--output-json", "o.json"]) == 0
    rows = json.loads((folder / "o.json").read_text())["rows"]
    (nothing,) = [row for row in rows if row["name"] == "nothing" and row["centerness"]]
    assert nothing["metrics"] == json.loads((folder / "e.json").read_text())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fcos.safetensors", "data", "--plot", "o.png"], "its name must end in .svg"),
        (["fcos.safetensors", "data", "--plot", "o.svg", "--output-json", "o.svg"], "give each a file of its own"),
        (["fcos.onnx", "data"], "name the checkpoint it was made from"),
        (["fcos.safetensors", "nowhere"], "nowhere"),
    ],
)
def test_oracle_says_what_cannot_be(folder, capsys, words, message):
    (folder / "fcos.onnx").write_bytes(b"")
    assert main(["oracle", *words]) == 2
    assert message in capsys.readouterr().err


def test_assign_view_draws_and_tells(folder, capsys):
    words = ["--out", "points", "data.preprocess.short_side=64", "data.preprocess.max_long_side=96"]
    assert main(["show-assignment", "data", "--recipe", "vfl_foveabox_r50_1x", *words]) == 0
    out = capsys.readouterr().out
    assert "3 objects, " in out
    assert "1 object gets no point, so training never learns from it:" in out
    assert "a.png: cat [44.0, 0.0, 47.0, 3.0], 3 x 3 after the resize" in out
    assert "without a point: cat 1\n" in out
    assert f"Assigned as by vfl_foveabox_r50_1x {' '.join(words[2:])}; name a checkpoint" in out
    assert "--max-images" not in out
    assert sorted(path.name for path in (folder / "points").iterdir()) == ["a.png", "assign.json", "b.png"]
    assert json.loads((folder / "points/assign.json").read_text())["unmatched"] == 1


def test_assign_view_of_a_checkpoint_and_a_limit(folder, capsys):
    assert main(["show-assignment", "data", "--checkpoint", "fcos.safetensors", "--max-images", "1"]) == 0
    out = capsys.readouterr().out
    assert "show-assignment: 1 of 2 images" in out
    assert "\n1 of 2 images; use --max-images 2 for all.\n" in out
    assert "by the recipe" not in out
    held = json.loads((folder / "show-assignment/assign.json").read_text())
    assert (held["eye"], held["strides"]) == ("fcos.safetensors", [8, 16, 32])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checkpoint", "fcos.safetensors", "--recipe", "trees"], "leave out --recipe and key=value overrides"),
        (["--checkpoint", "fcos.onnx"], "an exported file cannot be trained"),
        (["--split", "val"], "val"),
        (["model.magic=1"], "magic"),
    ],
)
def test_assign_view_says_what_cannot_be(folder, capsys, words, message):
    assert main(["show-assignment", "data", *words]) == 2
    assert message in capsys.readouterr().err


def test_assign_view_keeps_the_images_of_the_data(folder, capsys):
    """Pages are called like their images: in the same folder they would take their places."""
    before = (folder / "data/images/a.png").read_bytes()
    words = ["show-assignment", "data", "--checkpoint", "fcos.safetensors"]
    for _ in range(2):
        assert main([*words, "--out", "data/images"]) == 2
        assert "a.png: would be overwritten; choose another --out" in capsys.readouterr().err
        assert (folder / "data/images/a.png").read_bytes() == before
        (folder / "data/images/assign.json").write_text("{}")  # as an earlier call would have left it
    (folder / "mine").mkdir()
    (folder / "mine/b.png").write_bytes(b"mine")
    assert main([*words, "--out", "mine"]) == 2
    assert (folder / "mine/b.png").read_bytes() == b"mine"
    assert main([*words, "--out", "points"]) == main([*words, "--out", "points"]) == 0


def test_assign_view_keeps_its_numbers_where_a_image_cannot_be_drawn(folder, capsys):
    (folder / "data/images/b.png").write_bytes(b"cut off")
    assert main(["show-assignment", "data", "--checkpoint", "fcos.safetensors", "--out", "points"]) == 2
    assert "b.png" in capsys.readouterr().err
    assert json.loads((folder / "points/assign.json").read_text())["objects"] == 3
