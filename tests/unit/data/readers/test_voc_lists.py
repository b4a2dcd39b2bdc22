"""Lists of Pascal VOC: names with spaces and quotes, lists of single classes, trainval, lists that are left out."""

import pytest
from folders import fill, found, refused

from varifocal.data.load import find_splits, load_dataset, recognize
from varifocal.data.readers.image_sets import entry_of

BOX = [("cat", [2.0, 2.0, 6.0, 6.0])]


def voc(*names: str, folder: str = "", **lists: str) -> dict:
    sides = "<xmin>3</xmin><ymin>3</ymin><xmax>6</xmax><ymax>6</ymax>"
    node = f"<object><name>cat</name><bndbox>{sides}</bndbox></object>"
    files: dict = {}
    for name in names:
        files[f"Annotations/{folder}{name}.xml"] = f"<annotation><filename>{name}.png</filename>{node}</annotation>"
        files[f"JPEGImages/{name}.png"] = (20, 10)
    return files | {f"ImageSets/Main/{name}.txt": text for name, text in lists.items()}


def splits(path) -> dict[str, list[str]]:
    return {split: [file[:-4] for file in found(load_dataset(path, split))] for split in find_splits(path)}


@pytest.mark.parametrize(
    "line", ["{}", '"{}"', " {} ", "{}.png", "{}.xml", "JPEGImages/{}.png", "C:\\x\\{}.png", "./{}", "'{}'", "'{}.png'"]
)
def test_names_with_spaces(tmp_path, line):
    names = ["photo 0 (copy)", "photo 1 (copy)", "plain", "two  spaces"]
    text = "\n".join(line.format(name) for name in names[1:])
    fill(tmp_path, voc(*names, train=text, val=line.format(names[0])))
    assert recognize(tmp_path) == "voc"
    assert splits(tmp_path) == {"train": names[1:], "val": names[:1]}


def test_names_that_end_like_the_lines_of_a_class(tmp_path):
    """ "photo 1" is a name here and not "photo" with a 1 behind it."""
    names = ["photo 0", "photo 1", "photo -1", "photo"]
    fill(tmp_path, voc(*names, train="photo 0\nphoto 1\n", val="photo -1\nphoto\n"))
    assert splits(tmp_path) == {"train": names[:2], "val": names[2:]}


def test_lists_of_a_class_are_left_out_and_said(tmp_path):
    lists = {"train": "a\n", "cat_train": "a  1\nb b -1\n", "cat_val": '"b b" 0\n', "none": "", "odd": "x 1 2\n"}
    fill(tmp_path, voc("a", "b b", **lists, val="b b"))
    assert splits(tmp_path) == {"train": ["a"], "val": ["b b"]}
    assert load_dataset(tmp_path, "val").notes == (
        "ImageSets/Main: 2 lists of single classes are left out, first cat_train.txt.",
        "ImageSets/Main: 2 lists are left out, which are empty or name no XML file of the set: none.txt, odd.txt.",
    )


def test_lists_called_like_splits_are_splits_whatever_stands_behind_the_names(tmp_path):
    """Some programs write the 1 of a class's list behind every name; a split was lost so without a word."""
    fill(tmp_path, voc("a", "b b", "c", train="a 1\nb b  -1\n", val="c 0\n"))
    assert splits(tmp_path) == {"train": ["a", "b b"], "val": ["c"]}


def test_lists_of_classes_alone_are_the_splits_together(tmp_path):
    """VOC's own list of a class names all images of its split; other programs' only those that have the class."""
    cat = {"cat_train": "a  1\nb b -1\nx 1\n", "cat_val": "c 1\n"}
    dog = {"dog_train": "a -1\nb b  1\nx -1\n", "dog_val": "d 1\n"}
    fill(tmp_path, voc("a", "b b", "c", "d", "e", **cat, **dog) | {"JPEGImages/x.png": (20, 10)})
    assert splits(tmp_path) == {"train": ["a", "b b"], "val": ["c", "d"]}
    said = "has no list of its own, and is what"
    assert load_dataset(tmp_path, "train").notes == (
        f"ImageSets/Main: train {said} cat_train.txt, dog_train.txt names together.",
        f"ImageSets/Main: val {said} cat_val.txt, dog_val.txt names together.",
        "ImageSets/Main: 1 XML file is in no list and left out, first e.xml.",
        "cat_train.txt: 1 image has no XML and is left out, first x.png; "
        "--unlabeled background takes them as images without objects.",
    )
    fill(tmp_path, {"ImageSets/Main/dog_val.txt": "d 1\nnone 1\n"})
    refused(tmp_path, "dog_val.txt: line 2 names 'none 1'", split="val")


def test_lists_that_say_no_split_are_said(tmp_path):
    fill(tmp_path, voc("a", "b", cat="a 1\nb -1\n", dog="a -1\nb 1\n", odd="x 1 2\n"))
    assert splits(tmp_path) == {"all": ["a", "b"]}
    assert load_dataset(tmp_path).notes == (
        "ImageSets/Main: 2 lists of single classes are left out, first cat.txt.",
        "ImageSets/Main: 1 list is left out, which is empty or names no XML file of the set: odd.txt.",
    )


