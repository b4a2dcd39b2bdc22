"""Resize, normalisation and padding against Pillow and numbers worked out by hand."""

import numpy as np
import pytest
import torch
from PIL import Image

from varifocal.data.preprocess import (
    Preprocess,
    image_to_tensor,
    normalise,
    pad_together,
    resize,
    resized_shape,
)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (640, 480, (1067, 800)),
        (480, 640, (800, 1067)),
        (2000, 500, (1333, 333)),
        (500, 2000, (333, 1333)),
        (800, 800, (800, 800)),
        (1333, 800, (1333, 800)),
        (100, 50, (1333, 667)),
        (1, 5000, (1, 1333)),
    ],
)
def test_coco_rule(width, height, expected):
    assert resized_shape(height, width, Preprocess()) == expected[::-1]


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [((400, 400), 1.5, (600, 600)), ((3000, 1000), 2.0, (4096, 1365)), ((3, 3), 0.1, (1, 1))],
)
def test_fixed_scale_is_bounded_by_max_side_and_one_pixel(size, scale, expected):
    assert resized_shape(*size, Preprocess(scale=scale)) == expected


@pytest.mark.parametrize("size", [(40, 53), (97, 60), (31, 200), (120, 90), (1, 1)])
def test_resize_is_pillows(size):
    pixels = np.random.default_rng(0).integers(0, 256, (61, 90, 3), dtype=np.uint8)
    ours = resize(image_to_tensor(Image.fromarray(pixels)), *size).permute(1, 2, 0).numpy()
    theirs = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))
    assert ours.shape == (*size, 3)
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_resize_to_the_same_size_changes_nothing():
    image = torch.randint(0, 256, (3, 8, 9), dtype=torch.uint8)
    assert torch.equal(resize(image, 8, 9), image)


def test_image_to_tensor_is_rgb_in_rows():
    image = Image.new("RGB", (3, 2))
    image.putpixel((2, 0), (10, 20, 30))
    tensor = image_to_tensor(image)
    assert tensor.shape == (3, 2, 3)
    assert tensor[:, 0, 2].tolist() == [10, 20, 30]
    assert tensor.sum() == 60


def test_normalise():
    image = torch.full((3, 1, 1), 100, dtype=torch.uint8)
    config = Preprocess(mean=(90.0, 100.0, 120.0), std=(10.0, 5.0, 40.0))
    assert normalise(image, config).flatten().tolist() == [1.0, 0.0, -0.5]


def test_padding_is_zero_at_the_right_and_the_bottom_up_to_the_divisor():
    images = [torch.ones(3, 33, 20), 2 * torch.ones(3, 10, 64)]
    batch = pad_together(images, 32)
    assert batch.shape == (2, 3, 64, 64)
    for place, image in zip(batch, images, strict=True):
        height, width = image.shape[1:]
        assert torch.equal(place[:, :height, :width], image)
        assert place.sum() == image.sum()
    assert pad_together([torch.zeros(3, 64, 32)], 32).shape == (1, 3, 64, 32)


def test_normalise_for_weights_of_caffe():
    """Blue first, and the mean and the deviation in that order too."""
    pixel = torch.tensor([10, 20, 30], dtype=torch.uint8).view(3, 1, 1)
    config = Preprocess(mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0), bgr=True)
    assert normalise(pixel, config).flatten().tolist() == [29.0, 9.0, 1.75]
