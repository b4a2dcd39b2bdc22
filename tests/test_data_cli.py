"""The command line on data that is not COCO, or was never split."""

import io
import json

import numpy as np
import pytest
from folders import fill
from PIL import Image

from varifocal.cli import main

TINY = [
    "model.backbone.name=resnet18",
    "model.backbone.pretrained=none",
    "model.backbone.frozen_stages=0",
    "model.channels=32",
    "model.num_levels=3",
    "model.num_convs=1",
    "data.preprocess.short_side=64",
    "data.preprocess.max_long_side=96",
    "train.epochs=1",
    "train.batch_size=2",
    "train.num_workers=0",
    "train.warmup_steps=0",
]


def noise(seed: int) -> bytes:
    """An image of 96 x 64 that looks like no other."""
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 12, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((96, 64)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def unsplit(tmp_path):
    """Ten images with YOLO labels, and a table of other boxes that is not meant."""
    files = {"data.yaml": "train: images\nnames: [cat, dog]\n", "boxes.csv": "image,xmin,ymin,xmax,ymax,label\n"}
    for i in range(10):
        files |= {f"images/{i}.png": noise(i), f"labels/{i}.txt": f"{i % 2} 0.5 0.5 0.4 0.4\n"}
    return fill(tmp_path / "data", files)


def refused(capsys, *arguments) -> str:
    """The one sentence of a command that must fail."""
    capsys.readouterr()
    assert main([str(word) for word in arguments]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("varifocal ")]
    return line


def test_train_and_eval_on_what_was_never_split(unsplit, tmp_path, capsys, monkeypatch):
    """The images lie outside the data folder, and the run remembers where, whatever the working directory."""
    run, checkpoint = tmp_path / "run", tmp_path / "run/best.safetensors"
    assert "--format" in refused(capsys, "train", unsplit, "--out", run, *TINY)
    (unsplit / "images").rename(tmp_path / "[v2]")
    assert "--images" in refused(capsys, "train", unsplit, "--format", "yolo", *TINY)
    monkeypatch.chdir(tmp_path)
    images = ["--images", "[v2]"]
    words = ["--format", "yolo", "--val-fraction", "0.3", *images]
    assert main(["train", str(unsplit), "--out", str(run), *words, *TINY, "data.split_seed=4"]) == 0
    said = capsys.readouterr()
    assert "split by seed 4 into 7 images to train on and 3 to validate on (30.0%)" in said.err
    assert (run / "metrics.json").is_file()
    assert "val_fraction: 0.3" in (run / "recipe.yaml").read_text()
    assert f"images: {tmp_path}/[v2]\n" in (run / "recipe.yaml").read_text()
    measured = json.loads((run / "metrics.json").read_text())
    assert (
        main(["eval", str(checkpoint), str(unsplit), *words, "--split-seed", "4", "--output-json", str(tmp_path / "m")])
        == 0
    )
    assert json.loads((tmp_path / "m").read_text()) == measured
    monkeypatch.chdir(unsplit)
    assert main(["train", str(unsplit), "--resume", str(run)]) == 0
    for given in (words, ["--images", tmp_path], ["--unlabeled", "skip"]):
        assert "--resume" in refused(capsys, "train", unsplit, "--resume", run, *given)
    assert main(["eval", str(checkpoint), str(unsplit), "--format", "yolo", "--images", f"{tmp_path}/[v2]"]) == 0
    assert "no split 'val'" in refused(capsys, "eval", checkpoint, unsplit, "--format", "yolo", "--split", "val")


def test_a_data_set_with_a_validation_split_is_not_split_again(unsplit, tmp_path, capsys):
    fill(unsplit, {"data.yaml": "train: images\nval: images\nnames: [cat, dog]\n"})
    message = refused(
        capsys, "train", unsplit, "--out", tmp_path / "run", "--format", "yolo", "--val-fraction", "0.3", *TINY
    )
    assert "there is a split 'val' already (of train, val); leave --val-fraction out." in message
    message = refused(
        capsys,
        "convert-dataset",
        unsplit,
        tmp_path / "out",
        "--to",
        "coco",
        "--format",
        "yolo",
        "--val-fraction",
        "0.3",
    )
    assert "there is a split 'val' already (of train, val); leave --val-fraction out." in message
    assert "'loom' is not known" in refused(capsys, "train", unsplit, "--format", "loom", *TINY)


@pytest.mark.parametrize("share", ["0", "1", "-1", "x", "nan"])
def test_shares_that_cannot_be(unsplit, capsys, share):
    with pytest.raises(SystemExit) as error:
        main(["train", str(unsplit), "--val-fraction", share])
    assert error.value.code == 2
    assert "such as 0.2" in capsys.readouterr().err


def test_convert_data(unsplit, tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        main(["convert-dataset", str(unsplit), str(out), "--to", "voc", "--format", "yolo", "--val-fraction", "0.2"])
        == 0
    )
    said = capsys.readouterr()
    assert f"{out}: written as voc; check it with: varifocal check {out}" in said.out
    assert "split by seed 0 into 8 images" in said.err
    assert len((out / "ImageSets/Main/val.txt").read_text().split()) == 2
    assert "already exists" in refused(capsys, "convert-dataset", unsplit, out, "--to", "coco", "--format", "yolo")
    with pytest.raises(SystemExit):
        main(["convert-dataset", str(unsplit), str(out)])


def test_check_preview_and_conversion_take_the_images_where_they_are(unsplit, tmp_path, capsys, monkeypatch):
    (unsplit / "images/3.png").rename(unsplit / "images/e.png")
    (unsplit / "labels/3.txt").unlink()
    (unsplit / "images").rename(unsplit / "a*b")
    monkeypatch.chdir(tmp_path)
    words = ["--format", "yolo", "--images", "a*b"]
    assert main(["check", str(unsplit), *words, "--annotations-only", "--output-json", "c.json", *TINY]) == 0
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["decoding"]["images"] == 10
    assert content["counts"]["no-boxes"]["count"] == 1
    assert main(["preview", str(unsplit), *words, "--unlabeled", "skip", "--num-images", "2", *TINY]) == 0
    assert (tmp_path / "preview.png").is_file()
    said = capsys.readouterr().err
    assert "1 image has no file of labels and is left out, first e.png." in said
    for unlabeled, count in (("background", 10), ("skip", 9)):
        out = tmp_path / unlabeled
        assert main(["convert-dataset", str(unsplit), str(out), "--to", "coco", *words, "--unlabeled", unlabeled]) == 0
        assert len(list((out / "images/train").iterdir())) == count
    assert main(["convert-dataset", str(unsplit), str(tmp_path / "not"), "--to", "coco", "--format", "yolo"]) == 2


def test_a_data_set_without_an_object_is_said_to_have_none(tmp_path, capsys):
    files = {"data.yaml": "train: images\nnames: [cat]\n", "images/0.png": noise(0), "labels/0.txt": ""}
    data = fill(tmp_path / "data", files)
    assert main(["train", str(data), "--out", str(tmp_path / "run"), *TINY]) == 0
    said = capsys.readouterr().err
    assert "none of the 1 training images has an object to learn" in said
    (data / "labels/0.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    assert main(["train", str(data), "--out", str(tmp_path / "other"), *TINY]) == 0
    assert "has an object" not in capsys.readouterr().err
