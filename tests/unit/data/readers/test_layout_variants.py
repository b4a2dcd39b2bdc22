"""Folders as people and their tools leave them, beside those that docs/data.md lists: the same truth is read."""

import json

import pytest
from folders import fill, found, png, refused
from layouts import LAYOUTS, TRUTH, coco_json, expected, images, read, voc_xml, yolo_lines

from varifocal.data.load import find_splits, load_dataset, recognize

TWO = expected(LAYOUTS["yolo"])
NAMES = {"classes.txt": "cat\nowl\n"}
A = TRUTH["train"][0]


def each():
    return [(split, one) for split, all in TRUTH.items() for one in all]


def yolo_files(folder: str, labels: str, suffix: str = ".txt") -> dict:
    """Images and labels in folders whose names may have {split} in them."""
    files = {f"{labels.format(split=split)}{one.stem}{suffix}": yolo_lines(one) for split, one in each()}
    return files | images(folder)


@pytest.mark.parametrize(
    "files",
    [
        yolo_files("{split}/Images/", "{split}/Labels/") | NAMES,
        yolo_files("Images/{split}/", "Labels/{split}/") | NAMES,
        yolo_files("IMAGES/{split}/", "labels/{split}/") | NAMES,
        yolo_files("images/{split}/", "labels/{split}/", ".png.txt") | NAMES,
        yolo_files("{split}/image/", "{split}/label/") | NAMES,
        yolo_files("imgs/{split}/", "Annotations/{split}/") | NAMES,
        # as Darknet's own script leaves VOC
        yolo_files("JPEGImages/", "labels/")
        | {f"{split}.txt": "".join(f"/home/me/JPEGImages/{one.name}\n" for one in TRUTH[split]) for split in TRUTH}
        | {"voc.names": "cat\nowl\n"},
        # labelImg leaves the list where it saves the labels
        yolo_files("images/{split}/", "labels/{split}/")
        | {f"labels/{split}/classes.txt": "cat\nowl\n" for split in ("train", "val")},
        yolo_files("Images/{split}/", "Labels/{split}/")
        | {"data.yaml": "train: images/Train\nval: images/Val\nnames: [cat, owl]\nnc: '2'\n"},
    ],
)
def test_yolo(tmp_path, files):
    assert read(fill(tmp_path, files)) == ("yolo", TWO)


SPLITS = yolo_files("images/{split}/", "labels/{split}/")
LINES = "names: [cat, owl]\n"


@pytest.mark.parametrize(
    "files",
    [
        {"data.yaml": "train: images/train/*.png\nval: ./images/val/*\n" + LINES},
        {"data.yaml": "train: images/train/**/*.png\nval: ['images/val/**']\n" + LINES},
        {"config/data.yaml": "train: ../images/train\nval: ../images/val\n" + LINES},
        {"configs/pets.yml": "path: ..\ntrain: images/train\nval: images/val\n" + LINES},
        {"cfg/data.yaml": "train: images/train\nval: images/val\n" + LINES},
        {"cfg/data.yaml": "path: /home/me/pets\ntrain: images/train\nval: images/val\nnames: cfg/pets.names\n"}
        | {"cfg/pets.names": "cat\nowl\n"},
        {"data.yaml": "train: images/train\nval: images/val\nnames: /home/me/pets/a.txt\n", "a.txt": "cat\nowl\n"},
    ],
)
def test_descriptions_of_yolo(tmp_path, files):
    assert read(fill(tmp_path, SPLITS | files)) == ("yolo", TWO)
    notes = " ".join(load_dataset(tmp_path, "train").notes)
    assert "found by its end" not in notes


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "train: images/train/*.jpg",
            ["train is 'images/train/*.jpg', which is not found", "or a text file that lists"],
        ),
        ("train: images/*/a.png", ["name the folder of its images, or a text file that lists them"]),
        ("train: images/train/a*", ["name the folder of its images, or a text file that lists them"]),
        (
            "train: images/train\nnames: more.txt",
            ["names is 'more.txt'; list the classes", "or name a text file in the"],
        ),
        ("train: images/train\nnames: ../secret.txt", ["names is '../secret.txt'"]),
        ("train: /x/pets/img", ["which leaves the data folder", "or name the folder around both"]),
    ],
)
def test_descriptions_of_yolo_that_are_not_understood(tmp_path, text, parts):
    fill(tmp_path, {"secret.txt": "cat\nowl\n"})
    files = SPLITS | {"data.yaml": text + ("" if "names" in text else "\n" + LINES)}
    refused(fill(tmp_path / "pets", files), *parts, split=None)


