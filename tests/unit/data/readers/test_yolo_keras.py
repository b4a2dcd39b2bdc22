import pytest
from folders import fill, found, refused

from varifocal.data.load import find_splits, load_dataset, read_raw, recognize

BOX = [30.0, 15.0, 50.0, 25.0]


def write(tmp_path, text, classes="cat\nowl\n", folder="train"):
    files = {f"{folder}/_annotations.txt": text}
    sizes = {"a.png": (100, 50), "b c.png": (40, 30)}
    files |= {f"{folder}/{name}": size for name, size in sizes.items() if name in text}
    return fill(tmp_path, files | ({f"{folder}/_classes.txt": classes} if classes else {}))


def test_what_is_read(tmp_path):
    write(tmp_path, "a.png 30,15,50,25,0 0,0,100,50,1\n\nb c.png\n")
    write(tmp_path, "a.png 30,15,50,25,1\n", folder="valid")
    assert recognize(tmp_path) == recognize(tmp_path / "train/_annotations.txt") == "yolo-keras"
    assert find_splits(tmp_path) == ["train", "val"]
    data = load_dataset(tmp_path, "train")
    assert [one.name for one in data.categories] == ["cat", "owl"]
    assert found(data) == {"a.png": [("cat", BOX), ("owl", [0, 0, 100, 50])], "b c.png": []}
    assert found(load_dataset(tmp_path, "val")) == {"a.png": [("owl", BOX)]}
    assert str(read_raw(tmp_path, "train").boxes.where(1)) == "_annotations.txt line 1 box 1"


def test_a_path_with_spaces_and_folders_of_another_machine(tmp_path):
    write(tmp_path, "/home/me/my data/b c.png 1,2,3,4,0\n")
    assert found(load_dataset(tmp_path, "train")) == {"b c.png": [("cat", [1, 2, 3, 4])]}


def test_without_names_the_numbers_are_the_classes(tmp_path):
    data = load_dataset(write(tmp_path, "a.png 30,15,50,25,7\n", classes=""))
    assert found(data) == {"a.png": [("7", BOX)]}
    assert data.notes == ("_annotations.txt: classes are numbers without names (_classes.txt is not beside it).",)


@pytest.mark.parametrize(
    ("box", "parts"),
    [
        ("30,15,50,25", ["is '30,15,50,25'", "x1,y1,x2,y2,class"]),
        ("30,15,50,25,2", ["has the class '2'", "0 cat, 1 owl"]),
        ("30,15,50,25,-1", ["has the class '-1'"]),
        ("30,15,50,25,0.5", ["has the class '0.5'"]),
        ("30,15,50,25,inf", ["has the class 'inf'"]),
        ("30,x,50,25,0", ["30,x,50,25, which holds something"]),
        ("50,15,50,25,0", ["no area"]),
    ],
)
def test_wrong_boxes(tmp_path, box, parts):
    write(tmp_path, f"b c.png 1,2,3,4,0\n\na.png 30,15,50,25,0 {box}\n")
    refused(tmp_path, f"{tmp_path}/train/_annotations.txt: line 3 box 1", *parts)
