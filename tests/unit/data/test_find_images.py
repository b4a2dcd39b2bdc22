"""Images whose names begin on another machine: found by the end of the name in every format, or said why not."""

import json
import os
import unicodedata
from pathlib import Path

import pytest
from folders import fill, found, pack, png, refused

from varifocal.data import find_images as find
from varifocal.data.find_images import Ends, parts_of
from varifocal.data.load import load_dataset, read_raw
from varifocal.utils.text import quoted

BOX = [("cat", [2.0, 2.0, 6.0, 6.0])]
LABEL = "0 0.2 0.4 0.2 0.4\n"  # of 20 x 10 pixels
IMAGE = png(20, 10)


def coco(*names: str) -> str:
    ids = range(1, len(names) + 1)
    return json.dumps(
        {
            "images": [{"id": i, "file_name": n, "width": 20, "height": 10} for i, n in zip(ids, names, strict=True)],
            "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [2, 2, 4, 4]} for i in ids],
            "categories": [{"id": 1, "name": "cat"}],
        }
    )


def voc(name: str) -> str:
    sides = "<xmin>3</xmin><ymin>3</ymin><xmax>6</xmax><ymax>6</ymax>"
    return (
        f"<annotation><filename>{name}</filename><object><name>cat</name><bndbox>{sides}</bndbox></object></annotation>"
    )


def cvat(name: str) -> str:
    box = '<box label="cat" xtl="2" ytl="2" xbr="6" ybr="6"/>'
    return f'<annotations><image id="0" name="{name}" width="20" height="10">{box}</image></annotations>'


def label_studio(name: str) -> str:
    value = {"x": 10, "y": 20, "width": 20, "height": 40, "rectanglelabels": ["cat"]}
    result = {"type": "rectanglelabels", "value": value, "original_width": 20, "original_height": 10}
    return json.dumps([{"id": 1, "data": {"image": name}, "annotations": [{"result": [result]}]}])


SOURCES = {
    "coco": lambda name: {"a.json": coco(name)},
    "voc": lambda name: {"Annotations/xml.xml": voc(name)},
    "cvat": lambda name: {"annotations.xml": cvat(name)},
    "label-studio": lambda name: {"e.json": label_studio(name)},
    "csv": lambda name: {"t.csv": f'image,xmin,ymin,xmax,ymax,label\n"{name}",2,2,6,6,cat\n'},
    "image-folder": lambda name: {
        "metadata.jsonl": json.dumps({"file_name": name, "objects": {"bbox": [[2, 2, 4, 4]], "categories": ["cat"]}})
    },
    "yolo": lambda name: {"data.yaml": "train: train.txt\nnames: [cat]\n", "train.txt": f"{name}\n"},
}


def labeled(format: str, name: str, image: str) -> dict:
    """A data set of one image, which is called ``name`` and lies at ``image``."""
    label = {f"{image.rpartition('.')[0].replace('images', 'labels')}.txt": LABEL} if format == "yolo" else {}
    return {**SOURCES[format](name), image: IMAGE, **label}


