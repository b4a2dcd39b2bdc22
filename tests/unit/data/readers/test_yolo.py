import pytest
from error_codes import raises_code
from folders import fill, found, png, refused

from varifocal.data.load import find_splits, load_dataset, load_train_val, open_dataset, read_raw, recognize
from varifocal.data.splits import evaluation_split
from varifocal.types import Category

YAML = "train: images/train\nval: images/val\nnames: [cat, dog, owl]\n"
# 100 x 50: the middle (40, 20) and the size (20, 10) are the box 30, 15, 50, 25
LINE = "1 0.4 0.4 0.2 0.2\n"
BOX = [30.0, 15.0, 50.0, 25.0]


def simple(labels: str = LINE, yaml: str = YAML, **more) -> dict:
    return {"data.yaml": yaml, "images/train/a.png": (100, 50), "labels/train/a.txt": labels, **more}


def test_what_is_read(tmp_path):
    files = simple(LINE + "0 0.5 0.5 1 1\n\n2 0.005 0.99 0.01 0.02\n")
    files |= {"images/train/sub/b.png": (40, 30), "labels/train/sub/b.txt": "", "images/train/c.png": (20, 10)}
    files |= {"images/val/v.png": (20, 10), "labels/val/v.txt": "0 0.5 0.5 0.5 0.5"}
    fill(tmp_path, files)
    assert recognize(tmp_path) == recognize(tmp_path / "data.yaml") == "yolo"
    assert find_splits(tmp_path) == ["train", "val"]
    data = load_dataset(tmp_path, "train")
    assert data.categories == (Category(0, "cat"), Category(1, "dog"), Category(2, "owl"))
    assert found(data) == {
        "a.png": [("dog", BOX), ("cat", [0, 0, 100, 50]), ("owl", [0, 49, 1, 50])],
        "c.png": [],
        "b.png": [],
    }
    assert {sample.file.name: (sample.width, sample.height) for sample in data.samples}["b.png"] == (40, 30)
    assert data.notes == ("data.yaml: 1 image has no file of labels and counts as one without objects, first c.png.",)
    assert found(load_dataset(tmp_path / "data.yaml", "val")) == {"v.png": [("cat", [5, 2.5, 15, 7.5])]}


def test_a_turned_image_has_the_size_that_is_seen(tmp_path):
    import io

    from PIL import Image

    turned, buffer = Image.Exif(), io.BytesIO()
    turned[0x0112] = 6
    Image.new("RGB", (50, 100)).save(buffer, "JPEG", exif=turned)
    fill(tmp_path, simple() | {"images/train/a.png": buffer.getvalue()})
    assert found(load_dataset(tmp_path, "train")) == {"a.png": [("dog", BOX)]}


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("1 0.3 0.3 0.5 0.3 0.5 0.5 0.3 0.5", BOX),
        ("1 0.3 0.4 0.5 0.3 0.4 0.5", BOX),
        ("1.0 4e-1 0.4 .2 +0.2", BOX),
        ("1 0.4 0.4 0.2 0.2 ", BOX),
        ("\t1\t0.4  0.4\t0.2 0.2\r", BOX),
        ("1 0.995 0.5 0.02 1.005", [98.5, 0, 100, 50]),
    ],
)
def test_ways_to_write_a_box(tmp_path, text, box):
    fill(tmp_path, simple(text))
    data = load_dataset(tmp_path, "train")
    assert found(data) == {"a.png": [("dog", box)]}
    assert sum("outline" in note for note in data.notes) == (len(text.split()) > 5)


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("1 0.9 0.5 0.4 0.2", [70, 20, 100, 30]),
        ("1 1.01 0.5 0.4 0.2", [81, 20, 100, 30]),
        ("1 0.4 0.4 0.2 1.2", [30, 0, 50, 50]),
        ("1 0.05 0.5 0.3 0.2", [0, 20, 20, 30]),
        ("1 0.8 0.4 1.0824 0.5 1.06 0.7 0.78 0.6", [78, 20, 100, 35]),  # four corners
        ("1 -0.3 0.4 0.2 -0.1 0.4 1.9", [0, 0, 40, 50]),
        ("1 -3 -3 4 -3 4 4", [0, 0, 100, 50]),
    ],
)
def test_objects_over_the_border_are_clipped_whatever_their_form(tmp_path, text, box):
    fill(tmp_path, simple(f"{text}\n"))
    data = load_dataset(tmp_path, "train")
    assert found(data) == {"a.png": [("dog", box)]}
    assert data.notes[-1].startswith(
        "data.yaml: 1 box was clipped, first that of a.txt line 1: it reaches over the border"
    )


