"""Detections in other people's forms."""

import builtins
import json
import subprocess
import sys

import numpy as np
import pytest
from error_codes import raises_code
from PIL import Image

from varifocal.inference.draw import draw_detections
from varifocal.types import Category, Detections

CATEGORIES = (Category(17, "cat"), Category(3, "dog"))


def make_detections(count=3):
    return Detections(
        boxes=np.array([[1, 2, 4.5, 8.25], [0.1, 0.2, 10.3, 20.7], [5, 5, 6, 6]], np.float32)[:count],
        scores=np.array([0.9, 0.5, 0.3], np.float32)[:count],
        labels=np.array([1, 0, 1], np.int64)[:count],
        categories=CATEGORIES,
    )


def test_names_and_length():
    assert make_detections().class_names == ["dog", "cat", "dog"]
    assert (len(make_detections()), len(make_detections(0)), make_detections(0).class_names) == (3, 0, [])


def test_filter_keeps_the_boxes_from_the_score_upwards():
    kept = make_detections().filter(0.5)
    assert kept.scores.tolist() == [np.float32(0.9), 0.5]
    assert kept.boxes.tolist() == make_detections().boxes[:2].tolist()
    assert kept.class_names == ["dog", "cat"]
    assert kept.categories is CATEGORIES
    assert len(make_detections().filter(2.0)) == len(make_detections(0).filter(0.0)) == 0


def test_to_coco():
    entries = make_detections().to_coco(42, "a.jpg")
    assert entries[0] == {
        "file_name": "a.jpg",
        "image_id": 42,
        "category_id": 3,
        "category_name": "dog",
        "bbox": [1, 2, 3.5, 6.25],
        "score": pytest.approx(0.9),
    }
    assert [entry["category_id"] for entry in entries] == [3, 17, 3]
    assert make_detections(0).to_coco(42, "a.jpg") == []


def test_to_coco_is_plain_and_loses_nothing():
    detections = make_detections()
    back = json.loads(json.dumps(detections.to_coco(42, "a.jpg")))
    boxes = np.array([entry["bbox"] for entry in back])
    boxes[:, 2:] += boxes[:, :2]
    assert np.array_equal(boxes.astype(np.float32), detections.boxes)
    assert np.array_equal(np.array([entry["score"] for entry in back], np.float32), detections.scores)


@pytest.mark.parametrize("count", [3, 0])
def test_to_supervision(count):
    supervision = pytest.importorskip("supervision", reason="the package supervision is not installed")
    detections = make_detections(count)
    given = detections.to_supervision()
    assert isinstance(given, supervision.Detections)
    assert np.array_equal(given.xyxy, detections.boxes)
    assert np.array_equal(given.confidence, detections.scores)
    assert np.array_equal(given.class_id, detections.labels)
    assert given.data["class_name"].tolist() == detections.class_names
    assert len(given[given.confidence > 0.4]) == min(count, 2)


def test_to_supervision_without_the_package_says_what_to_install(monkeypatch):
    true_import = builtins.__import__

    def no_supervision(name, *args, **kwargs):
        if name == "supervision":
            raise ImportError(name)
        return true_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_supervision)
    with raises_code("supervision-missing"):
        make_detections().to_supervision()


def test_draw_is_draw_detections():
    image = Image.new("RGB", (60, 60))
    drawn = draw_detections(image, make_detections())
    assert np.array_equal(np.asarray(drawn), np.asarray(draw_detections(image, make_detections())))
    assert np.asarray(drawn).any()


def test_types_load_no_extras():
    extras = ("supervision", "PIL", "timm", "rich")
    code = f"import sys, varifocal.structures; print([name for name in {extras} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
