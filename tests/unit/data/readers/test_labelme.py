import json
import math

import pytest
from folders import fill, found, refused

from varifocal.data.load import find_splits, load_dataset, read_raw, recognize
from varifocal.types import Category

BOX = [30.0, 15.0, 50.0, 25.0]


def shape(kind="rectangle", points=((30, 15), (50, 25)), label="cat", **more) -> dict:
    return {"label": label, "points": [list(point) for point in points], "shape_type": kind, "flags": {}} | more


def labels(*shapes, path="a.png", size=(100, 50), **more) -> str:
    size = {"imageHeight": size[1], "imageWidth": size[0]}
    return json.dumps(
        {"version": "5", "flags": {}, "shapes": shapes, "imagePath": path, "imageData": None} | size | more
    )


def write(tmp_path, *shapes, **more):
    return fill(tmp_path, {"a.json": labels(*shapes, **more), "a.png": (100, 50)})


@pytest.mark.parametrize(
    "points",
    [
        [(30, 15), (50, 25)],
        [(50, 25), (30, 15)],
        [(30, 25), (50, 15)],
        [(30, 15), (50, 15), (50, 25), (30, 25)],
        [(50, 25), (30, 25), (30, 15), (50, 15)],
    ],
)
def test_a_rectangle_has_two_corners_in_any_order_or_four(tmp_path, points):
    write(tmp_path, shape(points=points), shape(points=[(0, 0), (100, 50)], label="owl"))
    assert recognize(tmp_path) == recognize(tmp_path / "a.json") == "labelme"
    assert find_splits(tmp_path) == ["all"]
    for path in (tmp_path, tmp_path / "a.json"):
        data = load_dataset(path)
        assert data.categories == (Category(1, "cat"), Category(2, "owl"))
        assert found(data) == {"a.png": [("cat", BOX), ("owl", [0, 0, 100, 50])]}
        assert data.notes == ()


def test_other_shapes(tmp_path):
    write(
        tmp_path,
        shape("polygon", [(30, 20), (40, 15), (50, 20), (40, 25)]),
        shape("circle", [(40, 20), (43, 24)]),
        shape("rotation", [(30, 20), (40, 15), (50, 20), (40, 25)], direction=0.5),
        shape("mask", [(30, 15), (50, 25)], mask="iVBORw0KGgo="),
        shape("point", [(1, 1)]),
        shape("line", [(1, 1), (2, 2)]),
        shape("linestrip", [(1, 1), (2, 2), (3, 3)]),
    )
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", BOX), ("cat", [35, 15, 45, 25]), ("cat", BOX), ("cat", BOX)]}
    assert sorted(note.partition(": ")[2] for note in data.notes) == [
        "1 circle became the upright box around it.",
        "1 mask became the box around it.",
        "1 outline became the upright box around it.",
        "1 shape of the type 'line' was left out.",
        "1 shape of the type 'linestrip' was left out.",
        "1 shape of the type 'point' was left out.",
        "1 turned box became the upright box around it.",
    ]


def test_difficult_and_old_files(tmp_path):
    old = shape() | {"shape_type": None, "points": [[30, 15], [50, 15], [50, 25]]}
    write(tmp_path, shape(difficult=True), old, label=3)
    data = load_dataset(tmp_path)
    assert data.samples[0].crowd.tolist() == [True, False]
    assert found(data)["a.png"][1] == ("cat", BOX)


@pytest.mark.parametrize("path", ["..\\imgs\\a.png", "C:\\me\\a.png", "/home/me/a.png", "renamed.png", "", None])
def test_paths_of_images(tmp_path, path):
    write(tmp_path, shape(), path=path)
    assert found(load_dataset(tmp_path)) == {"a.png": [("cat", BOX)]}


def test_splits_and_folders(tmp_path):
    for split, name in (("train", "a"), ("val", "a")):
        fill(tmp_path / "beside", {f"{split}/{name}.json": labels(shape()), f"{split}/{name}.png": (100, 50)})
        fill(tmp_path / "apart", {f"images/{split}/a.png": (100, 50), f"labels/{split}/a.json": labels(shape())})
    for folder in ("beside", "apart"):
        assert find_splits(tmp_path / folder) == ["train", "val"]
        for split in ("train", "val"):
            data = load_dataset(tmp_path / folder, split)
            assert found(data) == {"a.png": [("cat", BOX)]}
            assert split in str(data.samples[0].file)


def test_images_without_a_file_and_files_that_are_no_labels(tmp_path):
    write(tmp_path, shape())
    fill(tmp_path, {"b.png": (9, 9), "c.png": (9, 9), "classes.json": '["cat"]'})
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", BOX)]}
    assert sorted(note.partition(": ")[2] for note in data.notes) == [
        "1 .json file that is no label file was passed over.",
        "2 images have no .json file of labels and are left out, first b.png"
        "; --unlabeled background takes them as images without objects.",
    ]
    fill(tmp_path, {"b.json": "{}"})
    refused(tmp_path, f"{tmp_path}/b.json: this is not a label file of labelme, though an image has its name")


