import base64
import json
import zlib

import pytest
from folders import fill, found, png, refused

from varifocal.data.load import find_splits, load_dataset, read_raw, recognize

BOX = [30.0, 15.0, 50.0, 25.0]


def one(kind="rectangle", exterior=((30, 15), (49, 24)), title="cat", **more) -> dict:
    points = {"exterior": [list(point) for point in exterior], "interior": []}
    return {"classTitle": title, "geometryType": kind, "tags": [], "points": points} | more


def annotation(*objects, size=(100, 50)) -> str:
    size = {"width": size[0], "height": size[1]}
    return json.dumps({"description": "", "tags": [], "size": size, "objects": list(objects)})


def write(tmp_path, *objects, dataset="ds0", name="a.png.json"):
    meta = {"classes": [{"title": "cat", "shape": "rectangle"}], "tags": []}
    files = {"meta.json": json.dumps(meta), f"{dataset}/ann/{name}": annotation(*objects)}
    return fill(tmp_path, files | {f"{dataset}/img/a.png": (100, 50)})


@pytest.mark.parametrize("name", ["a.png.json", "a.json"])
def test_the_last_pixel_belongs_to_the_box(tmp_path, name):
    write(tmp_path, one(), one(exterior=[(99, 49), (0, 0)], title="owl"), name=name)
    assert recognize(tmp_path) == "supervisely"
    assert find_splits(tmp_path) == ["all"]
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", BOX), ("owl", [0, 0, 100, 50])]}
    assert data.notes == ()
    assert str(read_raw(tmp_path).boxes.where(1)) == f"{name} objects[1]"


def packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


def test_masks_polygons_and_others(tmp_path):
    mask = {"data": packed(png(20, 10)), "origin": [30, 15]}
    old = {"classTitle": "cat", "bitmap": mask, "points": {"exterior": [], "interior": []}}
    older = {"classTitle": "cat", "bitmap": None, "points": {"exterior": [[30, 15], [49, 24]], "interior": []}}
    polygon = one("polygon", [(30, 20), (40, 15), (49, 24)])
    write(
        tmp_path, one("bitmap", bitmap=mask), polygon, old, older, one("point", [(1, 2)]), one("line", [(1, 2), (3, 4)])
    )
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", BOX)] * 4}
    assert sorted(note.partition(": ")[2] for note in data.notes) == [
        "1 object of the type 'line' was left out.",
        "1 object of the type 'point' was left out.",
        "1 outline became the upright box around it.",
        "2 masks became the boxes around them.",
    ]


def test_data_sets_are_splits_where_they_are_called_so(tmp_path):
    write(tmp_path, one(), dataset="train")
    write(tmp_path, one(), dataset="validation")
    assert find_splits(tmp_path) == ["train", "val"]
    data = load_dataset(tmp_path, "val")
    assert [str(sample.file) for sample in data.samples] == [f"{tmp_path}/validation/img/a.png"]
    write(tmp_path / "x", one(), dataset="ds0")
    write(tmp_path / "x", one(), dataset="ds1")
    assert len(load_dataset(tmp_path / "x").samples) == 2


@pytest.mark.parametrize(
    ("wrong", "parts"),
    [
        (3, ["is 3"]),
        (one(title=""), ["which has no label"]),
        (one(title=[3]), ["has the classTitle [3]"]),
        (one(exterior=[]), ["which holds something"]),
        (one() | {"points": None}, ["which holds something"]),
        (one(exterior=[(1, "two"), (3, 4)]), ["which holds something"]),
        (one("bitmap", bitmap={"data": "x", "origin": [1, 2]}), ["which holds something"]),
        (one("bitmap", bitmap={"data": packed(b"no png at all, but long enough"), "origin": [1, 2]}), ["which holds"]),
        (one("bitmap", bitmap={"data": packed(png(2, 2)), "origin": [1]}), ["which holds something"]),
        (one("bitmap", bitmap=None), ["which holds something"]),
        (one(exterior=[(150, 2), (160, 4)]), ["lies wholly outside"]),
    ],
)
def test_wrong_objects(tmp_path, wrong, parts):
    refused(write(tmp_path, one(), wrong), f"{tmp_path}/ds0/ann/a.png.json: objects[1]", *parts)


def test_a_file_that_is_something_else(tmp_path):
    write(tmp_path, one())
    fill(tmp_path, {"ds0/ann/b.png.json": "{}", "ds0/img/b.png": (9, 9)})
    refused(tmp_path, "b.png.json: this is not a label file of Supervisely, though an image has its name")
    fill(tmp_path, {"ds0/ann/b.png.json": '{"objects": 3, "size": 3, "tags": []}'})
    refused(tmp_path, "b.png.json: objects[0] has the objects 3")
