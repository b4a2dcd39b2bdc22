"""Resize, normalization and padding against Pillow and numbers worked out by hand."""

import numpy as np
import pytest
import torch
from PIL import Image

from varifocal.data.preprocess import normalize, pad_batch, pil_to_tensor, resize
from varifocal.types import Preprocess, resized_shape


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
    ours = resize(pil_to_tensor(Image.fromarray(pixels)), *size).permute(1, 2, 0).numpy()
    theirs = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))
    assert ours.shape == (*size, 3)
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_resize_to_the_same_size_changes_nothing():
    image = torch.randint(0, 256, (3, 8, 9), dtype=torch.uint8)
    assert torch.equal(resize(image, 8, 9), image)


def test_a_resized_part_is_channels_last_and_the_same_as_from_planes():
    image = torch.randint(0, 256, (20, 30, 3), dtype=torch.uint8).permute(2, 0, 1)[:, 3:17, 5:28]
    ours = resize(image, 25, 31)
    assert ours.permute(1, 2, 0).is_contiguous()
    assert torch.equal(ours, resize(image.contiguous(), 25, 31))


def test_image_to_tensor_is_rgb_in_rows():
    image = Image.new("RGB", (3, 2))
    image.putpixel((2, 0), (10, 20, 30))
    tensor = pil_to_tensor(image)
    assert tensor.shape == (3, 2, 3)
    assert tensor[:, 0, 2].tolist() == [10, 20, 30]
    assert tensor.sum() == 60


def test_image_to_tensor_of_other_pixels_is_rgb_too():
    gray = Image.new("L", (2, 1), 7)
    assert pil_to_tensor(gray).flatten().tolist() == [7] * 6


def test_normalize():
    image = torch.full((1, 3, 1, 1), 100, dtype=torch.uint8)
    config = Preprocess(mean=(90.0, 100.0, 120.0), std=(10.0, 5.0, 40.0))
    assert normalize(image, [(1, 1)], config).flatten().tolist() == [1.0, 0.0, -0.5]


@pytest.mark.parametrize("bgr", [False, True])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_normalize_is_a_loop_over_pixels(bgr, memory_format):
    """Zero, which is the mean color, where there is padding, whatever the bytes there."""
    bytes_ = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    sizes = [(3, 7), (5, 4)]
    config = Preprocess(bgr=bgr)
    expected = np.zeros((2, 3, 5, 7), np.float32)
    for i, (height, width) in enumerate(sizes):
        for channel in range(3):
            for y in range(height):
                for x in range(width):
                    value = np.float32(bytes_[i, 2 - channel if bgr else channel, y, x].item())
                    expected[i, channel, y, x] = (value - np.float32(config.mean[channel])) / np.float32(
                        config.std[channel]
                    )
    found = normalize(bytes_.contiguous(memory_format=memory_format), sizes, config)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(found.numpy(), expected)


def test_normalize_without_images():
    assert normalize(torch.zeros(0, 3, 32, 32, dtype=torch.uint8), [], Preprocess()).shape == (0, 3, 32, 32)


def test_padding_is_zero_at_the_right_and_the_bottom_up_to_the_divisor():
    images = [torch.full((3, *size), value, dtype=torch.uint8) for value, size in ((1, (33, 20)), (2, (10, 64)))]
    batch = pad_batch(images, 32)
    assert batch.shape == (2, 3, 64, 64)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for place, image in zip(batch, images, strict=True):
        height, width = image.shape[1:]
        assert torch.equal(place[:, :height, :width], image)
        assert place.sum() == image.sum()
    assert pad_batch([torch.zeros(3, 64, 32, dtype=torch.uint8)], 32).shape == (1, 3, 64, 32)


def test_normalize_for_weights_of_caffe():
    """Blue first, and the mean and the deviation in that order too."""
    pixel = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1)
    config = Preprocess(mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0), bgr=True)
    assert normalize(pixel, [(1, 1)], config).flatten().tolist() == [29.0, 9.0, 1.75]
