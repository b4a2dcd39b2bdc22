import math

import pytest
from folders import fill, found, refused

from varifocal.data.load import find_splits, load_dataset, read_raw, recognize
from varifocal.types import Category
from varifocal.utils.errors import DataError

LABELS = "".join(f"<label><name>{name}</name><color>#1</color></label>\n" for name in ("owl", "cat"))
META = f"<version>1.1</version>\n<meta><task><name>t</name><labels>{LABELS}</labels></task></meta>"
BOX = '<box label="cat" source="manual" occluded="0" xtl="30.00" ytl="15" xbr="50" ybr="25.5" z_order="0"></box>'


def cvat(*images: str, meta: str = META) -> str:
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n{meta}\n' + "\n".join(images) + "\n</annotations>\n"


def image(inside: str = "", name="a.png", more="") -> str:
    return f'<image id="0" name="{name}" width="100" height="50"{more}>\n{inside}\n</image>'


def write(tmp_path, *images, **more):
    return fill(tmp_path, {"annotations.xml": cvat(*images, **more), "images/a.png": (100, 50)})


def test_what_is_read(tmp_path):
    write(tmp_path, image(BOX + '<box label="owl" xtl="0" ytl="0" xbr="100" ybr="50"/>'), image(name="sub/b.png"))
    fill(tmp_path, {"images/sub/b.png": (100, 50)})
    assert recognize(tmp_path) == recognize(tmp_path / "annotations.xml") == "cvat"
    assert find_splits(tmp_path) == ["all"]
    for path in (tmp_path, tmp_path / "annotations.xml"):
        data = load_dataset(path)
        assert data.categories == (Category(1, "owl"), Category(2, "cat"))
        assert found(data) == {"a.png": [("cat", [30, 15, 50, 25.5]), ("owl", [0, 0, 100, 50])], "b.png": []}
        assert data.notes == ()


def test_subsets_are_splits(tmp_path):
    images = [image(BOX, more=' subset="Train"'), image(BOX, "b.png", ' subset="Validation"')]
    write(tmp_path, *images)
    fill(tmp_path, {"images/Validation/b.png": (100, 50), "images/b.png": (100, 50)})
    assert find_splits(tmp_path) == ["train", "val"]
    assert list(found(load_dataset(tmp_path, "val"))) == ["b.png"]
    assert list(found(load_dataset(tmp_path, "train"))) == ["a.png"]


def hull(points):
    xs, ys = zip(*points, strict=True)
    return [round(value, 4) for value in (min(xs), min(ys), max(xs), max(ys))]


@pytest.mark.parametrize("degrees", [0, 30, 90, 123.4, 270, 359])
def test_turned_boxes_and_ellipses(tmp_path, degrees):
    """Against points on the turned shape, one by one."""
    turn = math.radians(degrees)
    box = f'<box label="cat" xtl="40" ytl="20" xbr="60" ybr="26" rotation="{degrees}"/>'
    ellipse = f'<ellipse label="cat" cx="50" cy="23" rx="10" ry="3" rotation="{degrees}"/>'
    write(tmp_path, image(box + ellipse))
    data = load_dataset(tmp_path)
    corners = [
        (50 + x * math.cos(turn) - y * math.sin(turn), 23 + x * math.sin(turn) + y * math.cos(turn))
        for x, y in ((-10, -3), (10, -3), (10, 3), (-10, 3))
    ]
    edge = [
        (
            50 + 10 * math.cos(at) * math.cos(turn) - 3 * math.sin(at) * math.sin(turn),
            23 + 10 * math.cos(at) * math.sin(turn) + 3 * math.sin(at) * math.cos(turn),
        )
        for at in (2 * math.pi * step / 10000 for step in range(10000))
    ]
    (_, first), (_, second) = found(data)["a.png"]
    assert first == pytest.approx(hull(corners), abs=1e-3)
    assert second == pytest.approx(hull(edge), abs=1e-3)
    assert sum("turned box" in note for note in data.notes) == (degrees > 0)


def test_other_shapes(tmp_path):
    shapes = [
        '<polygon label="cat" points="30,25;40.5,15;50,20"/>',
        '<mask label="owl" rle="1, 2" left="30" top="15" width="20" height="10"/>',
        '<box label="cat" outside="1" xtl="30" ytl="15" xbr="50" ybr="25"/>',
        '<points label="cat" points="30,25"/>',
        '<polyline label="cat" points="30,25;5,6"/>',
        '<tag label="cat"/>',
        '<skeleton label="cat"><points label="x" points="1,2"/></skeleton>',
        '<box label="cat" xtl="30" ytl="15" xbr="50" ybr="25"><attribute name="box">x</attribute></box>',
    ]
    write(tmp_path, image("\n".join(shapes)))
    data = load_dataset(tmp_path)
    expected = [("cat", [30, 15, 50, 25]), ("owl", [30, 15, 50, 25]), ("cat", [30, 15, 50, 25])]
    assert found(data) == {"a.png": expected}
    notes = " ".join(data.notes)
    for part in (
        "1 outline became",
        "1 mask became",
        "1 box marked as outside was",
        "(points)",
        "(polyline)",
        "(tag)",
        "(skeleton)",
    ):
        assert part in notes