@pytest.mark.parametrize("format", SOURCES)
@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("C:\\Users\\me\\Desktop\\set\\s 0.jpg", "images/s 0.jpg"),
        ("..\\..\\media\\upload\\4\\s0.jpg", "images/s0.jpg"),
        ("\\\\server\\share\\s0.jpg", "images/s0.jpg"),
        ("/data/upload/4/0a1b2c3d-s0.jpg", "images/s0.jpg"),
        ("data/local-files/?d=my%20project/s0.jpg", "images/s0.jpg"),
        ("data/local-files/?d=my%20project%2Fs0.jpg", "images/my project/s0.jpg"),
        ("https://host:8080/a/s%20%C3%A4.jpg?signature=x", "images/s \u00e4.jpg"),
        ("s3://bucket/s0.jpg", "images/s0.jpg"),
        ("gs://bucket/deep/er/s0.jpg", "images/s0.jpg"),
        ("file:///home/me/s0.jpg", "images/s0.jpg"),
        ("/content/drive/MyDrive/set/images/deep/s0.jpg", "images/deep/s0.jpg"),
        ("s0.JPG", "images/s0.jpg"),
        ("S0.jpg", "images/s0.jpeg".replace("jpeg", "JPG")),
        (
            unicodedata.normalize("NFC", "\u00e4\u00e9.jpg"),
            "images/" + unicodedata.normalize("NFD", "\u00e4\u00e9.jpg"),
        ),
        (
            unicodedata.normalize("NFD", "\u00e4\u00e9.jpg"),
            "images/" + unicodedata.normalize("NFC", "\u00e4\u00e9.jpg"),
        ),
        ("project/s0.jpg", "images/elsewhere/s0.jpg"),
    ],
)
def test_found_by_the_end_of_the_name(tmp_path, format, name, image):
    data = load_dataset(fill(tmp_path, labeled(format, name, image)), format=format)
    assert found(data) == {image.rpartition("/")[2]: BOX}
    told = [note for note in data.notes if "1 image is found by the end of its name" in note]
    # to Label Studio's own addresses belong no folders of ours
    assert len(told) == (format != "label-studio" or "elsewhere" in image)
    assert all(str(tmp_path / image) in note for note in told)


@pytest.mark.parametrize("format", SOURCES)
def test_an_end_of_several_images_is_not_guessed(tmp_path, format):
    files = labeled(format, "C:\\x\\s0.jpg", "p/images/s0.jpg") | {
        "q/images/s0.jpg": IMAGE,
        "q/labels/s0.txt": LABEL,
    }
    fill(tmp_path, files)
    message = refused(tmp_path, "'C:\\x\\s0.jpg', which fits several images", format=format)
    assert "p/images/s0.jpg, q/images/s0.jpg; write the folders of the right one" in message
    assert "--images" in message
    assert read_raw(tmp_path, format=format).problems[0].kind == "ambiguous-image"
    # the folder tells them apart, in whatever case it is written
    fill(tmp_path, {key: text for key, text in SOURCES[format]("C:\\x\\Q\\images\\s0.jpg").items()})
    (sample,) = load_dataset(tmp_path, format=format).samples
    assert sample.file == tmp_path / "q/images/s0.jpg"


@pytest.mark.parametrize("format", SOURCES)
def test_nothing_outside_the_data_folder_is_opened(tmp_path, format):
    fill(tmp_path, {"s0.jpg": IMAGE, "outside/s0.jpg": IMAGE, "s0.txt": LABEL})
    data = fill(tmp_path / "data", labeled(format, "x.jpg", "images/other.jpg"))
    for name in (f"{tmp_path}/s0.jpg", "../s0.jpg", "../outside/s0.jpg", "/etc/passwd", "..\\s0.jpg"):
        fill(data, SOURCES[format](name))
        assert read_raw(data, format=format).images.files[:] in ([None], [])
        refused(data, quoted(name)[1:20], format=format)


def test_the_longest_end_counts_and_then_the_usual_folder(tmp_path):
    fill(tmp_path, {"images/s0.jpg": IMAGE, "raw/site/s0.jpg": IMAGE, "old/s0.jpg": IMAGE})
    for name, place in (("D:\\site\\s0.jpg", "raw/site"), ("D:\\other\\s0.jpg", "images"), ("s0.jpg", "images")):
        fill(tmp_path, {"a.json": coco(name)})
        (sample,) = load_dataset(tmp_path).samples
        assert sample.file == tmp_path / place / "s0.jpg"


def test_the_letters_of_the_name_count_more_than_others(tmp_path):
    fill(tmp_path, {"p/s0.jpg": IMAGE, "p/S0.jpg": IMAGE, "a.json": coco("C:\\x\\S0.jpg")})
    (sample,) = load_dataset(tmp_path).samples
    assert sample.file == tmp_path / "p/S0.jpg"
    fill(tmp_path, {"a.json": coco("C:\\x\\s0.JPG")})
    refused(tmp_path, "which fits several images: p/S0.jpg, p/s0.jpg")


