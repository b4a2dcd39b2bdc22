import json
import math

import pytest
from folders import fill, found, refused

from varifocal.data.load import find_splits, load_dataset, read_raw, recognize
from varifocal.types import Category


def rectangle(label="cat", more=None, **value) -> dict:
    value = {"x": 30, "y": 30, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": [label]} | value
    return {
        "id": "q",
        "type": "rectanglelabels",
        "value": value,
        "original_width": 100,
        "original_height": 50,
        "image_rotation": 0,
    } | (more or {})


BOX = [30.0, 15.0, 50.0, 25.0]


def task(*results, image="/data/upload/1/a.png", id=7, **more) -> dict:
    return {"id": id, "data": {"image": image}, "annotations": [{"id": 1, "result": list(results)}]} | more


def write(tmp_path, *tasks, name="export.json"):
    return fill(tmp_path, {name: json.dumps(list(tasks), indent=1), "images/a.png": (100, 50)})


def test_what_is_read(tmp_path):
    tasks = [task(rectangle(), rectangle("owl", x=0, y=0, width=100, height=100)), task(image="/data/upload/1/b.png")]
    write(tmp_path, *tasks)
    fill(tmp_path, {"images/b.png": (100, 50)})
    assert recognize(tmp_path) == recognize(tmp_path / "export.json") == "label-studio"
    assert find_splits(tmp_path) == ["all"]
    for path in (tmp_path, tmp_path / "export.json"):
        data = load_dataset(path)
        assert data.categories == (Category(1, "cat"), Category(2, "owl"))
        assert found(data) == {"a.png": [("cat", BOX), ("owl", [0, 0, 100, 50])], "b.png": []}
        assert data.notes == ()


@pytest.mark.parametrize(
    "address",
    [
        "a.png",
        "/data/upload/12/a.png",
        "/data/upload/12/0a1b2c3d-a.png",
        "/data/local-files/?d=set/images/a.png",
        "/data/local-files/?d=set%2Fa.png",
        "https://host/bucket/a.png?signature=x",
        "s3://bucket/deep/a.png",
        "C:\\me\\a.png",
        "../../a.png",
        "images/a.png",
    ],
)
def test_addresses_of_images(tmp_path, address):
    assert found(load_dataset(write(tmp_path, task(rectangle(), image=address)))) == {"a.png": [("cat", BOX)]}


@pytest.mark.parametrize("degrees", [30, 90, -45, 200])
def test_a_rectangle_turns_about_its_corner(tmp_path, degrees):
    """Clockwise about the top left, in pixels; the image is not square, so that percent do not turn."""
    write(tmp_path, task(rectangle(x=50, y=50, width=20, height=20, rotation=degrees)))
    turn = math.radians(degrees)
    corners = [
        (50 + x * math.cos(turn) - y * math.sin(turn), 25 + x * math.sin(turn) + y * math.cos(turn))
        for x, y in ((0, 0), (20, 0), (20, 10), (0, 10))
    ]
    xs, ys = zip(*corners, strict=True)
    data = load_dataset(tmp_path)
    ((_, box),) = found(data)["a.png"]
    assert box == pytest.approx([min(xs), min(ys), max(xs), max(ys)], abs=1e-3)
    assert "1 turned box became" in data.notes[0]


def test_other_shapes(tmp_path):
    polygon = {"type": "polygonlabels", "value": {"points": [[30, 40], [50, 30], [40, 50]], "polygonlabels": ["cat"]}}
    ellipse = rectangle() | {"type": "ellipselabels"}
    ellipse["value"] = {"x": 40, "y": 40, "radiusX": 10, "radiusY": 10, "rotation": 0, "ellipselabels": ["owl"]}
    brush = {"type": "brushlabels", "value": {"rle": [1], "brushlabels": ["cat"]}}
    write(tmp_path, task(polygon, ellipse, brush, {"type": "choices", "value": {"choices": ["x"]}}))
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", BOX), ("owl", BOX)]}
    notes = " ".join(data.notes)
    for part in ("1 outline became", "1 ellipse became", "'brushlabels' was left out", "'choices' was left out"):
        assert part in notes


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (rectangle(x=50, width=-20), BOX),
        (rectangle(x=90, width=20), [90, 15, 100, 25]),
        (
            {"type": "polygonlabels", "value": {"points": [[90, 30], [120, 30], [120, 50]], "polygonlabels": ["cat"]}},
            None,
        ),
        (rectangle(more={"original_width": 100.0, "original_height": "50"}), BOX),
    ],
)
def test_what_is_put_in_order_and_clipped(tmp_path, shape, box):
    write(tmp_path, task(shape))
    assert found(load_dataset(tmp_path)) == {"a.png": [("cat", box or [90, 15, 100, 25])]}


