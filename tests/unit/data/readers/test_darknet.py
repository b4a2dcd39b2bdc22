"""Darknet's layout, as CVAT's "YOLO 1.1" and Roboflow write it, and the variants of Ultralytics' data.yaml."""

import pytest
from folders import fill, found, refused

from varifocal.data.load import find_splits, load_dataset, read_raw, recognize
from varifocal.types import Category

LABEL = "1 0.4 0.4 0.2 0.2\n"  # of 100 x 50 pixels
BOX = [30.0, 15.0, 50.0, 25.0]
DATA = "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
CVAT = {
    "obj.data": DATA,
    "obj.names": "cat\ndog\n",
    "train.txt": "data/obj_train_data/a 0.PNG\n",
    "obj_train_data/a 0.PNG": (100, 50),
    "obj_train_data/a 0.txt": LABEL,
}


def test_what_cvat_writes(tmp_path):
    fill(tmp_path, CVAT)
    assert recognize(tmp_path) == recognize(tmp_path / "obj.data") == "yolo"
    assert find_splits(tmp_path) == ["train"]
    for path in (tmp_path, tmp_path / "obj.data"):
        data = load_dataset(path)
        assert data.categories == (Category(0, "cat"), Category(1, "dog"))
        assert found(data) == {"a 0.PNG": [("dog", BOX)]}
        assert [note.partition(",")[0] for note in data.notes] == ["train.txt: 1 image is found by the end of its name"]


@pytest.mark.parametrize("gone", [["obj.data"], ["obj.data", "train.txt"], ["train.txt", "obj.data"]])
def test_parts_of_what_cvat_writes(tmp_path, gone):
    fill(tmp_path, CVAT)
    for name in gone:
        (tmp_path / name).unlink()
    assert recognize(tmp_path) == "yolo"
    assert found(load_dataset(tmp_path)) == {"a 0.PNG": [("dog", BOX)]}


@pytest.mark.parametrize(
    "listed", ["data/obj_train_data/a 0.PNG", "obj_train_data/a 0.PNG", "C:\\set\\obj_train_data\\a 0.PNG"]
)
@pytest.mark.parametrize("place", ["data/images", "photos", "photos/deep"])
def test_what_cvat_writes_without_images(tmp_path, place, listed):
    """Labels lie where the list says, whatever its names begin with, and images in the data folder or apart from it."""
    data = fill(tmp_path / "data", {**CVAT, "train.txt": listed + "\n"})
    (data / "obj_train_data/a 0.PNG").unlink()
    fill(tmp_path, {f"{place}/a 0.PNG": (100, 50)})
    images = "" if place.startswith("data") else str(tmp_path / "photos")
    assert found(load_dataset(data, images=images)) == {"a 0.PNG": [("dog", BOX)]}


def test_a_validation_subset(tmp_path):
    more = {
        "obj.data": DATA + "valid = data/valid.txt\ntest = data/test.txt\n",
        "valid.txt": "data/obj_valid_data/v.png",
        "obj_valid_data/v.png": (10, 10),
        "obj_valid_data/v.txt": "",
    }
    fill(tmp_path, CVAT | more)
    assert find_splits(tmp_path) == ["train", "val"]
    data = load_dataset(tmp_path, "val")
    assert found(data) == {"v.png": []}
    assert "obj.data: test is 'data/test.txt', which is not found, so there is no such split." in data.notes
    for name in ("obj.data", "train.txt", "valid.txt"):
        (tmp_path / name).unlink()
    assert find_splits(tmp_path) == ["train", "val"]


def test_darknet_itself(tmp_path):
    files = {
        "coco.data": "# of 2014\nclasses= 2\ntrain  = /home/pjreddie/coco/trainvalno5k.txt\nnames = data/coco.names\n",
        "coco.names": "cat\ndog",
        "trainvalno5k.txt": "/home/pjreddie/coco/images/train2014/a.png\n",
        "images/train2014/a.png": (100, 50),
        "labels/train2014/a.txt": LABEL,
    }
    assert found(load_dataset(fill(tmp_path, files))) == {"a.png": [("dog", BOX)]}