def test_an_image_that_another_name_means_is_not_taken(tmp_path):
    """Of a/1.jpg and b/1.jpg the first is missing: it is not the second."""
    fill(tmp_path, {"images/b/1.jpg": IMAGE, "a.json": coco("a/1.jpg", "b/1.jpg")})
    refused(tmp_path, "image 1 has the file_name 'a/1.jpg', which is not found in")
    raw = read_raw(tmp_path)
    assert raw.images.files[:] == [None, tmp_path / "images/b/1.jpg"]
    # and where both are lost, neither is
    fill(tmp_path, {"a.json": coco("C:\\a\\1.jpg", "C:\\c\\1.jpg")})
    refused(tmp_path, "which is not found, because '", "fits other names, too", "(1 more like it)")
    fill(tmp_path, {"a.json": coco("C:\\a\\1.jpg", "C:/a/1.jpg")})
    assert len(load_dataset(tmp_path).samples) == 2


@pytest.mark.parametrize("folder", ["valid", "images/val2017", "test/images", "Validation"])
def test_images_of_another_split_are_not_taken(tmp_path, folder):
    files = {"train.json": coco("a.jpg", "b.jpg"), "train/a.jpg": IMAGE, f"{folder}/b.jpg": IMAGE}
    refused(fill(tmp_path, files), "image 2 has the file_name 'b.jpg', which is not found in", split="train")
    # unless the name says so
    fill(tmp_path, {"train.json": coco("a.jpg", f"C:\\x\\{folder}\\b.jpg")})
    assert len(load_dataset(tmp_path, "train").samples) == 2


def test_an_upload_has_letters_before_its_name_only_where_it_was_uploaded(tmp_path):
    fill(tmp_path, {"images/0001.jpg": IMAGE, "a.json": coco("20240101-0001.jpg")})
    refused(tmp_path, "'20240101-0001.jpg', which is not found in")
    fill(tmp_path, {"a.json": coco("upload/20240101-0001.jpg")})
    assert found(load_dataset(tmp_path)) == {"0001.jpg": BOX}


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_in_archives(tmp_path, suffix):
    files = {
        "set/a.json": coco("C:\\x\\s0.JPG", "d/s1.jpg"),
        "set/images/deep/s0.jpg": IMAGE,
        "set/x/s1.jpg": IMAGE,
    }
    data = load_dataset(pack(tmp_path / f"x{suffix}", files))
    assert found(data) == {"s0.jpg": BOX, "s1.jpg": BOX}
    assert data.notes == (
        f"a.json: 2 images are found by the end of their names, first 'C:\\x\\s0.JPG' as {tmp_path}/x{suffix}/set/"
        "images/deep/s0.jpg.",
    )


def test_the_folder_is_walked_only_for_what_is_not_found(tmp_path, monkeypatch):
    walks = []
    walk = find.walk
    monkeypatch.setattr(find, "walk", lambda *given, **more: walks.append(given[0]) or walk(*given, **more))
    fill(tmp_path, {"images/a.jpg": IMAGE, "images/b.jpg": IMAGE, "a.json": coco("a.jpg", "images/b.jpg")})
    load_dataset(tmp_path)
    assert walks == []
    fill(tmp_path, {"a.json": coco("C:\\a.jpg", "C:\\b.jpg", "C:\\c.jpg")})
    read_raw(tmp_path)
    assert walks == [tmp_path]


def test_folders_that_cannot_be_read_are_passed_over(tmp_path, monkeypatch):
    fill(tmp_path, {"images/a.jpg": IMAGE, "secret/b.jpg": IMAGE, "a.json": coco("C:\\a.jpg")})
    scan = os.scandir

    def closed(place):
        if Path(place).name == "secret":
            raise PermissionError(13, "Permission denied")
        return scan(place)

    monkeypatch.setattr(os, "scandir", closed)
    assert found(load_dataset(tmp_path, format="coco")) == {"a.jpg": BOX}


