"""Planned runs on data with little in it: each trains and measures, or ends in one sentence that says why not."""

import json

import numpy as np
import pytest
from PIL import Image

from varifocal.cli import main

# a real plan, with a small network and a short run
SMALL = (
    "model.backbone={name: test_resnet, pretrained: none}",
    "model.channels=16",
    "model.num_convs=1",
    "train.device=cpu",
)


def write(folder, sizes, boxes, *, classes=("cat", "dog"), splits=("train", "val")):
    """A COCO data set whose splits have images of these sizes, each with the same boxes (label, x, y, w, h)."""
    rng = np.random.default_rng(0)
    for split in splits:
        (folder / split).mkdir(parents=True)
        images, annotations = [], []
        for i, (width, height) in enumerate(sizes):
            pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / split / f"{i}.png")
            images.append({"id": i, "file_name": f"{i}.png", "width": width, "height": height})
            for label, *box in boxes:
                entry = {"id": len(annotations), "image_id": i, "category_id": label, "bbox": box, "iscrowd": 0}
                annotations.append(entry)
        categories = [{"id": i, "name": name} for i, name in enumerate(classes)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / split / "annotations.json").write_text(json.dumps(content))
    return folder


def run(folder, out, *words):
    return main(["train", str(folder), "--out", str(out), *SMALL, *words])


@pytest.mark.parametrize(
    ("sizes", "boxes", "more"),
    [
        ([(64, 48)], [(0, 5, 5, 30, 30), (1, 40, 10, 20, 20)], {}),  # one image
        ([(64, 48)] * 3, [(0, 5, 5, 30, 30)], {"classes": ("cat",)}),  # one class
        ([(64, 48)] * 3, [(0, 5, 5, 30, 30)], {"splits": ("train",)}),  # nothing to validate on
        ([(1, 1)] * 3, [(0, 0, 0, 1, 1)], {}),  # images of one pixel
        ([(300, 2)] * 2, [(0, 10, 0, 20, 2)], {}),  # images of two rows
        ([(64, 48), (48, 200), (500, 30)], [(0, 5, 5, 20, 20)], {}),  # all shapes
    ],
    ids=["one image", "one class", "no validation", "one pixel", "two rows", "all shapes"],
)
def test_it_trains(tmp_path, capfd, sizes, boxes, more):
    folder = write(tmp_path / "data", sizes, boxes, **more)
    assert run(folder, tmp_path / "run", "--epochs", "1") == 0, capfd.readouterr().err
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    assert (tmp_path / "run/best.safetensors").is_file()
    assert (tmp_path / "run/metrics.json").is_file() == ("splits" not in more)
    if "splits" in more:
        assert "--val-fraction" in said.err


def test_weights_of_another_detector_bring_it(tmp_path, capfd):
    folder = write(tmp_path / "data", [(64, 48)] * 3, [(0, 5, 5, 30, 30)])
    words = ("detector=atss", "train.epochs=1", "data.preprocess.short_side=48", "data.preprocess.max_long_side=64")
    assert main(["train", str(folder), "--recipe", "small", "--out", str(tmp_path / "atss"), *SMALL, *words]) == 0
    other = write(tmp_path / "other", [(64, 48)] * 3, [(0, 5, 5, 30, 30)], classes=("bus", "car"))
    capfd.readouterr()
    command = [
        "train",
        str(other),
        "--weights",
        str(tmp_path / "atss"),
        "--epochs",
        "1",
        "--out",
        str(tmp_path / "new"),
    ]
    assert main([*command, "train.device=cpu"]) == 0
    said = capfd.readouterr().err
    assert "atss" in said
    assert "no class has the same name" in said or "none of the classes" in said or "starts anew" in said
    assert "Traceback" not in said


def test_a_budget_that_is_too_short_leaves_nothing(tmp_path, capfd):
    folder = write(tmp_path / "data", [(64, 48)] * 3, [(0, 5, 5, 30, 30)])
    assert run(folder, tmp_path / "run", "--budget", "2s") == 2
    said = capfd.readouterr().err
    assert "too short to train on this data with this machine" in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()
