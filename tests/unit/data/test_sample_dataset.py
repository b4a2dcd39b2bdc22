"""The data set that travels with the package."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from varifocal.data.sample_dataset import sample_dataset_dir

COUNTS = {"train.json": [574, 61], "test.json": [279]}


def read(name: str) -> dict:
    return json.loads((sample_dataset_dir() / name).read_text(encoding="utf-8"))


def boxes_of(coco: dict, image_id: int) -> np.ndarray:
    """xyxy boxes [N, 4] of one image, in the order of the file."""
    boxes = [note["bbox"] for note in coco["annotations"] if note["image_id"] == image_id]
    boxes = np.array(boxes).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def pixels_of(entry: dict) -> np.ndarray:
    with Image.open(sample_dataset_dir() / entry["file_name"]) as image:
        return np.asarray(image.convert("RGB")).astype(float)


@pytest.mark.parametrize("name", COUNTS)
def test_whole_scenes_have_the_boxes_of_the_source(name):
    coco = read(name)
    assert [len(boxes_of(coco, entry["id"])) for entry in coco["images"]] == COUNTS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_file_is_sound_coco(name):
    coco = read(name)
    assert coco["categories"] == [{"id": 1, "name": "tree"}]
    sizes = {entry["id"]: (entry["width"], entry["height"]) for entry in coco["images"]}
    assert len(sizes) == len(coco["images"])
    assert len({note["id"] for note in coco["annotations"]}) == len(coco["annotations"])
    for note in coco["annotations"]:
        x, y, width, height = note["bbox"]
        assert min(x, y) >= 0
        assert min(width, height) > 0
        assert x + width <= sizes[note["image_id"]][0]
        assert y + height <= sizes[note["image_id"]][1]
        assert note["area"] == width * height
        assert (note["category_id"], note["iscrowd"]) == (1, 0)


@pytest.mark.parametrize("name", COUNTS)
def test_images_have_the_stated_size(name):
    for entry in read(name)["images"]:
        assert pixels_of(entry).shape == (entry["height"], entry["width"], 3)


def test_train_and_test_share_no_image():
    names = [{entry["file_name"] for entry in read(name)["images"]} for name in ("train.json", "test.json")]
    assert not names[0] & names[1]
    assert not any("541000" in name for name in names[0])


def test_folder_holds_what_the_files_name_and_is_small():
    named = {entry["file_name"] for name in COUNTS for entry in read(name)["images"]}
    assert {f"images/{file.name}" for file in (sample_dataset_dir() / "images").iterdir()} == named
    files = [file for file in sample_dataset_dir().rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 5_000_000


def test_data_card_states_the_counts_and_the_license():
    card = (sample_dataset_dir() / "README.md").read_text(encoding="utf-8")
    assert "| `train.json` | 2 | 635 |" in card
    assert "| `test.json` | 1 | 279 |" in card
    assert "MIT License" in (sample_dataset_dir() / "LICENSE.deepforest").read_text(encoding="utf-8")


def test_missing_folder_is_named(monkeypatch, tmp_path: Path):
    monkeypatch.setattr("varifocal.data.sample_dataset.files", lambda package: tmp_path)
    with pytest.raises(FileNotFoundError, match="installed without its data"):
        sample_dataset_dir()