def test_negative_sides_are_put_in_order(tmp_path):
    fill(tmp_path, simple("1 0.4 0.4 -0.2 0.2\n1 0.4 0.4 0.2 -0.2\n"))
    data = load_dataset(tmp_path, "train")
    assert found(data) == {"a.png": [("dog", BOX)] * 2}
    assert any(
        note.startswith("data.yaml: 2 boxes were put in order, first that of a.txt line 1") for note in data.notes
    )


@pytest.mark.parametrize("label", [0, 1])
def test_two_classes_of_one_name_of_which_one_has_no_box(tmp_path, label):
    fill(
        tmp_path,
        simple(f"{label} 0.4 0.4 0.2 0.2\n2 0.4 0.4 0.2 0.2\n", "train: images/train\nnames: [cup, cup, owl]\n"),
    )
    data = load_dataset(tmp_path, "train")
    assert [(one.id, one.name) for one in data.categories] == [(label, "cup"), (2, "owl")]
    assert found(data) == {"a.png": [("cup", BOX), ("owl", BOX)]}
    assert "of two classes called 'cup' one has no box" in data.notes[0]


def test_two_classes_of_one_name_that_both_have_boxes(tmp_path):
    fill(tmp_path, simple("0 0.4 0.4 0.2 0.2\n1 0.4 0.4 0.2 0.2\n", "train: images/train\nnames: [cup, cup]\n"))
    refused(tmp_path, "the class name 'cup' occurs twice, and both have boxes", "check --fix", split="train")


def test_points_are_not_an_outline(tmp_path):
    fill(tmp_path, simple("1 0.4 0.4 0.2 0.2 0.1 0.1 2 0.9 0.9 1\n", YAML + "kpt_shape: [2, 3]\n"))
    data = load_dataset(tmp_path, "train")
    assert found(data) == {"a.png": [("dog", BOX)]}
    assert "points" in data.notes[0]
    fill(tmp_path, {"labels/train/a.txt": "1 0.4 0.4 0.2 0.2 0.1 0.1 2\n"})
    refused(tmp_path, "line 1 has 8 values", "11", split="train")


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("1 0.4 0.4 0.2", ["has 4 values", "class x y width height"]),
        ("1", ["has 1 value"]),
        ("1 0.4 0.4 0.2 0.2 0.9", ["has 6 values", "predictions"]),
        ("1 0.4 0.4 0.2 0.2 0.9 0.9 0.1", ["has 8 values"]),
        ("dog 0.4 0.4 0.2 0.2", ["begins with 'dog'", "0 cat, 1 dog, 2 owl"]),
        ("1.5 0.4 0.4 0.2 0.2", ["begins with '1.5'"]),
        ("nan 0.4 0.4 0.2 0.2", ["begins with 'nan'"]),
        ("1 40 20 20 10", ["has the value 40,", "from 0 to 1", "divide pixels"]),
        ("1 0.4 0.4 0.2 5.1", ["has the value 5.1,"]),
        ("1 0.1 0.1 0.9 0.1 0.5 80", ["has the value 80,", "divide pixels"]),
        ("1 0.4 -4.1 0.2 0.2", ["has the value -4.1,"]),
        ("1 0.4 inf 0.2 0.2", ["has the value inf,"]),
        ("3 0.4 0.4 0.2 0.2", ["has the class 3", "0 cat, 1 dog, 2 owl", "add the class"]),
        ("-1 0.4 0.4 0.2 0.2", ["has the class -1"]),
    ],
)
@pytest.mark.parametrize("option", ["error", "drop"])
def test_wrong_lines(tmp_path, line, parts, option):
    fill(tmp_path, simple(f"{LINE}0 0.5 0.5 1 1\n{line}\n"))
    start = f"{tmp_path}/labels/train/a.txt: line 3 "
    refused(tmp_path, start, *parts, split="train", invalid_boxes=option)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("1 0.4 0.4 0 0.2", "no area"),
        ("1 1.4 0.4 0.2 0.2", "lies wholly outside"),
        ("1 1.4 0.4 1.2 0.4 1.2 0.9", "lies wholly outside"),
        ("1 0.4 0.4 1_0 0.2", "0.4 0.4 1_0 0.2"),
        ("1 0.4 x 0.2 0.2", "not a finite number"),
        ("1 0.4 nan 0.2 0.2", "not a finite number"),
        ("1 0.5 0.5 0.5 0.5 0.5 0.5", "no area"),
    ],
)
def test_boxes_that_may_be_dropped(tmp_path, line, why):
    fill(tmp_path, simple(f"{LINE}{line}\n"))
    refused(tmp_path, "labels/train/a.txt: line 2 ", "'a.png'", "100 x 50", why, split="train")
    data = load_dataset(tmp_path, "train", invalid_boxes="drop")
    assert found(data) == {"a.png": [("dog", BOX)]}
    assert any("1 box was left out, first that of a.txt line 2" in note for note in data.notes)


