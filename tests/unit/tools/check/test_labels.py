"""The ranking of doubts on labels with known errors, seen by a detector that is right but for noise."""

import json
from collections import Counter

import numpy as np
import pytest
from error_codes import raises_code
from PIL import Image

from varifocal.data.load import read_raw
from varifocal.inference.boxes_numpy import box_iou
from varifocal.inference.exported.info import ExportInfo, GraphInfo
from varifocal.tools.check.find_label_errors import find_label_errors
from varifocal.tools.check.findings import Findings
from varifocal.tools.check.labels import (
    ClassBaseline,
    ImageDetections,
    Labels,
    class_baseline,
    compare_image,
    label_issues,
)
from varifocal.tools.check.split import Split
from varifocal.types import Category, Detections
from varifocal.utils.errors import DataError

SIDE = 400
CLASSES = 3
NONE = np.empty((0, 4), np.float32)


def place_boxes(rng, count, around=NONE):
    """Boxes of 30 to 90 pixels that do not overlap each other or those that are there."""
    boxes = list(around)
    while len(boxes) < len(around) + count:
        size = rng.uniform(30, 90, 2)
        corner = rng.uniform(0, SIDE - size)
        box = np.concatenate([corner, corner + size])
        if not boxes or box_iou(box[None], np.array(boxes)).max() < 0.05:
            boxes.append(box)
    return np.array(boxes[len(around) :]).reshape(-1, 4)


def detect(rng, boxes, labels, blind=0.0):
    """Each object with a box moved a little and a score that is its IoU but for noise; and weak ones of nothing.

    ``blind``: the share of objects that are found with a third of that score, and the score up to which something is
    found where nothing is, beyond 0.3.
    """
    moved = boxes + rng.normal(0, 0.04, boxes.shape) * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    iou = np.diag(box_iou(moved, boxes))
    weak = place_boxes(rng, 3, boxes)
    dim = np.where(rng.random(len(iou)) < blind, 1 / 3, 1)
    scores = dim * np.clip(iou + rng.normal(0, 0.05, len(iou)), 0.05, 1)
    scores = np.concatenate([scores, rng.uniform(0.05, 0.3 + 2 * blind, 3)])
    order = np.argsort(-scores)
    found = np.concatenate([moved, weak])[order].astype(np.float32)
    classes = np.concatenate([labels, rng.integers(CLASSES, size=3)])[order]
    return ImageDetections(found, scores[order].astype(np.float32), classes)


def loosened(rng, box):
    """A box of the same object with an IoU of 0.35 to 0.6."""
    size = np.tile(box[2:] - box[:2], 2)
    while True:
        moved = box + rng.uniform(-0.4, 0.4, 4) * size
        if (moved[2:] > moved[:2] + 5).all() and 0.35 <= box_iou(moved[None], box[None])[0, 0] <= 0.6:
            return moved


