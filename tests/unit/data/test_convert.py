import contextlib
import io
import json
import os
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from error_codes import raises_code
from folders import fill, found, pack, png, refused
from PIL import Image

from varifocal.data.convert import convert
from varifocal.data.load import find_splits, load_dataset, read_raw

CLASSES = ["owl", "a & b <c>", "b\u00eate"]


def jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (width % 256, 9, 9)).save(buffer, "JPEG")
    return buffer.getvalue()


def source(root, *, images=6, flags=True, splits=("train", "val")):
    """COCO with boxes of many digits, empty images, names that collide, ids with gaps, crowds and difficult boxes."""
    rng = np.random.default_rng(0)
    for split in splits:
        records, annotations = [], []
        for i in range(images):
            name = f"{'abc'[i % 3]}/photo {i // 3}.jpg"
            width, height = int(rng.integers(40, 900)), int(rng.integers(40, 900))
            fill(root, {f"{split}/{name}": jpeg(width, height)})
            records.append({"id": 7 * i + 3, "file_name": name, "width": width, "height": height})
            for _ in range(int(rng.integers(0, 5)) if i else 0):
                x, y = rng.random(2) * [width, height] * 0.8
                w, h = np.maximum(rng.random(2) * [width - x, height - y], 1.5)
                digits = int(rng.integers(0, 6))
                box = [round(float(value), digits) for value in (x, y, w, h)]
                box[2:] = max(box[2], 1), max(box[3], 1)
                more = {"iscrowd": int(rng.random() < 0.2), "difficult": int(rng.random() < 0.2)} if flags else {}
                record = {"id": len(annotations) + 5, "image_id": 7 * i + 3, "bbox": box, "area": float(w * h) / 2}
                annotations.append(record | {"category_id": [4, 9, 2][int(rng.integers(3))]} | more)
        categories = [{"id": id, "name": name} for id, name in zip((4, 9, 2), CLASSES, strict=True)]
        content = {"images": records, "annotations": annotations, "categories": categories}
        fill(root, {f"annotations/instances_{split}.json": json.dumps(content)})
    return root


def boxes_of(path, split, **options):
    """(size, class, box, ...) of each object of each image, in the order of both."""
    data = load_dataset(path, split, **options)
    objects = found(data, str)
    return [(sample.width, sample.height, objects[str(sample.file)]) for sample in data.samples]


@pytest.mark.parametrize("to", ["coco", "yolo", "voc"])
def test_no_box_is_lost(tmp_path, to):
    original = source(tmp_path / "in")
    convert(original, tmp_path / "out", to)
    assert sorted(find_splits(tmp_path / "out")) == ["train", "val"]
    assert not list(tmp_path.glob(".*"))
    for split in ("train", "val"):
        expected, read = boxes_of(original, split), boxes_of(tmp_path / "out", split)
        assert sorted(map(repr, read)) == sorted(map(repr, expected))
        assert sum(len(boxes) for *_, boxes in read) > 5


@pytest.mark.parametrize("first", ["coco", "yolo", "voc"])
@pytest.mark.parametrize("second", ["coco", "yolo", "voc"])
def test_there_and_back(tmp_path, first, second):
    original = source(tmp_path / "in")
    convert(original, tmp_path / "one", first, image_files="copy")
    convert(tmp_path / "one", tmp_path / "two", second)
    convert(tmp_path / "two", tmp_path / "three", "coco")
    for split in ("train", "val"):
        expected, read = boxes_of(original, split), boxes_of(tmp_path / "three", split)
        assert sorted(map(repr, read)) == sorted(map(repr, expected))


@pytest.mark.parametrize(("to", "kept"), [("coco", True), ("voc", True), ("yolo", False)])
def test_flags(tmp_path, to, kept):
    original = source(tmp_path / "in")
    notes = convert(original, tmp_path / "out", to)
    was, now = read_raw(original, "train"), read_raw(tmp_path / "out", "train")
    columns = [(raw.boxes.crowd, raw.boxes.difficult & ~raw.boxes.crowd) for raw in (was, now)]
    flags = [sorted(np.stack(both, 1).tolist()) for both in columns]
    assert sum(map(sum, flags[0])) > 1
    assert (flags[0] == flags[1]) == kept
    assert any("crowd or difficult boxes are ordinary objects" in note for note in notes) == (not kept)
    assert any("areas of" in note for note in notes) == (to != "coco")
    if to == "coco":
        np.testing.assert_allclose(np.sort(now.boxes.areas), np.sort(was.boxes.areas), rtol=1e-11)
        assert [category.id for category in now.categories] == [2, 4, 9]
        assert sorted(now.images.ids.tolist()) == sorted(was.images.ids.tolist())