def test_class_ids_that_count_from_one(tmp_path):
    box = " 0.5 0.5 0.5 0.5\n"
    fill(tmp_path, simple(f"1{box}2{box}3{box}"))
    refused(tmp_path, "line 3 has the class 3", "count from 1", "subtract 1", split="train")
    assert read_raw(tmp_path, "train").problems[0].kind == "shifted-class"
    fill(tmp_path, {"labels/train/a.txt": f"0{box}3{box}"})
    assert "count from 1" not in refused(tmp_path, "line 2 has the class 3", split="train")
    fill(tmp_path, {"labels/train/a.txt": f"1{box}5{box}"})
    assert "count from 1" not in refused(tmp_path, "line 2 has the class 5", split="train")


def test_all_problems_are_listed(tmp_path):
    fill(tmp_path, simple(f"7 0.5 0.5 0.5 0.5\n{LINE}1 9 9 9 9\n1 2\n1 0.4 0.4 0 0.2\n"))
    raw = read_raw(tmp_path, "train")
    assert [(one.kind, one.location.text) for one in raw.problems] == [
        ("malformed", "line 3"),
        ("malformed", "line 4"),
        ("unknown-class", "line 1"),
    ]
    assert raw.boxes.labels.tolist() == [-1, 1, 1]
    assert raw.boxes.xyxy[1].round(9).tolist() == BOX
    assert str(raw.boxes.where(2)) == "a.txt line 5"
    unknown = raw.problems[2]
    assert (unknown.image, unknown.box) == (0, 0)


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        ("[cat, dog]", [0, 1]),
        ("{0: cat, 1: dog}", [0, 1]),
        ('{"0": cat, "1": dog}', [0, 1]),
        ("{1: cat, 7: dog}", [1, 7]),
        ("[3, 4]", [0, 1]),
    ],
)
def test_names(tmp_path, names, ids):
    text = "".join(f"{id} 0.5 0.5 0.5 0.5\n" for id in ids)
    fill(tmp_path, simple(text, f"train: images/train\nnc: 2\nnames: {names}\n"))
    data = load_dataset(tmp_path)
    assert [category.id for category in data.categories] == ids
    assert data.samples[0].labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("yaml", "parts"),
    [
        ("train: images/train\nnames: cat\n", ["names is 'cat'"]),
        ("names: [cat]\n", ["no train, val or test"]),
        ("train: images/train\nnames: []\n", ["names is empty"]),
        ("train: images/train\nnames: [cat, no]\n", ["class 1 has the name False", "quotes"]),
        ("train: images/train\nnames: [cat, [dog]]\n", ["class 1 has the name ['dog']", "text"]),
        ("train: images/train\nnames: {0: cat, '0': dog}\n", ["class number 0 is there twice"]),
        ("train: images/train\nnames: {cat: 0}\n", ["names has the key 'cat'"]),
        ("train: images/train\nnc: 3\nnames: [cat, dog]\n", ["nc is 3 but names has 2"]),
        ("train: 3\nnames: [cat]\n", ["train is 3"]),
        ("train: [images/train, 3]\nnames: [cat]\n", ["train is ['images/train', 3]"]),
        ("train: images/nowhere\nnames: [cat]\n", ["train is 'images/nowhere', which is not found"]),
        ("train: ../images/nowhere\nnames: [cat]\n", ["train is '../images/nowhere', which leaves"]),
        ("train: /etc\nnames: [cat]\n", ["train is '/etc', which leaves"]),
        ("train: 'C:\\photos'\nnames: [cat]\n", ["which leaves"]),
        ("path: 3\ntrain: images/train\nnames: [cat]\n", ["path is 3"]),
        ("train: images/train\nnames: [cat]\nkpt_shape: 3\n", ["kpt_shape is 3"]),
        ("train: [\nnames: x", ["not valid YAML at line"]),
        ("&a [*a, *a]", ["should have the keys"]),
        ("names: 0x" + "9" * 5000, ["no names", "train"]),
        ("[" * 3000, ["YAML"]),
        ("train: 2020-13-45", ["YAML cannot be read"]),
        ("", ["this is None"]),
    ],
)
def test_wrong_descriptions(tmp_path, yaml, parts):
    fill(tmp_path, simple("0 0.5 0.5 0.5 0.5", yaml))
    message = refused(tmp_path / "data.yaml", str(tmp_path / "data.yaml"))
    assert any(part in message for part in parts)


