import json

import pytest
from folders import fill, found, refused

from varifocal.data.load import find_splits, load_dataset, read_raw, recognize

BOX = [30.0, 15.0, 50.0, 25.0]


def region(shape=None, **own) -> dict:
    shape = shape or {"name": "rect", "x": 30, "y": 15, "width": 20, "height": 10}
    return {"shape_attributes": shape, "region_attributes": own if own else {"class": "cat"}}


def record(*regions, name="a.png", **more) -> dict:
    return {f"{name}1234": {"filename": name, "size": 1234, "regions": list(regions), "file_attributes": {}} | more}


def write(tmp_path, content, name="via.json"):
    text = json.dumps(content)
    return fill(tmp_path, {name: text} | {one: (100, 50) for one in ("a.png", "b.png") if one in text})


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: {"_via_settings": {}, "_via_img_metadata": one}])
def test_what_is_read(tmp_path, wrap):
    whole = {"name": "rect", "x": 0, "y": 0, "width": 100, "height": 50}
    write(tmp_path, wrap(record(region(), region(whole, **{"class": "owl"})) | record(name="b.png")))
    assert recognize(tmp_path) == recognize(tmp_path / "via.json") == "via"
    assert find_splits(tmp_path) == ["all"]
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", BOX), ("owl", [0, 0, 100, 50])], "b.png": []}
    assert data.notes == ()
    assert str(read_raw(tmp_path).boxes.where(1)) == "via.json image 0 regions[1]"


def test_regions_of_version_1_are_an_object(tmp_path):
    write(tmp_path, record(regions={"0": region(), "1": region()}))
    assert found(load_dataset(tmp_path)) == {"a.png": [("cat", BOX), ("cat", BOX)]}


def test_other_shapes(tmp_path):
    polygon = {"name": "polygon", "all_points_x": [30, 40, 50], "all_points_y": [20, 15, 25]}
    circle, ellipse = (
        {"name": "circle", "cx": 40, "cy": 20, "r": 5},
        {"name": "ellipse", "cx": 40, "cy": 20, "rx": 10, "ry": 5},
    )
    turned = ellipse | {"rx": 5, "ry": 10, "theta": 1.5707963267948966}
    point = {"name": "point", "cx": 1, "cy": 2}
    write(tmp_path, record(*map(region, (polygon, circle, ellipse, turned, point))))
    data = load_dataset(tmp_path)
    assert [box for _, box in found(data)["a.png"]] == [BOX, [35, 15, 45, 25], BOX, BOX]
    assert sorted(note.partition(": ")[2] for note in data.notes) == [
        "1 circle became the upright box around it.",
        "1 outline became the upright box around it.",
        "1 region of the shape 'point' was left out.",
        "2 ellipses became the upright boxes around them.",
    ]


@pytest.mark.parametrize(
    "own",
    [
        {"class": "cat"},
        {"Label": "cat", "note": "x"},
        {"animal": "cat"},
        {"type": {"cat": True}},
        {"name": "cat", "id": 3},
    ],
)
def test_the_attribute_that_holds_the_class(tmp_path, own):
    write(tmp_path, record(region(**own), region(**own)))
    assert found(load_dataset(tmp_path)) == {"a.png": [("cat", BOX), ("cat", BOX)]}


def test_without_attributes_there_is_one_class(tmp_path):
    write(tmp_path, record(region() | {"region_attributes": {}}, region() | {"region_attributes": {"x": ""}}))
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("object", BOX), ("object", BOX)]}
    assert data.notes == ("via.json: nothing in it names a class, so that all boxes are of one, called 'object'.",)


def test_splits(tmp_path):
    for split in ("train", "val"):
        fill(tmp_path, {f"{split}/via_region_data.json": json.dumps(record(region())), f"{split}/a.png": (100, 50)})
    assert find_splits(tmp_path) == ["train", "val"]
    data = load_dataset(tmp_path, "val")
    assert [str(sample.file) for sample in data.samples] == [f"{tmp_path}/val/a.png"]


HEADER = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
SHAPE = '"{""name"":""rect"",""x"":30,""y"":15,""width"":20,""height"":10}"'
ROW = f'a.png,9,"{{}}",1,0,{SHAPE},"{{""class"":""cat""}}"\n'


@pytest.mark.parametrize("header", [HEADER, "#" + HEADER])
def test_csv(tmp_path, header):
    fill(tmp_path, {"via.csv": header + ROW + 'b.png,9,"{}",0,0,"{}","{}"\n', "a.png": (100, 50), "b.png": (9, 9)})
    assert recognize(tmp_path) == recognize(tmp_path / "via.csv") == "via"
    assert found(load_dataset(tmp_path)) == {"a.png": [("cat", BOX)], "b.png": []}
    assert str(read_raw(tmp_path).boxes.where(0)) == "via.csv line 2"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (HEADER + 'a.png,9,"{}', ["line 2 is not CSV"]),
        (HEADER + ROW + "a.png,9,{},1,0,{x,{}\n", ["line 3 has the shape_attributes '{x'"]),
        ("filename,region_shape_attributes\n", ["this is not a CSV of VIA"]),
    ],
)
def test_wrong_csv(tmp_path, text, parts):
    refused(fill(tmp_path, {"via.csv": text, "a.png": (100, 50)}), f"{tmp_path}/via.csv", *parts, format="via")


@pytest.mark.parametrize(
    ("one", "parts"),
    [
        (3, ["has the shape_attributes 3"]),
        (region() | {"shape_attributes": None}, ["has the shape_attributes None"]),
        (region({"name": "rect", "x": "one", "y": 2, "width": 3, "height": 4}), ["which holds something"]),
        (region({"name": "polygon", "all_points_x": [1], "all_points_y": [1, 2]}), ["which holds something"]),
        (region({"name": "rect", "x": 1, "y": 2, "width": 0, "height": 4}), ["no area"]),
        (region(**{"class": ""}), ["which has no label", "data.invalid_boxes=drop"]),
        (region(**{"class": {"cat": True, "owl": True}}), ["has the 'class' {'cat': True", "one class"]),
        (region(**{"class": [1]}), ["has the 'class' [1]"]),
    ],
)
def test_wrong_regions(tmp_path, one, parts):
    refused(write(tmp_path, record(region(), one)), f"{tmp_path}/via.json: image 0 regions[1]", *parts)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (record(region(a="x", b="y")), ["the attributes a, b", "rename the one that holds the class"]),
        ([], ["this is not VIA"]),
        ({"x": 3, **record(region())}, ["'x' is 3, which names no image"]),
        (record(region()) | {"y": {"filename": "a.png"}}, ["is of the image a.png"]),
        (record(region(), name="c.png"), ["is of the image 'c.png', which is not found"]),
        (record(region(), name=""), ["names no image"]),
    ],
)
def test_wrong_files(tmp_path, content, parts):
    refused(write(tmp_path, content) / "via.json", f"{tmp_path}/via.json", *parts, format="via")
