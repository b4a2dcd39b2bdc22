import json

import pytest
from folders import found, pack, png, refused

from varifocal.data.images import read_image
from varifocal.data.load import find_splits, load_dataset, read_raw, recognise

BOX = [30.0, 15.0, 50.0, 25.0]


def labels(**more) -> str:
    return json.dumps({"objects": {"bbox": [[30, 15, 20, 10]], "categories": ["cat"]}} | more)


def shard(path, *keys, **more):
    files = {}
    for key in keys:
        files |= {f"{key}.png": png(100, 50), f"{key}.json": labels()}
    return pack(path, files | more)


def test_shards(tmp_path):
    shard(tmp_path / "train-000000.tar", "a", "b.left", "sub/c")
    shard(tmp_path / "train-000001.tar", "a")
    shard(tmp_path / "coco-val-000000.tar", "v")
    assert recognise(tmp_path) == "webdataset"
    assert find_splits(tmp_path) == ["val", "train"]
    data = load_dataset(tmp_path, "train")
    assert [str(sample.file) for sample in data.samples] == [
        f"{tmp_path}/train-000000.tar/{name}" for name in ("a.png", "b.left.png", "sub/c.png")
    ] + [f"{tmp_path}/train-000001.tar/a.png"]
    assert all(sample.boxes.tolist() == [BOX] for sample in data.samples)
    assert read_image(data.samples[3].file).size == (100, 50)
    assert found(load_dataset(tmp_path, "val")) == {"v.png": [("cat", BOX)]}
    raw = read_raw(tmp_path, "train")
    assert str(raw.boxes.where(1)) == "b.left.json objects[0]"
    assert str(raw.boxes.where(3).file) == f"{tmp_path}/train-000001.tar/a.json"


def test_one_shard(tmp_path):
    path = shard(tmp_path / "x.tar", "a")
    assert recognise(path) == "webdataset"
    assert found(load_dataset(path)) == {"a.png": [("cat", BOX)]}


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("b.json", None, ["b.png: there is no JSON of the same name"]),
        ("b.json", "{", ["b.json: this is not valid JSON"]),
        ("b.json", "3", ["b.json: this is 3"]),
        ("b.json", "\xff\xfe", ["b.json: this is not valid JSON"]),
        (
            "b.json",
            labels(objects={"bbox": [[1]], "categories": ["cat"]}),
            ["b.json: objects[0] (", "has the bbox [1]"],
        ),
        ("b.json", labels(objects={"bbox": [[9, 9, 0, 1]], "categories": [1]}), ["the class 1, and others are names"]),
        ("b.json", labels(objects={"bbox": [[9, 9, 0, 1]], "categories": ["x"]}), ["objects[0] (", "no area"]),
    ],
)
def test_wrong_samples(tmp_path, name, text, parts):
    more = {"b.png": png(10, 10)} | ({} if text is None else {name: text})
    refused(shard(tmp_path / "x.tar", "a", **more), f"{tmp_path}/x.tar/", *parts)


def test_a_damaged_shard(tmp_path):
    shard(tmp_path / "train-0.tar", "a")
    (tmp_path / "train-1.tar").write_bytes((tmp_path / "train-0.tar").read_bytes()[:700])
    refused(tmp_path, f"{tmp_path}/train-1.tar: the archive is cut short")


def test_images_that_are_not_read_are_counted(tmp_path):
    shard(tmp_path / "train-0.tar", "a", **{"b.dng": "x", "b.json": labels()})
    (note,) = load_dataset(tmp_path).notes
    assert "1 image is left out, of a kind that is not read (.dng: 1), first b.dng" in note
