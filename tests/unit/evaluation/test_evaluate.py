"""Evaluation matches classes by name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from varifocal.evaluation.evaluate import detect_all, evaluate, fit_classes, relabel
from varifocal.inference.model import Model, ModelInfo
from varifocal.models.vfnet import VFNetConfig
from varifocal.types import Category, Dataset, Detections, Preprocess, Sample, Tiling
from varifocal.utils.errors import DataError

OF_MODEL = (Category(1, "cat"), Category(2, "dog"), Category(3, "owl"))
OF_DATA = (Category(5, "owl"), Category(90, "cat"))


def detections(labels, categories=OF_MODEL):
    boxes = np.array([[10 * i, 0, 10 * i + 8, 8] for i in range(len(labels))], np.float32).reshape(-1, 4)
    scores = np.linspace(0.9, 0.5, len(labels)).astype(np.float32)
    return Detections(boxes, scores, np.array(labels, np.int64), categories)


class Oracle(Model):
    """A model with the classes OF_MODEL whose detections are looked up by file name."""

    def __init__(self, table):
        super().__init__(nn.Identity(), ModelInfo("vfnet", VFNetConfig(3), OF_MODEL))
        self.table, self.seen = list(table), 0

    def predict(self, images, **_):
        self.seen += 1
        return self.table[self.seen - 1]


@pytest.fixture
def data(tmp_path):
    """Two images: an owl and a cat in the first, two cats in the second."""
    samples = []
    for i, labels in enumerate(([0, 1], [1, 1])):
        file = tmp_path / f"{i}.png"
        Image.new("RGB", (40, 20)).save(file)
        boxes = detections(labels).boxes
        samples.append(Sample(file, i, 40, 20, boxes, np.array(labels), np.zeros(2, bool)))
    return Dataset(tuple(samples), OF_DATA, Path("data.json"))


def test_relabel_goes_by_name_and_leaves_out_what_is_unknown():
    found = relabel(detections([0, 1, 2, 0]), OF_DATA)
    assert found.labels.tolist() == [1, 0, 1]
    assert found.class_names == ["cat", "owl", "cat"]
    assert found.boxes[:, 0].tolist() == [0, 20, 30]
    assert found.scores.tolist() == pytest.approx([0.9, 0.9 - 0.8 / 3, 0.5])
    assert found.categories == OF_DATA


def test_relabel_does_not_touch_its_input():
    found = detections([2])
    relabel(found, OF_DATA)
    assert found.labels.tolist() == [2]


def test_relabel_of_nothing():
    assert len(relabel(detections([]), OF_DATA)) == 0
    assert len(relabel(detections([1, 1]), OF_DATA)) == 0


def test_the_right_boxes_under_the_right_names_are_perfect(data):
    metrics, found = evaluate(Oracle([detections([2, 0]), detections([0, 0])]), data)
    assert pytest.approx(1.0) == metrics.AP
    assert metrics.per_class == pytest.approx({"owl": 1.0, "cat": 1.0})
    assert found[0].categories == OF_MODEL


def test_the_right_boxes_under_wrong_names_are_worth_nothing(data):
    metrics, _ = evaluate(Oracle([detections([0, 2]), detections([2, 2])]), data)
    assert pytest.approx(0.0) == metrics.AP


def test_a_class_that_the_model_lacks_is_named(data):
    first = replace(data.samples[0], labels=np.array([2, 1]))
    wider = Dataset((first, data.samples[1]), (*OF_DATA, Category(1, "emu")), data.source)
    with pytest.raises(
        DataError, match=r"data\.json: the model was not trained on emu \(1 of 2 classes\).*cat, dog, owl"
    ):
        evaluate(Oracle([]), wider)


def test_a_class_without_a_box_that_the_model_lacks_is_left_out(data):
    """It comes before the others, as Roboflow writes it, so that all labels shift."""
    moved = [replace(sample, labels=sample.labels + 1) for sample in data.samples]
    wider = Dataset(moved, (Category(0, "kitchen"), *OF_DATA), data.source, notes=("one",))
    fitting = fit_classes(Oracle([]), wider)
    assert fitting.categories == OF_DATA
    assert [sample.labels.tolist() for sample in fitting.samples] == [[0, 1], [1, 1]]
    assert [sample.labels.tolist() for sample in fitting.samples[1:]] == [[1, 1]]
    printed = "data.json: the class kitchen has no box and is not known to the model; left out."
    assert fitting.notes == ("one", printed)
    assert fit_classes(Oracle([]), fitting) is fitting
    metrics, _ = evaluate(Oracle([detections([2, 0]), detections([0, 0])]), wider)
    assert metrics.per_class == pytest.approx({"owl": 1.0, "cat": 1.0})


def test_a_class_that_only_a_crowd_has_is_used(data):
    first = replace(data.samples[0], labels=np.array([2, 1]), crowd=np.array([True, False]))
    wider = Dataset((first, data.samples[1]), (*OF_DATA, Category(1, "emu")), data.source)
    with pytest.raises(DataError, match="emu"):
        fit_classes(Oracle([]), wider)


def test_no_class_in_common(data):
    nothing = [replace(one, boxes=one.boxes[:0], labels=one.labels[:0], crowd=one.crowd[:0]) for one in data.samples]
    with pytest.raises(DataError, match=r"emu, ibis \(2 of 2 classes\)"):
        fit_classes(Oracle([]), Dataset(nothing, (Category(1, "emu"), Category(2, "ibis")), data.source))
    assert fit_classes(Oracle([]), Dataset(nothing, OF_DATA, data.source)).categories == OF_DATA


def test_progress_counts_and_sizes_are_checked(data):
    done = []
    detect_all(Oracle([detections([0])] * 2), data.samples, done.append)
    assert done == [1, 2]
    wrong = Sample(
        data.samples[0].file, 0, 41, 20, *(getattr(data.samples[0], k) for k in ("boxes", "labels", "crowd"))
    )
    with pytest.raises(DataError, match="41 x 20"):
        detect_all(Oracle([detections([0])]), [wrong])


def test_deep_and_large_images_are_read_as_the_model_says(tmp_path, monkeypatch):
    """Values of 1000 and 3000 are black and white; 800 pixels are too many for a model without tiling."""
    monkeypatch.setattr("varifocal.data.images.MAX_PIXELS", 700)
    Image.fromarray(np.full((20, 40), 2000, np.uint16)).save(tmp_path / "a.png")
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    samples = [Sample(tmp_path / "a.png", 1, 40, 20, *none)]
    seen = []
    model = Oracle([])
    model.predict = lambda image: seen.append(image.getpixel((0, 0))) or detections([])
    model.info = replace(model.info, preprocess=Preprocess(range=(1000.0, 3000.0)))
    with pytest.raises(DataError, match="read it in tiles with --tile"):
        detect_all(model, samples)
    model.info = replace(model.info, tiling=Tiling(16))
    detect_all(model, samples)
    assert seen == [(128, 128, 128)]