@pytest.mark.parametrize(
    "yaml",
    [
        "train: images/train",
        "train: ./images/train/",
        "train: images\\train",
        "train: ../images/train",
        "train: ../../images/train",
        "train: [images/train]",
        "path: .\ntrain: images/train",
        "path: images\ntrain: train",
        "path: ../elsewhere\ntrain: images/train",
        "train: train.txt",
    ],
)
def test_where_the_images_are(tmp_path, yaml):
    fill(tmp_path, simple(yaml=f"{yaml}\nnames: [cat, dog]\n", **{"train.txt": "images/train/a.png\n"}))
    assert found(load_dataset(tmp_path, "train")) == {"a.png": [("dog", BOX)]}


def test_the_data_may_lie_elsewhere_where_path_says_so(tmp_path):
    fill(tmp_path / "set", simple())
    fill(tmp_path, {"own.yaml": f"path: {tmp_path}/set\ntrain: images/train\nnames: [cat, dog]\n"})
    assert found(load_dataset(tmp_path / "own.yaml")) == {"a.png": [("dog", BOX)]}
    fill(tmp_path, {"own.yaml": f"path: {tmp_path}/set\ntrain: {tmp_path}/set/images/train\nnames: [cat, dog]\n"})
    assert found(load_dataset(tmp_path / "own.yaml")) == {"a.png": [("dog", BOX)]}


def test_lists_of_images(tmp_path):
    files = simple(yaml="train: lists/train.txt\nnames: [cat, dog]\n")
    files |= {"images/b.png": (100, 50), "labels/b.txt": LINE, "images/c.png": (10, 10), "labels/lonely.txt": LINE}
    lines = ["images/train/a.png", "", f"{tmp_path}/images/b.png"]
    fill(tmp_path, files | {"lists/train.txt": "\r\n".join(lines)})
    assert found(load_dataset(tmp_path)) == {"a.png": [("dog", BOX)], "b.png": [("dog", BOX)]}
    for name, why in (("images/d.png", "not found"), ("../d.png", "not a file inside"), ("/etc/x.png", "not a file")):
        fill(tmp_path, {"lists/train.txt": f"images/train/a.png\n{name}\n"})
        refused(tmp_path, f"lists/train.txt: line 2 names the image '{name}'", why)
    fill(tmp_path, {"images/lists/train.txt": "./a.png\n", "images/lists/a.png": png(10, 10)})
    fill(tmp_path, {"data.yaml": "train: images/lists/train.txt\nnames: [cat]\n", "labels/lists/a.txt": ""})
    assert found(load_dataset(tmp_path)) == {"a.png": []}


def test_labels_beside_the_images(tmp_path):
    fill(tmp_path, {"data.yaml": "train: pics\nnames: [cat, dog]\n", "pics/a.png": (100, 50), "pics/a.txt": LINE})
    assert found(load_dataset(tmp_path)) == {"a.png": [("dog", BOX)]}


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (["images/train", "labels/train"], ["train"]),
        (["train/images", "train/labels"], ["train"]),
        (["images", "labels"], ["all"]),
        (["valid", "valid"], ["val"]),
        ([".", "."], ["all"]),
    ],
)
def test_without_a_description(tmp_path, folders, splits):
    images, labels = folders
    fill(tmp_path, {f"{images}/a.png": (100, 50), f"{labels}/a.txt": LINE, "classes.txt": "cat\ndog\n"})
    assert recognize(tmp_path) == "yolo"
    assert find_splits(tmp_path) == splits
    assert found(load_dataset(tmp_path)) == {"a.png": [("dog", BOX)]}
    (tmp_path / "classes.txt").unlink()
    refused(tmp_path, "nothing names their classes", "classes.txt")


def test_missing_things(tmp_path):
    fill(tmp_path, simple(**{"labels/train/b.txt": LINE}))
    refused(tmp_path, f"{tmp_path}/labels/train/b.txt: there is no image for these labels", split="train")
    (tmp_path / "labels/train/b.txt").unlink()
    (tmp_path / "labels/train/a.txt").rename(tmp_path / "labels/a.txt")
    refused(tmp_path, "no image of split 'train' has a file of labels", f"{tmp_path}/labels/train", split="train")
    (tmp_path / "images/train/a.png").rename(tmp_path / "a.txt")
    refused(tmp_path, "split 'train' has no images", split="train")
    refused(tmp_path, "no split 'val'", "available: train", split="val")


