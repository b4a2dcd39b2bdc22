import json

import pytest
from folders import fill, found, refused

from varifocal.data.load import find_splits, load_dataset, read_raw, recognize
from varifocal.types import Category

BOX = [30.0, 15.0, 50.0, 25.0]


def line(boxes=((30, 15, 20, 10),), categories=("cat",), name="a.png", key="categories", **more) -> str:
    objects = {"bbox": [list(box) if isinstance(box, tuple) else box for box in boxes], key: list(categories)}
    return json.dumps({"file_name": name, "objects": objects} | more) + "\n"


def write(tmp_path, *lines: str):
    return fill(tmp_path, {"metadata.jsonl": "".join(lines), "a.png": (100, 50), "sub/b.png": (40, 30)})


def test_what_is_read(tmp_path):
    write(tmp_path, line([(30, 15, 20, 10), (0, 0, 100, 50)], ["owl", "cat"]), "\n", line([], [], "sub/b.png"))
    assert recognize(tmp_path) == recognize(tmp_path / "metadata.jsonl") == "image-folder"
    assert find_splits(tmp_path) == ["all"]
    for path in (tmp_path, tmp_path / "metadata.jsonl"):
        data = load_dataset(path)
        assert data.categories == (Category(1, "cat"), Category(2, "owl"))
        assert found(data) == {"a.png": [("owl", BOX), ("cat", [0, 0, 100, 50])], "b.png": []}
        assert data.notes == ()


@pytest.mark.parametrize(
    "record",
    [
        line(key="category"),
        line(key="labels"),
        line(width=100, height=50),
        line(width="x"),
        json.dumps({"file_name": "a.png", "objects": [{"bbox": [30, 15, 20, 10], "category": "cat"}]}),
        json.dumps({"file_name": "./a.png", "annotations": [{"bbox": [30, 15, 20, 10], "class": "cat"}]}),
    ],
)
def test_ways_to_write_it(tmp_path, record):
    assert found(load_dataset(write(tmp_path, record))) == {"a.png": [("cat", BOX)]}


def test_numbers_as_classes(tmp_path):
    write(tmp_path, line([(30, 15, 20, 10), (30, 15, 20, 10)], [10, 2]))
    data = load_dataset(tmp_path)
    assert data.categories == (Category(2, "2"), Category(10, "10"))
    assert found(data) == {"a.png": [("10", BOX), ("2", BOX)]}
    assert "numbers and have no names" in data.notes[0]


def test_flags_and_areas(tmp_path):
    objects = {"bbox": [[30, 15, 20, 10]] * 2, "category": ["cat"] * 2, "iscrowd": [0, 1], "area": [7, None]}
    write(tmp_path, json.dumps({"file_name": "a.png", "objects": objects}))
    (sample,) = load_dataset(tmp_path).samples
    assert sample.crowd.tolist() == [False, True]
    assert sample.areas.tolist() == [7, 200]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{", ["is not valid JSON"]),
        ("3", ["is 3", "object"]),
        ("[" * 100_000, ["is not valid JSON"]),
        ("{}", ["has the file_name None"]),
        ('{"file_name": ""}', ["has the file_name ''"]),
        (line(name="c.png"), ["names the image 'c.png', which is not found in"]),
        (line(name="../c.png"), ["'../c.png', which is not a file inside"]),
        (
            line(name="sub/b.png") * 2,
            ["is of the image b.png, of which line 2 is, too; remove one of the two"],
        ),
        (
            line(name="sub/b.png") + line(name="./sub//b.png"),
            ["is of the image b.png, of which line 2 is, too"],
        ),
        (line([(1, 2, 3)]), ["objects[0] (", "has the bbox [1, 2, 3], which holds"]),
        (line([3]), ["objects[0] (", "has the bbox 3, which holds"]),
        (line([(1, 2, "x", 4)], name="sub/b.png"), ["has the bbox [1, 2, 'x', 4], which holds something"]),
        (line([None], name="sub/b.png"), ["'sub/b.png'", "has no bbox;", "data.invalid_boxes=drop"]),
        (line([[]], name="sub/b.png"), ["'sub/b.png'", "has no bbox;", "data.invalid_boxes=drop"]),
        (line([(1, 2, 0, 4)], name="sub/b.png"), ["has the bbox [1, 2, 0, 4], which has no area", "'sub/b.png'"]),
        (line([(1, 2, 3, 4)], []), ["has the bbox", "the same length"]),
        (line(categories=[None]), ["objects[0] has no class"]),
        (line(categories=[1.5]), ["objects[0] has the class 1.5"]),
        (line(categories=[True]), ["objects[0] has the class True"]),
        (line(categories=[10**30]), ["a small number"]),
        (line(categories=[3]), ["objects[0] has the class 3, and others are names"]),
        ('{"file_name": "a.png", "objects": 3}', ["has the objects 3"]),
        ('{"file_name": "a.png", "objects": [3]}', ["has the objects [3]"]),
        ('{"file_name": "a.png", "objects": {"bbox": 3}}', ["has the bbox 3"]),
    ],
)
def test_wrong_lines(tmp_path, text, parts):
    write(tmp_path, line(), text)
    fill(tmp_path, {"metadata.jsonl": line([(1, 1, 2, 2)], name="c/d.png") + text, "c/d.png": (10, 10)})
    refused(tmp_path, f"{tmp_path}/metadata.jsonl: line ", *parts)