def test_what_was_written_is_counted(tmp_path):
    """A region to be ignored for several classes is no box."""
    text = "10,10,30,30,1,4,0,0\n60,10,20,20,0,0,0,0\n40,5,15,20,1,1,0,1\n"
    fill(tmp_path / "in", {"images/0.jpg": (96, 64), "annotations/0.txt": text, "images/1.jpg": (96, 64)})
    fill(tmp_path / "in", {"annotations/1.txt": ""})
    assert any(note.endswith(": 2 images, 2 boxes.") for note in convert(tmp_path / "in", tmp_path / "out", "coco"))


def test_ids_are_told_where_the_source_has_them(tmp_path):
    box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    node = f"<annotation><object><name>a</name>{box}</object><object><name>b</name>{box}</object></annotation>"
    fill(tmp_path / "in", {"a.png": (20, 20), "a.xml": node})
    assert not any("YOLO counts" in note for note in convert(tmp_path / "in", tmp_path / "yolo", "yolo"))
    convert(tmp_path / "in", tmp_path / "coco", "coco")
    assert "the class ids became 0 to 1, because YOLO counts classes from 0." in convert(
        tmp_path / "coco", tmp_path / "out", "yolo"
    )


def test_one_class_and_one_flag_are_told_as_one(tmp_path):
    box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    node = f"<annotation><object><name>a</name><difficult>1</difficult>{box}</object></annotation>"
    fill(tmp_path / "in", {"a.png": (20, 20), "a.xml": node})
    notes = convert(tmp_path / "in", tmp_path / "out", "yolo")
    assert any("1 crowd or difficult box is an ordinary object" in note for note in notes)


def test_pycocotools_reads_it(tmp_path):
    from pycocotools.coco import COCO

    original = source(tmp_path / "in")
    convert(original, tmp_path / "one", "voc")
    convert(tmp_path / "one", tmp_path / "out", "coco")
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(tmp_path / "out/annotations/instances_train.json"))
    read = []
    for image in theirs.loadImgs(theirs.getImgIds()):
        assert (tmp_path / "out/images/train" / image["file_name"]).is_file()
        boxes = []
        for one in theirs.loadAnns(theirs.getAnnIds(imgIds=image["id"])):
            x, y, width, height = one["bbox"]
            name = theirs.loadCats(one["category_id"])[0]["name"]
            boxes.append((name, [round(float(np.float32(value)), 4) for value in (x, y, x + width, y + height)]))
        read.append((image["width"], image["height"], boxes))
    assert sorted(map(repr, read)) == sorted(map(repr, boxes_of(original, "train")))


def test_supervision_reads_it(tmp_path):
    supervision = pytest.importorskip("supervision")
    original = source(tmp_path / "in", flags=False)
    convert(original, tmp_path / "out", "yolo")
    folders = [str(tmp_path / "out" / kind / "train") for kind in ("images", "labels")]
    theirs = supervision.DetectionDataset.from_yolo(*folders, str(tmp_path / "out/data.yaml"))
    assert sorted(theirs.classes) == sorted(CLASSES)
    read = []
    for path, _, one in theirs:
        with Image.open(path) as image:
            width, height = image.size
        boxes = [(theirs.classes[label], box.tolist()) for label, box in zip(one.class_id, one.xyxy, strict=True)]
        read.append((width, height, boxes))
    expected = sorted(boxes_of(original, "train"), key=repr)
    assert len(read) == len(expected)
    for (*size, boxes), (*same_size, same) in zip(sorted(read, key=repr), expected, strict=True):
        assert size == same_size
        assert [name for name, _ in boxes] == [name for name, _ in same]
        np.testing.assert_allclose([box for _, box in boxes] or [0], [box for _, box in same] or [0], atol=2e-3)


