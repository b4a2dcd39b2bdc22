import json
from pathlib import Path

import pytest
from error_codes import raises_code
from folders import fill, found

from varifocal.data.archive import is_unsafe_path
from varifocal.data.load import load_dataset
from varifocal.data.paths import ImageFinder
from varifocal.data.readers import coco_layout
from varifocal.data.readers.coco_layout import find_coco, image_roots
from varifocal.data.splits import resolve_split
from varifocal.utils.errors import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            ["annotations/instances_train2017.json", "annotations/instances_val2017.json"],
            {
                "train2017": "annotations/instances_train2017.json",
                "val2017": "annotations/instances_val2017.json",
            },
        ),
        (
            ["annotations/instances_default.json", "annotations/captions_train2017.json"],
            {"default": "annotations/instances_default.json"},
        ),
        (["annotations/train.json", "package.json"], {"train": "annotations/train.json"}),
        (
            [f"{name}/_annotations.coco.json" for name in ("train", "valid", "test")],
            {
                "test": "test/_annotations.coco.json",
                "train": "train/_annotations.coco.json",
                "val": "valid/_annotations.coco.json",
            },
        ),
        (["train/annotations.json"], {"train": "train/annotations.json"}),
        (["train.json", "scene.json", ".x.json"], {"train": "train.json"}),
        (["scene.json", ".x.json"], {"scene": "scene.json"}),
        (["annotations/default.json", "package.json"], {"default": "annotations/default.json"}),
        (
            ["annotations/trainval.json", "annotations/Test.json", "annotations/result.json"],
            {
                "Test": "annotations/Test.json",
                "result": "annotations/result.json",
                "trainval": "annotations/trainval.json",
            },
        ),
        (["result.json", "notes.json"], {"result": "result.json"}),
        (["instances_val.json"], {"val": "instances_val.json"}),
        (["annotations.json", "info.json"], {"all": "annotations.json"}),
        (["annotations/annotations.json"], {"all": "annotations/annotations.json"}),
        (["_annotations.coco.json"], {"all": "_annotations.coco.json"}),
        (["annotations.json", "val.json"], {"all": "annotations.json", "val": "val.json"}),
    ],
)
def test_layouts(tmp_path, files, expected):
    touch(tmp_path, *files)
    assert find_coco(tmp_path) == {name: tmp_path / file for name, file in expected.items()}


def test_what_is_coco_is_a_split_under_any_name(tmp_path):
    content = '{"images": [], "annotations": [], "categories": []}'
    for name in ("annotations/part 1.json", "annotations/part 2.json", "whole.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "annotations/other.json").write_text("{}")
    assert list(find_coco(tmp_path)) == ["part 1", "part 2"]
    for name in ("1", "2"):
        (tmp_path / f"annotations/part {name}.json").unlink()
    (tmp_path / "settings.json").write_text("{}")
    assert list(find_coco(tmp_path)) == ["whole"]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("annotations/instances_val2017.json", "val2017"),
        ("valid/_annotations.coco.json", "val"),
        ("export/_annotations.coco.json", "all"),
        ("mine.json", "mine"),
        ("odd.txt", "odd"),
    ],
)
def test_a_file_is_one_split(tmp_path, file, name):
    touch(tmp_path, file)
    assert find_coco(tmp_path / file) == {name: tmp_path / file}


def test_nothing_there(tmp_path):
    with raises_code("coco-no-annotations"):
        find_coco(tmp_path)


def test_match():
    names = ["test-dev2017", "train2017", "val2017"]
    for asked in ("train", "train2017", "Train", "training"):
        assert resolve_split(Path("d"), names, asked) == "train2017"
    for asked in ("val", "valid", "validation"):
        assert resolve_split(Path("d"), names, asked) == "val2017"
    for asked in ("test", "tra"):
        with pytest.raises(DataError) as error:
            resolve_split(Path("d"), names, asked)
        assert str(error.value) == f"d: there is no split {asked!r}; available: test-dev2017, train2017, val2017"
    with pytest.raises(DataError, match=r"d: .*several splits.*test-dev2017, train2017, val2017"):
        resolve_split(Path("d"), names, None)


def test_match_between_years():
    names = ["train2014", "train2017", "val"]
    with pytest.raises(DataError, match=r"\(train2014, train2017\); name one of them$"):
        resolve_split(Path("d"), names, "train")
    assert resolve_split(Path("d"), names, "train2014") == "train2014"


def test_the_only_split_needs_no_name():
    assert resolve_split(Path("d"), ["mine"], None) == "mine"


@pytest.mark.parametrize(
    "place",
    [
        "ann/1.jpg",
        "1.jpg",
        "images/1.jpg",
        "val2017/1.jpg",
        "images/val2017/1.jpg",
        "val/1.jpg",
        "valid/1.jpg",
    ],
)
def test_places_of_images(tmp_path, place):
    touch(tmp_path, "ann/instances_val2017.json", place)
    finder = ImageFinder(image_roots(tmp_path / "ann/instances_val2017.json", tmp_path, "val2017"))
    assert finder.find("1.jpg") == ((tmp_path / place).parent, "1.jpg")
    assert finder.find("2.jpg") is None


