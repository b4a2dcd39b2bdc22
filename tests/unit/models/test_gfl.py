"""GFL's distributions at their ends."""

import math

import pytest
import torch

from varifocal.models.backbone import BackboneConfig
from varifocal.models.gfl import GFL, GFLConfig
from varifocal.structures import Outputs, Targets


@pytest.fixture(scope="module")
def model() -> GFL:
    config = GFLConfig(
        num_classes=1, backbone=BackboneConfig("test_resnet"), channels=16, num_levels=1, num_convs=1, bins=5
    )
    return GFL(config).eval()


def says(*distances: float) -> torch.Tensor:
    """Logits of one point that are sure of the mean of two neighboring bins, side by side."""
    logits = torch.full((4, 5), -100.0)
    for side, distance in enumerate(distances):
        low = min(int(distance), 3)
        logits[side, low] = math.log(max(1 - (distance - low), 1e-30))
        logits[side, low + 1] = math.log(max(distance - low, 1e-30))
    return logits.flatten()


def test_a_side_is_the_mean_of_its_distribution(model):
    tensors = {"logits": torch.zeros(1, 4, 1), "sides": torch.zeros(1, 4, 20)}
    tensors["sides"][0, 3] = says(1.0, 0.5, 3.25, 4.0)
    decoded = model.decode(Outputs(tensors, ((2, 2),)), [(100, 100)])
    assert decoded.boxes[0, 0].tolist() == [0.0, 0.0, 16.0, 16.0]  # an even distribution: the middle bin, 2
    assert decoded.boxes[0, 3].tolist() == pytest.approx([8 - 8, 8 - 4, 8 + 26, 8 + 32], abs=1e-4)


def test_a_box_beyond_the_last_bin_has_its_target_just_below(model):
    """Every side is 5 strides or more from the points near the middle; the last bin is 4, so the target is 3.9."""
    shapes = ((16, 16),)
    truth = Targets(torch.tensor([[16.0, 16.0, 112.0, 112.0]]), torch.tensor([0]), torch.tensor([False]), (128, 128))
    losses = {}
    for distance in (3.9, 3.0, 4.0):
        tensors = {"logits": torch.zeros(1, 256, 1), "sides": says(*[distance] * 4).expand(1, 256, 20)}
        losses[distance] = model.loss(Outputs(tensors, shapes), [truth])["distribution"].item()
    least = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert losses[3.9] == pytest.approx(0.25 * least, rel=1e-5)
    assert losses[3.9] < min(losses[3.0], losses[4.0])
