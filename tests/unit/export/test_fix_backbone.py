"""TensorFlow's padding, fixed for one size, on images of other sizes."""

import copy

import pytest
import timm
import torch

from varifocal.export.fix_backbone import fix_padding


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_mixnet_s"])
@pytest.mark.parametrize("size", [(96, 160), (32, 64), (128, 96)])
def test_multiples_of_the_stride_are_padded_as_before(name, size):
    torch.manual_seed(0)
    network = timm.create_model(name, features_only=True, out_indices=(-3, -2, -1)).eval()
    fixed = copy.deepcopy(network)
    fix_padding(fixed, torch.zeros(1, 3, 96, 160))
    assert not any("Same" in type(module).__name__ for module in fixed.modules())
    image = torch.randn(2, 3, *size)
    for expected, found in zip(network(image), fixed(image), strict=True):
        assert torch.equal(expected, found)


def test_a_pool_reads_nothing_beside_the_map():
    """All values are below zero, so that zeros in the padding would be the maximum."""
    from timm.layers.pool2d_same import MaxPool2dSame

    network = torch.nn.Sequential(MaxPool2dSame(3, 2))
    fixed = copy.deepcopy(network)
    fix_padding(fixed, torch.zeros(1, 1, 8, 8))
    image = -1 - torch.rand(1, 1, 16, 8)
    assert torch.equal(fixed(image), network(image))


def test_without_such_layers_nothing_is_computed():
    class Never(torch.nn.Module):
        def forward(self, x):
            raise AssertionError

    fix_padding(Never(), torch.zeros(1, 3, 8, 8))