def test_torchvision_reads_it(tmp_path):
    from torchvision.datasets import VOCDetection

    original = source(tmp_path / "in")
    (tmp_path / "VOCdevkit").mkdir()
    convert(original, tmp_path / "VOCdevkit/VOC2012", "voc")
    theirs = VOCDetection(str(tmp_path), year="2012", image_set="train")
    read = []
    for image, target in theirs:
        annotation = target["annotation"]
        assert image.size == tuple(int(annotation["size"][side]) for side in ("width", "height"))
        boxes = []
        for node in annotation.get("object", []):
            corners = [float(node["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax")]
            # pixels count from 1, as torchvision's own notes on VOC and detectron2's reader have it
            box = [corners[0] - 1, corners[1] - 1, corners[2], corners[3]]
            boxes.append((node["name"], [round(float(np.float32(value)), 4) for value in box]))
        read.append((*image.size, boxes))
    assert sorted(map(repr, read)) == sorted(map(repr, boxes_of(original, "train")))


@pytest.mark.parametrize("how", ["link", "copy"])
def test_images(tmp_path, how):
    original = source(tmp_path / "in", splits=("train",))
    convert(original, tmp_path / "deep/out", "yolo", image_files=how)
    files = sorted((tmp_path / "deep/out/images/train").iterdir())
    assert [file.stem for file in files] == [f"photo_{i}{more}" for i in (0, 1) for more in ("-2", "-3", "")]
    assert {file.is_symlink() for file in files} == {how == "link"}
    assert sorted(file.read_bytes() for file in files) == sorted(path.read_bytes() for path in original.rglob("*.jpg"))


def test_names_do_not_collide_between_splits_of_voc(tmp_path):
    convert(source(tmp_path / "in"), tmp_path / "out", "voc")
    assert len(list((tmp_path / "out/JPEGImages").iterdir())) == 12
    assert len(list((tmp_path / "out/Annotations").iterdir())) == 12
    for file in (tmp_path / "out/Annotations").iterdir():
        assert (tmp_path / "out/JPEGImages" / ET.parse(file).getroot().findtext("filename")).is_file()


def test_from_an_archive(tmp_path):
    path = pack(tmp_path / "x.zip", {"a.png": png(10, 10), "b.csv": "image,xmin,ymin,xmax,ymax,label\na.png,1,2,3,4,x"})
    convert(path, tmp_path / "out", "coco")
    assert found(load_dataset(tmp_path / "out")) == {"a.png": [("x", [1, 2, 3, 4])]}
    assert not (tmp_path / "out/images/all/a.png").is_symlink()
    assert find_splits(tmp_path / "out") == ["all"]


def test_a_image_without_a_suffix_gets_one(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet

    rows = [{"image": jpeg(9, 9), "objects": [{"bbox": [1.0, 1.0, 2.0, 2.0], "category": "x"}]}]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    convert(tmp_path / "x.parquet", tmp_path / "out", "voc")
    assert found(load_dataset(tmp_path / "out")) == {"row_0.jpg": [("x", [1, 1, 3, 3])]}


def test_a_part_is_held_out(tmp_path):
    files = {"b.csv": "image,xmin,ymin,xmax,ymax,label\n"}
    for i in range(10):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(i).integers(0, 255, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(buffer, "PNG")
        files |= {f"{i}.png": buffer.getvalue()}
        files["b.csv"] += f"{i}.png,1,2,3,{4 + i},x\n"
    fill(tmp_path / "in", files)
    notes = convert(tmp_path / "in", tmp_path / "out", "yolo", val=0.3, seed=2)
    assert any("split by seed 2 into 7 images" in note for note in notes)
    parts = [found(load_dataset(tmp_path / "out", split)) for split in ("train", "val")]
    assert [len(part) for part in parts] == [7, 3]
    assert {**parts[0], **parts[1]} == found(load_dataset(tmp_path / "in"))
    with raises_code("validation-split-exists"):
        convert(tmp_path / "out", tmp_path / "again", "coco", val=0.3)


def test_what_is_there_is_not_touched(tmp_path):
    original = source(tmp_path / "in")
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "folder", "link"):
        with raises_code("output-exists"):
            convert(original, tmp_path / name, "coco")
        assert os.path.lexists(tmp_path / name)


def test_nothing_is_left_of_a_failure(tmp_path):
    original = source(tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    content = json.loads((original / "annotations/instances_val.json").read_text())
    content["annotations"][0]["bbox"] = [1, 1, 0, 5]
    fill(original, {"annotations/instances_val.json": json.dumps(content)})
    with raises_code("no-area"):
        convert(original, tmp_path / "out", "coco")
    assert sorted(tmp_path.rglob("*")) == before
    notes = convert(original, tmp_path / "out", "coco", drop_invalid=True)
    assert "instances_val.json: 1 box was left out (no-area)." in notes
    (tmp_path / "flat").touch()
    with raises_code("lock-not-writable"):
        convert(original, tmp_path / "flat/out", "coco", drop_invalid=True)


def test_splits(tmp_path):
    original = source(tmp_path / "in", splits=("train2017", "val2017"))
    convert(original, tmp_path / "one", "yolo")
    assert find_splits(tmp_path / "one") == ["train", "val"]
    convert(original, tmp_path / "two", "voc", split="val")
    assert find_splits(tmp_path / "two") == ["val2017"]
    source(tmp_path / "odd", splits=("extra",))
    with raises_code("split-without-yolo-name"):
        convert(tmp_path / "odd", tmp_path / "three", "yolo")
    source(tmp_path / "years", splits=("train2014", "train2017"))
    convert(tmp_path / "years", tmp_path / "four", "yolo")
    assert len(load_dataset(tmp_path / "four", "train").samples) == 12


def test_splits_whose_classes_differ(tmp_path):
    for split, name in (("train", "dog"), ("valid", "ant")):
        text = f"image,xmin,ymin,xmax,ymax,label\na.png,1,2,3,4,{name}\na.png,1,2,3,5,cat\n"
        fill(tmp_path / "in", {f"{split}/_annotations.csv": text, f"{split}/a.png": (9, 9)})
    convert(tmp_path / "in", tmp_path / "out", "coco")
    data = [load_dataset(tmp_path / "out", split) for split in ("train", "val")]
    assert [category.name for category in data[0].categories] == ["ant", "cat", "dog"]
    assert data[0].categories == data[1].categories
    assert found(data[0]) == {"a.png": [("dog", [1, 2, 3, 4]), ("cat", [1, 2, 3, 5])]}
    assert found(data[1]) == {"a.png": [("ant", [1, 2, 3, 4]), ("cat", [1, 2, 3, 5])]}


def test_boxes_over_the_border(tmp_path):
    """COCO keeps them as they are; in YOLO and VOC they end there."""
    text = "image,xmin,ymin,xmax,ymax,label\na.png,-5.5,2,30,4,x\na.png,-0.5,-0.25,3,90,x\n"
    fill(tmp_path / "in", {"b.csv": text, "a.png": (20, 10)})
    for to in ("coco", "yolo", "voc"):
        convert(tmp_path / "in", tmp_path / to, to)
        assert found(load_dataset(tmp_path / to)) == {"a.png": [("x", [0, 2, 20, 4]), ("x", [0, 0, 3, 10])]}
    assert read_raw(tmp_path / "coco").boxes.xyxy.tolist() == [[-5.5, 2, 30, 4], [-0.5, -0.25, 3, 90]]


def test_what_voc_cannot_hold(tmp_path):
    text = 'image,xmin,ymin,xmax,ymax,label\na.png,1,2,3,4,"a\nb"\n'
    fill(tmp_path / "in", {"b.csv": text, "a.png": (20, 10)})
    with raises_code("class-name-not-xml"):
        convert(tmp_path / "in", tmp_path / "out", "voc")
    fill(tmp_path / "two", {"data.yaml": "train: i\nnames: [x, never]", "i/a.png": (9, 9), "i/a.txt": "0 .5 .5 1 1"})
    notes = convert(tmp_path / "two", tmp_path / "out", "voc")
    assert "classes without a box are lost, because VOC has no list of classes: never." in notes


def test_a_problem_of_the_source_stops(tmp_path):
    fill(tmp_path / "in", {"data.yaml": "train: i\nnames: [x]", "i/a.png": (9, 9), "i/a.txt": "3 .5 .5 1 1"})
    refused(tmp_path / "in", "has the class 3")
    with raises_code("unknown-class"):
        convert(tmp_path / "in", tmp_path / "out", "voc", drop_invalid=True)


def test_a_link_to_nowhere_is_no_image(tmp_path):
    files = {"b.csv": "image,xmin,ymin,xmax,ymax,label,width,height\na.png,1,2,3,4,x,9,9\n"}
    fill(tmp_path / "in", files)
    (tmp_path / "in/a.png").symlink_to("a.png")
    with raises_code("broken-link"):
        convert(tmp_path / "in", tmp_path / "out", "coco")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["coco", "yolo", "voc"])
def test_regions_to_be_ignored_are_no_objects_of_every_class(tmp_path, to):
    lines = "10,20,30,5,1,4,0,0\n0,0,9,9,0,0,0,0\n50,0,9,9,0,11,0,0\n"
    fill(tmp_path / "in", {"images/a.png": (100, 50), "annotations/a.txt": lines})
    notes = convert(tmp_path / "in", tmp_path / "out", to)
    (sample,) = load_dataset(tmp_path / "out").samples
    assert sample.boxes[~sample.crowd].tolist() == [[10, 20, 40, 25]]
    assert sample.crowd.sum() == (0 if to == "yolo" else 20)
    assert any("2 regions to be ignored for several classes are left out" in note for note in notes) == (to == "yolo")


def test_boxes_without_a_label(tmp_path):
    table = "image,xmin,ymin,xmax,ymax,label\n"
    fill(tmp_path / "in", {"train.csv": f"{table}a.png,1,2,3,4,cat\na.png,5,6,7,8,\n", "images/a.png": (100, 50)})
    fill(tmp_path / "in", {"val.csv": f"{table}a.png,1,2,3,4,owl\n"})
    with raises_code("no-label"):
        convert(tmp_path / "in", tmp_path / "out", "coco")
    notes = convert(tmp_path / "in", tmp_path / "out", "coco", drop_invalid=True)
    assert "train.csv: 1 box was left out (no-label)." in notes
    assert found(load_dataset(tmp_path / "out", "train")) == {"a.png": [("cat", [1, 2, 3, 4])]}
