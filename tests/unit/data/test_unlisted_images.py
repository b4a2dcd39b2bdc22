"""Images that lie beside those that a file of labels lists: counted, or images without objects."""

import json

import pytest
from folders import fill, found, pack, png
from layouts import LAYOUTS

from varifocal.data.load import find_splits, load_dataset, read_raw
from varifocal.data.readers.formats import READERS

IMAGE = png(20, 10)
BOX = [("cat", [2.0, 2.0, 6.0, 6.0])]
TEXT = "lies beside those that it lists and is left out"
WAY = "--unlabeled background takes them as images without objects."
HEADER = "image,xmin,ymin,xmax,ymax,label\n"


def line(name: str) -> str:
    return f"{name},2,2,6,6,cat\n"


def coco(*names: str) -> str:
    images = [{"id": 2 * n, "file_name": name, "width": 20, "height": 10} for n, name in enumerate(names, 1)]
    boxes = [
        {"id": n, "image_id": image["id"], "category_id": 1, "bbox": [2, 2, 4, 4]} for n, image in enumerate(images)
    ]
    return json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]})


LISTING = [name for name, layout in LAYOUTS.items() if READERS[layout.format].lists and name != "bdd100k-images"]


@pytest.mark.parametrize("layout", LISTING)
def test_every_format_that_lists_images(tmp_path, layout):
    """Beside the images of each split lies one more, in a folder of several splits one for all."""
    files = LAYOUTS[layout].files()
    folders = sorted({name.rpartition("/")[0] for name in files if name.endswith(".png")})
    more = {f"{folder}/zz{n}.png".strip("/"): IMAGE for n, folder in enumerate(folders)}
    fill(tmp_path, files | more)
    splits = find_splits(tmp_path)
    read = {split: found(load_dataset(tmp_path, split, unlabeled="background")) for split in splits}
    taken = [(split, name) for split in splits for name in read[split] if name.startswith("zz")]
    assert sorted(name for _, name in taken) == [f"zz{n}.png" for n in range(len(folders))]
    for split, name in taken:
        folder = folders[int(name[2])]
        assert read[split][name] == []
        assert len(folders) == 1 or split in folder
        notes = load_dataset(tmp_path, split).notes
        assert sum("beside those that it lists" in note and WAY in note for note in notes) == 1
    for split in set(splits) - {split for split, _ in taken}:
        assert "beside" not in " ".join(load_dataset(tmp_path, split).notes)


@pytest.mark.parametrize("packed", [False, True])
def test_they_are_counted_or_background(tmp_path, packed):
    files = {"boxes.csv": HEADER + line("a.jpg")} | {f"images/{name}.jpg": IMAGE for name in "abc"}
    path = pack(tmp_path / "x.zip", files) if packed else fill(tmp_path, files)
    for word in ("", "skip"):
        data = load_dataset(path, unlabeled=word)
        assert found(data) == {"a.jpg": BOX}
        assert data.notes == (
            f"boxes.csv: 2 images lie beside those that it lists and are left out, first b.jpg; {WAY}",
        )
    data = load_dataset(path, unlabeled="background")
    assert (found(data), data.notes) == ({"a.jpg": BOX, "b.jpg": [], "c.jpg": []}, ())
    assert [(one.width, one.height, one.image_id) for one in data.samples] == [(20, 10, n) for n in (1, 2, 3)]


def test_their_names_are_as_the_source_writes_names_and_their_ids_are_free(tmp_path):
    fill(tmp_path, {"a.json": coco("one/a.jpg", "./one/b.jpg", "c.jpg")})
    fill(tmp_path, {f"images/{name}.jpg": IMAGE for name in ("one/a", "one/b", "one/d", "c", "e")})
    raw = read_raw(tmp_path, unlabeled="background")
    assert dict(zip(raw.images.names, raw.images.ids.tolist(), strict=True)) == {
        "one/a.jpg": 2, "./one/b.jpg": 4, "c.jpg": 6, "one/d.jpg": 1, "e.jpg": 3
    }  # fmt: skip


def test_what_another_split_lists_is_its_own(tmp_path):
    """As in LVIS, whose validation images lie with those of training."""
    files = {
        "annotations/lvis_train.json": coco("train2017/a.jpg"),
        "annotations/lvis_val.json": coco("train2017/b.jpg"),
    }
    files = {name.replace("lvis", "lvis_v1"): text for name, text in files.items()}
    fill(tmp_path, files | {f"train2017/{name}.jpg": IMAGE for name in "abc"})
    for path in (tmp_path, tmp_path / "annotations" / "lvis_v1_train.json"):
        assert list(found(load_dataset(path, "train", unlabeled="background"))) == ["a.jpg", "c.jpg"]
        (note,) = load_dataset(path, "train").notes
        assert f": 1 image {TEXT}, first c.jpg; {WAY}" in note
    data = load_dataset(tmp_path, "val", unlabeled="background")
    assert (list(found(data)), data.notes) == (["b.jpg"], ())


def test_images_that_are_listed_and_not_found_are_not_counted_once_more(tmp_path):
    names = ("x/a.jpg", "y/a.jpg", "b.jpg")
    fill(tmp_path, {"boxes.csv": HEADER + line("a.jpg") + line("b.jpg")} | dict.fromkeys(names, IMAGE))
    raw = read_raw(tmp_path, unlabeled="background")
    assert [problem.kind for problem in raw.problems] == ["ambiguous-image"]
    assert len(raw.images) == 2


def test_tasks_that_nobody_labeled_are_counted_once(tmp_path):
    value = {"x": 10, "y": 20, "width": 20, "height": 40, "rectanglelabels": ["cat"]}
    result = {"type": "rectanglelabels", "value": value, "original_width": 20, "original_height": 10}
    tasks = [
        {"data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [{"result": [result]}]},
        {"data": {"image": "/data/upload/1/0a1b2c3d-b.jpg"}, "annotations": []},
    ]
    fill(tmp_path, {"e.json": json.dumps(tasks)} | {f"images/{name}.jpg": IMAGE for name in "abc"})
    first, second = load_dataset(tmp_path).notes
    assert "1 task that nobody has labeled was left out" in first
    assert f"e.json: 1 image {TEXT}, first c.jpg" in second
    data = load_dataset(tmp_path, unlabeled="background")
    assert (found(data), data.notes) == ({"a.jpg": BOX, "b.jpg": [], "c.jpg": []}, ())


def test_images_of_kinds_that_are_not_read_are_counted(tmp_path):
    fill(tmp_path, {"boxes.csv": HEADER + line("a.jpg"), "images/a.jpg": IMAGE, "images/b.dng": "", "images/b.txt": ""})
    (note,) = load_dataset(tmp_path).notes
    assert note.startswith("boxes.csv: 1 image is left out, of a kind that is not read (.dng: 1), first b.dng; convert")
