import json
import subprocess
import sys
from pathlib import Path

import pytest
from error_codes import raises_code
from folders import fill, found, refused

from varifocal.data import load as load_module
from varifocal.data.classes import learned_classes
from varifocal.data.convert import convert
from varifocal.data.load import find_splits, load_dataset, load_evaluation, load_train_val, open_dataset, recognize
from varifocal.data.readers import formats
from varifocal.data.readers.formats import READERS
from varifocal.types import Category
from varifocal.utils.errors import DataError

COCO = json.dumps({"images": [], "annotations": [], "categories": []})
VOC = "<annotation/>"
YOLO = {"data.yaml": "train: images\nnames: [a]", "images/a.png": (9, 9), "labels/a.txt": "0 0.5 0.5 1 1"}
CSV = "image,xmin,ymin,xmax,ymax,label\nimages/a.png,0,0,9,9,a\n"


@pytest.mark.parametrize(
    ("files", "format"),
    [
        ({"train.json": COCO}, "coco"),
        ({"train.json": "{}"}, "coco"),
        ({"annotations/instances_val.json": COCO, "val/a.png": (9, 9)}, "coco"),
        ({"a.json": '\n [{"data": {"image": "x"}, "annotations": []}]'}, "label-studio"),
        ({"a.xml": VOC, "a.png": (9, 9)}, "voc"),
        ({"annotations.xml": "<?xml version='1.0'?>\n<annotations/>"}, "cvat"),
        (YOLO, "yolo"),
        ({"my.yml": "val: images\nnames: [a]", "other.yaml": "x: 1", "images/a.png": (9, 9)}, "yolo"),
        ({"train/images/a.png": (9, 9), "train/labels/a.txt": "0 .5 .5 1 1"}, "yolo"),
        ({"a.csv": CSV}, "csv"),
        ({"train/_annotations.csv": CSV}, "csv"),
        ({"metadata.jsonl": "{}"}, "image-folder"),
        ({"data/train-00000-of-00001.parquet": b"x"}, "parquet"),
        ({"train-0001.tar": b"x"}, "webdataset"),
        # what also lies in such folders and is no other data set
        ({"train.json": COCO, "README.md": "x", "classes.csv": "a,0", "labels/readme.txt": "x"}, "coco"),
        ({**YOLO, "README.dataset.txt": "x", "runs/a.json": "{}", "package.json": "{}"}, "yolo"),
        ({"a.xml": VOC, "a.png": (9, 9), "requirements.txt": "numpy", "list.csv": "a,b"}, "voc"),
    ],
)
def test_recognize(tmp_path, files, format):
    assert recognize(fill(tmp_path, files)) == format
    assert recognize(str(tmp_path)) == format


@pytest.mark.parametrize(
    ("name", "text", "format"),
    [
        ("a.json", COCO, "coco"),
        ("a.json", "", "coco"),
        ("a.json", '[{"data": {}, "annotations": []}]', "label-studio"),
        ("a.xml", VOC, "voc"),
        ("a.xml", "<annotations></annotations>", "cvat"),
        ("a.yaml", "", "yolo"),
        ("a.csv", "", "csv"),
        ("a.txt", CSV, "csv"),
        ("a.jsonl", "", "image-folder"),
        ("a.parquet", "", "parquet"),
    ],
)
def test_recognize_a_file(tmp_path, name, text, format):
    assert recognize(fill(tmp_path, {name: text}) / name) == format


def test_two_formats_are_not_chosen_between(tmp_path):
    fill(tmp_path, YOLO | {"boxes.csv": CSV})
    refused(tmp_path, "looks like yolo (data.yaml), csv (boxes.csv)", "--format")
    for format in ("yolo", "csv"):
        assert found(load_dataset(tmp_path, format=format)) == {"a.png": [("a", [0, 0, 9, 9])]}
    for name in ("data.yaml", "boxes.csv"):
        assert found(load_dataset(tmp_path / name)) == {"a.png": [("a", [0, 0, 9, 9])]}


def test_nothing_is_recognized(tmp_path):
    refused(tmp_path, f"{tmp_path}: no data set is recognized; there are no files")
    fill(tmp_path, {"a.png": (9, 9), "b.png": (9, 9), "x/y": "", "NOTES": ""})
    refused(tmp_path, "2 files .png and 1 file without a suffix and the folders x", "coco, voc, yolo", "--format")
    refused(tmp_path / "a.png", "a file ending in .png is no data set")
    refused(tmp_path / "none", f"{tmp_path}/none: there is no such file or folder")
    refused(Path("a\0b"), "there is no such file or folder")


def test_a_format_that_is_not_known(tmp_path):
    with raises_code("format-unknown"):
        load_dataset(tmp_path, format="caltech")


@pytest.mark.parametrize("format", sorted(set(READERS) - {"parquet"}))
def test_a_folder_of_another_format(tmp_path, format):
    fill(tmp_path, {"a.png": (9, 9)})
    with pytest.raises(DataError, match=str(tmp_path)):
        load_dataset(tmp_path, format=format)