def test_very_many_images_are_not_indexed(tmp_path, monkeypatch):
    monkeypatch.setattr(find, "_MOST", 2)
    fill(tmp_path, {f"images/{name}.jpg": IMAGE for name in "abc"} | {"a.json": coco("C:\\a.jpg")})
    refused(tmp_path, "'C:\\a.jpg', which is not a file inside the data folder")


def test_ends_against_all_paths(tmp_path):
    """The index gives what comparing with every path from its end gives."""
    folders = ["", "a", "b", "a/b", "b/a", "b/a/b", "c/A"]
    paths = [f"{folder}/{name}".strip("/") for folder in folders for name in ("1.jpg", "2.jpg", "1.JPG")]
    ends = Ends(fill(tmp_path, dict.fromkeys(paths, IMAGE)))
    for folder in (*folders, "x", "x/b", "x/a/b", "c/b", "a/x", "q/c/a"):
        for name in ("1.jpg", "2.JPG", "3.jpg", "1"):
            parts = parts_of(f"{folder}/{name}")
            lengths = {path: agreeing(parts, path) for path in paths}
            most = max(lengths.values())
            length, images = ends.search(parts)
            assert length == most
            assert sorted(map(ends.path, images)) == sorted(path for path in paths if most and lengths[path] == most)


def agreeing(parts: tuple[str, ...], path: str) -> int:
    own, theirs = [part.lower() for part in parts], path.lower().split("/")
    if "." not in own[-1]:
        theirs[-1] = theirs[-1].partition(".")[0]
    count = 0
    while count < min(len(own), len(theirs)) and own[-1 - count] == theirs[-1 - count]:
        count += 1
    return count


def labelme(name: str) -> str:
    points = [[2, 2], [6, 6]]
    return json.dumps({"imagePath": name, "shapes": [{"label": "cat", "shape_type": "rectangle", "points": points}]})


def supervisely(_: str) -> str:
    shape = {"classTitle": "cat", "geometryType": "rectangle", "points": {"exterior": [[2, 2], [5, 5]]}}
    return json.dumps({"size": {"width": 20, "height": 10}, "objects": [shape]})


def dota(_: str) -> str:
    return "2 2 6 2 6 6 2 6 cat 0\n"


BESIDE = {
    "labelme": ("{}/{}.json", "{}/{}.jpg", labelme),
    "voc": ("{}/{}.xml", "{}/{}.jpg", voc),
    "supervisely": ("{}/ann/{}.jpg.json", "{}/img/{}.jpg", supervisely),
    "dota": ("{}/labelTxt/{}.txt", "{}/images/{}.jpg", dota),
}


def two_folders(format: str, labeled: bool) -> dict:
    """Images 0 to 2 in two folders; monday has lost its 1, and tuesday, if not ``labeled``, its labels of 1."""
    label, image, text = BESIDE[format]
    pairs = [(day, number) for day in ("monday", "tuesday") for number in range(3)]
    files = {label.format(*pair): text(f"{pair[1]}.jpg") for pair in pairs if labeled or pair != ("tuesday", 1)}
    return files | {image.format(*pair): IMAGE for pair in pairs if pair != ("monday", 1)}


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("format", BESIDE)
def test_images_in_the_folder_of_other_labels_are_not_taken(tmp_path, format, labeled):
    """Whether or not the image there has labels itself."""
    fill(tmp_path, two_folders(format, labeled))
    label, image, _ = BESIDE[format]
    refused(tmp_path, label.format("monday", 1), "'1", "which is not found in", format=format)
    raw = read_raw(tmp_path, format=format)
    assert [problem.kind for problem in raw.problems] == ["missing-image"]
    # and with the image in its place each label has its own
    fill(tmp_path, {image.format("monday", 1): IMAGE})
    raw = read_raw(tmp_path, format=format)
    assert not raw.problems
    assert len(raw.boxes.images) == (6 if labeled else 5)
    for box, index in enumerate(raw.boxes.images.tolist()):
        of_image, of_labels = (
            path.relative_to(tmp_path) for path in (raw.images.files[index], raw.boxes.where(box).file)
        )
        assert (of_image.parts[0], of_image.name[0]) == (of_labels.parts[0], of_labels.name[0])