def test_roboflow(tmp_path):
    names = {f"{split}/_darknet.labels": "cat\ndog\n" for split in ("train", "valid")}
    fill(tmp_path, {**names, "train/a.png": (100, 50), "train/a.txt": LABEL, "valid/v.png": (9, 9), "valid/v.txt": ""})
    assert find_splits(tmp_path) == ["train", "val"]
    assert found(load_dataset(tmp_path, "train")) == {"a.png": [("dog", BOX)]}


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        ("names = data/other.names\n", ["there is no train or valid in it"]),
        ("classes = 3\ntrain = data/train.txt\nnames = obj.names\n", ["classes is 3 but obj.names has 2"]),
        ("classes = 2\ntrain = data/gone.txt\n", ["train is 'data/gone.txt', which is not found"]),
    ],
)
def test_wrong_descriptions(tmp_path, data, parts):
    fill(tmp_path, CVAT | {"obj.data": data})
    refused(tmp_path / "obj.data", str(tmp_path / "obj.data"), *parts)


def test_several_descriptions(tmp_path):
    fill(tmp_path, CVAT | {"b.data": DATA})
    assert found(load_dataset(tmp_path)) == {"a 0.PNG": [("dog", BOX)]}
    (tmp_path / "obj.data").rename(tmp_path / "a.data")
    refused(tmp_path, "a.data, b.data", code="darknet-several-descriptions", format="yolo")


def test_classes_without_names(tmp_path):
    fill(tmp_path, CVAT)
    (tmp_path / "obj.names").unlink()
    data = load_dataset(tmp_path)
    assert found(data) == {"a 0.PNG": [("class_1", BOX)]}
    assert "obj.data: nothing names its classes; they are called class_0 and so on." in data.notes
    fill(tmp_path, {"obj.data": "train = data/train.txt\nnames = x\n"})
    refused(tmp_path, "the list of class names, 'x', is not found")


def simple(yaml: str, labels: str = LABEL, **more) -> dict:
    return {"data.yaml": yaml, "images/train/a.png": (100, 50), "labels/train/a.txt": labels, **more}


@pytest.mark.parametrize(
    ("names", "classes", "said"),
    [
        ("names: [cat, dog]", "cat dog", ""),
        ("names: {0: cat, 1: dog}", "cat dog", ""),
        ("names:\n  0: cat\n  1: dog", "cat dog", ""),
        ("nc: 2", "class_0 class_1", "nothing names its classes"),
        ("nc: 2\nnames:", "class_0 class_1", "nothing names its classes"),
        ("", "1", "there are no names in it; classes are called by their numbers"),
    ],
)
def test_names_of_a_yaml(tmp_path, names, classes, said):
    data = load_dataset(fill(tmp_path, simple(f"train: images/train\n{names}\n")))
    assert [one.name for one in data.categories] == classes.split()
    assert found(data) == {"a.png": [(classes.split()[-1], BOX)]}
    assert any(said in note for note in data.notes) or not said
    fill(tmp_path, {"classes.txt": "owl\ndog\n"})
    if "nc" in names or not names:
        data = load_dataset(tmp_path)
        assert [one.name for one in data.categories] == ["owl", "dog"]
        assert "data.yaml: there are no names in it; those of classes.txt are taken." in data.notes


def test_numbers_of_classes_without_names(tmp_path):
    fill(tmp_path, simple("train: images/train\n", LABEL + "7 0.5 0.5 0.1 0.1\n"))
    data = load_dataset(tmp_path)
    assert data.categories == (Category(1, "1"), Category(7, "7"))
    assert data.samples[0].labels.tolist() == [0, 1]
    fill(tmp_path, {"labels/train/a.txt": "-1 0.5 0.5 0.1 0.1\n"})
    refused(tmp_path, "line 1 has the class -1")
    fill(tmp_path, {"labels/train/a.txt": ""})
    refused(tmp_path, "it has no box with a class")


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("path: /content/drive/MyDrive/set\ntrain: images/train", "path, '/content/drive/MyDrive/set', is not there"),
        ("train: /content/drive/MyDrive/set/images/train", "found by its end as "),
        ("train: 'D:\\me\\set\\images\\train'", "found by its end as "),
        ("train: [/content/set/images/train]", "found by its end as "),
        ("train: /content/set/train.txt", "found by its end as "),
        ("train: train.txt", "1 image is found by the end of its name"),
        ("train: ../images/train", ""),
        ("Train: images/train", ""),
        ("training: images/train\ntrain_params: {lr: 1}", ""),
    ],
)
def test_paths_of_another_machine(tmp_path, yaml, said):
    more = {"train.txt": "/content/set/images/train/a.png\n"}
    data = load_dataset(fill(tmp_path, simple(f"{yaml}\nnames: [cat, dog]\n", **more)))
    assert found(data) == {"a.png": [("dog", BOX)]}
    assert any(said in note for note in data.notes) if said else data.notes == ()


