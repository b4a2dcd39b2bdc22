"""CreateML and BDD100K: JSON that is a list of images."""

import json

import pytest
from folders import fill, found, refused

from varifocal.data.load import find_splits, load_dataset, read_raw, recognize

BOX = [30.0, 15.0, 50.0, 25.0]


def createml(label="cat", x=40, y=20, width=20, height=10) -> dict:
    return {"label": label, "coordinates": {"x": x, "y": y, "width": width, "height": height}}


def bdd(category="cat", x1=30, y1=15, x2=50, y2=25, **more) -> dict:
    return {"category": category, "box2d": {"x1": x1, "y1": y1, "x2": x2, "y2": y2}} | more


def write(tmp_path, content, name="labels.json"):
    return fill(tmp_path, {name: json.dumps(content), "images/a.png": (100, 50)})


def test_createml(tmp_path):
    write(tmp_path, [{"image": "a.png", "annotations": [createml(), createml("owl", 50, 25, 100, 50)]}])
    assert recognize(tmp_path) == recognize(tmp_path / "labels.json") == "createml"
    assert find_splits(tmp_path) == ["all"]
    for path in (tmp_path, tmp_path / "labels.json"):
        data = load_dataset(path)
        assert found(data) == {"a.png": [("cat", BOX), ("owl", [0, 0, 100, 50])]}
        assert data.notes == ()
    assert str(read_raw(tmp_path).boxes.where(1)) == "labels.json [0] annotations[1]"


def test_createml_of_apples_tools(tmp_path):
    fill(tmp_path, {"images/b.png": (9, 9)})
    write(tmp_path, [{"imagefilename": "a.png", "annotation": [createml()]}, {"imagefilename": "b.png"}])
    assert found(load_dataset(tmp_path)) == {"a.png": [("cat", BOX)], "b.png": []}


def test_roboflows_folders(tmp_path):
    for folder in ("train", "valid"):
        text = json.dumps([{"image": "a.png", "annotations": [createml(folder)]}])
        fill(tmp_path, {f"{folder}/_annotations.createml.json": text, f"{folder}/a.png": (100, 50)})
    assert find_splits(tmp_path) == ["train", "val"]
    data = load_dataset(tmp_path, "val")
    assert found(data) == {"a.png": [("valid", BOX)]}
    assert [str(sample.file) for sample in data.samples] == [f"{tmp_path}/valid/a.png"]


def test_bdd100k(tmp_path):
    lane = {"category": "lane/single white", "poly2d": [{"vertices": [[1, 2], [3, 4]]}]}
    record = {"name": "a.png", "attributes": {"scene": "city"}, "labels": [lane, bdd(), bdd("owl", 0, 0, 100, 50)]}
    write(tmp_path, [record, {"name": "b.png", "labels": None}], "labels/det_20/det_val.json")
    fill(tmp_path, {"images/b.png": (9, 9)})
    assert recognize(tmp_path) == recognize(tmp_path / "labels/det_20/det_val.json") == "bdd100k"
    assert find_splits(tmp_path) == ["val"]
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", BOX), ("owl", [0, 0, 100, 50])], "b.png": []}
    assert data.notes == ("det_val.json: 1 label without a box (lanes, areas) was left out.",)


def test_scalabel_frames_and_crowds(tmp_path):
    record = {"name": "a.png", "size": {"width": 100, "height": 50}, "labels": [bdd(attributes={"crowd": True}), bdd()]}
    write(tmp_path, {"frames": [record], "groups": [], "config": {}})
    data = load_dataset(tmp_path)
    assert recognize(tmp_path) == "bdd100k"
    assert data.samples[0].crowd.tolist() == [True, False]


def test_bdd100k_with_a_file_for_each_image(tmp_path):
    for split in ("train", "val"):
        content = {"name": "a", "frames": [{"timestamp": 10000, "objects": [bdd()]}], "attributes": {}}
        fill(tmp_path, {f"labels/100k/{split}/a.json": json.dumps(content), f"images/100k/{split}/a.jpg": (100, 50)})
    assert recognize(tmp_path) == recognize(tmp_path / "labels/100k/train/a.json") == "bdd100k"
    assert find_splits(tmp_path) == ["train", "val"]
    data = load_dataset(tmp_path, "val")
    assert [str(sample.file) for sample in data.samples] == [f"{tmp_path}/images/100k/val/a.jpg"]
    assert found(data) == {"a.jpg": [("cat", BOX)]}


@pytest.mark.parametrize(
    ("one", "parts"),
    [
        (3, ["labels.json: [1] is 3", "should be an object"]),
        ({"annotations": []}, ["[1] names no image"]),
        ({"image": 3}, ["[1] names no image but 3"]),
        ({"image": "b.png"}, ["[1] is of the image 'b.png', which is not found in", "images"]),
        ({"image": "images/a.png"}, ["[1] is of the image a.png, of which labels.json [0] is, too"]),
        ({"image": "c.png", "annotations": 3}, ["[1] annotations[0] has the annotations 3"]),
        ({"image": "c.png", "annotations": [3]}, ["[1] annotations[0] is 3"]),
        ({"image": "c.png", "annotations": [createml(label=[])]}, ["[1] annotations[0] has the label []"]),
        ({"image": "c.png", "annotations": [createml(label="")]}, ["which has no label", "drop"]),
        ({"image": "c.png", "annotations": [createml(x="one")]}, ["which holds something"]),
        ({"image": "c.png", "annotations": [{"label": "cat"}]}, ["the box None, which holds something"]),
        ({"image": "c.png", "annotations": [createml(width=0)]}, ["no area"]),
    ],
)
def test_wrong_records(tmp_path, one, parts):
    fill(tmp_path, {"images/c.png": (100, 50)})
    write(tmp_path, [{"image": "a.png", "annotations": [createml()]}, one])
    refused(tmp_path, f"{tmp_path}/labels.json: [1]", *parts)


@pytest.mark.parametrize(
    ("one", "parts"),
    [
        (bdd(category=3.5), ["[0] labels[1] has the category 3.5"]),
        (bdd(category=None), ["which has no label"]),
        (bdd() | {"box2d": 3}, ["the box 3, which holds something"]),
        (bdd(x2=None), ["which holds something"]),
    ],
)
def test_wrong_labels(tmp_path, one, parts):
    refused(write(tmp_path, [{"name": "a.png", "labels": [bdd(), one]}]), "labels.json: [0] labels[1]", *parts)


@pytest.mark.parametrize(
    ("format", "text", "parts"),
    [
        ("createml", '[\n{"image": "a.png", "coordinates": 1,,]', ["not valid JSON at line 2"]),
        ("createml", "{}", ["this is not CreateML"]),
        ("createml", "[]", ["it has no images"]),
        ("bdd100k", '{"a": 1}', ["this is not BDD100K"]),
        ("bdd100k", '{"frames": []}', ["it has no images"]),
    ],
)
def test_wrong_files(tmp_path, format, text, parts):
    refused(fill(tmp_path, {"e.json": text}) / "e.json", f"{tmp_path}/e.json", *parts, format=format)


def test_two_files_of_one_split(tmp_path):
    write(tmp_path, [{"image": "a.png", "annotations": [createml()]}])
    write(tmp_path, [{"image": "a.png", "annotations": [createml()]}], "other.json")
    refused(tmp_path, "labels.json and", "other.json", code="record-no-split")