@pytest.mark.parametrize(
    ("one", "parts"),
    [
        (3, ["shapes[1] is 3"]),
        (shape(label=None), ["shapes[1]", "which has no label", "data.invalid_boxes=drop"]),
        (shape(label=[1]), ["shapes[1] has the label [1]"]),
        (shape() | {"points": None}, ["the box None, which holds something"]),
        (shape() | {"points": [[1, "two"], [3, 4]]}, ["which holds something"]),
        (shape() | {"points": [[1, math.inf], [3, 4]]}, ["which holds something"]),
        (shape(points=[(1, 2)]), ["shapes[1] ", "[[1, 2]] (a rectangle of 1 point)", "data.invalid_boxes=drop"]),
        (shape("polygon", [(1, 2), (3, 4)]), ["(a polygon of 2 points)", "data.invalid_boxes=drop"]),
        (shape(points=[(1, 2), (1, 9)]), ["no area", "'a.png', 100 x 50 pixels"]),
        (shape(points=[(200, 2), (300, 9)]), ["lies wholly outside"]),
    ],
)
def test_wrong_shapes(tmp_path, one, parts):
    refused(write(tmp_path, shape(), one), f"{tmp_path}/a.json: shapes[1]", *parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('{"shapes": [\n1,,]}', ["not valid JSON at line 2 column 3"]),
        ('{"shapes": ' + "[" * 100_000, ["cannot be read"]),
        (json.dumps({"shapes": 3}), ["has the shapes 3"]),
        (labels(), ["no box with a class"]),
        (labels(shape(), path="c.png"), ["is of the image 'c.png', which is not found in", "b.json"]),
    ],
)
def test_wrong_files(tmp_path, text, parts):
    fill(tmp_path, {"b.json": text, "b.png" if "c.png" not in text else "x.png": (100, 50)})
    if "no box" in parts[0]:
        refused(tmp_path, *parts, format="labelme")
    else:
        refused(write(tmp_path, shape()), *parts)


def test_one_image_of_two_files(tmp_path):
    write(tmp_path, shape())
    fill(tmp_path, {"b.json": labels(shape(), path="a.png")})
    refused(tmp_path, "b.json", "is of the image a.png, of which a.json is, too")


def test_places_and_encodings(tmp_path):
    fill(tmp_path, {"a.json": labels(shape(label="b\u00eate"), shape()).encode("utf-8-sig"), "a.png": (100, 50)})
    raw = read_raw(tmp_path)
    assert str(raw.boxes.where(1)) == "a.json shapes[1]"
    assert [one.name for one in raw.categories] == ["b\u00eate", "cat"]


def pair(tmp_path, **lists):
    files = {f"{name}.json": labels(shape(), path=f"{name}.png") for name in "ab"}
    files |= {f"ImageSets/{name}.txt": text for name, text in lists.items()}
    return fill(tmp_path, files | {f"{name}.png": (100, 50) for name in "abc"})


@pytest.mark.parametrize("line", ["a", "a.png", "images/a.png", "a.json", "a 1", '"a"', "C:\\images\\a.png"])
def test_a_list_of_a_split_names_images_as_it_likes(tmp_path, line):
    pair(tmp_path, val=f"{line}\n", train="b\n")
    assert find_splits(tmp_path) == ["train", "val"]
    assert found(load_dataset(tmp_path, "val")) == {"a.png": [("cat", BOX)]}
    assert found(load_dataset(tmp_path, "train")) == {"b.png": [("cat", BOX)]}
    assert load_dataset(tmp_path, "val").notes == ()


def test_labels_in_no_list_are_left_out_and_counted(tmp_path):
    pair(tmp_path, val="a\nc\n")
    assert find_splits(tmp_path) == ["val"]
    data = load_dataset(tmp_path, "val")
    assert found(data) == {"a.png": [("cat", BOX)]}
    assert data.notes == (
        "ImageSets: 1 .json file is in no list and left out, first b.json.",
        "val.txt: 1 image has no .json file of labels and is left out, first c.png; "
        "--unlabeled background takes them as images without objects.",
    )
    assert set(found(load_dataset(tmp_path, "val", unlabeled="background"))) == {"a.png", "c.png"}


@pytest.mark.parametrize("text", ["zzz\n", "", "1\n2\n", "images/zzz.png\n"])
def test_a_list_that_fits_no_label_is_left_out_with_a_note(tmp_path, text):
    pair(tmp_path, val=text)
    assert find_splits(tmp_path) == ["all"]
    data = load_dataset(tmp_path)
    assert set(found(data)) == {"a.png", "b.png"}
    assert data.notes[0] == "ImageSets: 1 list is left out, which is empty or names no .json file of the set: val.txt."
    assert not any("lists of splits" in note for note in data.notes)


def test_a_line_of_a_list_that_fits_elsewhere_is_a_problem(tmp_path):
    pair(tmp_path, val="a\nzzz\n")
    refused(tmp_path, "ImageSets/val.txt: line 2 names 'zzz', and there is no zzz.json among the labels")
