import inspect
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from varifocal.data.images import read_image
from varifocal.data.load import build_dataset, find_splits, load_dataset, read_raw
from varifocal.data.validate import check_size
from varifocal.types import Category
from varifocal.utils.errors import DataError
from varifocal.utils.text import quoted


def image(id=1, name="1.jpg", width=100, height=50) -> dict:
    return {"id": id, "file_name": name, "width": width, "height": height}


def box(id=1, bbox=(10, 20, 30, 5), image_id=1, category_id=3, **more) -> dict:
    bbox = list(bbox) if isinstance(bbox, tuple) else bbox
    return {"id": id, "image_id": image_id, "category_id": category_id, "bbox": bbox, **more}


def coco(annotations=(), images=None, categories=None) -> dict:
    return {
        "images": [image()] if images is None else images,
        "annotations": list(annotations),
        "categories": [{"id": 3, "name": "tree"}] if categories is None else categories,
    }


@pytest.fixture
def write(tmp_path):
    """Write what is given as val.json beside empty files for its images."""

    def write(content: object) -> Path:
        path = tmp_path / "val.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        if isinstance(content, dict):
            for entry in content.get("images", []):
                if isinstance(entry, dict) and isinstance(entry.get("file_name"), str):
                    (tmp_path / "images" / entry["file_name"]).parent.mkdir(parents=True, exist_ok=True)
                    (tmp_path / "images" / entry["file_name"]).touch()
        return path

    return write


def refused(path: Path, *parts: str, **options) -> str:
    with pytest.raises(DataError) as error:
        load_dataset(path, **options)
    message = str(error.value)
    assert "\n" not in message
    for part in (str(path), *parts):
        assert part in message
    assert error.value.__cause__ is None
    return message


def test_what_is_read(tmp_path, write):
    content = coco(
        [
            box(11, (10, 20, 30, 5), image_id=7, category_id=-2),
            box(12, (0.5, 0.25, 99.5, 49.75), image_id=2, category_id=90, iscrowd=1),
            box(13, (1, 2, 3, 4), image_id=7, category_id=5),
        ],
        [image(7, "b/7.jpg"), image(9, "9.jpg", 640, 480), image(2, "2.jpg")],
        [{"id": 90, "name": "c"}, {"id": -2, "name": "a"}, {"id": 5, "name": "b"}],
    )
    data = load_dataset(write(content))
    assert data.categories == (Category(-2, "a"), Category(5, "b"), Category(90, "c"))
    assert data.source == tmp_path / "val.json"
    assert data.notes == ()
    seven, nine, two = data.samples
    assert [sample.image_id for sample in data.samples] == [7, 9, 2]
    assert seven.file == tmp_path / "images/b/7.jpg"
    assert (nine.width, nine.height) == (640, 480)
    assert seven.boxes.tolist() == [[10, 20, 40, 25], [1, 2, 4, 6]]
    assert seven.labels.tolist() == [0, 1]
    assert seven.crowd.tolist() == [False, False]
    assert two.boxes.tolist() == [[0.5, 0.25, 100, 50]]
    assert two.labels.tolist() == [2]
    assert two.crowd.tolist() == [True]
    assert nine.boxes.shape == (0, 4)
    assert nine.labels.shape == nine.crowd.shape == (0,)
    for sample in data.samples:
        assert [sample.boxes.dtype, sample.labels.dtype, sample.crowd.dtype] == [np.float32, np.int64, bool]


def test_no_annotations_at_all(write):
    (sample,) = load_dataset(write(coco())).samples
    assert sample.boxes.shape == (0, 4)
    assert sample.boxes.dtype == np.float32


def test_folder_and_split(tmp_path, write):
    write(coco([box()]))
    assert find_splits(tmp_path) == ["val"]
    for path, split in ((tmp_path, None), (str(tmp_path), "val"), (tmp_path / "val.json", "valid")):
        assert load_dataset(path, split).samples[0].boxes.tolist() == [[10, 20, 40, 25]]
    refused(tmp_path, "no split 'train'", "available: val", split="train")


def test_roboflow_folder(tmp_path):
    for name in ("train", "valid"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "_annotations.coco.json").write_text(json.dumps(coco([box()])))
        (tmp_path / name / "1.jpg").touch()
    assert load_dataset(tmp_path, "val").samples[0].file == tmp_path / "valid/1.jpg"
    assert load_dataset(tmp_path, "train").samples[0].file == tmp_path / "train/1.jpg"
    assert load_dataset(tmp_path / "valid").samples[0].file == tmp_path / "valid/1.jpg"


