"""What a user says of a data set: the folder of its images, and what images without labels are."""

import json
import os

import pytest
from error_codes import raises_code
from folders import fill, found, pack, png, refused

from varifocal.data.load import load_dataset, open_dataset, read_raw
from varifocal.data.options import images_word

BOX = [("cat", [2.0, 2.0, 6.0, 6.0])]
LABEL = "0 0.2 0.4 0.2 0.4\n"  # of 20 x 10 pixels
IMAGE = png(20, 10)
NODE = "<object><name>cat</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>6</xmax><ymax>6</ymax></bndbox></object>"


def xml(name: str) -> str:
    return f"<annotation><filename>{name}</filename>{NODE}</annotation>"


def coco(name: str) -> str:
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": name, "width": 20, "height": 10}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 4, 4]}],
            "categories": [{"id": 1, "name": "cat"}],
        }
    )


# The same two images a.jpg (train) and b.jpg (val), without the images.
LABELS = {
    "coco": {"train.json": coco("a.jpg"), "val.json": coco("b.jpg")},
    "voc": {"Annotations/a.xml": xml("a.jpg"), "Annotations/b.xml": xml("b.jpg")}
    | {f"ImageSets/Main/{split}.txt": name for split, name in (("train", "a"), ("val", "b"))},
    "yolo": {
        "data.yaml": "train: images/train\nval: images/val\nnames: [cat]\n",
        "labels/train/a.txt": LABEL,
        "labels/val/b.txt": LABEL,
    },
    "yolo-roboflow": {
        "data.yaml": "train: ../train/images\nval: ../valid/images\nnames: [cat]\n",
        "train/labels/a.txt": LABEL,
        "valid/labels/b.txt": LABEL,
    },
    "yolo-lists": {
        "data.yaml": "train: train.txt\nval: val.txt\nnames: [cat]\n",
        "train.txt": "images/a.jpg\n",
        "val.txt": "./images/b.jpg\n",
        "labels/a.txt": LABEL,
        "labels/b.txt": LABEL,
    },
    "yolo-folders": {"labels/classes.txt": "cat\n", "labels/train/a.txt": LABEL, "labels/valid/b.txt": LABEL},
    "csv": {"t.csv": "image,xmin,ymin,xmax,ymax,label,split\na.jpg,2,2,6,6,cat,train\nb.jpg,2,2,6,6,cat,val\n"},
    "image-folder": {
        f"{split}/metadata.jsonl": json.dumps(
            {"file_name": name, "objects": {"bbox": [[2, 2, 4, 4]], "categories": ["cat"]}}
        )
        for split, name in (("train", "a.jpg"), ("val", "b.jpg"))
    },
    "cvat": {
        "annotations.xml": "<annotations>"
        + "".join(
            f'<image id="0" name="{name}" subset="{split}" width="20" height="10">'
            '<box label="cat" xtl="2" ytl="2" xbr="6" ybr="6"/></image>'
            for name, split in (("a.jpg", "train"), ("b.jpg", "val"))
        )
        + "</annotations>"
    },
}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize(
    "places",
    [("a.jpg", "b.jpg"), ("train/a.jpg", "val/b.jpg"), ("x/deep/a.jpg", "x/b.jpg")],
    ids=["flat", "split", "deep"],
)
@pytest.mark.parametrize("beside", [True, False])
def test_images_in_a_folder_of_their_own(tmp_path, monkeypatch, labels, places, beside):
    """Outside the data folder or deep in it, where other images of the same names lie, too."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ("images" if beside else "data/raw/images")
    fill(folder, dict.fromkeys(places, IMAGE))
    data = fill(tmp_path / "data", LABELS[labels] | {"old/a.jpg": (9, 9), "older/b.jpg": (9, 9)})
    format = labels.partition("-")[0] if labels.startswith("yolo") else labels
    ways = {str(folder), str(folder.relative_to(tmp_path)) if beside else "raw/images"}
    for split, place in zip(("train", "val"), places, strict=True):
        for images in ways:
            read = load_dataset(data, split, format=format, images=images)
            assert [sample.file.absolute() for sample in read.samples] == [folder / place]
            assert list(found(read).values()) == [BOX]


def test_images_in_an_archive_and_outside(tmp_path):
    files = {"data/train.json": coco("a.jpg"), "data/raw/x/a.jpg": IMAGE, "data/old/a.jpg": IMAGE}
    path = pack(tmp_path / "d.zip", files)
    (sample,) = load_dataset(path, images="raw").samples
    assert str(sample.file) == f"{path}/data/raw/x/a.jpg"
    (sample,) = load_dataset(path, images=str(fill(tmp_path / "here", {"a.jpg": IMAGE}))).samples
    assert sample.file == tmp_path / "here/a.jpg"
    refused(path, "../here: there is no such folder of images", images="../here")


def test_a_folder_of_images_that_is_not_there(tmp_path):
    fill(tmp_path, LABELS["csv"])
    with raises_code("no-image-folder"):
        open_dataset(tmp_path, images="x")


def test_images_are_looked_for_nowhere_else(tmp_path):
    fill(tmp_path, {"train.json": coco("a.jpg"), "images/a.jpg": IMAGE, "raw/b.jpg": IMAGE})
    refused(tmp_path, "'a.jpg', which is not found in", str(tmp_path / "raw"), images="raw")


def test_how_a_recipe_says_where_images_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, {"data/raw/[v2]/a.jpg": IMAGE, "other/a.jpg": IMAGE, "data/a.json": "{}", "data.zip": "x"})
    data = tmp_path / "data"
    for path in (data, data / "a.json"):
        assert images_word("data/raw/[v2]", path) == os.path.join("raw", "[v2]")
        assert images_word(str(data / "raw"), path) == "raw"
        assert images_word("raw", path) == "raw"
        assert images_word("other", path) == str(tmp_path / "other")
    assert images_word("other", tmp_path / "data.zip") == str(tmp_path / "other")


def test_parquet_and_tar_shards_hold_their_images(tmp_path):
    record = json.dumps({"objects": {"bbox": [[2, 2, 4, 4]], "categories": ["cat"]}})
    pack(tmp_path / "x.tar", {"a.jpg": IMAGE, "a.json": record})
    fill(tmp_path, {"t.parquet": "x"})
    for path in ("x.tar", "t.parquet"):
        with raises_code("images-in-source"):
            load_dataset(tmp_path / path, images=str(tmp_path))


def test_yolo_images_without_labels(tmp_path):
    files = {"data.yaml": "train: images\nnames: [cat]\n", "labels/a.txt": LABEL}
    fill(tmp_path, files | {f"images/{name}.jpg": IMAGE for name in "abc"})
    data = load_dataset(tmp_path)
    assert found(data) == {"a.jpg": BOX, "b.jpg": [], "c.jpg": []}
    assert data.notes == (
        "data.yaml: 2 images have no file of labels and count as images without objects, first b.jpg.",
    )
    data = load_dataset(tmp_path, unlabeled="background")
    assert found(data) == {"a.jpg": BOX, "b.jpg": [], "c.jpg": []}
    assert data.notes == ()
    data = load_dataset(tmp_path, unlabeled="skip")
    assert found(data) == {"a.jpg": BOX}
    assert data.notes == ("data.yaml: 2 images have no file of labels and are left out, first b.jpg.",)


VOC_LAYOUTS = {
    "split folders": ({"train": "train/{}", "val": "valid/{}"}, {"train": "train/{}", "val": "valid/{}"}),
    "flat": ({"all": "{}"}, {"all": "{}"}),
    "classic": ({"all": "Annotations/{}"}, {"all": "JPEGImages/{}"}),
    "classic split": (
        {"train": "Annotations/train/{}", "val": "Annotations/val/{}"},
        {"train": "JPEGImages/train/{}", "val": "JPEGImages/val/{}"},
    ),
}


@pytest.mark.parametrize("layout", VOC_LAYOUTS)
def test_voc_images_without_xml(tmp_path, layout):
    labels, images = VOC_LAYOUTS[layout]
    for split in labels:
        fill(tmp_path, {labels[split].format(f"{split}.xml"): xml(f"{split}.jpg")})
        fill(tmp_path, {images[split].format(f"{name}.jpg"): IMAGE for name in (split, f"{split}-e1", f"{split}-e2")})
    for split in labels:
        for word in ("", "skip"):
            data = load_dataset(tmp_path, split, unlabeled=word)
            assert found(data) == {f"{split}.jpg": BOX}
            (note,) = data.notes
            assert f": 2 images have no XML and are left out, first {split}-e1.jpg; --unlabeled background" in note
        data = load_dataset(tmp_path, split, unlabeled="background")
        assert found(data) == {f"{split}.jpg": BOX, f"{split}-e1.jpg": [], f"{split}-e2.jpg": []}
        assert data.notes == ()


def test_voc_images_in_one_folder_of_all_splits(tmp_path):
    """An image that no XML of any split names is counted once, with those to train on."""
    fill(tmp_path, {"Annotations/train/a.xml": xml("a.jpg"), "Annotations/val/b.xml": xml("b.jpg")})
    fill(tmp_path, {f"JPEGImages/{name}.jpg": IMAGE for name in "abc"})
    for word, notes, images in (("", 1, ["a.jpg"]), ("background", 0, ["a.jpg", "c.jpg"])):
        data = load_dataset(tmp_path, "train", unlabeled=word)
        assert (list(found(data)), len(data.notes)) == (images, notes)
        data = load_dataset(tmp_path, "val", unlabeled=word)
        assert (list(found(data)), data.notes) == (["b.jpg"], ())


def test_tasks_and_shards_without_labels(tmp_path):
    task = {"data": {"image": "b.jpg"}, "annotations": []}
    value = {"x": 10, "y": 20, "width": 20, "height": 40, "rectanglelabels": ["cat"]}
    result = {"type": "rectanglelabels", "value": value, "original_width": 20, "original_height": 10}
    tasks = [{"data": {"image": "a.jpg"}, "annotations": [{"result": [result]}]}, task]
    fill(tmp_path / "ls", {"e.json": json.dumps(tasks), "a.jpg": IMAGE, "b.jpg": IMAGE})
    record = json.dumps({"objects": {"bbox": [[2, 2, 4, 4]], "categories": ["cat"]}})
    shard = pack(tmp_path / "x.tar", {"a.jpg": IMAGE, "a.json": record, "b.jpg": IMAGE})
    for path in (tmp_path / "ls", shard):
        assert found(load_dataset(path, unlabeled="background")) == {"a.jpg": BOX, "b.jpg": []}
        data = load_dataset(path, unlabeled="skip")
        assert found(data) == {"a.jpg": BOX}
        assert "left out" in data.notes[0]
    refused(shard, "there is no JSON of the same name beside the image")


def test_two_images_that_share_their_labels(tmp_path):
    """YOLO, Pascal VOC and tar shards: which of the two was labeled cannot be told; training goes on with a note."""
    images = {f"images/{name}": IMAGE for name in ("a.jpg", "a.png", "b.jpg")}
    yolo = {"data.yaml": "train: images\nnames: [cat]\n", "labels/a.txt": LABEL, "labels/b.txt": LABEL}
    voc = {"annotations/a.xml": xml("a"), "annotations/b.xml": xml("b.jpg")}
    fill(tmp_path / "yolo", yolo | images)
    fill(tmp_path / "voc", voc | images)
    record = json.dumps({"objects": {"bbox": [[2, 2, 4, 4]], "categories": ["cat"]}})
    shard = pack(tmp_path / "x.tar", {"a.jpg": IMAGE, "a.json": record, "a.png": IMAGE})
    for path, labels in ((tmp_path / "yolo", "a.txt"), (tmp_path / "voc", "a.xml"), (shard, "a.json")):
        raw = read_raw(path)
        assert len(raw.problems) == 0
        (doubt,) = raw.doubts
        assert doubt.kind == "shared-labels"
        assert str(doubt.location.file).endswith(labels)
        assert "a.jpg and to " in doubt.text
        assert "a.png" in doubt.text
        said = [
            note for note in load_dataset(path).notes if "1 file of labels belongs to two images, first: a." in note
        ]
        assert len(said) == 1


def test_a_image_that_is_listed_twice_shares_its_labels_with_none(tmp_path):
    files = {"data.yaml": "train: t.txt\nnames: [cat]\n", "t.txt": "images/a.jpg\nimages/a.jpg\n"}
    fill(tmp_path, files | {"images/a.jpg": IMAGE, "labels/a.txt": LABEL})
    raw = read_raw(tmp_path)
    assert (len(raw.images), len(raw.doubts)) == (2, 0)