def make_images(seed, images=60, objects=5, share=0.08, blind=0.0):
    """(labels with errors, detections, for each label what is wrong with it, boxes whose label is gone)."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(images):
        boxes, labels = place_boxes(rng, objects), rng.integers(CLASSES, size=objects)
        found = detect(rng, boxes, labels, blind)
        error = rng.choice(
            ["", "missing-label", "loose-box", "swapped-class"], objects, p=[1 - 3 * share, *[share] * 3]
        )
        written, classes = boxes.copy(), labels.copy()
        for i in np.flatnonzero(error == "loose-box"):
            written[i] = loosened(rng, boxes[i])
        swapped = error == "swapped-class"
        classes[swapped] = (classes[swapped] + 1) % CLASSES
        extra = place_boxes(rng, int(rng.random() < objects * share), boxes)
        stays = error != "missing-label"
        wrong = [*error[stays], *["spurious-label"] * len(extra)]
        classes = np.concatenate([classes[stays], rng.integers(CLASSES, size=len(extra))])
        written = np.concatenate([written[stays], extra]).astype(np.float32)
        rows.append((Labels(written, classes, NONE), found, wrong, boxes[~stays]))
    return rows


def is_right(issue, found, wrong, gone):
    if issue.kind != "missing-label":
        return wrong[issue.label] == issue.kind
    return len(gone) > 0 and box_iou(found.boxes[[issue.found]].astype(float), gone).max() >= 0.5


def rank_all(rows):
    """All doubts of all images with whether they are right, most doubted first; and how many errors of each kind."""
    images = [compare_image(labels, found) for labels, found, *_ in rows]
    baseline = class_baseline(images, CLASSES)
    told = [
        (issue, is_right(issue, *row[1:]))
        for one, row in zip(images, rows, strict=True)
        for issue in label_issues(one, baseline)
    ]
    kinds = [str(kind) for *_, wrong, gone in rows for kind in [*wrong, *["missing-label"] * len(gone)] if kind]
    return sorted(told, key=lambda pair: -pair[0].rank), Counter(kinds)


def precision(rights, count):
    """Of the first so many."""
    return sum(rights[:count]) / count


@pytest.mark.parametrize("seed", range(3))
def test_injected_errors_come_first(seed):
    ranked, injected = rank_all(make_images(seed))
    assert len(injected) == 4
    assert min(injected.values()) >= 10
    for kind, count in injected.items():
        assert precision([right for issue, right in ranked if issue.kind == kind], count) >= 0.95, kind
    total = sum(injected.values())
    assert precision([right for _, right in ranked], total) >= 0.97
    assert len(ranked) <= 1.1 * total


@pytest.mark.parametrize("seed", range(3))
def test_a_detector_that_misses_and_invents_ranks_less_well(seed):
    ranked, injected = rank_all(make_images(seed, blind=0.15))
    total, rights = sum(injected.values()), [right for _, right in ranked]
    assert precision(rights, total // 4) >= 0.95
    assert precision(rights, total // 2) >= 0.9
    assert precision(rights, total) >= 0.6  # and 0.33 if the order were left to chance
    assert sum(rights) >= 0.8 * total


def test_without_errors_nothing_is_doubted():
    rows = make_images(7, images=20, share=0.0)
    images = [compare_image(labels, found) for labels, found, *_ in rows]
    baseline = class_baseline(images, CLASSES)
    assert sum(len(label_issues(one, baseline)) for one in images) <= 2  # of 100 labels
    assert all(0.8 < value < 0.95 for value in (*baseline.score, baseline.iou))


def by_hand(labels, found, regions=NONE):
    """``labels`` and ``found`` are (class, box[, score]); what is usual is an IoU of 0.9 at a score of 0.8."""
    label_boxes = np.array([box for _, box in labels], np.float32).reshape(-1, 4)
    found_boxes = np.array([box for _, box, _ in found], np.float32).reshape(-1, 4)
    one = compare_image(
        Labels(label_boxes, np.array([kind for kind, _ in labels], np.int64), np.array(regions, np.float32)),
        ImageDetections(
            found_boxes,
            np.array([score for *_, score in found], np.float32),
            np.array([kind for kind, *_ in found], np.int64),
        ),
    )
    return label_issues(one, ClassBaseline(np.full(2, 0.72), np.full(2, 0.8), 0.9))


def test_the_numbers_of_each_kind():
    box, off = [0, 0, 10, 10], [0, 5, 10, 15]  # IoU 1/3
    (missing,) = by_hand([], [(0, box, 0.8)])
    assert (missing.kind, missing.label, missing.found) == ("missing-label", -1, 0)
    assert missing.rank == pytest.approx(0.8 * 0.9)
    (spurious,) = by_hand([(0, box)], [(0, [40, 40, 50, 50], 0.1)])
    assert (spurious.kind, spurious.label) == ("spurious-label", 0)
    assert spurious.rank == pytest.approx(0.72)
    (loose,) = by_hand([(0, box)], [(0, off, 0.75)])
    assert (loose.kind, loose.label, loose.found) == ("loose-box", 0, 0)
    assert loose.rank == pytest.approx(0.75 * (0.9 - 1 / 3))
    (swapped,) = by_hand([(0, box)], [(1, box, 0.9), (0, box, 0.2)])
    assert (swapped.kind, swapped.found) == ("swapped-class", 0)
    assert swapped.rank == pytest.approx(0.7)
    # vouched for by another class with confidence, if less than is usual for its own
    (swapped,) = by_hand([(0, box)], [(1, [0, 0, 10, 12.5], 0.7)])
    assert swapped.kind == "swapped-class"
    assert swapped.rank == pytest.approx(0.72)
    assert by_hand([(0, box)], [(0, box, 0.8)]) == []


def test_weak_and_doubled_detections_are_no_missing_labels():
    assert by_hand([], [(0, [0, 0, 10, 10], 0.5)]) == []  # below 0.7 of the usual 0.8
    assert len(by_hand([], [(0, [0, 0, 10, 10], 0.8), (1, [0, 0, 10, 11], 0.75)])) == 1


def test_regions_are_not_judged():
    assert by_hand([], [(0, [0, 0, 10, 10], 0.9)], [[0, 0, 30, 30]]) == []
    assert len(by_hand([], [(0, [0, 0, 10, 10], 0.9)], [[7, 0, 30, 30]])) == 1


def test_a_neighbor_is_not_taken_for_a_loose_box():
    """A confident detection that fits the second label says nothing of the first, which it touches."""
    first, second = [0, 0, 10, 10], [4, 0, 14, 10]
    told = by_hand([(0, first), (0, second)], [(0, second, 0.85), (0, first, 0.8)])
    assert told == []


def test_images_without_labels_or_detections():
    assert by_hand([], []) == []
    one = compare_image(
        Labels(NONE, np.empty(0, np.int64), NONE),
        ImageDetections(NONE, np.empty(0, np.float32), np.empty(0, np.int64)),
    )
    assert class_baseline([one], 2).iou == 0
    assert class_baseline([], 2).score.tolist() == [0, 0]


class Right:
    """A model that finds what the file's brightness says: the truth of each image, with a score of 0.9."""

    def __init__(self, truth, names):
        self.truth = truth
        self.categories = tuple(Category(i, name) for i, name in enumerate(names))
        self.info, self.device = ExportInfo("vfnet", self.categories, GraphInfo(None, (8,))), "cpu"

    def predict(self, image):
        rows = self.truth[image.getpixel((0, 0))[0]]
        boxes = np.array([box for _, box in rows], np.float32).reshape(-1, 4)
        labels = np.array([kind for kind, _ in rows], np.int64)
        return Detections(boxes, np.full(len(rows), 0.9, np.float32), labels, self.categories)