def test_splits(tmp_path):
    for name in ("train", "validation"):
        fill(tmp_path / "data", {f"{name}/metadata.jsonl": line(), f"{name}/a.png": (100, 50)})
    for path in (tmp_path, tmp_path / "data"):
        assert find_splits(path) == ["train", "val"]
        assert found(load_dataset(path, "val")) == {"a.png": [("cat", BOX)]}
    names = ["train/a.png", "valid/a.png"]
    fill(
        tmp_path / "one",
        {"metadata.jsonl": "".join(line(name=name) for name in names)} | dict.fromkeys(names, (100, 50)),
    )
    assert find_splits(tmp_path / "one") == ["train", "val"]
    (sample,) = load_dataset(tmp_path / "one", "val").samples
    assert sample.file == tmp_path / "one/valid/a.png"


def test_places(tmp_path):
    two = line(name="sub/b.png", objects={"bbox": [[1, 2, 3, 4], [5, 6, 7, 8]], "categories": ["a", "b"]})
    raw = read_raw(write(tmp_path, line(), "\n", two))
    assert [str(raw.boxes.where(index)) for index in range(3)] == [
        "metadata.jsonl line 1 objects[0]",
        "metadata.jsonl line 3 objects[0]",
        "metadata.jsonl line 3 objects[1]",
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings(tmp_path, encoding):
    text = line(categories=["b\u00eate"]).replace("\\u00ea", "\u00ea").replace("\n", "\r\n")
    data = load_dataset(write(tmp_path) and fill(tmp_path, {"metadata.jsonl": text.encode(encoding)}))
    assert found(data) == {"a.png": [("b\u00eate", BOX)]}


def test_images_beside_it_that_are_not_read_are_counted(tmp_path):
    write(tmp_path, line(), line([], [], "sub/b.png"))
    fill(tmp_path, {"sub/c.dng": "x", "d.svg": "<svg>", "e.txt": "x"})
    (note,) = load_dataset(tmp_path).notes
    assert note.startswith(
        "metadata.jsonl: 2 images are left out, of a kind that is not read (.dng: 1, .svg: 1), first"
    )


def test_a_bbox_that_is_not_four_values_can_be_dropped(tmp_path):
    path = write(tmp_path, line([[1, 2, 3], (30, 15, 20, 10)], ["cat", "cat"]))
    refused(path, "has the bbox [1, 2, 3], which holds", "data.invalid_boxes=drop")
    assert [len(one.boxes) for one in load_dataset(path, invalid_boxes="drop").samples] == [1]
