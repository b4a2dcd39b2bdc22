"""VisDrone, KITTI and DOTA: a text file for each image, a line for each object."""

import pytest
from folders import fill, found, refused

from varifocal.data.load import find_splits, load_dataset, read_raw, recognize

BOX = [30.0, 15.0, 50.0, 25.0]
VISDRONE = "30,15,20,10,1,4,0,0\n"
KITTI = "Car 0.00 0 -1.57 30.00 15.00 50.00 25.00 1.5 1.6 3.7 1.0 1.7 20.0 -1.5\n"
DOTA = "30 15 50 15 50 25 30 25 ship 0\n"
LINES = {"visdrone": VISDRONE, "kitti": KITTI, "dota": DOTA}
NAMES = {"visdrone": "car", "kitti": "Car", "dota": "ship"}


def write(tmp_path, text, folder="labels"):
    return fill(tmp_path, {f"{folder}/a.txt": text, "images/a.png": (100, 50)})


@pytest.mark.parametrize("format", list(LINES))
def test_what_is_read(tmp_path, format):
    write(tmp_path, LINES[format] + "\n")
    fill(tmp_path, {"labels/b.txt": "", "images/b.png": (40, 30), "labels/classes.txt": "x\n", "README.txt": "x"})
    assert recognize(tmp_path) == recognize(tmp_path / "labels/a.txt") == format
    assert find_splits(tmp_path) == ["all"]
    data = load_dataset(tmp_path)
    assert found(data) == {"a.png": [(NAMES[format], BOX)], "b.png": []}
    assert data.notes == ()
    assert str(read_raw(tmp_path).boxes.where(0)) == "a.txt line 1"


@pytest.mark.parametrize("format", list(LINES))
def test_labels_of_two_images_of_one_stem(tmp_path, format):
    """Nothing says which of them they belong to."""
    write(tmp_path, LINES[format])
    fill(tmp_path, {"images/a.jpg": (60, 40)})
    refused(tmp_path, "labels/a.txt: is of the image 'a', which fits several images: images/a.jpg, images/a.png")


def test_visdrone_has_ten_classes_and_ignored_regions_of_all(tmp_path):
    region, others, unsure = "0,0,10,10,0,0,0,0\n", "20,0,10,10,0,11,0,0\n", "40,0,10,10,0,9,0,0\n"
    data = load_dataset(write(tmp_path, VISDRONE + region + others + unsure))
    assert [one.id for one in data.categories] == list(range(1, 11))
    assert [one.name for one in data.categories][:4] == ["pedestrian", "people", "bicycle", "car"]
    (sample,) = data.samples
    assert sample.crowd.sum() == 21
    objects = [(data.categories[label].name, box) for label, box in found_objects(sample)]
    assert objects == [("car", BOX)]
    for at in ([0, 0, 10, 10], [20, 0, 30, 10]):
        labels = [int(label) for label, box in zip(sample.labels, sample.boxes, strict=True) if box.tolist() == at]
        assert sorted(labels) == list(range(10))
    assert data.notes == ("labels: 2 ignored regions are neither objects nor background, for every class.",)


def found_objects(sample):
    rows = zip(sample.labels.tolist(), sample.boxes.tolist(), sample.crowd.tolist(), strict=True)
    return [(label, box) for label, box, crowd in rows if not crowd]


def test_visdrone_with_a_comma_at_the_end(tmp_path):
    assert found(load_dataset(write(tmp_path, "30,15,20,10,1,4,0,0,\n"))) == {"a.png": [("car", BOX)]}


def test_kitti_dont_care(tmp_path):
    care = "DontCare -1 -1 -10 0 0 10 10 -1 -1 -1 -1000 -1000 -1000 -10\n"
    walker = KITTI.replace("Car", "Pedestrian").replace("50.00", "60.00")
    data = load_dataset(write(tmp_path, KITTI + care + walker, "label_2"))
    assert [one.name for one in data.categories] == ["Car", "Pedestrian"]
    (sample,) = data.samples
    assert sample.crowd.tolist() == [False, False, True, True]
    assert sorted(sample.labels[2:].tolist()) == [0, 1]
    assert sample.boxes[2:].tolist() == [[0, 0, 10, 10]] * 2


def test_a_kitti_class_with_a_space(tmp_path):
    line = KITTI.replace("Car", "Person sitting").replace("\n", " 0.9\n")
    data = load_dataset(write(tmp_path, line, "label_2"))
    assert [category.name for category in data.categories] == ["Person sitting"]
    assert data.samples[0].boxes.tolist() == [[30, 15, 50, 25]]