def test_coco_folder(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps(coco([box()])))
    (tmp_path / "val2017").mkdir()
    (tmp_path / "val2017/1.jpg").touch()
    assert load_dataset(tmp_path, "val").samples[0].file == tmp_path / "val2017/1.jpg"


def test_byte_order_mark(tmp_path, write):
    path = write(coco([box()]))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(load_dataset(path).samples) == 1


def test_clipping_is_noted_beyond_one_pixel(write):
    boxes = [
        box(1, (-1, -1, 102, 52)),
        box(2, (-1.5, 0, 10, 10)),
        box(3, (90, 45, 10, 6.5)),
        box(4, (95, 10, 7, 10)),
    ]
    data = load_dataset(write(coco(boxes)))
    assert data.samples[0].boxes.tolist() == [
        [0, 0, 100, 50],
        [0, 0, 8.5, 10],
        [90, 45, 100, 50],
        [95, 10, 100, 20],
    ]
    (note,) = data.notes
    assert note.startswith(
        "val.json: 3 boxes were clipped, first that of annotation 2 of image 1: it reaches over the border"
    )


BAD_BOXES = [
    ([10, 10, 0, 5], "has no area"),
    ([10, 10, 1e-9, 5], "has no area"),
    ([100, 10, 5, 5], "outside"),
    ([10, 50, 5, 5], "outside"),
    ([-5, 10, 5, 5], "outside"),
    ([10, -9, 5, 5], "outside"),
    ([10, math.nan, 5, 5], "finite number"),
    ([10, 10, math.inf, 5], "finite number"),
    ([10, 10, None, 5], "finite number"),
    ([True, 10, 5, 5], "finite number"),
    ([10, 10, [5], 5], "finite number"),
    ([10, 10, 10**400, 5], "finite number"),
]


@pytest.mark.parametrize(("bad", "why"), BAD_BOXES)
def test_invalid_box(write, bad, why):
    path = write(coco([box(1), box(22, bad), box(23), box(24, (1, 1, 1, 1))]))
    message = refused(path, "annotation 22 ", "image 1 ", "'1.jpg'", "100 x 50", why, "data.invalid_boxes=drop")
    assert "more" not in message
    data = load_dataset(path, invalid_boxes="drop")
    assert data.samples[0].boxes.tolist() == [[10, 20, 40, 25], [10, 20, 40, 25], [1, 1, 2, 2]]
    (note,) = data.notes
    assert note.startswith("val.json: 1 box was left out, first that of annotation 22 of image 1: it ")
    assert why in note


def test_the_value_is_named_and_others_counted(write):
    path = write(coco([box(1, (4, 5, 0, 7)), box(2, (1, 2, 0, 3)), box(3, (1, 2, 3, 0)), box(4, (900, 0, 1, 1))]))
    refused(path, "annotation 1 ", "[4, 5, 0, 7]", "(2 more like it)")
    data = load_dataset(path, invalid_boxes="drop")
    assert data.samples[0].boxes.shape == (0, 4)
    assert [note[:28] for note in data.notes] == [
        "val.json: 3 boxes were left ",
        "val.json: 1 box was left out",
        "val.json: 1 image has no box",
    ]
    assert data.notes[2] == "val.json: 1 image has no box left and counts as without objects, first 1.jpg."


def test_dropping_keeps_boxes_with_their_image(write):
    images = [image(1, "1.jpg"), image(2, "2.jpg"), image(3, "3.jpg")]
    boxes = [
        box(1, (1, 1, 1, 1), 3),
        box(2, (0, 0, 0, 0), 1),
        box(3, (2, 2, 2, 2), 2),
        box(4, (3, 3, 3, 3), 3, iscrowd=1),
    ]
    first, second, third = load_dataset(write(coco(boxes, images)), invalid_boxes="drop").samples
    assert first.boxes.tolist() == []
    assert second.boxes.tolist() == [[2, 2, 4, 4]]
    assert third.boxes.tolist() == [[1, 1, 2, 2], [3, 3, 6, 6]]
    assert third.crowd.tolist() == [False, True]
    assert [one.areas.tolist() for one in (first, second, third)] == [[], [4], [1, 9]]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (7, 7),
        (7.5, 7.5),
        (149.0, 149),
        (0, 150),
        (-4, 150),
        (math.nan, 150),
        (math.inf, 150),
        (None, 150),
        ("7", 150),
        (True, 150),
        ([7], 150),
        (10**400, 150),
    ],
)
def test_the_area_is_what_the_labels_say_or_else_width_times_height(write, given, read):
    (sample,) = load_dataset(write(coco([box(1, area=given)]))).samples
    assert sample.areas.dtype == np.float64
    assert sample.areas.tolist() == [read]