def test_the_folder_of_the_split_comes_first(tmp_path):
    touch(tmp_path, "val.json", "1.jpg", "images/1.jpg", "images/val/1.jpg", "train/1.jpg")
    finder = ImageFinder(image_roots(tmp_path / "val.json", tmp_path, "val"))
    assert finder.find("1.jpg") == (tmp_path / "images/val", "1.jpg")


def test_sub_folders_in_the_name(tmp_path):
    touch(tmp_path, "images/a/b/1.jpg")
    finder = ImageFinder(image_roots(tmp_path / "all.json", tmp_path, "all"))
    assert finder.find("a/b/1.jpg") == (tmp_path / "images/a/b", "1.jpg")
    assert finder.find("a\\b\\1.jpg") == (tmp_path / "images/a/b", "1.jpg")
    assert finder.find("images/a/b/1.jpg") == (tmp_path / "images/a/b", "1.jpg")
    assert finder.find("1.jpg") is None


def test_json_of_an_annotations_folder_by_itself(tmp_path):
    touch(tmp_path, "annotations/instances_val.json", "val/1.jpg")
    file = tmp_path / "annotations/instances_val.json"
    assert ImageFinder(image_roots(file, file, "val")).find("1.jpg") == (tmp_path / "val", "1.jpg")


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../1.jpg",
        "a/../../1.jpg",
        "a/..",
        "..",
        "\\\\host\\1.jpg",
        "C:\\1.jpg",
        "..\\1.jpg",
        "",
        "a/",
        "a\x00",
    ],
)
def test_names_that_leave_the_folder(name):
    assert is_unsafe_path(name)


@pytest.mark.parametrize("name", ["1.jpg", "a/b.jpg", "..1.jpg", "a..b/c...jpg", "./1.jpg", "a\\b.jpg"])
def test_names_that_stay(name):
    assert not is_unsafe_path(name)


@pytest.mark.parametrize(
    ("files", "both"),
    [
        (["val.json", "valid.json"], ["val.json", "valid.json"]),
        (["annotations/instances_val.json", "annotations/instances_valid.json"], ["_val.json", "_valid.json"]),
        (["annotations/train.json", "annotations/instances_train.json"], ["/train.json", "instances_train.json"]),
        (["val/labels.json", "valid/labels.json"], ["val/labels.json", "valid/labels.json"]),
        (["val/annotations.json", "valid/_annotations.coco.json"], ["val/annotations.json", "valid/_annotations"]),
    ],
)
def test_two_files_of_one_split_are_not_chosen_between(tmp_path, files, both):
    touch(tmp_path, *files)
    for file in files:
        (tmp_path / file).write_text('{"images": [], "annotations": [], "categories": []}')
    with raises_code("coco-duplicate-split") as error:
        find_coco(tmp_path)
    assert all(part in str(error.value) for part in both)


COCO = '{"images": [], "annotations": [{"bbox": [1, 2, 3, 4]}], "categories": []}'
CAPTIONS = '{"images": [], "annotations": [{"caption": "a cat"}], "categories": []}'
RESULTS = ' [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]'


@pytest.mark.parametrize("folder", ["", "annotations/"])
def test_detection_results_are_no_split(tmp_path, folder):
    """``predict`` and other programs may have written them beside the annotations."""
    for name, text in (("annotations", COCO), ("train", COCO), ("results", RESULTS), ("default", RESULTS)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / f"{folder}{name}.json").write_text(text)
    assert set(find_coco(tmp_path)) == ({"all", "train"} if not folder else {"train"})
    for name in ("annotations", "train"):
        (tmp_path / f"{folder}{name}.json").unlink()
    assert set(find_coco(tmp_path)) == {"default", "results"}  # whose reader says what they are


def test_a_split_in_a_file_of_another_name(tmp_path):
    """Of files that do not have usual names that of a missing split is read, and a note names those left out."""
    (tmp_path / "annotations").mkdir()
    texts = {"instances_train": COCO, "my_validation": COCO, "old_train": COCO, "everything": COCO}
    for name, text in (texts | {"captions_val": CAPTIONS, "notes": "{}"}).items():
        (tmp_path / f"annotations/{name}.json").write_text(text)
    found = find_coco(tmp_path)
    assert {split: file.name for split, file in found.items()} == {
        "train": "instances_train.json",
        "val": "my_validation.json",
    }
    note = "annotations: 2 files of COCO belong to no split and are left out: everything.json, old_train.json."
    assert coco_layout.left_out_notes(found["train"], tmp_path) == [note]
    assert coco_layout.left_out_notes(found["train"], found["train"]) == []


def test_the_folder_annotations_is_that_of_the_data_set_around(tmp_path):
    content = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "cat"}]}
    content["annotations"] = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]
    fill(
        tmp_path,
        {"annotations/instances_train.json": json.dumps(content), "images/a.png": (9, 9), "images/b.png": (9, 9)},
    )
    for path in ("annotations", "annotations/instances_train.json", ""):
        data = load_dataset(tmp_path / path)
        assert found(data) == {"a.png": [("cat", [1, 2, 4, 6])]}
        assert sum("1 image lies beside those" in note for note in data.notes) == 1
