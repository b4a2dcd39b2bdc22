"""Stars by hand, from outputs that a network might have given, and detections equal to those of prediction."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import varifocal as vf
from varifocal.analysis.star_points import Stars, has_stars, predict_with_stars
from varifocal.ops.kernels.star_operator import star_offsets
from varifocal.structures import Outputs
from varifocal.types import TTA, PostProcess, Preprocess, Tiling


def make_model(**options):
    torch.manual_seed(0)
    model = vf.create_model(
        "vfnet", backbone="test_resnet", num_classes=2, channels=32, num_levels=3, num_convs=1, **options
    )
    model.info = replace(model.info, preprocess=Preprocess(scale=2.0))
    return model


def say(model, monkeypatch, *boxes):
    """Let the network find ``boxes``: (index of the point, label, score, initial, refined distances)."""

    def forward(images):
        batch, _, height, width = images.shape
        shapes = tuple((height // stride, width // stride) for stride in (8, 16, 32))
        count = sum(rows * columns for rows, columns in shapes)
        logits = torch.full((batch, count, 2), -20.0)
        initial, refined = torch.full((batch, count, 4), 8.0), torch.full((batch, count, 4), 8.0)
        for point, label, score, first, last in boxes:
            logits[:, point, label] = torch.logit(torch.tensor(score))
            initial[:, point], refined[:, point] = torch.tensor(first), torch.tensor(last)
        return Outputs({"logits": logits, "initial": initial, "refined": refined}, shapes)

    monkeypatch.setattr(model, "forward_optimized", forward)


def test_a_star_by_hand(monkeypatch):
    """An image of 48 x 32 is seen as 96 x 64, so that level 0 has 12 points in a row and level 1 has 6."""
    model = make_model()
    near = (3 * 12 + 5, 1, 0.9, (16.0, 8.0, 20.0, 12.0), (18.0, 10.0, 22.0, 14.0))  # of the point (40, 24)
    far = (96 + 2 * 6 + 1, 0, 0.4, (40.0, 4.0, 8.0, 48.0), (16.0, 6.0, 10.0, 40.0))  # of (16, 32), leaving the image
    say(model, monkeypatch, near, far)
    found, stars = predict_with_stars(model, Image.new("RGB", (48, 32)))
    assert found.labels.tolist() == [1, 0]
    assert found.boxes.tolist() == [[11, 7, 31, 19], [0, 13, 13, 32]]
    assert stars.refined.tolist() == found.boxes.tolist()
    assert stars.centers.tolist() == [[20, 12], [8, 16]]
    assert stars.initial.tolist() == [[12, 8, 30, 18], [-12, 14, 12, 40]]
    rows = [[(12, 8), (20, 8), (30, 8)], [(12, 12), (20, 12), (30, 12)], [(12, 18), (20, 18), (30, 18)]]
    assert stars.points[0].tolist() == [list(point) for row in rows for point in row]


def test_the_points_are_where_the_convolution_reads(monkeypatch):
    """The place of a tap in the grid plus its offset, in cells of the level, times the stride."""
    distances = torch.tensor([16.0, 8.0, 20.0, 12.0])
    model = make_model()
    model.info = replace(model.info, preprocess=Preprocess(scale=1.0))
    say(model, monkeypatch, (3 * 12 + 5, 0, 0.9, distances.tolist(), (8.0, 8.0, 8.0, 8.0)))
    _, stars = predict_with_stars(model, Image.new("RGB", (96, 64)))
    offsets = star_offsets((distances / 8)[None, :, None, None])[0, :, 0, 0].reshape(9, 2)
    taps = [(3 + dy, 5 + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    read = [[8 * (x + float(dx)), 8 * (y + float(dy))] for (y, x), (dy, dx) in zip(taps, offsets, strict=True)]
    assert stars.points[0].tolist() == read


def test_tiles_and_mirrored_passes(monkeypatch):
    """Each window of 32 x 32 (seen as 64 x 64, 8 points in a row) has one box; seen mirrored it has it mirrored."""
    model = make_model()
    model.info = replace(model.info, tiling=Tiling(32, 8), postprocess=PostProcess(nms_iou=1.0))
    say(model, monkeypatch, (2 * 8 + 3, 0, 0.9, (4.0, 6.0, 8.0, 10.0), (6.0, 8.0, 10.0, 12.0)))  # of (24, 16)
    found, stars = predict_with_stars(model, Image.new("RGB", (56, 32)))
    assert sorted(stars.centers.tolist()) == [[12, 8], [12 + 24, 8]]
    assert sorted(stars.initial.tolist()) == [[10, 5, 16, 13], [34, 5, 40, 13]]
    assert sorted(found.boxes.tolist()) == [[9, 4, 17, 14], [33, 4, 41, 14]]
    model.info = replace(model.info, tiling=Tiling(), tta=TTA((1.0,), flip=True))
    found, stars = predict_with_stars(model, Image.new("RGB", (32, 32)))
    assert sorted(stars.initial.tolist()) == [[10, 5, 16, 13], [16, 5, 22, 13]]
    assert sorted(stars.centers.tolist()) == [[12, 8], [20, 8]]


@pytest.mark.parametrize("tiling", [Tiling(), Tiling(40, 10), Tiling(40, 10, 0.5)])
@pytest.mark.parametrize(("select", "norm"), [("pairs", "none"), ("points", "group")])
def test_detections_are_those_of_prediction(tiling, select, norm):
    model = make_model(star_norm=norm)
    post = PostProcess(score_threshold=0.0, nms_pre=30, max_detections=50, topk_mode=select)
    model.info = replace(model.info, tiling=tiling, postprocess=post)
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    found, stars = predict_with_stars(model, pixels)
    wanted = model.predict(pixels)
    for name in ("boxes", "scores", "labels"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name))
    assert len(stars.points) == len(found) > 5
    if not tiling.vote:
        assert np.array_equal(stars.refined, found.boxes)
    inside = (stars.centers >= stars.initial[:, :2]) & (stars.centers <= stars.initial[:, 2:])
    assert inside.all()


def test_models_without_a_star():
    assert not has_stars(make_model(star=False))
    assert not has_stars(vf.create_model("atss", backbone="test_resnet", num_classes=2, channels=32))
    with pytest.raises(ValueError, match="star"):
        predict_with_stars(make_model(star=False), np.zeros((8, 8, 3), np.uint8))


def test_no_detection(monkeypatch):
    model = make_model()
    say(model, monkeypatch)
    found, stars = predict_with_stars(model, Image.new("RGB", (32, 32)))
    assert len(found) == 0
    assert stars.points.shape == (0, 9, 2)
    assert isinstance(stars.take(np.zeros(0, np.int64)), Stars)