def test_a_description_among_settings_speaks_for_yolo_only_with_its_labels(tmp_path):
    files = {f"{split}.json": coco_json(all) for split, all in TRUTH.items()} | images("images/{split}/")
    fill(tmp_path, files | {"config/model.yaml": "train: images/train\nval: images/val\n" + LINES})
    assert recognize(tmp_path) == "coco"
    fill(tmp_path / "two", SPLITS | {f"config/{name}.yaml": "train: images/train\n" + LINES for name in "ab"})
    refused(tmp_path / "two", "config/a.yaml, config/b.yaml", code="yolo-several-descriptions", format="yolo")


def test_yolo_of_fiftyone(tmp_path):
    """Its YOLOv4Dataset: images and labels in one folder, and a list that names no split."""
    files = {f"data/{one.stem}.txt": yolo_lines(one) for _, one in each()} | images("data/")
    files |= {"obj.names": "cat\nowl\n", "images.txt": "".join(f"data/{one.name}\n" for _, one in each())}
    assert read(fill(tmp_path, files)) == ("yolo", {"all": {**TWO["train"], **TWO["val"]}})


def test_lists_of_classes_that_differ_are_not_chosen_between(tmp_path):
    files = yolo_files("images/{split}/", "labels/{split}/")
    files |= {"labels/train/classes.txt": "cat\nowl\n", "labels/val/classes.txt": "owl\ncat\n"}
    refused(fill(tmp_path, files), "labels/val/classes.txt: ", code="yolo-different-classes", split="train")


def voc_files(xml: str, folder: str, stem=str) -> dict:
    files = {f"{xml.format(split=split)}{one.stem}.xml": voc_xml(one) for split, one in each()}
    return files | images(folder)


@pytest.mark.parametrize(
    "files",
    [
        voc_files("{split}_zip/{split}/", "{split}_zip/{split}/"),  # as Kaggle unpacks it
        voc_files("{split}/annotations/", "{split}/images/"),
    ],
)
def test_voc(tmp_path, files):
    assert read(fill(tmp_path, files)) == ("voc", TWO)


def test_development_kits_of_training_and_of_test_images(tmp_path):
    files = {}
    for kit, split, one in (("trainval", "trainval", A), ("test", "test", TRUTH["val"][0])):
        root = f"VOC{kit}_06-Nov-2007/VOCdevkit/VOC2007"
        files |= {f"{root}/JPEGImages/{one.name}": png(*one.size), f"{root}/Annotations/{one.stem}.xml": voc_xml(one)}
        files[f"{root}/ImageSets/Main/{split}.txt"] = f"{one.stem}\n"
    fill(tmp_path, files)
    assert {split: list(found(load_dataset(tmp_path, split))) for split in find_splits(tmp_path)} == {
        "test": ["v.png"],
        "trainval": ["a.png"],
    }
    again = {name.replace("2007", "2012"): content for name, content in files.items() if "trainval" in name}
    refused(fill(tmp_path, again), "VOCtest_06-Nov-2007/VOCdevkit/VOC2007", code="voc-several-sets")


def coco_files(name: str, folder: str) -> dict:
    return {name.format(split=split): coco_json(all) for split, all in TRUTH.items()} | images(folder)


@pytest.mark.parametrize(
    "files",
    [
        coco_files("{split}.JSON", "images/"),
        coco_files("{split}_annotations.json", "images/"),
        coco_files("{split}_coco.json", "images/{split}/"),
        coco_files("my_coco_{split}_v2.json", "images/"),
        coco_files("labels/{split}.json", "images/"),
        coco_files("Annotations/{split}.json", "images/"),
        coco_files("{split}/{split}.json", "{split}/images/"),
        coco_files("{split}/coco.json", "{split}/"),
        coco_files("{split}/annotations/instances.json", "{split}/images/"),
        coco_files("{split}/labels/coco.json", "{split}/images/"),
    ],
)
def test_coco(tmp_path, files):
    assert read(fill(tmp_path, files)) == ("coco", TWO)
    for split in find_splits(tmp_path):
        assert load_dataset(tmp_path, split).notes == ()


def test_names_that_say_one_split_twice_stay_as_they_are(tmp_path):
    files = {f"{name}.json": coco_json(TRUTH["train"]) for name in ("fold1_train", "fold2_train", "other_val")}
    assert sorted(find_splits(fill(tmp_path, files))) == ["fold1_train", "fold2_train", "val"]


def around(shape: str) -> str:
    return f"<annotation><filename>a.png</filename><object><name>cat</name>{shape}</object></annotation>"


POLYGON = "<x1>11</x1><y1>6</y1><x2>20</x2><y2>8</y2><x3>15</x3><y3>30</y3>"
POINTS = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((11, 6), (20, 8), (15, 30)))
QUARTER = "<cx>20</cx><cy>20</cy><w>30</w><h>10</h><angle>1.5707963267948966</angle>"


