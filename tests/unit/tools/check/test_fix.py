"""The cleaned copy: what is changed, that nothing else is, and that it is there whole or not at all."""

import hashlib
import json
import os

import numpy as np
import pytest
from error_codes import raises_code
from messy import image, make_messy
from PIL import Image

from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.data.images import read_image
from varifocal.data.load import load_dataset
from varifocal.models.vfnet import VFNetConfig
from varifocal.tools.check import fix
from varifocal.tools.check.fix import check_new, write_fixed
from varifocal.tools.check.fix_plan import rotate_boxes
from varifocal.tools.check.run import check_data
from varifocal.types import Preprocess
from varifocal.utils.errors import ConfigError, DataError

EYE = TrainingGeometry.of("vfnet", "vfnet", VFNetConfig(5), Preprocess(short_side=128, max_long_side=256))


def state(folder):
    """Every file below a folder with a hash of its bytes and when it was changed."""
    return {
        path: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    """The messy set, what was there before, the clean copy, and the changes."""
    folder = make_messy(tmp_path_factory.mktemp("messy"))
    before, out = state(folder), tmp_path_factory.mktemp("clean") / "out"
    changes = write_fixed(check_data(folder, EYE), out)
    return folder, before, out, changes


def test_the_source_is_not_touched(fixed):
    folder, before, *_ = fixed
    assert state(folder) == before


def test_the_changes(fixed):
    told = sorted((change.split, change.what, change.image or change.location) for change in fixed[3])
    assert told == sorted(
        [
            ("train", "record left out", "annotations[60] (id 9000)"),
            ("train", "record left out", "annotation 159"),
            *(("train", "image dropped with 1 box", name) for name in ("cut.jpg", "empty.png", "missing.png")),
            ("train", "image dropped with 1 box", "smaller.png"),
            ("train", "1 box rotated", "rotated.jpg"),
            *[("train", "box dropped", "impossible.png")] * 4,
            ("train", "box put in order", "impossible.png"),
            ("train", "box dropped", "boxes.png"),
            ("train", "box clipped", "impossible.png"),
            ("train", "class merged", "class 'Car'"),
            ("val", "class merged", "class 'Car'"),
            ("train", "class added", "class 'boat'"),
        ]
    )
    content = json.loads((fixed[2] / "changes.json").read_text())
    assert len(content["changes"]) == len(told) == sum(content["counts"].values())
    assert content["counts"]["image dropped"] == 4
    # of trucks and truck, Car and car one is merged; the copy of an image has other labels and stays
    assert (content["left"]["twin-classes"], content["left"]["duplicate-image"]) == (1, 1)
    assert content["left"]["two-classes"] == 1
    assert "missing-image" not in content["left"]
    lines = (fixed[2] / "changes.txt").read_text().splitlines()
    assert lines[0] == f"{len(told)} changes to {fixed[0]}"
    assert "train, missing.png: image dropped with 1 box: it is missing" in lines


def test_the_copy_can_be_trained_on_and_keeps_the_rest(fixed):
    folder, _, out, _ = fixed
    source = json.loads((folder / "train.json").read_text())
    train, val = (load_dataset(out, split) for split in ("train", "val"))
    assert [category.name for category in train.categories] == ["car", "truck", "trucks", "ghost", "boat"]
    assert train.categories == val.categories
    assert {category.name: category.id for category in train.categories} == {
        "car": 1,
        "truck": 3,
        "trucks": 4,
        "ghost": 5,
        "boat": 6,
    }
    by_name = {sample.file.name: sample for sample in train.samples}
    names = {image["id"]: image["file_name"] for image in source["images"]}
    assert set(names.values()) - set(by_name) == {"missing.png", "empty.png", "cut.jpg", "smaller.png"}
    for i in range(12):
        expected = [row["bbox"] for row in source["annotations"] if names.get(row["image_id"]) == f"sound-{i}.png"]
        boxes = by_name[f"sound-{i}.png"].boxes
        assert np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist() == expected
    assert by_name["sizes.png"].crowd.tolist() == [False, False, False, True, True]
    assert by_name["impossible.png"].boxes.tolist() == [
        [40, 40, 100, 100],
        [10, 5, 30, 10],
        [152, 60, 192, 100],
        [5, 5, 35, 35],
    ]
    assert len(by_name["boxes.png"].boxes) == 6
    for sample in (*train.samples, *val.samples):
        assert read_image(sample.file).size == (sample.width, sample.height)


def test_boxes_turn_with_their_image(fixed):
    train = load_dataset(fixed[2], "train")
    (sample,) = (sample for sample in train.samples if sample.file.name == "rotated.jpg")
    assert (sample.width, sample.height) == (128, 192)
    assert sample.boxes.tolist() == [[128 - 70, 30, 128 - 30, 70]]


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_turned_as_pillow_turns_images(tmp_path, orientation):
    """A white box on black is where the turned box says, once the image is read upright."""
    image = Image.new("RGB", (60, 40))
    image.paste((255, 255, 255), (5, 10, 20, 18))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "1.png", exif=exif)
    upright = np.asarray(read_image(tmp_path / "1.png"))[..., 0] > 128
    rows, columns = np.flatnonzero(upright.any(axis=1)), np.flatnonzero(upright.any(axis=0))
    seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert rotate_boxes(np.array([[5.0, 10, 20, 18]]), orientation, 60, 40).tolist() == [seen]


