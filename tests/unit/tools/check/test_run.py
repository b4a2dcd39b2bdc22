"""The whole check on a set in which every kind of defect is there a known number of times."""

import io
import json
from collections import Counter

import numpy as np
import pytest
from error_codes import raises_code
from folders import fill
from messy import EXPECTED, make_messy
from PIL import Image

from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.data.annotations import LISTED
from varifocal.data.load import load_dataset
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.models.vfnet import VFNetConfig
from varifocal.tools.check.findings import KINDS, Finding, Findings
from varifocal.tools.check.fix import FIXED, write_fixed
from varifocal.tools.check.run import check_data
from varifocal.types import Preprocess
from varifocal.utils.errors import ConfigError, DataError

OF_DECODING = {
    *("unreadable-image", "truncated-image", "rotated-image", "size-differs", "turned-image"),
    *("leaked-image", "near-leak", "duplicate-image", "near-duplicate"),
}


def eye(**preprocess) -> TrainingGeometry:
    return TrainingGeometry.of(
        "vfnet", "vfnet", VFNetConfig(5), Preprocess(**{"short_side": 128, "max_long_side": 256, **preprocess})
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_messy(tmp_path_factory.mktemp("messy"))


@pytest.fixture(scope="module")
def report(folder):
    return check_data(folder, eye())


def counted(report) -> dict[str, int]:
    return {kind: report.findings.total(kind) for kind in report.findings.kinds()}


def test_every_defect_is_found_as_often_as_it_is_there(report):
    found = counted(report)
    del found["unmatched-box"]
    assert found == EXPECTED


def test_exchanged_sides_are_reported_as_such(tmp_path):
    table = "image,width,height,xmin,ymin,xmax,ymax,label\na.png,32,64,1,2,30,20,cat\nb.png,32,63,1,2,30,20,cat\n"
    fill(tmp_path, {"boxes.csv": table, "a.png": (64, 32), "b.png": (64, 32)})
    first, second = check_data(tmp_path, eye()).findings.of("size-differs")
    assert first.text.endswith("is recorded with 32 x 64 pixels, but has 64 x 32: width and height are exchanged")
    assert second.text.endswith("but has 64 x 32")


def test_boxes_without_a_label(tmp_path):
    table = "image,xmin,ymin,xmax,ymax,label\na.png,1,2,30,40,cat\na.png,5,6,27,38,\na.png,7,8,29,30,\n"
    fill(tmp_path, {"boxes.csv": table, "a.png": (64, 64)})
    report = check_data(tmp_path, eye())
    assert report.findings.total("no-label") == 2
    first = report.findings.of("no-label")[0]
    assert (first.level, first.location) == ("loss", "line 3")
    assert "has no label" in first.text
    assert "no-label" in FIXED


def test_what_is_found_names_its_place(report):
    assert len(report.findings) == sum(counted(report).values())
    files = {kind: {one.file.rpartition("/")[2] for one in report.findings.of(kind)} for kind in KINDS}
    assert files["truncated-image"] == {"cut.jpg"}
    assert files["unreadable-image"] == {"empty.png"}
    assert files["rotated-image"] == {"rotated.jpg"}
    assert files["size-differs"] == {"smaller.png"}
    assert files["leaked-image"] == {"leak.png"}
    assert files["near-leak"] == {"near.jpg"}
    assert files["near-duplicate"] == {"near.png"}
    assert files["no-boxes"] == {"background.png", "also-background.png"}
    assert files["duplicate-box"] == {"boxes.png"}
    (leak,) = report.findings.of("leaked-image")
    assert leak.split == "val"
    assert leak.text == "has the same bytes as sound-1.png of train"
    (thin,) = report.findings.of("thin-box")
    assert thin.text == "is 150 x 6 pixels, 1 to 25"
    assert thin.boxes == (("car", (4.0, 30.0, 154.0, 36.0)),)
    (over,) = report.findings.of("over-border")
    assert over.text == "extends 20 pixels beyond the border of its image"
    (tiny,) = report.findings.of("tiny-box")
    assert tiny.location == "annotation 161 of image 24"
    (missing,) = report.findings.of("missing-image")
    assert "missing.png" in missing.text
    texts = {one.text for one in report.findings.of("twin-classes")}
    assert texts == {
        "'car' (63 boxes) and 'Car' (1 box) differ only in case, spaces or punctuation",
        "'truck' (1 box) and 'trucks' (1 box) differ only in singular and plural",
    }


def test_the_assignment_sees_what_training_sees(report):
    impossible, unknown, copies, regions = 3, 1, 1, 2
    assert report.matching.boxes == 64 + 4 - impossible - unknown - copies - regions


def test_the_order_of_the_annotations_does_not_matter(folder, report, tmp_path):
    for split in ("train", "val"):
        content = json.loads((folder / f"{split}.json").read_text())
        np.random.default_rng(0).shuffle(content["annotations"])
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    (tmp_path / "images").symlink_to(folder / "images")
    assert counted(check_data(tmp_path, eye())) == counted(report)


def test_without_decoding_only_what_images_show_is_not_found(folder):
    report = check_data(folder, eye(), decode=False)
    found = counted(report)
    del found["unmatched-box"]
    assert found == {kind: count for kind, count in EXPECTED.items() if kind not in OF_DECODING}
    assert not report.decoding.done
    assert report.decoding.images == 28
    assert 0 < report.decoding.seconds < 60


def test_one_split_alone(folder):
    report = check_data(folder, eye(), split="val")
    assert [split.name for split in report.splits] == ["val"]
    # the leak is none without the other split, and its own classes are all there
    assert set(counted(report)) == {"empty-class", "rare-class", "twin-classes"}
    assert report.exit_code == 0


def test_the_json_is_plain_and_complete(report):
    content = json.loads(json.dumps(report.to_json()))
    assert content["training_would_lose_data"] is True
    assert {kind: row["count"] for kind, row in content["counts"].items()} == counted(report)
    assert Counter(one["kind"] for one in content["findings"]) == counted(report)
    assert [row["images"] for row in content["statistics"]["splits"]] == [25, 3]
    assert {row["name"]: row["total"] for row in content["classes"]}["car"] == 63
    assert content["matching"]["unmatched"] == report.findings.total("unmatched-box")
    assert report.exit_code == 1


def test_the_embedded_data_is_clean_for_its_own_recipe():
    report = check_data(
        sample_dataset_dir(),
        TrainingGeometry.of("trees", "vfnet", VFNetConfig(1, num_levels=4), Preprocess(scale=1.0), 256),
    )
    assert counted(report) == {}
    assert report.exit_code == 0
    assert report.matching.unmatched == 0
    assert report.matching.boxes == 914


def test_what_cannot_be_read_at_all(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        check_data(tmp_path / "nothing", eye())
    (tmp_path / "train.json").write_text("{")
    with pytest.raises(DataError, match=r"train\.json"):
        check_data(tmp_path, eye())
    with pytest.raises(ConfigError, match="the format 'xml'"):
        check_data(tmp_path, eye(), format="xml")


def test_classes_are_compared_by_those_that_have_boxes(tmp_path):
    """A class 0 that only names the project; one that only one split shows; one that only one split lists."""
    names = {"train": ["kitchen", "cup", "jar"], "val": ["kitchen", "cup", "jar", "lid", "pan"]}
    boxes = {"train": [2], "val": [2, 3, 5]}
    for split, listed in names.items():
        content = {
            "images": [{"id": 1, "file_name": "1.png", "width": 64, "height": 64}],
            "annotations": [{"id": i, "image_id": 1, "category_id": i, "bbox": [i, 2 * i, 9, 9]} for i in boxes[split]],
            "categories": [{"id": i, "name": name} for i, name in enumerate(listed, start=1)],
        }
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
    report = check_data(tmp_path, eye(), decode=False)
    texts = {kind: [one.text for one in report.findings.of(kind)] for kind in counted(report)}
    assert texts["class-mismatch"] == ["the class 'pan' is not among those of train"]
    assert texts["unlearned-class"] == ["the class 'jar' has boxes here and none in train"]
    assert texts["empty-class"] == ["the class 'kitchen' has no boxes", "the class 'lid' has no boxes"]


def test_ignored_regions_are_boxes_of_no_class(tmp_path):
    """Of VisDrone: two boxes of cars, one of a pedestrian, and three regions, one of them in an image alone."""
    region = "0,0,9,9,0,0,0,0\n"
    lines = f"10,20,30,15,1,4,0,0\n60,20,20,15,1,4,0,0\n{region}50,0,9,9,0,11,0,0\n70,0,9,9,1,1,0,0\n"
    files = {"images/a.png": (100, 50), "annotations/a.txt": lines}
    fill(tmp_path, files | {"images/b.png": (90, 50), "annotations/b.txt": region})
    report = check_data(tmp_path, eye())
    (split,) = report.statistics.splits
    assert (split.images, split.without, split.boxes, split.crowd, split.regions, split.most_boxes) == (
        2,
        0,
        3,
        0,
        3,
        3,
    )
    assert {row.name: (row.total, row.crowd, sum(row.images.values())) for row in report.classes if row.total} == {
        "car": (2, 0, 1),
        "pedestrian": (1, 0, 1),
    }
    assert report.findings.total("empty-class") == 8


def test_an_ignored_region_is_told_once(tmp_path):
    """It is a crowd box of every class, but one thing to look at."""
    text = "10,10,30,30,1,4,0,0\n80,10,40,20,0,0,0,0\n40,5,15,20,1,1,0,1\n"
    fill(tmp_path, {"images/0.jpg": (96, 64), "annotations/0.txt": text})
    report = check_data(tmp_path, eye())
    assert report.findings.total("over-border") == 1
    (note,) = [note for note in load_dataset(tmp_path, report.splits[0].name).notes if "clipped" in note]
    assert "1 box was clipped" in note


def test_a_set_without_a_single_box(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 8, "height": 8}],
        "annotations": [],
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    report = check_data(tmp_path, eye(), decode=False)
    assert counted(report) == {"missing-image": 1, "no-boxes": 1, "empty-class": 1}
    assert report.advice is None
    assert report.matching.boxes == 0
    json.dumps(report.to_json())


def test_many_problems_of_a_reader_are_counted(tmp_path):
    (tmp_path / "1.png").touch()
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 8, "height": 8}],
        "annotations": [{"id": i} for i in range(LISTED + 200)],
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    report = check_data(tmp_path, eye(), decode=False)
    assert report.findings.total("malformed") == LISTED + 200
    assert len(report.findings.of("malformed")) == LISTED