@pytest.mark.parametrize("format", ["labelme", "voc"])
def test_a_name_with_the_folder_of_other_labels_means_it(tmp_path, format):
    label, _, text = BESIDE[format]
    fill(tmp_path, two_folders(format, False) | {label.format("monday", 1): text("C:\\set\\tuesday\\1.jpg")})
    (moved,) = (note for note in load_dataset(tmp_path, format=format).notes if "by the end of its name" in note)
    assert f"as {tmp_path}/tuesday/1.jpg" in moved
    # unless it is called by its whole name there
    fill(tmp_path, {label.format("tuesday", 1): text("1.jpg")})
    refused(tmp_path, label.format("monday", 1), "tuesday", "which is not ", format=format)


@pytest.mark.parametrize("format", ["labelme", "voc"])
def test_two_files_of_labels_of_one_name_are_not_of_one_image(tmp_path, format):
    label, _, text = BESIDE[format]
    files = {label.format("set/old", 1): text("../1.jpg"), label.format("set/new", 1): text("../1.jpg")}
    refused(
        fill(tmp_path, files | {"set/1.jpg": IMAGE}), "/1", "is of the image 1.jpg, of which ", "is, too", format=format
    )


def test_a_file_of_labels_does_not_take_the_images_of_another_split_of_any_name(tmp_path):
    files = {f"{day}/_annotations.coco.json": coco("0.jpg", "1.jpg") for day in ("monday", "tuesday")}
    fill(tmp_path, files | {f"{day}/0.jpg": IMAGE for day in ("monday", "tuesday")} | {"tuesday/1.jpg": IMAGE})
    refused(tmp_path, "image 2 has the file_name '1.jpg', which is not found in", split="monday")
    table = "image,xmin,ymin,xmax,ymax,label\n0.jpg,2,2,6,6,cat\n1.jpg,2,2,6,6,cat\n"
    fill(tmp_path, {f"{day}/boxes.csv": table for day in ("monday", "tuesday")})
    refused(tmp_path, "names the image '1.jpg', which is not found in", format="csv", split="monday")


@pytest.mark.parametrize("format", [format for format in SOURCES if format not in ("yolo", "voc")])
def test_an_image_with_another_suffix_is_the_last_resort(tmp_path, format):
    """The images were converted after they were labeled. Those of VOC have the names of the XML files anyway."""
    fill(tmp_path, SOURCES[format]("a.png"))
    fill(tmp_path, {"masks/a.jpg": IMAGE})
    refused(tmp_path, "which is not found in", format=format)  # it need not be that image
    folder = tmp_path if format == "image-folder" else tmp_path / "images"
    fill(folder, {"a.jpg": IMAGE})
    assert found(load_dataset(tmp_path, format=format)) == {"a.jpg": BOX}
    fill(folder, {"a.bmp": IMAGE})
    refused(tmp_path, "which fits several images: ", "a.bmp, ", "a.jpg", format=format)
    fill(folder, {"a.png": IMAGE})
    assert found(load_dataset(tmp_path, format=format)) == {"a.png": BOX}


def test_an_image_that_two_names_with_other_suffixes_fit_is_of_none(tmp_path):
    fill(tmp_path, {"a.json": coco("a.png", "a.bmp"), "images/a.jpg": IMAGE})
    refused(tmp_path, "'a.png', which is not found, because", "fits other names, too")
    fill(tmp_path, {"a.json": coco("a.png", "a.jpg")})
    refused(tmp_path, "image 1 has the file_name 'a.png', which is not found in")
