import pytest

from varifocal.inference.published.convert import coco_categories
from varifocal.tools.check.similar_names import find_similar_names

VOC = "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant"


@pytest.mark.parametrize(
    ("first", "second", "how"),
    [
        ("car", "Car", "case"),
        ("traffic light", "Traffic_Light", "case"),
        ("T-shirt", "t shirt", "case"),
        ("ÉTÉ", "été", "case"),
        ("car", "cars", "number"),
        ("buses", "bus", "number"),
        ("berry", "berries", "number"),
        ("pedestrian", "pedestrain", "spelling"),
        ("tomato", "tomatoe", "spelling"),
        ("motorbike", "moterbike", "spelling"),
        ("Traffic Sign", "trafic sign", "spelling"),
    ],
)
def test_twins(first, second, how):
    assert [tuple(twin) for twin in find_similar_names([first, "something else", second])] == [(0, 2, how)]


@pytest.mark.parametrize(
    "names",
    [
        ["class 1", "class 2", "class 10"],
        ["house", "mouse"],
        ["tracking", "cracking"],
        ["boat", "goat", "coat"],
        ["type_a", "type_b"],
        ["person", "parson"],
        ["glass", "glas"],
        ["-", "--", ""],
        VOC.split(),
        [category.name for category in coco_categories()],
        [],
    ],
)
def test_others_are_left_alone(names):
    assert find_similar_names(names) == []


def test_each_name_once_with_the_first_it_resembles():
    assert [tuple(twin) for twin in find_similar_names(["car", "Car", "CAR", "cars"])] == [
        (0, 1, "case"),
        (0, 2, "case"),
        (0, 3, "number"),
    ]
