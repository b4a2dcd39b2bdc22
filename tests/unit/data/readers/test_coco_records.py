"""Records of COCO files that are not what COCO says and can be understood all the same: read, and counted in a note."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from folders import fill, found, refused
from pycocotools import mask as coco_mask

from varifocal.data.load import load_dataset, read_raw
from varifocal.data.readers.coco_ids import Ids
from varifocal.data.readers.outline import outline_box

TREE = {"id": 3, "name": "tree"}
BOX = [10, 20, 40, 25]


def image(id=1, name="1.png", **more) -> dict:
    return {"id": id, "file_name": name, "width": 100, "height": 50, **more}


def box(id=1, image_id=1, category_id=3, bbox=(10, 20, 30, 5), **more) -> dict:
    return {"id": id, "image_id": image_id, "category_id": category_id, "bbox": list(bbox), **more}


def without(record: dict, *keys: str) -> dict:
    return {key: value for key, value in record.items() if key not in keys}


def write(root: Path, annotations, images=None, categories=(TREE,)) -> Path:
    """A data set whose images are 100 x 50 pixels."""
    images = [image()] if images is None else images
    content = {"images": images, "annotations": list(annotations), "categories": list(categories)}
    names = {one["file_name"] for one in images if isinstance(one.get("file_name"), str)}
    return fill(root, {"val.json": json.dumps(content), **{f"images/{name}": (100, 50) for name in names}})


@pytest.mark.parametrize(
    "size",
    [
        {},
        {"width": 100},
        *({"width": side, "height": 50} for side in (None, 0, -1, "", "wide", 2**31, 99.5, [100], True)),
    ],
)
def test_an_image_without_a_usable_size_is_measured(tmp_path, size):
    images = [{**without(image(), "width", "height"), **size}, image(2, "2.png")]
    data = load_dataset(write(tmp_path, [box(1), box(2, 2)], images))
    assert [(sample.width, sample.height) for sample in data.samples] == [(100, 50)] * 2
    assert found(data) == {"1.png": [("tree", BOX)], "2.png": [("tree", BOX)]}
    assert data.notes == ("val.json: 1 image has no usable width and height; its size was read from the image file.",)


def test_all_images_without_a_size_whole_columns_at_once(tmp_path):
    images = [image(i, f"{i}.png", width=0, height=0) for i in range(5)]
    data = load_dataset(write(tmp_path, [box(1, 4)], images))
    assert [(sample.width, sample.height) for sample in data.samples] == [(100, 50)] * 5
    assert data.notes[0].startswith("val.json: 5 images have no usable")


@pytest.mark.parametrize("side", [100.0, "100", " 100 ", "100.0", "1e2"])
def test_sizes_may_be_floats_and_texts(tmp_path, side):
    data = load_dataset(write(tmp_path, [box()], [image(width=side)]))
    assert data.samples[0].width == 100
    assert data.notes == ()


@pytest.mark.parametrize("other", [1, 1.0, "1", "1.0", "001"])
@pytest.mark.parametrize("id", [1, 1.0, "1", "1.0", "001"])
def test_numbers_are_one_id_however_they_are_written(tmp_path, id, other):
    categories = [{"id": id, "name": "owl"}, {"id": 2, "name": "cat"}]
    data = load_dataset(write(tmp_path, [box(id, other, other)], [image(id), image(2, "2.png")], categories))
    assert [sample.image_id for sample in data.samples] == [1, 2]
    assert [(one.id, one.name) for one in data.categories] == [(1, "owl"), (2, "cat")]
    assert found(data) == {"1.png": [("owl", BOX)], "2.png": []}


def test_ids_that_are_texts_get_numbers_that_are_free(tmp_path):
    images = [
        image("abc", "a.png"),
        image(2, "b.png"),
        image("01", "c.png"),
        image(1.5, "d.png"),
        image(10**30, "e.png"),
    ]
    boxes = [box("x", "abc", "c"), box("y", 1.5, "d"), box("z", 10**30, 4), box(0, "01", "4"), box(1, 2.0, "c")]
    categories = [{"id": key, "name": f"class {key}"} for key in ("d", 4, "c")]
    data = load_dataset(write(tmp_path, boxes, images, categories))
    assert {sample.file.name: sample.image_id for sample in data.samples} == {
        "a.png": 3,
        "b.png": 2,
        "c.png": 1,
        "d.png": 4,
        "e.png": 5,
    }
    assert [(one.id, one.name) for one in data.categories] == [(1, "class d"), (2, "class c"), (4, "class 4")]
    assert {name: [label for label, _ in boxes] for name, boxes in found(data).items()} == {
        "a.png": ["class c"],
        "b.png": ["class c"],
        "c.png": ["class 4"],
        "d.png": ["class d"],
        "e.png": ["class 4"],
    }
    assert dict(data.ids.images) == {"abc": 3, "01": 1, "1.5": 4, str(10**30): 5}
    assert dict(data.ids.classes) == {"d": 1, "c": 2}
    assert not data.ids.counted
    assert data.notes == (
        "val.json: 4 image ids are no whole numbers and got some, for example 'abc' the number 3.",
        "val.json: 2 category ids are no whole numbers and got some, for example 'd' the number 1.",
    )


@pytest.mark.parametrize("reference", [1, "1", "01", "1.0"])
def test_an_id_that_nothing_has_is_not_met_by_a_number_that_is_given(tmp_path, reference):
    path = write(tmp_path, [box(image_id=reference)], [image("abc")])
    refused(path, "which is not in 'images' (abc)")
    path = write(tmp_path, [box(category_id=reference)], categories=[{"id": "c", "name": "tree"}])
    refused(path, "which is not in 'categories' (c)")


def test_messages_show_ids_as_they_stand(tmp_path):
    path = write(tmp_path, [box("x", "abc", bbox=(1, 1, 0, 1)), box("y", "abd")], [image("abc")])
    refused(path, "annotation y has the image_id abd, which is not in 'images' (abc)")
    path = write(tmp_path, [box("x", "abc", bbox=(1, 1, 0, 1))], [image("abc")])
    refused(path, "annotation x of image abc ('1.png', 100 x 50 pixels) has the bbox [1, 1, 0, 1]")
    path = write(tmp_path, [], [image("abc"), image("abc", "2.png")])
    refused(path, "the image id abc is there twice")
    path = write(tmp_path, [box("x", "abc", "tree")], [image("abc")])
    refused(path, "annotation x of image abc has the category_id tree")
    path = write(tmp_path, [box("x", "9" * 5000)], [image("abc")])
    refused(path, f"has the image_id {'9' * 30}...{'9' * 15}, which is not in 'images' (abc)")


def test_a_text_and_its_number_are_one_id_so_that_two_of_them_are_refused(tmp_path):
    refused(write(tmp_path, [], [image("1"), image(1, "2.png")]), "the image id 1 is there twice")


def test_annotations_need_no_id_of_their_own(tmp_path):
    boxes = [without(box(), "id"), box(None, bbox=(1, 1, 2, 2)), box(7, bbox=(2, 2, 2, 2)), box(7, bbox=(3, 3, 2, 2))]
    data = load_dataset(write(tmp_path, boxes))
    assert [one for _, one in found(data)["1.png"]] == [BOX, [1, 1, 3, 3], [2, 2, 4, 4], [3, 3, 5, 5]]
    assert data.notes == (
        "val.json: 2 annotations have no id.",
        "val.json: 1 annotation has the id of another, and is a box of its own.",
    )
    path = write(tmp_path, [box(), without(box(bbox=(1, 1, 0, 2)), "id")])
    refused(path, "annotations[1] of image 1 ('1.png'")


def test_what_is_there_twice_in_all_it_says_is_read_once(tmp_path):
    """As programs leave it that join files: the same images and annotations after one another."""
    images = [image(4, "4.png"), image(1), image(4, "4.png"), image(4, "4.png")]
    boxes = [box(7, 4), box(8, 1), box(7, 4), box(8, 1, bbox=[None] * 4), box(9, 4, bbox=[None] * 4)]
    path = write(tmp_path, [*boxes, box(9, 4, bbox=[None] * 4)], images)
    data = load_dataset(path, invalid_boxes="drop")
    assert found(data) == {"4.png": [("tree", BOX)], "1.png": [("tree", BOX)]}
    assert data.notes[:3] == (
        "val.json: 2 images are listed once more with the same id, name and size.",
        "val.json: 2 annotations are listed once more with the same id and box.",
        "val.json: 1 annotation has the id of another, and is a box of its own.",
    )
    refused(path, "annotation 8 of image 1", "has the bbox [None, None, None, None]")
    for other in (image(4, "5.png"), image(4, "4.png", width=9)):
        refused(write(tmp_path, [], [image(4, "4.png"), other]), "the image id 4 is there twice")


POLYGON = [10, 20, 40.5, 22, 30, 45]
AROUND = [10, 20, 40.5, 45]


@pytest.mark.parametrize(
    "absent",
    [
        {},
        {"bbox": None},
        {"bbox": []},
        {"bbox": [None] * 4},
        {"bbox": [1, 2, 3]},
        {"bbox": "1 2 3 4"},
        {"bbox": 0},
        {"bbox": [0, 0, 0, 0]},
        {"bbox": [7, 9, 3.0, 0.0]},
    ],
)
@pytest.mark.parametrize(
    ("outline", "expected"),
    [
        ([POLYGON], AROUND),
        (POLYGON, AROUND),
        ([POLYGON, [5, 30, 6, 30, 6, 31]], [5, 20, 40.5, 45]),
        ([[90, 40, 120, 40, 120, 60]], [90, 40, 100, 50]),  # over the border
        # the third and the fourth pixel of the first column, and the first of the second
        ({"size": [4, 100], "counts": [2, 3, 395]}, [0, 0, 2, 4]),
        ({"size": [50, 100], "counts": [102, 3, 4895]}, [2, 2, 3, 5]),
    ],
)
def test_a_box_that_is_missing_is_taken_from_the_outline(tmp_path, absent, outline, expected):
    data = load_dataset(write(tmp_path, [{**without(box(), "bbox"), **absent, "segmentation": outline}]))
    assert found(data) == {"1.png": [("tree", expected)]}
    note = "val.json: 1 annotation has no usable bbox; the upright box around its outline was taken."
    assert data.notes[0] == note


def test_an_outline_without_area_does_not_stand_in_for_a_box_without(tmp_path):
    path = write(tmp_path, [box(8, bbox=[7, 9, 0, 5], segmentation=[[1, 2, 4, 2]]), box(9)])
    refused(path, "annotation 8 of image 1", "has the bbox [7, 9, 0, 5], which has no area")


@pytest.mark.parametrize("name", ["{}", "./{}"])
def test_an_image_that_is_listed_twice_is_said(tmp_path, name):
    """Under two ids; what the one entry labels would be background in the other without a word."""
    path = write(tmp_path, [box()])
    content = json.loads((tmp_path / "val.json").read_text())
    first = content["images"][0]
    content["images"].append({**first, "id": 99, "file_name": name.format(first["file_name"])})
    (tmp_path / "val.json").write_text(json.dumps(content))
    note = load_dataset(path).notes[-1]
    assert note == (
        "val.json: 1 image is listed once more under another id; what one entry labels is background in the other."
    )


def test_a_box_that_is_there_is_not_replaced_by_the_outline(tmp_path):
    data = load_dataset(write(tmp_path, [box(segmentation=[POLYGON])]))
    assert found(data) == {"1.png": [("tree", BOX)]}
    assert data.notes == ()


NO_OUTLINE = [
    None,
    [],
    [[]],
    {},
    "polygon",
    [[1, 2, 3]],
    [[1, 2, "3", 4]],
    [[1, 2, True, 4]],
    [[1, 2, float("nan"), 4]],
    [1, [2, 3]],
    {"size": [50, 100]},
    {"size": [50, 100], "counts": "~~~ \u00e9"},
    {"size": [50, 100], "counts": [5000]},
    {"size": [50, 100], "counts": [0, 5001]},
    {"size": [50, 100], "counts": [2, -3, 4]},
    {"size": [50, 100], "counts": [10**30]},
    {"size": [50.0, 100], "counts": [2, 3]},
    {"size": [2**31 - 1, 2**31 - 1], "counts": [2**62] * 9},
    {"size": [50, 100], "counts": "o" * 99},
]


@pytest.mark.parametrize("outline", NO_OUTLINE)
@pytest.mark.parametrize("absent", [{}, {"bbox": None}, {"bbox": []}])
def test_without_box_and_outline_it_is_a_box_that_can_be_dropped(tmp_path, outline, absent):
    annotations = [{**without(box(8), "bbox"), **absent, "segmentation": outline}, box(9)]
    path = write(tmp_path, annotations)
    refused(path, "annotation 8 of image 1", "has no bbox; fix it, or leave", "data.invalid_boxes=drop")
    data = load_dataset(path, invalid_boxes="drop")
    assert found(data) == {"1.png": [("tree", BOX)]}
    assert data.notes[0].startswith("val.json: 1 box was left out, first that of annotation 8 of image 1")


@pytest.mark.parametrize("given", [[1, 2, 3], [1, 2, 3, 4, 5], "12", {"x": 1}, 7])
def test_a_bbox_that_is_not_four_values_can_be_dropped(tmp_path, given):
    path = write(tmp_path, [{**box(8), "bbox": given}, box(9)])
    refused(path, "annotation 8 of image 1", f"has the bbox {given!r}, which holds", "data.invalid_boxes=drop")
    data = load_dataset(path, invalid_boxes="drop")
    assert found(data) == {"1.png": [("tree", BOX)]}
    assert data.notes[0].startswith("val.json: 1 box was left out, first that of annotation 8 of image 1")


@pytest.mark.parametrize("seed", range(5))
def test_boxes_of_masks_are_those_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    for _ in range(60):
        height, width = rng.integers(1, 40, 2).tolist()
        pixels = (rng.random((height, width)) < rng.choice([0.02, 0.3, 0.95])).astype(np.uint8)
        packed = coco_mask.encode(np.asfortranarray(pixels))
        x, y, w, h = coco_mask.toBbox(packed).tolist()
        expected = (x, y, x + w, y + h) if pixels.any() else None
        assert outline_box({"size": [height, width], "counts": packed["counts"].decode()}) == expected
        flat = [0, *pixels.flatten(order="F").tolist()]
        edges = [i for i in range(1, len(flat)) if flat[i] != flat[i - 1]] + [len(flat)]
        runs = [end - start for start, end in zip([1, *edges], edges, strict=False)]
        assert outline_box({"size": [height, width], "counts": runs}) == expected


def test_numbers_in_texts(tmp_path):
    data = load_dataset(write(tmp_path, [box(bbox=["10", "20.0", 30, " 5"])]))
    assert found(data) == {"1.png": [("tree", BOX)]}
    assert data.notes == ("val.json: 1 box has numbers that are written as texts.",)


@pytest.mark.parametrize(
    ("bbox", "expected"),
    [((40, 20, -30, 5), BOX), ((10, 25, 30, -5), BOX), ((40, 25, -30, -5), BOX), ((5, 5, -9, 9), [0, 5, 5, 14])],
)
def test_negative_sides_are_put_in_order(tmp_path, bbox, expected):
    path = write(tmp_path, [box(4, bbox=(1, 1, 1, 1)), box(5, bbox=bbox)])
    data = load_dataset(path)
    assert [one for _, one in found(data)["1.png"]] == [[1, 1, 2, 2], expected]
    assert data.notes[0] == (
        "val.json: 1 box was put in order, first that of annotation 5 of image 1: "
        "it is written from right to left or from bottom to top."
    )
    assert read_raw(path).boxes.swapped.tolist() == [1]


@pytest.mark.parametrize("value", [None, "", "0", 0.0, False, 0])
def test_flags_of_nothing(tmp_path, value):
    assert load_dataset(write(tmp_path, [box(iscrowd=value)])).samples[0].crowd.tolist() == [False]


@pytest.mark.parametrize("value", ["1", 1.0, True, 1])
def test_flags(tmp_path, value):
    assert load_dataset(write(tmp_path, [box(iscrowd=value)])).samples[0].crowd.tolist() == [True]


def test_a_class_may_be_called_by_a_number(tmp_path):
    data = load_dataset(write(tmp_path, [box()], categories=[{"id": 3, "name": 17}]))
    assert data.categories[0].name == "17"
    assert data.notes == ("val.json: 1 class is called by a number.",)


@pytest.mark.parametrize("order", [1, -1])
def test_a_class_without_boxes_that_is_called_like_another_is_the_same(tmp_path, order):
    categories = [{"id": 0, "name": "tree", "supercategory": "none"}, {**TREE, "supercategory": "tree"}]
    data = load_dataset(write(tmp_path, [box()], categories=[*categories, {"id": 9, "name": "owl"}][::order]))
    assert [(one.id, one.name) for one in data.categories] == [(3, "tree"), (9, "owl")]
    assert found(data) == {"1.png": [("tree", BOX)]}
    assert data.notes == ("val.json: of two classes called 'tree' one has no boxes; they count as one class.",)


def test_two_classes_of_one_name_without_any_box(tmp_path):
    data = load_dataset(write(tmp_path, [], categories=[TREE, {"id": 2, "name": "tree"}]))
    assert [(one.id, one.name) for one in data.categories] == [(2, "tree")]


def test_a_category_that_is_there_once_more(tmp_path):
    data = load_dataset(write(tmp_path, [box()], categories=[TREE, TREE]))
    assert found(data) == {"1.png": [("tree", BOX)]}
    assert data.notes == ("val.json: 1 category is there once more, with the same id and name.",)


def test_lvis_names_its_images_by_their_address(tmp_path):
    address = "http://images.cocodataset.org/{}/{}"
    names = {"val2017": "000000397133.jpg", "train2017": "a b.jpg"}
    images = [
        {"id": i, "coco_url": address.format(folder, name.replace(" ", "%20")), "width": 100, "height": 50}
        for i, (folder, name) in enumerate(names.items())
    ]
    content = {"images": images, "annotations": [box(1, 1)], "categories": [{**TREE, "synset": "tree.n.01"}]}
    files = {f"{folder}/{name}": (100, 50) for folder, name in names.items()}
    root = fill(tmp_path, {"annotations/lvis_v1_val.json": json.dumps(content), **files})
    data = load_dataset(root, "val")
    assert [sample.file for sample in data.samples] == [root / "val2017/000000397133.jpg", root / "train2017/a b.jpg"]
    assert data.notes == ("lvis_v1_val.json: 2 images have no file_name; the end of their coco_url was taken.",)
    os.rename(root / "val2017/000000397133.jpg", root / "000000397133.jpg")
    assert load_dataset(root, "val").samples[0].file == root / "000000397133.jpg"
    os.remove(root / "000000397133.jpg")
    refused(root, "image 0 has the file_name 'val2017/000000397133.jpg', which is not found in", split="val")


def test_an_address_leads_nowhere_else(tmp_path):
    fill(tmp_path, {"1.png": (100, 50)})
    images = [{"id": 1, "path": "/etc/../../1.png"}, {"id": 2, "coco_url": "http://h/%2e%2e/%2e%2e/1.png"}]
    path = write(tmp_path / "set", [], images)
    refused(path, "which is not a file inside the data folder", "(1 more like it)")


def test_boxes_of_a_refused_image_are_no_complaint_of_their_own(tmp_path):
    images = [without(image(5), "file_name"), image(1)]
    raw = read_raw(write(tmp_path, [box(1, 5), box(2, 5)], images))
    (problem,) = raw.problems
    assert problem.sentence.endswith("images[0] (id 5) has no 'file_name'; add it, a text")
    assert raw.boxes.images.tolist() == [0, 0]
    images = [without(image(), "id"), image(1)]
    raw = read_raw(write(tmp_path, [box(1, 5), box(2, 5)], images))
    (problem,) = raw.problems
    assert "images[0] has no 'id', and 2 annotations are of no image that is listed" in problem.sentence


def test_images_with_objects_that_cannot_be_read_are_known(tmp_path):
    images = [image("a"), image("b", "2.png")]
    raw = read_raw(write(tmp_path, [{**box(1, "b"), "category_id": []}, box(2, "a")], images))
    assert raw.problems.counts == {"malformed": 1}
    assert raw.problems.damaged == {1}


def test_ids_by_themselves():
    ids = Ids()
    for value in (None, True, [], {}, "", "  ", float("nan"), float("inf"), -float("inf")):
        assert ids.code(value) is None
    assert [ids.code(value) for value in (7, 7.0, "7", -3, "-3", 0, "0", 2**63 - 1)] == [
        7,
        7,
        7,
        -3,
        -3,
        0,
        0,
        2**63 - 1,
    ]
    codes = np.array([ids.code(value) for value in ("a", "-0", 2**63, -(2**60), -(2**63), "a", 1)])
    assert len(set(codes.tolist())) == 6
    ids.assign_numbers(codes[:1])
    assert ids.numbered(codes).tolist()[0] == ids.numbers["a"]
    assert [ids.show(int(code)) for code in codes[1:5]] == ["-0", str(2**63), str(-(2**60)), str(-(2**63))]


def test_polygons_of_points(tmp_path):
    polygon = [[10, 20], [40, 20], [40, 25]]
    for segmentation in ([polygon], [polygon, [[12, 22], [13, 24], [15, 22]]]):
        path = write(tmp_path, [without(box(segmentation=segmentation), "bbox")])
        assert found(load_dataset(path)) == {"1.png": [("tree", BOX)]}
    refused(write(tmp_path, [without(box(segmentation=[[[10, 20], [40]]]), "bbox")]), "has no bbox")


def test_what_says_ignore_is_a_difficult_object(tmp_path):
    path = write(tmp_path, [box(1), box(2, ignore=1, bbox=(1, 1, 9, 9)), box(3, ignore=0, bbox=(2, 2, 9, 9))])
    data = load_dataset(path)
    assert data.samples[0].crowd.tolist() == [False, True, False]
    assert load_dataset(path, difficult="train").samples[0].crowd.tolist() == [False] * 3
    (note,) = data.notes
    assert note.startswith("val.json: 1 annotation says ignore and counts as difficult")
    refused(write(tmp_path, [box(ignore="yes")]), "has the ignore 'yes'", "it must be 0 or 1")


@pytest.mark.parametrize("record", [{"category_id": None}, {}])
def test_an_annotation_without_a_class_can_be_dropped(tmp_path, record):
    path = write(tmp_path, [box(1), without(box(2), "category_id") | record, box(3)])
    refused(path, "annotation 2 of image 1", "which has no label (the name of its class)", "data.invalid_boxes=drop")
    data = load_dataset(path, invalid_boxes="drop")
    assert [len(sample.boxes) for sample in data.samples] == [2]