def test_a_path_that_ends_in_a_folder_beside(tmp_path):
    files = {f"set/{name}": content for name, content in simple("").items() if name != "data.yaml"}
    fill(tmp_path, files | {"my.yaml": "path: /content/set\ntrain: images/train\nnames: [cat, dog]\n"})
    data = load_dataset(tmp_path / "my.yaml")
    assert found(data) == {"a.png": [("dog", BOX)]}
    assert data.notes == (f"my.yaml: path, '/content/set', is not there; {tmp_path}/set is taken.",)


def test_two_splits_never_become_one_by_the_ends_of_their_paths(tmp_path):
    """Both end in a folder called images, which is there; but neither split's own folder is."""
    files = {"images/a.png": (100, 50), "labels/a.txt": LABEL}
    files["data.yaml"] = "train: /content/set/train/images\nval: /content/set/val/images\nnames: [cat, dog]\n"
    refused(fill(tmp_path, files), "train is '/content/set/train/images', which leaves the data folder")


def test_lists_without_a_description(tmp_path):
    files = {"classes.txt": "cat\ndog\n", "train.txt": "images/a.png\n", "Val.txt": '"images/b b.png"\n'}
    for name in ("a", "b b", "c"):
        files |= {f"images/{name}.png": (100, 50), f"labels/{name}.txt": LABEL}
    assert recognize(fill(tmp_path, files)) == "yolo"
    assert find_splits(tmp_path) == ["val", "train"]
    assert found(load_dataset(tmp_path, "train")) == {"a.png": [("dog", BOX)]}
    assert found(load_dataset(tmp_path, "val")) == {"b b.png": [("dog", BOX)]}


def test_folders_of_no_split_are_said(tmp_path):
    files = {"classes.txt": "cat\ndog\n", "images/Train/a.png": (100, 50), "labels/Train/a.txt": LABEL}
    fill(tmp_path, files | {"images/extra/b.png": (9, 9), "images/empty/x.txt": "", "images/c.png": (9, 9)})
    assert find_splits(tmp_path) == ["train"]
    assert load_dataset(tmp_path).notes == (
        f"{tmp_path.name}: the folder images/extra belongs to no split and is left out.",
        f"{tmp_path.name}: 1 image beside the folders in images belongs to no split and is left out.",
    )


def test_a_split_whose_images_are_gone_but_not_its_labels(tmp_path):
    fill(tmp_path, simple("train: images/train\nval: images/val\nnames: [cat, dog]\n", **{"labels/val/v.txt": LABEL}))
    assert find_splits(tmp_path) == ["train", "val"]
    refused(tmp_path, "val is 'images/val', which is not found", "--images", split="val")
    (problem,) = read_raw(tmp_path, "val").problems
    assert problem.kind == "missing-image"


@pytest.mark.parametrize("name", ["a.TXT", "A.txt", "A.TXT"])
def test_labels_in_other_letters(tmp_path, name):
    files = {"data.yaml": "train: images\nnames: [cat, dog]\n", "images/a.png": (100, 50), f"labels/{name}": LABEL}
    data = load_dataset(fill(tmp_path, files))
    assert found(data) == {"a.png": [("dog", BOX)]}
    assert data.notes == ()


def test_a_description_in_a_folder_of_settings(tmp_path):
    """Darknet's own data sets have cfg/coco.data, with paths from the folder around it."""
    data = "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/coco.names\nbackup = backup\n"
    images = {f"data/images/{stem}.png": (100, 50) for stem in "ab"}
    labels = {f"data/labels/{stem}.txt": LABEL for stem in "ab"}
    lists = {"data/train.txt": "data/images/a.png\n", "data/valid.txt": "data/images/b.png\n"}
    fill(tmp_path, {"cfg/coco.data": data, "data/coco.names": "cat\ndog\n", **lists, **images, **labels})
    assert (recognize(tmp_path), find_splits(tmp_path)) == ("yolo", ["train", "val"])
    assert found(load_dataset(tmp_path, "val")) == {"b.png": [("dog", BOX)]}
