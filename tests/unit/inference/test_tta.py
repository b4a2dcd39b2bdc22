"""Several passes at one image: what each is given, and that their boxes are those of the image."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from varifocal.data.preprocess import normalize, pad_batch, pil_to_tensor, resize
from varifocal.inference.model import (
    Model,
    ModelInfo,
    concat_candidates,
    create_model,
    from_metadata,
    hflip_boxes,
    to_metadata,
)
from varifocal.models.vfnet import VFNetConfig
from varifocal.ops.nms import multiclass_nms
from varifocal.structures import Candidates, Outputs
from varifocal.types import PAPER_TTA, TTA, Category, PostProcess, Preprocess, Tiling, resized_shape, scaled_resize
from varifocal.utils.config import from_dict
from varifocal.utils.errors import ConfigError

CATEGORIES = (Category(1, "left"), Category(2, "other"))


class Log(list):
    """Kept by the copy of a detector that prediction makes."""

    def __deepcopy__(self, memo):
        return self


class Bright(nn.Module):
    """Finds what is brighter than the mean; the score says how far right in its own input it begins.

    So that every pass gives another score, and a list of scores shows which passes there were.
    """

    def __init__(self, quality=False):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.shapes, self.quality = Log(), quality

    def forward(self, images):
        self.shapes.append(tuple(images.shape))
        boxes = []
        for image in images:
            y, x = (image[0] > 0).nonzero(as_tuple=True)
            boxes.append([x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0, 0, 0, 0])
        return Outputs({"boxes": torch.tensor(boxes).float()}, ((1, 1),))

    def decode(self, outputs, sizes):
        box = outputs.tensors["boxes"][:, None]
        start = torch.stack([box[i, :, 0] / sizes[i][1] for i in range(len(sizes))])
        scores = torch.stack([0.1 + 0.8 * start, torch.zeros_like(start)], dim=2)
        return Candidates(box, scores, (1,), torch.full_like(start, 0.5) if self.quality else None)


def make(views, *, iou=1.0, quality=False, **settings):
    info = ModelInfo("vfnet", VFNetConfig(2), CATEGORIES, Preprocess(**settings), PostProcess(nms_iou=iou), tta=views)
    return Model(Bright(quality), info)


def spot(width=400, height=250, box=(120, 60, 220, 160)):
    image = Image.new("RGB", (width, height))
    image.paste((255, 255, 255), box)
    return image


SIZE = {"short_side": 250, "max_long_side": 1000}  # the image as it is


def test_a_mirrored_pass_gives_the_image_its_boxes_back():
    """The mirrored spot begins at 180 of 400, so its score is higher; both are where the spot is, to the pixel."""
    found = make(TTA((1.0,), flip=True), **SIZE).predict(spot())
    assert found.scores.tolist() == pytest.approx([0.1 + 0.8 * 180 / 400, 0.1 + 0.8 * 120 / 400])
    assert found.boxes.tolist() == [[120, 60, 220, 160]] * 2


def test_passes_at_several_sizes():
    """Each in its own size, padded to 32, first as it is and then mirrored; all boxes in pixels of the image."""
    model = make(TTA((0.5, 1.0, 2.0), flip=True), **SIZE)
    found = model.predict(spot())
    assert model.detector.shapes == [(1, 3, 128, 224)] * 2 + [(1, 3, 256, 416)] * 2 + [(1, 3, 512, 800)] * 2
    assert len(found) == 6
    assert np.abs(found.boxes - [120, 60, 220, 160]).max() <= 2.01  # one pixel at half the size
    assert (np.diff(found.scores) <= 0).all()


def test_what_several_passes_found_is_suppressed_together():
    model = make(TTA((0.5, 1.0, 2.0), flip=True), iou=0.6, **SIZE)
    found = model.predict(spot())
    assert len(found) == 1
    assert found.scores[0] == pytest.approx(0.1 + 0.8 * 180 / 400, abs=0.01)
    many = make(TTA((0.5, 1.0, 2.0), flip=True), **SIZE).predict(spot(), max_detections=4)
    assert len(many) == 4


@pytest.mark.parametrize("views", [TTA((1.0,)), TTA((1.0, 1.0)), TTA((1.0,), flip=True)])
def test_quality_stays_with_its_box(views):
    plain = make(views, **SIZE).predict(spot(), score_threshold=0.0)
    halved = make(views, quality=True, **SIZE).predict(spot(), score_threshold=0.0)
    assert halved.scores.tolist() == pytest.approx((plain.scores / 2).tolist())
    assert np.array_equal(halved.boxes, plain.boxes)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_each_image_of_a_list_keeps_its_own(count):
    """Eight passes take the images one by one, so that no more is in memory than without them."""
    model = make(PAPER_TTA, iou=0.5, **SIZE)
    images = [spot(box=(10 * i, 60, 10 * i + 100, 160)) for i in range(count)]
    found = model.predict(images)
    assert {shape[0] for shape in model.detector.shapes} == {1}
    assert len(model.detector.shapes) == 8 * count
    for i, one in enumerate(found):
        assert np.abs(one.boxes - [10 * i, 60, 10 * i + 100, 160]).max() <= 2.01


def test_one_plain_pass_is_plain_prediction():
    """To the last bit, on a real detector; the default is one plain pass."""
    torch.manual_seed(0)
    model = create_model("vfnet", backbone="test_resnet", num_classes=3, channels=32, num_levels=3, num_convs=1)
    model.info = replace(model.info, preprocess=Preprocess(short_side=100, max_long_side=150))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8))
    assert model.info.tta == TTA() == TTA((1.0,), flip=False)
    plain = model.predict([image], score_threshold=0.0)[0]
    with torch.inference_mode():
        shape = resized_shape(70, 90, model.info.preprocess)
        batch = pad_batch([resize(pil_to_tensor(image), *shape)], 32)
        batch = normalize(batch, [shape], model.info.preprocess)
        decoded = model.detector.decode(model.forward_optimized(batch), [shape])
        boxes = decoded.boxes[0] * torch.tensor([90 / shape[1], 70 / shape[0]] * 2)
        settings = PostProcess(score_threshold=0.0)
        box, score, label = multiclass_nms(boxes, decoded.scores[0], decoded.counts, settings)
    assert len(plain) > 20
    assert np.array_equal(plain.boxes, box.numpy())
    assert np.array_equal(plain.scores, score.numpy())
    assert np.array_equal(plain.labels, label.numpy())


def test_tiles_have_several_passes_too():
    """The spot is whole in the two windows at the left; four passes at each of them."""
    model = make(TTA((1.0, 1.5), flip=True), scale=1.0)
    model.info = replace(
        model.info, tiling=Tiling(250, 100), postprocess=PostProcess(score_threshold=0.05, nms_iou=0.5)
    )
    found = model.predict(spot(400, 250, (20, 60, 120, 160)))
    assert len(model.detector.shapes) == 4
    assert sorted({shape[2:] for shape in model.detector.shapes}) == [(256, 256), (384, 384)]
    best = found.boxes[0]
    assert np.abs(best - [20, 60, 120, 160]).max() <= 1.01


def test_a_scale_multiplies_the_models_own_resize():
    assert scaled_resize(Preprocess(short_side=800, max_long_side=1333), 1.125) == Preprocess(
        short_side=900, max_long_side=1500
    )
    assert scaled_resize(Preprocess(scale=0.5), 1.5).scale == 0.75
    assert scaled_resize(Preprocess(), 1.0) == Preprocess()


def test_the_papers_eight_passes():
    assert PAPER_TTA.count == 8
    assert [scaled_resize(Preprocess(), scale).short_side for scale in PAPER_TTA.scales] == [800, 900, 1000, 1200]


def test_mirror_is_its_own_opposite():
    boxes = torch.tensor([[0.0, 1.0, 4.0, 5.0], [7.5, 2.0, 10.0, 3.0]])
    assert hflip_boxes(boxes, 10).tolist() == [[6.0, 1.0, 10.0, 5.0], [0.0, 2.0, 2.5, 3.0]]
    assert torch.equal(hflip_boxes(hflip_boxes(boxes, 10), 10), boxes)
    assert hflip_boxes(torch.zeros(0, 4), 10).shape == (0, 4)


def test_levels_of_joined_passes_stay_apart():
    """So that the best of each level of each pass are preselected, as in so many passes."""
    passes = [Candidates(torch.full((1, n, 4), float(n)), torch.full((1, n, 2), 0.5), (n - 1, 1)) for n in (3, 5)]
    joined = concat_candidates(passes)
    assert joined.counts == (2, 1, 4, 1)
    assert joined.boxes[0, :, 0].tolist() == [3.0] * 3 + [5.0] * 5
    assert joined.quality is None


def test_views_survive_the_checkpoint_and_older_ones_have_none():
    model = make(PAPER_TTA)
    described = to_metadata(model.info)
    assert from_metadata(described, "x").tta == PAPER_TTA
    del described["tta"]
    assert from_metadata(described, "x").tta == TTA()


@pytest.mark.parametrize("values", [{"scales": []}, {"scales": [0]}, {"scales": [1, -1]}, {"flip": "often"}])
def test_bounds(values):
    with pytest.raises(ConfigError, match=rf"^x: {next(iter(values))}"):
        from_dict(TTA, values, "x")
