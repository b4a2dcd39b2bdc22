"""Labels of YOLO that lie apart from their images, or in folders of any name."""

import pytest
from error_codes import raises_code
from folders import fill, found, refused

from varifocal.data.load import load_dataset, recognize

LINE = "1 0.4 0.4 0.2 0.2\n"  # of 100 x 50 pixels
OBJECT = [("dog", [30.0, 15.0, 50.0, 25.0])]


def labels_apart(root, labels: dict[str, str], images: list[str], **more) -> tuple:
    """A folder of labels and of what ``more`` says, one of images apart from it, both below ``root``."""
    files = {f"data/labels/{name}": text for name, text in labels.items()} | more.pop("files", {})
    fill(root, files | {f"photos/{name}": (100, 50) for name in images})
    return root / "data", str(root / "photos")


@pytest.mark.parametrize("named", ["data", "data/labels"])
@pytest.mark.parametrize("classes", ["data/classes.txt", "data/labels/classes.txt"])
def test_labels_without_images_are_recognized(tmp_path, named, classes):
    """By their numbers and the list of classes, which lies beside them or in the folder around."""
    texts = {"b.txt": LINE, "c.txt": ""}
    _, photos = labels_apart(tmp_path, texts, ["b.png", "c.png"], files={classes: "cat\ndog\n"})
    assert recognize(tmp_path / named) == "yolo"
    assert found(load_dataset(tmp_path / named, images=photos)) == {"b.png": OBJECT, "c.png": []}
    (tmp_path / classes).unlink()
    with raises_code("no-data-set"):
        recognize(tmp_path / named)


@pytest.mark.parametrize("listed", ["1a1b2c3d-a.txt", "12345678-a.txt"])
def test_labels_that_label_studio_calls_like_uploads(tmp_path, listed):
    """Its YOLO export without images. Eight digits count beside letters, as dates have none."""
    notes = {"data/classes.txt": "cat\ndog\n", "data/notes.json": '{"categories": [{"id": 0, "name": "cat"}]}'}
    texts = {listed: LINE, "0badcafe-b 1.txt": LINE, "0badcafe-c.txt": "", "0000000a-d.txt": LINE}
    images = ["a.jpg", "B 1.jpg", "c.jpg", "0000000a-d.jpg"]
    data, photos = labels_apart(tmp_path, texts, images, files=notes)
    assert recognize(data) == "yolo"
    read = load_dataset(data, images=photos)
    assert found(read) == {"a.jpg": OBJECT, "B 1.jpg": OBJECT, "c.jpg": [], "0000000a-d.jpg": OBJECT}
    (note,) = (note for note in read.notes if "eight letters" in note)
    assert note.startswith(
        "data: 3 files of labels have Label Studio's prefix of eight letters before the image's name"
    )
    # nothing is guessed: an image with the whole name has the labels, and of two files none is taken
    fill(tmp_path, {"photos/d.jpg": (100, 50)})
    assert found(load_dataset(data, images=photos))["d.jpg"] == []
    fill(tmp_path, {"data/labels/0badcaff-c.txt": LINE})
    refused(data, "0badcaf", "-c.txt: there is no image for these labels", images=photos)


def test_dates_before_names_are_no_uploads(tmp_path):
    texts = {"20240101-a.txt": LINE, "b.txt": LINE}
    data, photos = labels_apart(tmp_path, texts, ["a.png", "b.png"], files={"data/classes.txt": "cat\ndog\n"})
    refused(data, "20240101-a.txt: there is no image for these labels", images=photos)


def test_folders_of_any_name_with_one_list_of_classes(tmp_path):
    files = {f"{day}/{name}.txt": LINE for day in ("monday", "tuesday") for name in "01"}
    fill(tmp_path, files | {f"{day}/{name}.png": (100, 50) for day in ("monday", "tuesday") for name in "01"})
    with raises_code("no-data-set"):
        recognize(tmp_path)
    fill(tmp_path, {"classes.txt": "cat\ndog\n"})
    assert recognize(tmp_path) == "yolo"
    assert found(load_dataset(tmp_path), lambda file: f"{file.parent.name}/{file.stem}") == {
        f"{day}/{name}": OBJECT for day in ("monday", "tuesday") for name in "01"
    }
    # a label without its image is not that of another folder
    (tmp_path / "monday/1.png").unlink()
    refused(tmp_path, "monday/1.txt: there is no image for these labels")
    fill(tmp_path, {"monday/1.png": (100, 50), "tuesday/classes.txt": "dog\ncat\n"})
    refused(tmp_path, "tuesday/classes.txt: ", code="yolo-different-classes", format="yolo")
