"""The data set that travels with the package, checked against its own whole scene."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from varifocal.data.embedded import trees_folder

COUNTS = {"train.json": [574, 61], "scene.json": [279]}


def read(name: str) -> dict:
    return json.loads((trees_folder() / name).read_text(encoding="utf-8"))


def boxes_of(coco: dict, image_id: int) -> np.ndarray:
    """xyxy boxes [N, 4] of one image, in the order of the file."""
    boxes = [note["bbox"] for note in coco["annotations"] if note["image_id"] == image_id]
    boxes = np.array(boxes).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def pixels_of(entry: dict) -> np.ndarray:
    with Image.open(trees_folder() / entry["file_name"]) as image:
        return np.asarray(image.convert("RGB")).astype(float)


def tile_corner(entry: dict) -> tuple[int, int]:
    match = re.search(r"_x(\d+)_y(\d+)\.jpg$", entry["file_name"])
    return int(match[1]), int(match[2])


def visible_pieces(scene: np.ndarray, x: int, y: int) -> list[list[int]]:
    """The slow literal rule: each box of the scene, cut to the tile, if more than 40 % of it is left."""
    pieces = []
    for x1, y1, x2, y2 in scene.tolist():
        left, top, right, bottom = max(x1, x), max(y1, y), min(x2, x + 256), min(y2, y + 256)
        if right <= left or bottom <= top:
            continue
        if 5 * (right - left) * (bottom - top) > 2 * (x2 - x1) * (y2 - y1):
            pieces.append([left - x, top - y, right - x, bottom - y])
    return pieces


@pytest.mark.parametrize("name", COUNTS)
def test_whole_scenes_have_the_boxes_of_the_source(name):
    coco = read(name)
    assert [len(boxes_of(coco, entry["id"])) for entry in coco["images"]] == COUNTS[name]


def test_tiles_have_the_boxes_of_the_protocol():
    coco = read("test.json")
    assert len(coco["images"]) == 16
    assert len(coco["annotations"]) == 243


@pytest.mark.parametrize("name", ["train.json", "test.json", "scene.json"])
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


@pytest.mark.parametrize("name", ["train.json", "test.json", "scene.json"])
def test_pictures_have_the_stated_size(name):
    for entry in read(name)["images"]:
        assert pixels_of(entry).shape == (entry["height"], entry["width"], 3)


def test_tiles_cover_the_square_once():
    corners = sorted(tile_corner(entry) for entry in read("test.json")["images"])
    assert corners == [(x, y) for x in range(0, 1024, 256) for y in range(0, 1024, 256)]


def test_tile_boxes_are_the_scene_boxes_cut_to_the_tile():
    coco, scene = read("test.json"), read("scene.json")
    whole = boxes_of(scene, scene["images"][0]["id"])
    for entry in coco["images"]:
        assert boxes_of(coco, entry["id"]).tolist() == visible_pieces(whole, *tile_corner(entry))


def test_tile_pixels_are_the_scene_pixels():
    # Both files hold the same JPEG blocks; only the smoothing of chroma at the rim of a tile differs.
    whole = pixels_of(read("scene.json")["images"][0])
    for entry in read("test.json")["images"]:
        x, y = tile_corner(entry)
        difference = np.abs(pixels_of(entry) - whole[y : y + 256, x : x + 256])
        assert difference.mean() < 0.5
        assert difference[2:-2, 2:-2].max() <= 2


def test_train_and_test_share_no_picture():
    names = [{entry["file_name"] for entry in read(name)["images"]} for name in ("train.json", "test.json")]
    assert not names[0] & names[1]
    assert not any("541000" in name for name in names[0])


def test_folder_holds_what_the_files_name_and_is_small():
    named = {entry["file_name"] for name in (*COUNTS, "test.json") for entry in read(name)["images"]}
    assert {f"images/{file.name}" for file in (trees_folder() / "images").iterdir()} == named
    files = [file for file in trees_folder().rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 5_000_000


def test_data_card_states_the_counts_and_the_licence():
    card = (trees_folder() / "README.md").read_text(encoding="utf-8")
    assert "| `train.json` | 2 | 635 |" in card
    assert "| `test.json` | 16 | 243 |" in card
    assert "| `scene.json` | 1 | 279 |" in card
    assert "MIT License" in (trees_folder() / "LICENSE.deepforest").read_text(encoding="utf-8")


def test_missing_folder_is_named(monkeypatch, tmp_path: Path):
    monkeypatch.setattr("varifocal.data.embedded.files", lambda package: tmp_path)
    with pytest.raises(FileNotFoundError, match="installed without its data"):
        trees_folder()