def test_who_labeled(tmp_path):
    nobody = task(image="n.png") | {"annotations": []}
    canceled = task(image="c.png") | {"annotations": [{"was_cancelled": True, "result": [rectangle()]}]}
    first, second = {"result": [rectangle(x=0)]}, {"result": [rectangle()], "ground_truth": True}
    write(tmp_path, nobody, canceled, task() | {"annotations": [first, second]})
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", BOX)]}
    assert [note.partition(" ")[2][:18] for note in data.notes] == ["2 tasks that nobod", "1 task was labeled"]


@pytest.mark.parametrize(
    ("result", "parts"),
    [
        (rectangle(x="left"), ["['left', 30, 20, 20], which holds something"]),
        (rectangle(x=None), ["[None, 30, 20, 20], which holds"]),
        (rectangle(x=True), ["[True, 30, 20, 20], which holds"]),
        (rectangle(x=math.nan), ["[nan, 30, 20, 20], which holds"]),
        (rectangle(x=1e300), ["which holds"]),
        (rectangle(rotation="x"), ["which holds"]),
        (rectangle(width=0), ["no area"]),
        (rectangle(x=200), ["lies wholly outside"]),
        (rectangle(rectanglelabels=[]), ["which has no label", "data.invalid_boxes=drop"]),
        (rectangle(rectanglelabels=[" "]), ["which has no label"]),
        (rectangle(rectanglelabels=["a", 3]), ["has the rectanglelabels ['a', 3]"]),
        (rectangle(rectanglelabels=[3]), ["has the rectanglelabels [3]"]),
        (rectangle(more={"value": 3}), ["has the value 3"]),
        (rectangle(more={"image_rotation": 90}), ["turned by 90 degrees"]),
        (rectangle(more={"original_width": None}, rotation=5), ["no original_width"]),
        ({"type": "polygonlabels", "value": {"points": [[1, 2], [3]], "polygonlabels": ["cat"]}}, ["which holds"]),
        ({"type": "polygonlabels", "value": {"points": [], "polygonlabels": ["cat"]}}, ["which holds"]),
        (3, ["is 3"]),
    ],
)
def test_wrong_results(tmp_path, result, parts):
    write(tmp_path, task(rectangle(), result))
    refused(tmp_path, f"{tmp_path}/export.json: [0] ", "result 1", *parts)


@pytest.mark.parametrize(
    ("wrong", "parts"),
    [
        (3, ["[1] is 3, which is no task"]),
        ({"image": "a.png", "label": [], "id": 3}, ["[1] is", "which is no task"]),
        (task() | {"data": {}}, ["[1] (id 7) names no image"]),
        (task() | {"annotations": 3}, ["[1] has annotations that are no list"]),
        (task() | {"annotations": [{"result": 3}]}, ["[1] has the result 3"]),
        (
            task(image="/data/upload/b.png"),
            ["[1] (id 7) names the image '/data/upload/b.png'", "not found", "images"],
        ),
        (task(), ["[1] (id 7) is of the image a.png, of which [0] is, too"]),
        (task(image="http://[x"), ["not found"]),
    ],
)
def test_wrong_tasks(tmp_path, wrong, parts):
    refused(write(tmp_path, task(rectangle()), wrong), f"{tmp_path}/export.json: ", *parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{}", ["{} and should be a list"]),
        ("[\n1,,]", ["not valid JSON at line 2 column 3"]),
        ("[" * 100_000, ["cannot be read"]),
        ("[]", ["none of its tasks is labeled"]),
        (b'["\xff"]', ["cannot be read"]),
    ],
)
def test_wrong_files(tmp_path, text, parts):
    refused(fill(tmp_path, {"e.json": text}) / "e.json", *parts, format="label-studio")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_encodings(tmp_path, encoding):
    fill(tmp_path, {"e.json": json.dumps([task(rectangle("b\u00eate"))]).encode(encoding), "a.png": (100, 50)})
    assert found(load_dataset(tmp_path / "e.json", format="label-studio")) == {"a.png": [("b\u00eate", BOX)]}