def test_areas_keep_to_their_boxes(write):
    images = [image(1, "1.jpg"), image(2, "2.jpg")]
    boxes = [
        box(1, (1, 1, 4, 4), 2, area=5),
        box(2, (0, 0, 0, 0), 1, area=99),
        box(3, (2, 2, 2, 2), 1),
        box(4, (95, 1, 50, 10), 2),  # of which 5 x 10 are inside
        box(5, (3, 3, 3, 3), 1, area=8, iscrowd=1),
    ]
    first, second = load_dataset(write(coco(boxes, images)), invalid_boxes="drop").samples
    assert first.areas.tolist() == [4, 8]
    assert second.areas.tolist() == [5, 50]


def test_huge_numbers_are_clipped(write):
    data = load_dataset(write(coco([box(1, (-1e308, 1, 1.5e308, 2)), box(2, (1, 2, 1e308, 3))])))
    assert data.samples[0].boxes.tolist() == [[0, 1, 100, 3], [1, 2, 100, 5]]


@pytest.mark.parametrize("option", ["error", "drop"])
def test_unknown_ids_are_always_refused(write, option):
    path = write(coco([box(1), box(5, category_id=8), box(6, category_id=9)]))
    refused(
        path,
        "annotation 5 of image 1 ",
        "category_id 8",
        "(3)",
        "(1 more like it)",
        invalid_boxes=option,
    )
    path = write(coco([box(1), box(5, image_id=77)]))
    refused(path, "annotation 5 ", "image_id 77", "'images' (1)", invalid_boxes=option)


@pytest.mark.parametrize(("ids", "hint"), [((0, 1, 2), "one too low; add 1"), ((2, 3, 4), "one too high; subtract 1")])
def test_ids_that_are_one_off(write, ids, hint):
    categories = [{"id": id, "name": str(id)} for id in (1, 2, 3)]
    path = write(coco([box(i, category_id=id) for i, id in enumerate(ids)], categories=categories))
    refused(path, "category_id", f"all of them seem {hint}")
    path = write(coco([box(i, category_id=id) for i, id in enumerate((0, 3))], categories=categories))
    assert "seem" not in refused(path, "category_id 0")


def test_unknown_option_is_a_defect_of_the_caller(write):
    with pytest.raises(ValueError, match="'ignore'"):
        # Past the type check of the tests, as a user would call it.
        inspect.unwrap(build_dataset)(read_raw(write(coco())), invalid_boxes="ignore")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["line 1 column 1"]),
        ('{"images": [],\n  "annotations": [1,,2]}', ["line 2 column 21", "not valid JSON"]),
        ("[" * 200_000, ["cannot be read"]),
        ('{"images": [' + "9" * 5000 + "]}", ["cannot be read"]),
        ('{"a\\nb": []}', ["(found: a\\nb)"]),
        ("3", ["not COCO but 3"]),
        ("[1, 2]", ["a list of 2"]),
        ("[]", ["a list of 0"]),
        ('[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 1}]', ["detection results"]),
        ("{}", ["'images' is missing", "found: nothing"]),
        ('{"images": [], "categories": [], "info": 1}', ["'annotations'", "images, categories, info"]),
        ('{"images": [], "annotations": []}', ["'categories' is missing"]),
        ('{"images": {}, "annotations": [], "categories": []}', ["'images' is {}", "list"]),
        ('{"images": [7], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', ["images[0] is 7", "object"]),
    ],
)
def test_what_is_not_coco(write, text, parts):
    refused(write(text), *parts)


def test_wrong_encoding(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'{"images": "\xff"}')
    refused(path, "byte 12", "UTF-8")


TREE = {"id": 3, "name": "tree"}


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (coco(images=[]), ["'images' is empty"]),
        (coco(categories=[]), ["'categories' is empty"]),
        (coco(images=[image(4), image(4, "2.jpg")]), ["image id 4", "twice"]),
        (coco(categories=[TREE, {"id": 3, "name": "bush"}]), ["category id 3", "twice"]),
        (coco([box(1), box(2, category_id=4)], categories=[TREE, {"id": 4, "name": "tree"}]), ["category name 'tree'"]),
        (coco(categories=[{"id": None, "name": "tree"}]), ["categories[0] has the id None", "whole number"]),
        (coco(categories=[TREE, {"id": 4, "name": []}]), ["categories[1] (id 4) has the name []", "text"]),
        (coco(images=[image(True)]), ["images[0] has the id True"]),
        (coco(images=[{"file_name": "1.jpg"}]), ["images[0] has no 'id'"]),
        (coco(images=[image([])]), ["images[0] has the id []"]),
        (coco(images=[image("")]), ["images[0] has the id ''"]),
        (coco(images=[image(math.nan)]), ["images[0] has the id nan"]),
        (coco(images=[{"id": 1, "width": 100, "height": 50}]), ["images[0] (id 1) has no 'file_name'"]),
        (coco(images=[image(name=5)]), ["images[0] (id 1) has the file_name 5", "text"]),
        (coco([box(8, image_id=[1])]), ["annotations[0] (id 8) has the image_id [1]"]),
        (coco([box(8, iscrowd=2)]), ["annotation 8", "iscrowd 2"]),
        (coco([box(8), box(9, iscrowd="no")]), ["annotation 9", "iscrowd 'no'"]),
        (coco([box(8, image_id=None)]), ["annotations[0] (id 8) has the image_id None"]),
        (coco([box(8, category_id=True)]), ["annotations[0] (id 8) has the category_id True"]),
        (coco([box(9, iscrowd=[])]), ["annotation 9", "iscrowd []"]),
    ],
)
def test_wrong_content(write, content, parts):
    for option in ("error", "drop"):
        refused(write(content), *parts, invalid_boxes=option)