def test_images_are_links_or_copies(fixed, tmp_path):
    folder, _, out, _ = fixed
    link = out / "images" / "train" / "sound-0.png"
    assert link.is_symlink()
    assert link.resolve() == (folder / "images" / "train" / "sound-0.png").resolve()
    write_fixed(check_data(folder, EYE), tmp_path / "copied", copy=True)
    copied = tmp_path / "copied" / "images" / "train" / "sound-0.png"
    assert not copied.is_symlink()
    assert copied.read_bytes() == link.read_bytes()


def test_a_clean_copy_needs_no_further_changes(fixed, tmp_path):
    again = write_fixed(check_data(fixed[2], EYE), tmp_path / "again")
    assert again == []


def set_of(folder, records, **images):
    """A split "train" of one class; records (id, file name, boxes)."""
    for name, seed in images.items():
        image(seed, (64, 48)).save(folder / f"{name}.png")
    entries = [{"id": number, "file_name": name, "width": 64, "height": 48} for number, name, _ in records]
    boxes = [(number, box) for number, _, rows in records for box in rows]
    annotations = [
        {"id": i, "image_id": number, "category_id": 1, "bbox": box} for i, (number, box) in enumerate(boxes)
    ]
    content = {"images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    (folder / "train.json").write_text(json.dumps(content))
    return folder


def test_copied_images_are_merged_only_where_their_labels_agree(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    rows = [[5, 5, 20, 20], [30, 10, 20, 20]]
    records = [(1, "a.png", rows), (2, "b.png", rows[::-1]), (3, "c.png", rows[:1])]
    changes = write_fixed(check_data(set_of(data, records, a=1, b=1, c=1), EYE), tmp_path / "out")
    assert [(change.what, change.image) for change in changes] == [("copy dropped", "b.png")]
    kept = load_dataset(tmp_path / "out", "train")
    assert [len(sample.boxes) for sample in kept.samples] == [2, 1]


def test_ids_that_are_there_twice_are_made_anew(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    records = [(7, "a.png", [[5, 5, 20, 20]]), (7, "b.png", [])]
    changes = write_fixed(check_data(set_of(data, records, a=1, b=2), EYE), tmp_path / "out")
    assert [change.what for change in changes] == ["record left out or given a new id"]
    assert [sample.image_id for sample in load_dataset(tmp_path / "out", "train").samples] == [1, 2]


def test_nothing_left(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with raises_code("no-usable-image", DataError):
        write_fixed(check_data(set_of(data, [(1, "a.png", [])]), EYE), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_whole_or_not_at_all(fixed, tmp_path, monkeypatch):
    report = check_data(fixed[0], EYE)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    for name in ("_put", "_write_changes"):
        monkeypatch.setattr(fix, name, fail)
        with pytest.raises(ConfigError, match=r"out: cannot be written \(No space left on device\)"):
            write_fixed(report, tmp_path / "out")
        monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_places_that_are_refused(fixed, tmp_path):
    (tmp_path / "there").mkdir()
    with raises_code("output-exists", ConfigError):
        check_new(tmp_path / "there", fixed[0])
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    with raises_code("output-exists", ConfigError):
        check_new(tmp_path / "nowhere", fixed[0])
    with raises_code("copy-inside-source", ConfigError):
        check_new(fixed[0] / "clean", fixed[0])
    check_new(tmp_path / "new" / "out", fixed[0])
    assert os.listdir(tmp_path / "new") == []


def test_ids_that_are_one_off_are_not_mended_by_leaving_boxes_out(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    image(1).save(data / "a.png")
    (data / "a.txt").write_text("1 0.3 0.3 0.2 0.2\n2 0.7 0.7 0.2 0.2\n")
    (data / "classes.txt").write_text("cat\ndog\n")
    report = check_data(data, EYE)
    assert report.findings.total("shifted-class") == 1
    with raises_code("other-meaning", DataError):
        write_fixed(report, tmp_path / "out")


def test_a_change_of_a_record_names_its_file(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for i in range(2):
        image(i).save(data / f"{i}.png")
        (data / f"{i}.txt").write_text("0 0.3 0.3 0.2 0.2\n" + "0 13 0.7 0.2 0.2\n" * i)
    (data / "classes.txt").write_text("cat\n")
    (change,) = write_fixed(check_data(data, EYE), tmp_path / "out")
    assert str(change).startswith("all, 1.txt line 2: record left out: has the value 13")


def test_a_image_with_objects_never_becomes_one_without(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    rows = [[5, 5, 20, 20]]
    records = [
        (1, "a.png", [[5, 5, 0, 20], [9, 9, 9, 0]]),
        (2, "b.png", [[5, 5, 0, 20], *rows]),
        (3, "c.png", []),
        (4, "d.png", [[1, 2, 3]]),  # refused by the reader: not even a box
        (5, "e.png", [[5, 5, 0, 20], [30, 10, 20, 20]]),
        (6, "f.png", [[1, 2, 3], *rows]),
    ]
    folder = set_of(data, records, a=1, b=2, c=3, d=4, e=5, f=6)
    content = json.loads((folder / "train.json").read_text())
    content["annotations"][6]["iscrowd"] = 1  # what is left of e.png is a region
    (folder / "train.json").write_text(json.dumps(content))
    changes = write_fixed(check_data(folder, EYE), tmp_path / "out")
    kept = load_dataset(tmp_path / "out", "train")
    assert {sample.file.name: len(sample.boxes) for sample in kept.samples} == {"b.png": 1, "c.png": 0, "f.png": 1}
    dropped = [change for change in changes if change.what == "image dropped"]
    assert [change.image for change in dropped] == ["a.png", "d.png", "e.png"]
    assert {change.why for change in dropped} == {
        "none of its objects can be used, and without them it would be background"
    }


def test_images_whose_labels_cannot_be_read_are_no_background(tmp_path):
    """Whatever the format says of them: here two text files of YOLO, of which one holds pixels."""
    data = tmp_path / "data"
    data.mkdir()
    for i, line in enumerate(["0 0.5 0.5 0.5 0.5", "0 50 40 20 20", ""]):
        image(i).save(data / f"{i}.png")
        (data / f"{i}.txt").write_text(line)
    (data / "classes.txt").write_text("cat\n")
    write_fixed(check_data(data, EYE), tmp_path / "out")
    kept = load_dataset(tmp_path / "out", "all")
    assert {sample.file.name: len(sample.boxes) for sample in kept.samples} == {"0.png": 1, "2.png": 0}


def yolo(data, labels: str, count: int = 2, line: str = "0 0.5 0.5 0.5 0.5") -> None:
    """A data set of YOLO with images 0 to ``count`` - 1, and labels of all of them in a folder."""
    data.mkdir()
    (data / labels).mkdir(parents=True)
    (data / "images").mkdir()
    for i in range(count):
        image(i).save(data / "images" / f"{i}.png")
        (data / labels / f"{i}.txt").write_text(line)
    (data / "classes.txt").write_text("cat\n")


@pytest.mark.parametrize(("labels", "line"), [("elsewhere", "0 0.5 0.5 0.5 0.5"), ("labels", "0 0.5 0.5")])
def test_a_split_does_not_lose_all_its_labels(tmp_path, labels, line):
    """Here they lie where they are not looked for, or none of them has a box, beside an image that has no objects."""
    yolo(tmp_path / "data", labels, line=line)
    image(7).save(tmp_path / "data/images/bare.png")
    report = check_data(tmp_path / "data", EYE, format="yolo")
    count = 3 if labels == "elsewhere" else 1
    with pytest.raises(DataError, match=rf"split all .* {count} images? would become background"):
        write_fixed(report, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("empty", "said"),
    [
        ([], []),
        ([1], ["all: 1 of 3 images were written WITHOUT labels, as background, first 1.png."]),
        ([0, 1, 2], ["all: all 3 images were written WITHOUT labels, as background, first 0.png."]),
    ],
)
def test_images_that_are_written_as_background_are_counted(tmp_path, empty, said):
    yolo(tmp_path / "data", "labels", 3)
    for i in empty:
        (tmp_path / "data/labels" / f"{i}.txt").write_text("")
    notes: list[str] = []
    write_fixed(check_data(tmp_path / "data", EYE, format="yolo"), tmp_path / "out", notes=notes)
    assert notes == said
    assert all(note in (tmp_path / "out/changes.txt").read_text() for note in said)
    assert json.loads((tmp_path / "out/changes.json").read_text())["without_labels"] == said


def test_what_was_understood_is_said_in_the_copy(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    folder = set_of(data, [(1, "a.png", [[30, 20, -20, 10]])], a=1)
    content = json.loads((folder / "train.json").read_text())
    del content["images"][0]["width"]
    (folder / "train.json").write_text(json.dumps(content))
    (change,) = write_fixed(check_data(folder, EYE), tmp_path / "out")
    assert str(change).startswith("train, a.png, annotation 0 of image 1: box put in order: it was written from right")
    lines = (tmp_path / "out" / "changes.txt").read_text().splitlines()
    assert lines[-2:] == [
        "Notes on how the source was read:",
        "train.json: 1 image has no usable width and height; its size was read from the image file.",
    ]
    (sample,) = load_dataset(tmp_path / "out", "train").samples
    assert sample.boxes.tolist() == [[10, 20, 30, 30]]
    assert (sample.width, sample.height) == (64, 48)


def test_classes_of_one_name_are_joined(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    folder = set_of(data, [(1, "a.png", [[5, 5, 20, 20], [30, 10, 20, 20]])], a=1)
    content = json.loads((folder / "train.json").read_text())
    content["categories"].append({"id": 2, "name": "a"})
    content["annotations"][1]["category_id"] = 2
    (folder / "train.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="join them with varifocal check --fix"):
        load_dataset(folder, "train")
    write_fixed(check_data(folder, EYE), tmp_path / "out")
    assert [one.name for one in load_dataset(tmp_path / "out", "train").categories] == ["a"]
    assert len(load_dataset(tmp_path / "out", "train").samples[0].boxes) == 2
