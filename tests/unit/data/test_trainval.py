"""A split called trainval is one in every layout: read as what it is, in folders, lists and files of that name."""

import re

import pytest
from folders import fill, png
from layouts import LAYOUTS, TRUTH, coco_json, expected, images, read, voc_xml, yolo_lines

from varifocal.data.convert import convert
from varifocal.data.load import find_splits, load_dataset
from varifocal.data.splits import training_split, validation_split
from varifocal.utils.errors import DataError

NAMED = {name: layout for name, layout in LAYOUTS.items() if layout.truth is TRUTH}


def renamed(text):
    return re.sub(r"train(?![a-z])", "trainval", text) if isinstance(text, str) else text


@pytest.mark.parametrize("name", list(NAMED))
def test_it_is_read_like_any_other_split(tmp_path, name):
    layout = NAMED[name]
    fill(tmp_path, {renamed(path): renamed(content) for path, content in layout.files().items()})
    truth = {renamed(split): images for split, images in expected(layout).items()}
    assert read(tmp_path) == (layout.format, truth)


def names(path, split):
    return sorted(sample.file.name for sample in load_dataset(path, split).samples)


def all_splits(path):
    return {split: names(path, split) for split in find_splits(path)}


TRAIN, VAL = (sorted(one.name for one in TRUTH[split]) for split in ("train", "val"))
THREE = {"train": TRUTH["train"], "val": TRUTH["val"], "trainval": (*TRUTH["train"], *TRUTH["val"])}


@pytest.mark.parametrize("name", ["voc", "yolo"])
def test_folders_of_all_three(tmp_path, name):
    where = {"voc": "{split}/{stem}.xml", "yolo": "{split}/labels/{stem}.txt"}[name]
    lines = {"voc": voc_xml, "yolo": yolo_lines}[name]
    image_folder = "{split}/images/" if name == "yolo" else "{split}/"
    files = {"classes.txt": "cat\nowl\n"} if name == "yolo" else {}
    for split, all in THREE.items():
        files |= {where.format(split=split, stem=one.stem): lines(one) for one in all}
    fill(tmp_path, files | images(image_folder, THREE))
    assert all_splits(tmp_path) == {"train": TRAIN, "val": VAL, "trainval": sorted(TRAIN + VAL)}
    assert training_split(tmp_path, find_splits(tmp_path)) == "train"


def test_images_of_coco_s_trainval_lie_in_the_folders_of_its_parts(tmp_path):
    files = {
        "annotations/instances_trainval35k.json": coco_json(THREE["trainval"]),
        "annotations/instances_test2014.json": coco_json(TRUTH["val"]),
    }
    files |= {f"train2014/{name}": png(64, 48) for name in ("a.png", "b.png", "empty.png")}
    files |= {"val2014/v.png": png(48, 64), "test2014/v.png": png(48, 64)}
    fill(tmp_path, files)
    splits = find_splits(tmp_path)
    assert training_split(tmp_path, splits) == "trainval35k"
    assert validation_split(tmp_path, splits, "trainval35k")[0] == "test2014"
    folders = {sample.file.parent.name for sample in load_dataset(tmp_path, "trainval35k").samples}
    assert folders == {"train2014", "val2014"}
    assert load_dataset(tmp_path, "test2014").samples[0].file.parent.name == "test2014"


@pytest.mark.parametrize(("split", "folder"), [("train", "trainval"), ("trainval", "val"), ("trainval", "test")])
def test_an_image_is_found_by_its_end_in_a_folder_that_the_split_shares(tmp_path, split, folder):
    fill(tmp_path, {f"{split}.json": coco_json(TRUTH["val"]), f"deep/{folder}/v.png": png(48, 64)})
    if folder == "test":
        with pytest.raises(DataError, match=r"v\.png"):
            load_dataset(tmp_path, split)
    else:
        assert names(tmp_path, split) == ["v.png"]


@pytest.mark.parametrize("to", ["coco", "voc", "yolo"])
@pytest.mark.parametrize("name", ["voc-devkit", "coco-instances", "yolo"])
def test_it_is_converted_to_what_is_read_back(tmp_path, name, to):
    files = LAYOUTS[name].files().items()
    there = fill(tmp_path / "in", {renamed(path): renamed(content) for path, content in files})
    notes = convert(there, tmp_path / "out", to)
    wanted, found = all_splits(there), all_splits(tmp_path / "out")
    own = next(split for split in wanted if split.startswith("trainval"))
    said = f"{own}: is called train in data.yaml, because YOLO has only train, val and test."
    assert (said in notes) == (to == "yolo")
    if to == "yolo":
        wanted = {"train": wanted.pop(own), "val": wanted.popitem()[1]}
    assert found == wanted
    assert training_split("out", list(found)) == ("train" if to == "yolo" else own)