def test_many_findings_are_counted_and_a_thousand_listed():
    found = Findings()
    found.add_many(("tiny-box", "train"), list(range(2500)), lambda i: Finding("tiny-box", "train", str(i), rank=i))
    found.add_many(("tiny-box", "val"), np.arange(3).tolist(), lambda i: Finding("tiny-box", "val", str(i)))
    assert found.total("tiny-box") == 2503
    assert len(found) == LISTED + 3
    assert found.of("tiny-box")[0].text == "999"
    assert not found.loses


def voc_lists(tmp_path, **lists):
    rng = np.random.default_rng(0)
    files = {f"ImageSets/Main/{name}.txt": "\n".join(text) for name, text in lists.items()}
    box = "<object><name>cat</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object>"
    for name in "abcd":
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(buffer, "PNG")
        files |= {f"JPEGImages/{name}.png": buffer.getvalue()}
        files |= {f"Annotations/{name}.xml": f"<annotation><filename>{name}.png</filename>{box}</annotation>"}
    return fill(tmp_path, files)


def test_trainval_is_no_leak_between_its_parts(tmp_path):
    report = check_data(voc_lists(tmp_path, train="ab", val="c", trainval="abc", test="d"), eye())
    assert not {"leaked-image", "near-leak"} & set(counted(report))
    assert [split.name for split in report.splits] == ["test", "train", "trainval", "val"]
    # what is really in two of them is, and by the part and by the whole
    report = check_data(voc_lists(tmp_path, train="ab", val="ac", trainval="abc", test="bd"), eye())
    leaks = [(one.split, one.file[-5:], one.text) for one in report.findings.of("leaked-image")]
    assert sorted(leaks) == [
        ("train", "b.png", "has the same bytes as b.png of test"),
        ("trainval", "b.png", "has the same bytes as b.png of test"),
        ("val", "a.png", "has the same bytes as a.png of train"),
    ]