@pytest.mark.parametrize("name", ["/1.jpg", "../1.jpg", "a/../../1.jpg", "C:\\1.jpg", ""])
def test_file_names_that_leave_the_folder(tmp_path, name):
    (tmp_path / "set").mkdir()
    (tmp_path / "1.jpg").touch()
    path = tmp_path / "set/val.json"
    path.write_text(json.dumps(coco(images=[image(4, name)])))
    refused(path, "image 4 ", quoted(name), "inside the data folder")


def test_missing_images(tmp_path, write):
    path = write(coco(images=[image(1), image(2, "2.jpg"), image(3, "sub/3.jpg"), image(4, "4.jpg")]))
    for name in ("2.jpg", "sub/3.jpg"):
        (tmp_path / "images" / name).unlink()
    refused(path, "image 2 has the file_name '2.jpg', which is not found", str(tmp_path / "images"), "(1 more like it)")


def test_long_values_are_shortened(write):
    message = refused(write(coco([box(8, [0] * 10_000)])), "annotation 8", "has the bbox [0, 0, ")
    assert len(message) < 500


def test_check_size(tmp_path, write):
    path = write(coco())
    (sample,) = load_dataset(path).samples
    check_size(sample, Image.new("RGB", (100, 50)))
    Image.new("RGB", (90, 50)).save(sample.file)
    with pytest.raises(DataError) as error:
        check_size(sample, read_image(sample.file))
    for part in (str(sample.file), "image 1 ", "100 x 50", "90 x 50"):
        assert part in str(error.value)
    assert "EXIF" not in str(error.value)


def test_check_size_knows_a_forgotten_rotation(write):
    (sample,) = load_dataset(write(coco())).samples
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (100, 50)).save(sample.file, exif=turned)
    with pytest.raises(DataError, match=r"100 x 50 .* 50 x 100: .*before the EXIF rotation"):
        check_size(sample, read_image(sample.file))
    Image.new("RGB", (50, 100)).save(sample.file)
    with pytest.raises(DataError) as error:
        check_size(sample, read_image(sample.file))
    assert "EXIF" not in str(error.value)
    sample.file.unlink()
    with pytest.raises(DataError, match="fix the recorded size"):
        check_size(sample, Image.new("RGB", (50, 100)))


def test_classes_without_a_name_are_called_by_number(write):
    """As an entry 0 for the background often has none; with boxes or without."""
    nameless = [TREE, {"id": 0, "name": ""}, {"id": 4, "name": None}, {"id": 7}, {"id": 9, "name": "class_7"}]
    data = load_dataset(write(coco([box(1), box(2, category_id=7)], categories=nameless)))
    assert [(one.id, one.name) for one in data.categories] == [
        *[(0, "class_0"), (3, "tree"), (4, "class_4"), (7, "class_7_"), (9, "class_7")]
    ]
    (sample,) = data.samples
    assert [data.categories[label].id for label in sample.labels] == [3, 7]
    assert any(
        note.endswith("3 classes have no names and are called by number: class_0, class_4, class_7_.")
        for note in data.notes
    )


@pytest.mark.parametrize("keys", ["x y width height", "left top w h"])
def test_a_bbox_that_is_an_object(write, keys):
    sides = dict(zip(keys.split(), [1, 2, "10", 5], strict=True))
    data = load_dataset(write(coco([box(1, bbox=sides)])))
    assert data.samples[0].boxes.tolist() == [[1, 2, 11, 7]]
    assert any("1 bbox is an object" in note for note in data.notes)
    with pytest.raises(DataError, match=r"has the bbox \{'x': 1, 'y': 2\}"):
        load_dataset(write(coco([box(1, bbox={"x": 1, "y": 2})])))