def test_splits(tmp_path):
    fill(tmp_path, YOLO)
    assert find_splits(tmp_path) == ["train"]
    refused(tmp_path, "no split 'val'; available: train", split="val")


def test_reading_labels_needs_no_torch(tmp_path):
    fill(tmp_path, YOLO)
    code = (
        "import sys\nfrom varifocal.data.load import load_dataset\n"
        f"assert len(load_dataset({str(tmp_path)!r}).samples) == 1\n"
        "assert not {'torch', 'pyarrow', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_links_that_lead_nowhere(tmp_path):
    fill(tmp_path, YOLO)
    (tmp_path / "images/b").symlink_to("c")
    (tmp_path / "images/c").symlink_to("b")
    (tmp_path / "images/self").symlink_to("self")
    (tmp_path / "images/gone").symlink_to("nowhere")
    assert found(load_dataset(tmp_path)) == {"a.png": [("a", [0, 0, 9, 9])]}


@pytest.mark.parametrize("name", ["x" * 5000, "a/" * 3000 + "b", "\udcff"])
def test_names_that_no_file_can_have(tmp_path, name):
    fill(tmp_path, {"a.png": (9, 9), "data.yaml": json.dumps({"train": name, "names": ["a"]})})
    refused(tmp_path, "train is ", format="yolo")
    fill(tmp_path, {"data.yaml": json.dumps({"path": name, "train": ".", "names": ["a"]})})
    refused(tmp_path, "no image of split 'train' has a file of labels", format="yolo")
    coco = {"images": [{"id": 1, "file_name": name, "width": 9, "height": 9}], "annotations": []}
    fill(tmp_path, {"train.json": json.dumps(coco | {"categories": [{"id": 1, "name": "a"}]})})
    refused(tmp_path / "train.json", "is not found in")
    fill(tmp_path, {"metadata.jsonl": json.dumps({"file_name": name})})
    refused(tmp_path / "metadata.jsonl", "is not found in")
    cvat = f'<annotations><image name="a.png" subset="{name}" width="9" height="9"/></annotations>'
    if name.isprintable():
        fill(tmp_path, {"annotations.xml": cvat})
        refused(tmp_path / "annotations.xml", "no box with a class")
        fill(
            tmp_path, {"b.csv": f"image,xmin,ymin,xmax,ymax,label,split\na.png,1,2,3,4,a,{name}\n{name},1,2,3,4,a,b\n"}
        )
        refused(tmp_path / "b.csv", "is not found in", split="b")
        assert len(load_dataset(tmp_path / "b.csv", name).samples) == 1


def test_lists_of_splits_that_a_format_does_not_have_are_said(tmp_path):
    shape = {"label": "cat", "points": [[1, 1], [5, 5]], "shape_type": "rectangle"}
    content = {"shapes": [shape], "imagePath": "a.png", "imageHeight": 10, "imageWidth": 20}
    fill(tmp_path, {"a.png": (20, 10), "a.json": json.dumps(content)})
    assert not any("lists of splits" in note for note in load_dataset(tmp_path).notes)
    fill(tmp_path, {"train.txt": "a\n", "readme.txt": "by nobody"})
    notes = load_dataset(tmp_path, format="labelme").notes
    (note,) = [note for note in notes if "lists of splits" in note]
    assert note.startswith(f"{tmp_path.name}: train.txt: lists of splits are not read there")


def test_a_format_is_recognized_once_for_all_splits(tmp_path, monkeypatch):
    label = "0 0.5 0.5 0.5 0.5\n"
    fill(tmp_path, {"classes.txt": "cat\n"})
    for split in ("train", "val"):
        fill(tmp_path, {f"{split}/images/{split}.png": (20, 10), f"{split}/labels/{split}.txt": label})
    calls = []
    detect = load_module.detect_format
    monkeypatch.setattr(load_module, "detect_format", lambda tree: calls.append(tree) or detect(tree))
    source = open_dataset(tmp_path)
    training, validation = load_train_val(source)
    loaded = (training, validation, load_evaluation(source))
    assert [sample.file.name for data in loaded for sample in data.samples] == ["train.png", "val.png", "val.png"]
    assert calls == [tmp_path]


@pytest.mark.parametrize(
    ("files", "asked"),
    [
        ({"train.json": COCO, "train/a.png": (9, 9)}, {"coco", "label-studio", "webdataset"}),
        ({"a.XML": VOC, "a.png": (9, 9)}, {"voc", "cvat"}),
        ({"images/a.png": (9, 9), "labels/a.txt": "0 0.5 0.5 1 1"}, {"voc", "yolo"}),
    ],
)
def test_only_readers_of_files_that_are_there_are_asked(tmp_path, files, asked):
    named = {name for name, reader in READERS.items() if reader.evidence is not None}
    assert set(formats._candidates(fill(tmp_path, files))) & named == asked


def test_all_readers_are_asked_about_too_many_folders(tmp_path):
    for number in range(65):
        (tmp_path / f"{number}").mkdir()
    assert formats._candidates(tmp_path) == READERS


VOC_BOX = "<object><name>cat</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>6</xmax><ymax>6</ymax></bndbox></object>"
LABELME_BOX = {"label": "cat", "shape_type": "rectangle", "points": [[1, 1], [6, 6]]}
NOTHING_LABELED = {
    "voc": (
        {"{split}/{split}.xml": "<annotation><filename>{split}.png</filename>OBJECT</annotation>"},
        VOC_BOX,
    ),
    "labelme": ({"{split}/{split}.json": '{"imagePath": "{split}.png", "shapes": [OBJECT]}'}, json.dumps(LABELME_BOX)),
    "csv": ({"{split}.csv": "image,xmin,ymin,xmax,ymax,label\n{split}/{split}.png,OBJECT\n"}, "1,1,6,6,cat"),
}


@pytest.mark.parametrize("format", NOTHING_LABELED)
def test_a_split_in_which_nothing_is_labeled_has_images_without_objects(tmp_path, format):
    files, objects = NOTHING_LABELED[format]
    for split, text in (("train", objects), ("val", ",,,," if format == "csv" else "")):
        for name, content in files.items():
            fill(tmp_path, {name.replace("{split}", split): content.replace("{split}", split).replace("OBJECT", text)})
        fill(tmp_path, {f"{split}/{split}.png": (9, 9)})
    data = load_dataset(tmp_path, "val", format=format)
    assert [len(sample.boxes) for sample in data.samples] == [0]
    assert any("nothing is labeled in the split val; its 1 image counts" in note for note in data.notes)
    training, validation = learned_classes(load_dataset(tmp_path, "train", format=format), data, keep_all=False)
    assert validation.categories == training.categories == (Category(1, "cat"),)
    with raises_code("no-classes-to-learn"):
        learned_classes(data, None, keep_all=False)
    convert(tmp_path, tmp_path / "out", "coco", format=format)
    assert [len(load_dataset(tmp_path / "out", split).samples) for split in ("train", "val")] == [1, 1]


def test_images_to_validate_on_need_no_label_files_in_yolo(tmp_path):
    fill(tmp_path, {**YOLO, "data.yaml": "train: images\ntest: test\nnames: [a]\n", "test/t.png": (9, 9)})
    data = load_dataset(tmp_path, "test")
    assert [len(sample.boxes) for sample in data.samples] == [0]
    assert data.notes[-1].endswith(f"they are expected in {tmp_path}/test; its 1 image counts as without objects.")
    (tmp_path / "labels/a.txt").unlink()  # those to train on are probably elsewhere
    refused(tmp_path, "no image of split 'train' has a file of labels", split="train")


def test_lists_that_yolo_does_not_read_are_noted(tmp_path):
    fill(tmp_path, {**YOLO, "val.txt": "images/a.png\n", "ImageSets/test.txt": "a\n"})
    assert "val.txt, ImageSets/test.txt: lists of splits are left out" in " ".join(load_dataset(tmp_path).notes)


def test_folders_that_are_data_sets_are_named(tmp_path):
    files = {f"one/{name}": content for name, content in YOLO.items()}
    message = refused(fill(tmp_path, files | {"other/x": "-"}), code="no-data-set")
    assert message.endswith("the folder in it is one: one (yolo); name it")
    fill(tmp_path, {"two/annotations.xml": "<annotations/>"})
    message = refused(tmp_path, code="no-data-set")
    assert message.endswith("the folders in it are: one (yolo), two (cvat); name one of them")


@pytest.mark.parametrize("part", ["images", "images/train", "labels", "labels/train"])
def test_a_part_of_a_data_set_is_named_as_such(tmp_path, part):
    files = {"data.yaml": "train: images/train\nnames: [a]", "images/train/a.png": (9, 9)}
    fill(tmp_path, files | {"labels/train/a.txt": "0 0.5 0.5 1 1"})
    refused(tmp_path / part, f"a part of the data set (of the format yolo) in {tmp_path}; name", code="no-data-set")


def test_the_folder_of_a_split_without_class_names(tmp_path):
    roboflow = {"data.yaml": "train: ../train/images\nnames: [a]", "train/images/a.png": (9, 9)}
    fill(tmp_path, roboflow | {"train/labels/a.txt": "0 0.5 0.5 1 1"})
    refused(tmp_path / "train", "add classes.txt", f"if there is one in {tmp_path}, name that", code="yolo-no-classes")


def test_a_folder_with_archives_and_a_list_of_images(tmp_path):
    fill(tmp_path, {"images.zip": b"PK", "labels.zip": b"PK", "train.txt": "images/a.png\n"})
    refused(tmp_path, "but has archives: images.zip, labels.zip; name the one", code="no-data-set")
    refused(tmp_path / "train.txt", "name the folder or the data.yaml of the set", code="unknown-suffix")