def test_images_that_share_their_labels_are_worth_a_look(tmp_path):
    files = {"data.yaml": "train: images\nnames: [cat]\n", "labels/a.txt": "0 0.5 0.5 0.5 0.5\n"}
    fill(tmp_path, files | {"images/a.jpg": (64, 64), "images/a.png": (60, 60)})
    report = check_data(tmp_path, eye())
    (one,) = report.findings.of("shared-labels")
    assert (one.level, one.file, one.image) == ("warning", str(tmp_path / "labels/a.txt"), 1)
    assert one.text.startswith("belongs to a.jpg and to a.png, which differ only in their suffix;")
    assert report.exit_code == 0


def test_an_end_of_several_images_is_a_loss(tmp_path):
    content = {
        "images": [{"id": 1, "file_name": "C:\\x\\a.png", "width": 64, "height": 64}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 40, 40]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    fill(tmp_path, {"a.json": json.dumps(content), "p/a.png": (64, 64), "q/a.png": (64, 64)})
    report = check_data(tmp_path, eye())
    (one,) = report.findings.of("ambiguous-image")
    assert "p/a.png, q/a.png" in one.text
    assert report.exit_code == 1
    report = check_data(tmp_path, eye(), images="q")
    assert report.exit_code == 0
    assert report.splits[0].raw.images.files[0] == tmp_path / "q/a.png"


def test_a_note_that_all_splits_have_is_told_once(tmp_path):
    report = check_data(voc_lists(tmp_path, train="ab", val="cd", cat_train=["a 1", "b -1"]), eye())
    assert report.notes == ("ImageSets/Main: 1 list of a single class is left out, first cat_train.txt.",)


def coco_of(folder, boxes, size=(100, 80), areas=None):
    fill(
        folder,
        {
            "images/a.png": size,
            "annotations/instances_train.json": json.dumps(
                {
                    "images": [{"id": 1, "file_name": "a.png", "width": size[0], "height": size[1]}],
                    "categories": [{"id": 1, "name": "cat"}],
                    "annotations": [
                        {"id": i, "image_id": 1, "category_id": 1, "bbox": box} | ({"area": areas[i]} if areas else {})
                        for i, box in enumerate(boxes)
                    ],
                }
            ),
        },
    )
    return folder


def test_corners_in_place_of_width_and_height_are_suspected(tmp_path):
    corners = [[60, 50, 90, 70], [10, 60, 30, 78], [70, 5, 99, 20], [2, 3, 20, 30], [55, 41, 62, 50]]
    report = check_data(coco_of(tmp_path / "corners", corners), eye())
    assert [one.box for one in report.findings.of("corners")] == [0, 1, 2, 4]
    assert report.findings.loses
    assert not report.findings.total("over-border")
    with raises_code("other-meaning", DataError):
        write_fixed(report, tmp_path / "out")
    with pytest.raises(DataError, match=r"fits its image better as \[x1, y1, x2, y2\].*or take such boxes as written"):
        load_dataset(tmp_path / "corners", "train")
    (note,) = [one for one in load_dataset(tmp_path / "corners", "train", invalid_boxes="drop").notes if "x1" in one]
    assert note.startswith(
        "instances_train.json: 4 boxes were taken as written, first that of annotation 0 of image 1: it"
    )


def test_corners_that_stay_inside_are_seen_by_their_areas(tmp_path):
    corners = [[60, 50, 90, 70], [10, 60, 30, 78], [70, 5, 99, 20], [2, 3, 20, 30]]
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in corners]
    folder = coco_of(tmp_path / "data", corners, size=(400, 300), areas=areas)
    assert check_data(folder, eye()).findings.total("corners") == 4
    sides = [x * y for _, _, x, y in corners]
    assert not check_data(coco_of(tmp_path / "sound", corners, (400, 300), sides), eye()).findings.total("corners")