def test_a_size_that_is_not_recorded(tmp_path):
    write(tmp_path, task(rectangle(more={"original_width": None})))
    assert found(load_dataset(tmp_path)) == {"a.png": [("cat", BOX)]}


def test_places(tmp_path):
    raw = read_raw(write(tmp_path, task(image="n.png", annotations=[]), task(rectangle(), rectangle())))
    assert str(raw.boxes.where(1)) == "export.json [1] result 1"


def apart(label: str | None, id="r", kind="labels", **value) -> list[dict]:
    """A region as two results: its shape, and what it is."""
    shape = {"x": 30, "y": 30, "width": 20, "height": 20, "rotation": 0} | value
    size = {"original_width": 100, "original_height": 50, "image_rotation": 0}
    drawn = {"id": id, "type": "rectangle", "value": shape} | size
    return [drawn, *([{"id": id, "type": kind, "value": shape | {kind: [label]}} | size] if label else [])]


def test_rectangle_and_labels_apart(tmp_path):
    owl = apart("owl", "s", x=0, y=0, width=100, height=100)
    write(tmp_path, task(*apart("cat"), owl[1], owl[0]))
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", BOX), ("owl", [0, 0, 100, 50])]}
    assert data.notes == ()


def test_choices_of_a_region_name_it_where_labels_do_not(tmp_path):
    choices = apart("small", kind="choices")[1]
    write(tmp_path, task(*apart("cat", kind="choices"), *apart("cat", "s"), choices | {"id": "s"}))
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", BOX), ("cat", BOX)]}
    assert data.notes == ("export.json: 1 result of the type 'choices' was left out.",)


def test_labels_that_have_the_numbers_alone(tmp_path):
    text = {"id": "t", "type": "labels", "value": {"start": 1, "end": 2, "labels": ["cat"]}}
    write(tmp_path, task(apart("cat")[1], text))
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", BOX)]}
    assert data.notes == ("export.json: 1 result of the type 'labels' was left out.",)


def test_regions_without_a_label_can_be_left_out(tmp_path):
    write(tmp_path, task(rectangle(), *apart(None), rectangle(rectanglelabels=[])))
    refused(tmp_path, "result 1", "which has no label", "(1 more like it)")
    data = load_dataset(tmp_path, invalid_boxes="drop")
    assert found(data) == {"a.png": [("cat", BOX)]}
    assert data.notes == (
        "export.json: 2 boxes were left out, first that of [0] result 1: it has no label (the name of its class).",
    )


def test_a_region_of_several_labels_is_a_box_of_each(tmp_path):
    write(tmp_path, task(rectangle(rectanglelabels=["cat", "owl", "cat"])))
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", BOX), ("owl", BOX)]}
    assert data.notes == ("export.json: 1 region has several labels; it is a box of each.",)


def minimal(image="/data/upload/1/a.png", number=1, **drawn) -> dict:
    value = rectangle()["value"] | {"original_width": 100, "original_height": 50}
    return {"image": image, "id": number, "annotation_id": number, "annotator": 1} | (drawn or {"label": [value]})


def test_json_min(tmp_path):
    shape = {"x": 0, "y": 0, "width": 100, "height": 100, "original_width": 100, "original_height": 50}
    # with Rectangle and Labels apart, both have the numbers
    two = minimal("b.png", 2, rect=[shape], what=[shape | {"labels": ["owl"]}])
    write(tmp_path, minimal(), two, minimal(number=3))
    fill(tmp_path, {"images/b.png": (100, 50)})
    assert recognize(tmp_path) == recognize(tmp_path / "export.json") == "label-studio"
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", BOX)], "b.png": [("owl", [0, 0, 100, 50])]}
    assert [note.partition(": ")[2][:23] for note in data.notes] == ["1 task was labeled more"]