@pytest.mark.parametrize(
    ("shape", "box", "note"),
    [
        (f"<polygon>{POLYGON}</polygon>", [10, 5, 20, 30], "1 outline became the upright box around it."),
        (f"<polygon>{POINTS}</polygon>", [10, 5, 20, 30], "1 outline became the upright box around it."),
        # a box of 30 x 10 about (20, 20), turned by a quarter: x from 15 to 25, y from 5 to 35, counted from 1
        (
            f"<type>robndbox</type><robndbox>{QUARTER}</robndbox>",
            [14, 4, 25, 35],
            "1 turned box became the upright box around it.",
        ),
    ],
)
def test_voc_objects_without_an_upright_box(tmp_path, shape, box, note):
    fill(tmp_path, {"a.png": (64, 48), "a.xml": around(shape)})
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [("cat", box)]}
    assert data.notes == (f"{tmp_path.name}: {note}",)


@pytest.mark.parametrize(
    "shape",
    [
        "<polygon><x1>5</x1><y1>6</y1><x2>9</x2><y2>8</y2></polygon>",
        "<polygon><x1>5</x1><y1>6</y1><x2>9</x2><y2>8</y2><x3>x</x3><y3>9</y3></polygon>",
        "<polygon/>",
        f"<robndbox>{QUARTER.replace('30', '-30')}</robndbox>",
        "<robndbox><cx>20</cx></robndbox>",
    ],
)
def test_voc_outlines_that_are_none(tmp_path, shape):
    refused(fill(tmp_path, {"a.png": (64, 48), "a.xml": around(shape)}), "has no box;", "data.invalid_boxes=drop")


def test_voc_with_a_namespace_and_flags_as_words(tmp_path):
    text = voc_xml(A).replace("<annotation>", '<annotation xmlns="http://example.org/voc">')
    text = text.replace("<difficult>0", "<difficult>False", 1).replace("<difficult>0", "<difficult>True", 1)
    data = load_dataset(fill(tmp_path, {"a.png": A.size, "a.xml": text}))
    assert found(data) == {"a.png": [("cat", [10, 20, 40, 25]), ("owl", [0, 0, 64, 48])]}
    assert data.samples[0].crowd.tolist() == [False, True]


@pytest.mark.parametrize("line", ['"JPEGImages\\a.png"', '"C:\\x\\a"', '"a"', "JPEGImages\\a.png"])
def test_voc_lists_with_quotes_and_backslashes(tmp_path, line):
    files = {"Annotations/a.xml": voc_xml(A), "JPEGImages/a.png": A.size}
    fill(tmp_path, files | {"ImageSets/Main/train.txt": f"\ufeff{line}\r\n"})
    assert list(found(load_dataset(tmp_path, "train"))) == ["a.png"]


def test_csv_of_traffic_signs(tmp_path):
    text = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\na.png;64;48;10;20;40;25;0\n"
    assert found(load_dataset(fill(tmp_path, {"a.png": A.size, "GT.csv": text}))) == {
        "a.png": [("0", [10, 20, 40, 25])]
    }


@pytest.mark.parametrize(
    "task",
    [
        {"id": 1, "data": {"image": "a.png"}, "annotations": [{"id": 1, "result": []}]},
        {"id": 1, "result": [], "task": {"id": 3, "data": {"image": "a.png"}}},
    ],
)
def test_single_tasks_of_label_studio_are_named(tmp_path, task):
    fill(tmp_path, {f"{number}.json": json.dumps(task) for number in (1, 2)} | {"a.png": A.size})
    refused(tmp_path, "this looks like single tasks of Label Studio", "export all of them there, as JSON")


@pytest.mark.parametrize(
    "files",
    [
        {"labels.json": {"classes": ["cat"], "labels": {"a": [{"label": 0, "bounding_box": [0.1, 0.1, 0.2, 0.2]}]}}},
        {"metadata.json": {}, "samples.json": {"samples": [{"filepath": "data/a.png", "tags": []}]}},
    ],
)
def test_fiftyone_s_own_json_is_named(tmp_path, files):
    fill(tmp_path, {name: json.dumps(content) for name, content in files.items()} | {"data/a.png": A.size})
    refused(tmp_path, "this looks like FiftyOne's own JSON", "export a COCODetectionDataset")


@pytest.mark.parametrize("format", ["coco", "voc"])
def test_names_of_label_studio_s_uploads_in_other_exports(tmp_path, format):
    name = "0123abcd-a.png"
    files = {
        "coco": {"result.json": coco_json(TRUTH["train"][:1]).replace("a.png", f"images/{name}")},
        "voc": {"Annotations/0123abcd-a.xml": voc_xml(A).replace("a.png", name)},
    }[format]
    data = load_dataset(fill(tmp_path, files | {"images/a.png": A.size}))
    assert list(found(data)) == ["a.png"]
    assert "1 image is found by the end of its name" in data.notes[0]


def test_none_of_them_is_taken_for_another_format(tmp_path):
    fill(tmp_path, coco_files("labels/{split}.json", "images/"))
    assert recognize(tmp_path) == "coco"