def test_corners_in_yolo(tmp_path):
    boxes = [(0.5, 0.6, 0.9, 0.9), (0.6, 0.5, 0.9, 0.95), (0.4, 0.7, 0.95, 0.8)]
    lines = "".join(f"0 {x1} {y1} {x2} {y2}\n" for x1, y1, x2, y2 in boxes)
    description = "names: [cat]\ntrain: images/train\n"
    fill(tmp_path, {"images/train/a.png": (100, 80), "labels/train/a.txt": lines, "data.yaml": description})
    assert check_data(tmp_path, eye()).findings.total("corners") == 3


def test_fractions_in_place_of_pixels(tmp_path):
    boxes = [[0.5, 0.25, 0.2, 0.3], [0.1, 0.1, 0.4, 0.2], [0.7, 0.6, 0.35, 0.2]]
    folder = coco_of(tmp_path / "data", boxes)
    assert check_data(folder, eye()).findings.total("fractions") == 3
    with pytest.raises(DataError, match=r"if these are fractions of the image"):
        load_dataset(folder, "train")
    assert not check_data(coco_of(tmp_path / "small", boxes, size=(16, 16)), eye()).findings.total("fractions")
    assert not check_data(coco_of(tmp_path / "one", [*boxes, [0, 0, 9, 9]]), eye()).findings.total("fractions")