def test_a_image_that_cannot_be_read(tmp_path):
    fill(tmp_path, simple() | {"images/train/a.png": b"nothing"})
    refused(tmp_path, f"{tmp_path}/images/train/a.png: this is not an image", split="train")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings(tmp_path, encoding):
    yaml = "train: images/train\nnames: [chat, b\u00eate]\n".encode(encoding)
    fill(tmp_path, simple(LINE.encode(encoding), yaml))
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("b\u00eate", BOX)]}
    assert [("Latin-1" in note) for note in data.notes] == ([True] if encoding == "latin-1" else [])


def test_a_loop_of_links(tmp_path):
    fill(tmp_path, simple())
    (tmp_path / "images/train/again").symlink_to(tmp_path / "images", target_is_directory=True)
    assert found(load_dataset(tmp_path, "train")) == {"a.png": [("dog", BOX)]}


def test_images_that_are_not_read_are_counted(tmp_path):
    fill(tmp_path, simple() | {"images/train/b.dng": "x", "images/train/c.psd": "x", "images/train/d.DNG": "x"})
    (note,) = (note for note in load_dataset(tmp_path, "train").notes if "of a kind" in note or "suffix" in note)
    assert note == (
        "data.yaml: 3 images are left out, of a kind that is not read (.dng: 2, .psd: 1), first b.dng; convert them to "
        "JPEG, PNG or TIFF."
    )


def test_a_heic_image_is_not_left_out(tmp_path):
    """Without its package it is a problem with a sentence, and not a label without an image."""
    from deep_images import HEIC_HEAD

    fill(tmp_path, simple() | {"images/train/b.HEIC": HEIC_HEAD + bytes(100), "labels/train/b.txt": LINE})
    (problem,) = read_raw(tmp_path, "train").problems
    assert problem.kind == "unreadable-image"
    assert "HEIC" in problem.text


def test_a_refused_line_is_the_only_problem_of_its_file(tmp_path):
    fill(tmp_path, simple("0 0.4 0.4 0.2\n", "train: images/train\n"))
    assert [problem.text for problem in read_raw(tmp_path, "train").problems] == ["has 4 values"]


def test_classes_without_a_name_are_called_by_number(tmp_path):
    fill(tmp_path, simple(LINE, "train: images/train\nnames: [cat, '', ~, 1.5, dog]\n"))
    data = load_dataset(tmp_path)
    assert [one.name for one in data.categories] == ["cat", "class_1", "class_2", "1.5", "dog"]
    note = "data.yaml: 2 classes have no names and are called by number: class_1, class_2."
    assert note in data.notes


def test_a_list_of_classes_with_an_empty_line(tmp_path):
    fill(tmp_path, {"images/a.png": (100, 50), "labels/a.txt": LINE, "labels/classes.txt": "cat\n\ndog\n"})
    data = load_dataset(tmp_path)
    assert [one.name for one in data.categories] == ["cat", "class_1", "dog"]
    assert any("1 class has no name and is called by number: class_1." in note for note in data.notes)


def test_decimal_commas(tmp_path):
    fill(tmp_path, simple("0 0,5 0,5 0,25 0,125\n1 0.5 0.5 0.5 0.5\n"))
    data = load_dataset(tmp_path)
    assert data.samples[0].boxes.tolist() == [[37.5, 21.875, 62.5, 28.125], [25, 12.5, 75, 37.5]]
    assert "data.yaml: 1 box has numbers with decimal commas." in data.notes
    fill(tmp_path, simple("0 0,5 0,5 0,25 1,125\n"))
    refused(tmp_path, "1,125")


def test_images_of_a_kind_that_is_not_read_are_named_where_there_are_no_others(tmp_path):
    fill(tmp_path, {"data.yaml": "train: images\nnames: [cat]\n", "images/a.cr2": b"II*\0", "labels/a.txt": LINE})
    refused(tmp_path, "split 'train' has no images of a kind that is read, but 1 other (first 'a.cr2')", "convert them")


def test_no_other_split_is_trained_on_in_place_of_one_that_is_missing(tmp_path):
    fill(tmp_path, {"data.yaml": YAML, "images/val/v.png": (20, 10), "labels/val/v.txt": "0 0.5 0.5 0.5 0.5"})
    assert find_splits(tmp_path) == ["train", "val"]
    source = open_dataset(tmp_path)
    with raises_code("missing-image"):
        load_train_val(source)
    assert evaluation_split(tmp_path, source.splits) == "val"
    assert found(load_dataset(tmp_path, "val")) == {"v.png": [("cat", [5, 2.5, 15, 7.5])]}


def test_a_missing_split_to_evaluate_on_is_none(tmp_path):
    fill(tmp_path, simple())
    assert find_splits(tmp_path) == ["train"]