@pytest.mark.parametrize("place", ["ImageSets/Main", "ImageSets"])
def test_splits_of_any_name(tmp_path, place):
    files = voc("a", "b", "c")
    fill(tmp_path, files | {f"{place}/Train.txt": "a", f"{place}/Validation.txt": "b", f"{place}/trainval.txt": "a\nb"})
    assert splits(tmp_path) == {"Train": ["a"], "Validation": ["b"], "trainval": ["a", "b"]}


def test_pairs_and_folders_in_lists(tmp_path):
    fill(tmp_path, voc("a", "b", folder="sub/", train="JPEGImages/a.png Annotations/sub/a.xml\n", val="sub/b\n"))
    assert splits(tmp_path) == {"train": ["a"], "val": ["b"]}


def test_a_line_without_xml(tmp_path):
    fill(tmp_path, voc("a", train="a\nb b\n"))
    refused(tmp_path, "ImageSets/Main/train.txt: line 2 names 'b b', and there is no b b.xml in")
    fill(tmp_path, {"JPEGImages/b b.png": (20, 10)})
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": BOX}
    assert data.notes[0].startswith("train.txt: 1 image has no XML and is left out, first b b.png;")
    data = load_dataset(tmp_path, unlabeled="background")
    assert found(data) == {"a.png": BOX, "b b.png": []}
    assert data.notes == ()


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("a", "a.xml"),
        ("A", "a.xml"),
        ("a 1", "a.xml"),
        ('"b \\"c\\"" -1', 'b "c".xml'),
        ('b "c"', 'b "c".xml'),
        ("x 1", ""),
        ("sub/d", "sub/d.xml"),
        ("d", "sub/d.xml"),
        ("e", ""),
        ("other/e", "other/e.xml"),
    ],
)
def test_what_a_line_means(line, file):
    stems = {"a": "a.xml", 'b "c"': 'b "c".xml', "sub/d": "sub/d.xml", "d": "sub/d.xml", "other/e": "other/e.xml"}
    assert entry_of(line, stems) == file


def test_xml_files_in_no_list_are_said(tmp_path):
    names = ["a", "b b", "c", "d", "e"]
    fill(tmp_path, voc(*names, train='a\n"b b"\n', val="JPEGImages/c.png\n", cat_train="d 1\ne -1\na 1\n"))
    for split, count in (("train", 2), ("val", 1)):
        data = load_dataset(tmp_path, split)
        assert len(data.samples) == count
        assert data.notes[1:] == ("ImageSets/Main: 2 XML files are in no list and left out, first d.xml.",)


def test_folders_of_xml_files_of_no_split_are_said(tmp_path):
    node = voc("a")["Annotations/a.xml"]
    files = {f"{name}.xml": node for name in ("train/a", "valid/a", "extra/deep/a", "extra/a", "a", "b")}
    fill(
        tmp_path,
        files | {f"{name}/a.png": (20, 10) for name in ("train", "valid")} | {"other/x.txt": "", "c.xml": "<x/>"},
    )
    assert splits(tmp_path) == {"train": ["a"], "val": ["a"]}
    assert load_dataset(tmp_path, "train").notes == (
        f"{tmp_path.name}: the folder extra has XML files, belongs to no split and is left out.",
        f"{tmp_path.name}: 2 XML files beside the folders of the splits belong to no split and are left out, "
        "first a.xml.",
    )


def test_names_in_two_folders_are_not_guessed(tmp_path):
    files = voc("a", folder="x/") | voc("a", folder="y/", train="a\n")
    refused(fill(tmp_path, files), "line 1 names 'a', and several folders in", "have a file a.xml; write the folder")
    fill(tmp_path, {"ImageSets/Main/train.txt": "y/a\n"})
    assert len(load_dataset(tmp_path).samples) == 1


def test_folders_of_one_meaning_keep_their_names(tmp_path):
    text = voc("a")["Annotations/a.xml"]
    fill(tmp_path, {f"{name}/a.xml": text for name in ("train1", "train2", "Valid")})
    fill(tmp_path, {f"{name}/a.png": (20, 10) for name in ("train1", "train2", "Valid")})
    assert find_splits(tmp_path) == ["val", "train1", "train2"]


@pytest.mark.parametrize(
    ("lists", "line"),
    [
        pytest.param(("train.txt", "valid.txt"), "./JPEGImages/{0}.png ./Annotations/{0}.xml", id="PaddleDetection"),
        pytest.param(("train_list.txt", "val_list.txt"), "JPEGImages/{0}.png Annotations/{0}.xml", id="PaddleX"),
        pytest.param(("train.txt", "val.txt"), "{0}", id="names"),
    ],
)
def test_lists_beside_the_folders(tmp_path, lists, line):
    """Whoever has them is told of no class list, readme or the like, which are text files there, too."""
    others = {"labels.txt": "cat\n", "label_list.txt": "cat\n", "readme.txt": "by nobody\n"}
    texts = {lists[0]: "".join(line.format(name) + "\n" for name in "ab"), lists[1]: line.format("c") + "\n"}
    fill(tmp_path, voc("a", "b", "c") | texts | others)
    assert recognize(tmp_path) == "voc"
    train, val = (load_dataset(tmp_path, split) for split in ("train", "val"))
    assert [sorted(found(data)) for data in (train, val)] == [["a.png", "b.png"], ["c.png"]]
    assert not [note for data in (train, val) for note in data.notes if "left out" in note]