def test_csv(tmp_path):
    row = minimal()
    cells = [
        '"' + json.dumps(row["label"]).replace('"', '""') + '"' if key == "label" else str(row[key]) for key in row
    ]
    text = ",".join(row) + "\n" + ",".join(cells) + "\n"
    fill(tmp_path, {"export.csv": text, "images/a.png": (100, 50)})
    assert recognize(tmp_path) == recognize(tmp_path / "export.csv") == "label-studio"
    assert found(load_dataset(tmp_path)) == {"a.png": [("cat", BOX)]}
    fill(tmp_path, {"export.csv": text + 'x,"'})
    refused(tmp_path, "line 2", code="label-studio-csv-syntax")


@pytest.mark.parametrize("left_out", [["annotation_id"], ["annotation_id", "annotator", "id"]])
def test_json_min_without_annotation_ids(tmp_path, left_out):
    records = [minimal(), minimal("b.png", 2)]
    write(tmp_path, *({key: record[key] for key in record if key not in left_out} for record in records))
    fill(tmp_path, {"images/b.png": (100, 50)})
    assert recognize(tmp_path) == "label-studio"
    assert found(load_dataset(tmp_path)) == {"a.png": [("cat", BOX)], "b.png": [("cat", BOX)]}


def test_json_min_of_which_a_record_has_an_annotation_id(tmp_path):
    write(tmp_path, {"image": "b.png", "id": 2}, minimal())
    fill(tmp_path, {"images/b.png": (100, 50)})
    assert found(load_dataset(tmp_path)) == {"b.png": [], "a.png": [("cat", BOX)]}


SEVERAL = {"image1": "/data/upload/1/a.png", "image2": "/data/upload/1/b.png"}


@pytest.mark.parametrize(
    ("data", "results", "expected"),
    [
        (SEVERAL, [("image2", None)], {"b.png": [("cat", BOX)]}),
        (SEVERAL, [("image-2", None), ("image-1", None)], {"b.png": [("cat", BOX)], "a.png": [("cat", BOX)]}),
        ({"pages": ["a.png", "b.png"]}, [("img", 1)], {"a.png": [], "b.png": [("cat", BOX)]}),
        ({"pages": ["a.png", "b.png"]}, [("pages", 0), ("pages", 5)], {"a.png": [("cat", BOX)] * 2, "b.png": []}),
        ({"pages": ["b.png"]}, [], {"b.png": []}),
        ({"image": "a.png", "thumbnail": "b.png"}, [("img", None)], {"a.png": [("cat", BOX)]}),
        ({"image": "a.png", "thumbnail": "b.png"}, [("thumbnail", 1.0)], {"b.png": [("cat", BOX)]}),
    ],
)
def test_a_box_is_on_the_image_that_its_result_names(tmp_path, data, results, expected):
    drawn = [rectangle(more={"to_name": name, "item_index": page}) for name, page in results]
    write(tmp_path, task(*drawn) | {"data": data}, task(rectangle(), image="c.png"))
    fill(tmp_path, {"images/b.png": (100, 50), "images/c.png": (100, 50)})
    assert found(load_dataset(tmp_path)) == expected | {"c.png": [("cat", BOX)]}


@pytest.mark.parametrize("names", [["img"], ["one", "two"], [None]])
def test_a_box_that_could_be_on_several_images_is_refused(tmp_path, names):
    write(tmp_path, task(*(rectangle(more={"to_name": name}) for name in names)) | {"data": SEVERAL})
    fill(tmp_path, {"images/b.png": (100, 50)})
    refused(tmp_path, "[0] (id 7) names several images (image1, image2)", "to_name")


@pytest.mark.parametrize("files", [("train.json", "val.json"), ("Train/p.json", "valid/p.json")])
def test_a_file_for_each_split(tmp_path, files):
    for file, stem in zip(files, "ab", strict=True):
        fill(tmp_path, {file: json.dumps([task(rectangle(), image=f"{stem}.png")]), f"images/{stem}.png": (100, 50)})
    assert (recognize(tmp_path), find_splits(tmp_path)) == ("label-studio", ["train", "val"])
    assert found(load_dataset(tmp_path, "val")) == {"b.png": [("cat", BOX)]}
    fill(tmp_path, {str((tmp_path / files[0]).parent / "more.json"): json.dumps([task(rectangle())])})
    refused(tmp_path, "more.json", "the name of a split", code="label-studio-one-export", format="label-studio")
