"""The star convolution against a literal reading of nine points per cell."""

import math

import pytest
import torch
from torchvision.ops import deform_conv2d

from varifocal.ops import star_conv as module
from varifocal.ops.star_conv import star_conv, star_offsets


def sample(plane: list[list[float]], y: float, x: float) -> float:
    """Bilinear, zero outside the map."""
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < len(plane) and 0 <= column < len(plane[0]):
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * plane[row][column]
    return total


def literal_star(features: torch.Tensor, distances: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """At each cell the point, its projections on the sides of its box and the corners, weighted and summed."""
    batch, channels, height, width = features.shape
    planes, kernel = features.tolist(), weight.tolist()
    output = torch.zeros(batch, len(kernel), height, width, dtype=torch.float64)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                left, top, right, bottom = distances[b, :, y, x].tolist()
                for tap_row, place_y in enumerate((y - top, y, y + bottom)):
                    for tap_column, place_x in enumerate((x - left, x, x + right)):
                        for c in range(channels):
                            value = sample(planes[b][c], place_y, place_x)
                            for o in range(len(kernel)):
                                output[b, o, y, x] += kernel[o][c][tap_row][tap_column] * value
    return output


def inputs(seed: int, shape: tuple[int, int, int, int] = (2, 3, 5, 6), outputs: int = 4):
    """Features, distances of a few cells, weight, in float64."""
    rng = torch.Generator().manual_seed(seed)
    batch, channels, height, width = shape
    features = torch.randn(shape, generator=rng, dtype=torch.float64)
    distances = torch.rand(batch, 4, height, width, generator=rng, dtype=torch.float64) * 4
    return features, distances, torch.randn(outputs, channels, 3, 3, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(2, 3, 5, 6), (1, 1, 1, 1), (3, 2, 1, 4), (1, 2, 4, 1)])
def test_nine_points_of_the_box_are_read(shape):
    features, distances, weight = inputs(0, shape)
    found = star_conv(features, star_offsets(distances), weight)
    torch.testing.assert_close(found, literal_star(features, distances, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_to_deformable_convolution(dtype):
    features, distances, weight = (part.to(dtype) for part in inputs(1, (2, 4, 7, 9)))
    offsets = star_offsets(distances)
    wanted = deform_conv2d(features, offsets, weight, padding=1)
    torch.testing.assert_close(star_conv(features, offsets, weight), wanted)


def test_a_box_of_one_cell_each_way_is_the_plain_convolution():
    features, distances, weight = inputs(2)
    found = star_conv(features, star_offsets(torch.ones_like(distances)), weight)
    torch.testing.assert_close(found, torch.nn.functional.conv2d(features, weight, padding=1))


def test_gradients_against_differences():
    """The places stay away from whole cells, where the slope jumps."""
    features, distances, weight = inputs(3, (2, 2, 3, 4), 2)
    offsets = star_offsets(distances)
    offsets = offsets.floor() + 0.2 + 0.6 * offsets.frac().abs()
    tensors = [part.clone().requires_grad_() for part in (features, offsets, weight)]
    assert torch.autograd.gradcheck(star_conv, tensors)


def test_gradients_equal_to_deformable_convolution():
    tensors = [part.clone().requires_grad_() for part in inputs(4, (2, 4, 7, 9))]
    features, distances, weight = tensors
    ours = star_conv(features, star_offsets(distances), weight)
    theirs = deform_conv2d(features, star_offsets(distances), weight, padding=1)
    direction = torch.randn_like(ours)
    for mine, wanted in zip(
        torch.autograd.grad(ours, tensors, direction),
        torch.autograd.grad(theirs, tensors, direction),
        strict=True,
    ):
        torch.testing.assert_close(mine, wanted)


def test_chunks_make_no_difference(monkeypatch):
    features, distances, weight = inputs(5)
    whole = star_conv(features, star_offsets(distances), weight)
    for size in (1, 5 * 9 * 3 * 8):
        monkeypatch.setattr(module, "CHUNK_BYTES", size)
        torch.testing.assert_close(star_conv(features, star_offsets(distances), weight), whole)


@pytest.mark.parametrize("far", [1e3, 1e9, 1e30, math.inf])
def test_far_outside_reads_zero(far):
    """Only the tap of the point itself is left."""
    features, distances, weight = inputs(6)
    found = star_conv(features, star_offsets(torch.full_like(distances, far)), weight)
    centre = torch.nn.functional.conv2d(features, weight[:, :, 1:2, 1:2])
    torch.testing.assert_close(found, centre)


def test_nan_is_no_crash():
    features, distances, weight = inputs(7)
    distances[0, 0, 0, 0] = math.nan
    found = star_conv(features, star_offsets(distances), weight)
    clean = star_conv(features, star_offsets(distances.nan_to_num()), weight)
    assert found.shape == clean.shape
    torch.testing.assert_close(found[1], clean[1])
    torch.testing.assert_close(found[0, :, 1:], clean[0, :, 1:])


def test_memory_layout_makes_no_difference():
    features, distances, weight = inputs(8)
    wanted = star_conv(features, star_offsets(distances), weight)
    strided = features.repeat_interleave(2, dim=3)[..., ::2]
    last = features.to(memory_format=torch.channels_last)
    offsets = star_offsets(distances).transpose(2, 3).contiguous().transpose(2, 3)
    for layout in (strided, last):
        assert not layout.is_contiguous()
        torch.testing.assert_close(star_conv(layout, offsets, weight), wanted)


def test_bfloat16_features_with_float32_offsets():
    features, distances, weight = (part.float() for part in inputs(9))
    rounded, kernel = features.bfloat16(), weight.bfloat16()
    offsets = star_offsets(distances)
    found = star_conv(rounded, offsets, kernel)
    wanted = star_conv(rounded.float(), offsets, kernel.float())
    torch.testing.assert_close(found.float(), wanted, rtol=2e-2, atol=0.1)


def test_under_autocast_with_gradients():
    """The places are computed in float32 inside: bfloat16 would move them by tenths of a cell."""
    tensors = [part.float().requires_grad_() for part in inputs(10, (2, 3, 9, 11))]
    features, distances, weight = tensors
    wanted = star_conv(features, star_offsets(distances), weight)
    with torch.autocast("cpu", torch.bfloat16):
        found = star_conv(features, star_offsets(distances), weight)
    torch.testing.assert_close(found.float(), wanted, rtol=2e-2, atol=0.1)
    found.float().sum().backward()
    for part in tensors:
        assert part.grad is not None
        assert part.grad.isfinite().all()


def test_offsets_are_the_table_of_the_paper():
    left, top, right, bottom = 2.0, 3.0, 5.0, 7.0
    found = star_offsets(torch.tensor([left, top, right, bottom]).view(1, 4, 1, 1))
    wanted = [1 - top, 1 - left, 1 - top, 0, 1 - top, right - 1]
    wanted += [0, 1 - left, 0, 0, 0, right - 1]
    wanted += [bottom - 1, 1 - left, bottom - 1, 0, bottom - 1, right - 1]
    assert found.flatten().tolist() == wanted