@pytest.mark.parametrize(
    "boxes",
    [
        pytest.param([[60, 50, 90, 70], [10, 60, 30, 78]], id="too few to tell"),
        pytest.param(
            [[60, 50, 90, 70], [10, 60, 30, 78], [70, 5, 99, 20], [50, 40, 20, 30]], id="one fits no other way"
        ),
        pytest.param([[60, 50, 90, 70], *[[5, 5, 9, 9]] * 2, [1, 2, 30, 40]], id="most fit as they are"),
    ],
)
def test_boxes_over_the_border_alone_are_no_corners(tmp_path, boxes):
    report = check_data(coco_of(tmp_path / "data", boxes), eye())
    assert not report.findings.total("corners")
    assert report.findings.total("over-border")


def test_decoded_images_are_those_that_are_there(tmp_path):
    folder = coco_of(tmp_path / "data", [[5, 5, 20, 20]])
    text = (folder / "annotations/instances_train.json").read_text()
    more = '{"id": 2, "file_name": "gone.png", "width": 9, "height": 9}, {"id": 1,'
    (folder / "annotations/instances_train.json").write_text(text.replace('{"id": 1,', more, 1))
    assert check_data(folder, eye()).decoding.images == 1


@pytest.mark.parametrize("line", ["0 0.4 0.4 0.2", "0 40 20 20 10", "x 0.4 0.4 0.2 0.2"])
def test_what_follows_from_a_refused_line_is_not_reported_beside_it(tmp_path, line):
    good = "".join(f"1 {0.1 * (i + 1):.1f} 0.4 0.08 0.4\n" for i in range(9))
    fill(tmp_path, {"data.yaml": "train: images/train\nval: images/val\nnames: [cat, dog]\n"})
    fill(tmp_path, {"images/train/a.png": (100, 50), "labels/train/a.txt": line})
    fill(tmp_path, {"images/train/b.png": (90, 50), "labels/train/b.txt": good})
    fill(tmp_path, {"images/val/c.png": (80, 50), "labels/val/c.txt": good + ("0 0.5 0.9 0.2 0.2" * (line[0] == "0"))})
    kinds = set(counted(check_data(tmp_path, eye(), decode=False))) - {"rare-class", "unmatched-box"}
    assert kinds == ({"malformed"} if line[0] == "0" else {"unknown-class", "empty-class"})


def test_images_and_classes_without_boxes_are_reported_beside_other_problems(tmp_path):
    fill(tmp_path, {"data.yaml": "train: images/train\nval: images/val\nnames: [cat, dog]\n"})
    for split in ("train", "val"):
        fill(tmp_path, {f"images/{split}/a.png": (100, 50), f"labels/{split}/a.txt": "1 0.4 0.4 0.2 0.2 0.2\n"})
        fill(tmp_path, {f"images/{split}/b.png": (90, 50), f"labels/{split}/b.txt": ""})
    report = check_data(tmp_path, eye(), decode=False)
    assert counted(report) == {"malformed": 2, "no-boxes": 2, "empty-class": 1}
    assert {finding.image for finding in report.findings if finding.kind == "no-boxes"} == {1}