@pytest.mark.parametrize(
    "line",
    [
        "Person sitting 0 0 -1.5 10 20 30 40\n",  # not whole: which numbers are the box cannot be known
        KITTI.replace("0.00", "0.o0", 1).replace("\n", " 0.9\n"),
        KITTI.replace("0.00", "none", 1).replace("\n", " 0.9\n"),
    ],
)
def test_a_kitti_line_whose_first_number_is_none(tmp_path, line):
    folder = write(tmp_path, KITTI, "label_2")
    fill(folder, {"label_2/b.txt": line, "images/b.png": (100, 50)})
    refused(folder, "b.txt: line 1 has", "where a number should follow the class")


def test_kitti_lists_and_two_cameras(tmp_path):
    for name in ("000000", "000001"):
        fill(tmp_path, {f"training/label_2/{name}.txt": KITTI, f"training/image_2/{name}.png": (100, 50)})
        fill(tmp_path, {f"training/image_3/{name}.png": (9, 9), f"testing/image_2/{name}.png": (9, 9)})
    assert find_splits(tmp_path) == ["train"]
    fill(tmp_path, {"ImageSets/train.txt": "000001\n", "ImageSets/val.txt": "000000\n"})
    assert find_splits(tmp_path) == ["train", "val"]
    for split, name in (("train", "000001"), ("val", "000000")):
        data = load_dataset(tmp_path, split)
        assert [str(sample.file) for sample in data.samples] == [f"{tmp_path}/training/image_2/{name}.png"]
    fill(tmp_path, {"ImageSets/val.txt": "000000\n\n7\n"})
    refused(tmp_path, "ImageSets/val.txt: line 3 names '7', and there is no 7.txt among the labels", split="val")


def test_dota_header_turned_boxes_and_difficult(tmp_path):
    head = "imagesource:GoogleEarth\ngsd:0.146\n"
    turned = "30 20 40 15 50 20 40 25 large vehicle 1\n"
    data = load_dataset(write(tmp_path, head + DOTA + turned + "0 0 9 0 9 9 0 9 ship\n", "labelTxt-v1.5"))
    assert found(data) == {"a.png": [("ship", BOX), ("large vehicle", BOX), ("ship", [0, 0, 9, 9])]}
    assert data.samples[0].crowd.tolist() == [False, True, False]
    assert data.notes == ("labelTxt-v1.5: 1 turned box became the upright box around it.",)


@pytest.mark.parametrize(
    ("format", "line", "parts"),
    [
        ("visdrone", "30,15,20,10,1,4,0", ["has 7 values", "left,top,width,height"]),
        ("visdrone", "30,15,20,10,1,12,0,0", ["has the category '12'", "0 to 11"]),
        ("visdrone", "30,15,20,10,1,x,0,0", ["has the category 'x'"]),
        ("visdrone", "30,15,x,10,1,4,0,0", ["30,15,x,10, which holds something"]),
        ("visdrone", "30,15,0,10,1,4,0,0", ["no area"]),
        ("visdrone", "130,15,10,10,1,4,0,0", ["lies wholly outside"]),
        ("kitti", "Car 0 0 0 30 15 50", ["has 7 values", "type truncated"]),
        ("kitti", "0 0 0 0 30 15 50 25", ["begins with '0'", "name of a class"]),
        ("kitti", "Car 0 0 0 30 15 inf 25", ["which holds something"]),
        ("kitti", "Car 0 0 0 30 15 1_0 25", ["which holds something"]),
        ("dota", "30 15 50 15 50 25 30 25", ["has 8 values", "category difficult"]),
        ("dota", "30 15 50 15 50 25 30 x ship 0", ["30 15 50 15 50 25 30 x, which holds something"]),
        ("dota", "30 15 30 15 30 25 30 25 ship 0", ["no area"]),
    ],
)
def test_wrong_lines(tmp_path, format, line, parts):
    write(tmp_path, f"{LINES[format]}\n{line}\n")
    fill(tmp_path, {"labels/b.txt": LINES[format], "images/b.png": (100, 50)})
    refused(tmp_path, f"{tmp_path}/labels/a.txt: line 3", *parts)


@pytest.mark.parametrize("format", list(LINES))
def test_missing_images_and_missing_labels(tmp_path, format):
    write(tmp_path, LINES[format])
    fill(tmp_path, {"images/b.png": (9, 9)})
    assert load_dataset(tmp_path).notes == (
        "labels: 1 image has no .txt file of labels and is left out, first b.png"
        "; --unlabeled background takes them as images without objects.",
    )
    fill(tmp_path, {"labels/c.txt": LINES[format]})
    refused(
        tmp_path,
        f"{tmp_path}/labels/c.txt: is of the image 'c', which is not found in {tmp_path}/images",
        "add it, or remove the labels",
    )


def test_images_of_another_split_are_not_taken(tmp_path):
    fill(tmp_path, {"train/labels/a.txt": KITTI, "val/images/a.png": (100, 50), "val/labels/a.txt": KITTI})
    assert find_splits(tmp_path) == ["train", "val"]
    assert len(load_dataset(tmp_path, "val").samples) == 1
    refused(tmp_path, "is of the image 'a', which is not found in", split="train")
