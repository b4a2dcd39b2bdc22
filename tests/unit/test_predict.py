"""From pictures to detections, with a detector whose boxes are known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from varifocal.data.preprocess import Preprocess
from varifocal.errors import DataError
from varifocal.models.info import ModelInfo
from varifocal.models.vfnet import VFNetConfig
from varifocal.ops.nms import PostProcess
from varifocal.predict import Model
from varifocal.types import Category, Outputs

CATEGORIES = (Category(7, "spot"), Category(3, "other"))


class Spot(nn.Module):
    """Finds the box around what is brighter than the mean, at three scores and in two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.batches = []

    def forward(self, images):
        assert not self.training
        self.batches.append(tuple(images.shape))
        boxes = []
        for image in images:
            y, x = (image[0] > 0).nonzero(as_tuple=True)
            boxes.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
        return Outputs({"boxes": torch.tensor(boxes).float()}, ((1, 3),))

    def decode(self, outputs, sizes):
        box = outputs.tensors["boxes"][:, None]
        shift = torch.tensor([0.0, 500.0, 900.0]).view(1, 3, 1)
        scores = torch.tensor([[0.9, 0.04], [0.01, 0.5], [0.3, 0.0]]).expand(len(sizes), -1, -1)
        return box + shift, scores


@pytest.fixture
def model():
    settings = Preprocess(short=100, long=1000)
    return Model(Spot(), ModelInfo("vfnet", VFNetConfig(2), CATEGORIES, settings, PostProcess()))


def spot(width=400, height=250, box=(120, 60, 220, 160)):
    image = Image.new("RGB", (width, height))
    image.paste((255, 255, 255), box)
    return image


def test_boxes_are_in_pixels_of_the_original_picture(model):
    found = model.predict(spot())
    assert model.detector.batches == [(1, 3, 128, 160)]
    assert np.abs(found.boxes[0] - [120, 60, 220, 160]).max() <= 2.6  # one pixel of the resized picture is 2.5
    assert found.scores.tolist() == pytest.approx([0.9, 0.5, 0.3])
    assert found.labels.tolist() == [0, 1, 0]
    assert found.names == ["spot", "other", "spot"]
    assert found.categories == CATEGORIES


def test_a_list_is_one_batch_and_each_picture_keeps_its_own_scale(model):
    found = model.predict([spot(), spot(800, 600, (80, 240, 400, 480))])
    assert len(model.detector.batches) == 1
    assert np.abs(found[0].boxes[0] - [120, 60, 220, 160]).max() <= 2.6
    assert np.abs(found[1].boxes[0] - [80, 240, 400, 480]).max() <= 6.1


def test_one_picture_gives_one_result_and_a_list_a_list(model):
    assert isinstance(model.predict([spot()]), list)
    assert len(model.predict(spot())) == 3
    assert model.predict([]) == []


def test_paths_arrays_and_pictures_are_the_same(model, tmp_path):
    image, file = spot(), tmp_path / "a.png"
    image.save(file)
    found = [model.predict(one) for one in (image, np.asarray(image), file, str(file), image.convert("L"))]
    assert all(np.array_equal(one.boxes, found[0].boxes) for one in found)
    mixed = model.predict([image, file])
    assert np.array_equal(mixed[0].boxes, mixed[1].boxes)


def test_thresholds_of_the_call_and_of_the_model(model):
    assert model.predict(spot(), score_threshold=0.4).scores.tolist() == pytest.approx([0.9, 0.5])
    assert len(model.predict(spot(), score_threshold=0.95)) == 0
    assert model.predict(spot(), max_detections=1).scores.tolist() == pytest.approx([0.9])
    assert len(model.predict(spot(), score_threshold=0.0)) == 5
    assert model.info.postprocess == PostProcess()


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_put_back(model, training):
    model.train(training)
    model.predict(spot())
    assert model.training == model.detector.training == training


def test_the_mode_is_put_back_after_an_error(model):
    model.train()
    model.detector.forward = lambda images: 1 / 0
    with pytest.raises(ZeroDivisionError):
        model.predict(spot())
    assert model.detector.training


def test_a_missing_picture_is_a_sentence(model):
    with pytest.raises(DataError, match=r"nowhere\.png: the image does not exist"):
        model.predict(Path("nowhere.png"))