@pytest.fixture
def data(tmp_path):
    """Ten images with a cat and a dog; in three of them a label is wrong. The model numbers classes otherwise."""
    annotations, images = [], []
    for i in range(10):
        Image.new("RGB", (100, 80), (i, i, i)).save(tmp_path / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": 100, "height": 80})
        for category, box in ((1, [5, 5, 30, 30]), (2, [50, 20, 40, 40])):
            annotations.append({"id": len(annotations), "image_id": i, "category_id": category, "bbox": box})
    del annotations[4]  # the cat of image 2
    annotations[8]["category_id"] = 1  # the dog of image 4
    annotations.append({"id": 100, "image_id": 6, "category_id": 2, "bbox": [5, 50, 25, 25]})
    annotations.append({"id": 101, "image_id": 7, "category_id": 3, "bbox": [5, 50, 25, 25]})
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "fox"}]
    images.append({"id": 10, "file_name": "gone.png", "width": 100, "height": 80})
    Image.new("RGB", (50, 80)).save(tmp_path / "narrow.png")
    images.append({"id": 11, "file_name": "narrow.png", "width": 100, "height": 80})
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "train.json").write_text(json.dumps(content))
    return tmp_path


def test_findings_of_a_model(data):
    truth = {i: [(2, [5, 5, 35, 35]), (0, [50, 20, 90, 60])] for i in range(10)}
    truth[8].append((1, [60, 2, 98, 18]))  # an owl; the data set has no such class
    found, split, done = Findings(), Split.of(read_raw(data)), []
    report = find_label_errors(found, [split], Right(truth, ["dog", "owl", "cat"]), "best", done.append)
    assert done[-1] == 12
    assert (report.images, report.labels, report.found) == (10, 20, 18)
    assert report.notes == (
        "the model does not know fox; their labels are not judged",
        "2 images cannot be read or do not fit their annotations; their labels are not judged",
    )
    told = {kind: [(one.file[-5:], one.location, one.text) for one in found.of(kind)] for kind in found.kinds()}
    assert told == {
        "missing-label": [("2.png", "", "'cat' is detected with a score of 0.90, but there is no label")],
        "spurious-label": [("6.png", "annotation 100 of image 6", "the label 'dog' has no confident detection")],
        "swapped-class": [
            ("4.png", "annotation 9 of image 4", "the label 'cat' is detected as 'dog' with a score of 0.90")
        ],
    }
    (missing,) = found.of("missing-label")
    assert missing.boxes == (("found cat 0.90", (5.0, 5.0, 35.0, 35.0)),)
    assert not found.loses


def test_a_model_of_other_classes(data):
    with raises_code("model-without-these-classes", DataError):
        find_label_errors(Findings(), [Split.of(read_raw(data))], Right({}, ["bus"]), "best")