@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        (BOX.replace("cat", "dog"), ["the label 'dog'", "(owl, cat)"]),
        (BOX.replace('label="cat"', ""), ["the label ''"]),
        (BOX.replace('"50"', '"x"'), ["the box 30.00 15 x 25.5 0, which holds something"]),
        (BOX.replace('xbr="50"', ""), ["the box 30.00 15 nothing 25.5 0"]),
        (BOX.replace('"50"', '"inf"'), ["not a finite number"]),
        (BOX.replace('"50"', '"30.00"'), ["no area"]),
        (BOX.replace("z_order", "rotation").replace('rotation="0"', 'rotation="x"'), ["not a finite number"]),
        ('<polygon label="cat" points="1,2;3"/>', ["'1,2;3', which holds something"]),
        ('<polygon label="cat"/>', ["'nothing', which"]),
        ('<cube label="cat"/>', ["a shape <cube>"]),
    ],
)
def test_wrong_shapes(tmp_path, shape, parts):
    write(tmp_path, image(f"\n{shape}"))
    number = cvat(image(f"\n{shape}")).split(shape)[0].count("\n") + 1
    refused(tmp_path, f"{tmp_path}/annotations.xml: line {number} ", *parts)


@pytest.mark.parametrize(
    ("inside", "parts"),
    [
        (image(BOX, "b.png"), ["line 7 has the image 'b.png', which is not found in", "images"]),
        (image(BOX, "../b.png"), ["'../b.png', which is not a file inside"]),
        (image(BOX, ""), ["the image ''"]),
        (image(BOX) + "\n" + image(BOX), ["line 10 is of the image a.png, of which line 7 is, too"]),
        (image(BOX) + "\n" + image(BOX, "./a.png"), ["line 10 is of the image a.png, of which line 7 is, too"]),
        ('<track id="0"><box frame="1"/></track>', ["line 7 has a track", "CVAT for images"]),
        ("<image>", ["not valid XML at line 8"]),
    ],
)
def test_wrong_files(tmp_path, inside, parts):
    refused(write(tmp_path, inside), *parts)


@pytest.mark.parametrize("side", ["x", "0", "-1", "99.5", ""])
def test_a_size_that_cannot_be_is_read_from_the_image(tmp_path, side):
    data = load_dataset(write(tmp_path, image(BOX).replace('"100"', f'"{side}"')))
    assert (data.samples[0].width, data.samples[0].height) == (100, 50)
    assert data.notes == (
        "annotations.xml: 1 image has no usable width and height; its size was read from the image file.",
    )


def test_corners_are_put_in_order_and_outlines_are_clipped(tmp_path):
    swapped = BOX.replace('"50"', '"10"')
    outline = '<polygon label="cat" points="80,20;130,20;130,-5"/>'
    data = load_dataset(write(tmp_path, image(swapped + outline)))
    assert [box for _, box in found(data)["a.png"]] == [[10, 15, 30, 25.5], [80, 0, 100, 20]]
    assert "1 box was put in order" in data.notes[1]
    assert "1 box was clipped" in data.notes[2]


def test_without_a_list_of_labels(tmp_path):
    write(tmp_path, image(BOX + BOX.replace("cat", "dog")), meta="")
    assert [category.name for category in load_dataset(tmp_path).categories] == ["cat", "dog"]


def test_problems_have_lines(tmp_path):
    raw = read_raw(write(tmp_path, image(f"{BOX}\n{BOX.replace('cat', 'dog')}")))
    assert [(one.kind, one.location.text, one.image, one.box) for one in raw.problems] == [
        ("unknown-class", "line 9", 0, 1)
    ]
    assert str(raw.boxes.where(0)) == "annotations.xml line 8"


def test_two_exports(tmp_path):
    for name in ("one.xml", "two.xml"):
        fill(tmp_path, {name: cvat(image(BOX)), "a.png": (100, 50)})
    refused(tmp_path, "one.xml, two.xml", code="cvat-several-exports")
    assert len(load_dataset(tmp_path / "one.xml").samples) == 1


def test_a_long_label_does_not_make_a_long_message(tmp_path):
    long = "<meta><task><labels><label><name>" + "x" * 5000 + "</name></label></labels></task></meta>"
    with pytest.raises(DataError) as caught:
        load_dataset(write(tmp_path, image(BOX), meta=long))
    assert "has the label 'cat', which is not among the labels of the file (xxxx" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_label_without_a_name_stops_nothing(tmp_path):
    labels = "<label><name></name></label>" + LABELS
    data = load_dataset(write(tmp_path, image(BOX), meta=f"<meta><task><labels>{labels}</labels></task></meta>"))
    assert [(one.id, one.name) for one in data.categories] == [(1, "owl"), (2, "cat")]
    assert len(data.samples[0].boxes) == 1


@pytest.mark.parametrize("files", [("train.xml", "val.xml"), ("Train/annotations.xml", "valid/annotations.xml")])
def test_a_file_for_each_split(tmp_path, files):
    for file, stem in zip(files, "ab", strict=True):
        fill(tmp_path, {file: cvat(image(BOX, f"{stem}.png")), f"images/{stem}.png": (100, 50)})
    assert (recognize(tmp_path), find_splits(tmp_path)) == ("cvat", ["train", "val"])
    assert found(load_dataset(tmp_path, "val")) == {"b.png": [("cat", [30, 15, 50, 25.5])]}


def test_several_files_whose_splits_are_unclear(tmp_path):
    fill(tmp_path, {"one.xml": cvat(image(BOX)), "train.xml": cvat(image(BOX)), "a.png": (100, 50)})
    refused(tmp_path, "one.xml, train.xml", "the name of a split", code="cvat-several-exports")
