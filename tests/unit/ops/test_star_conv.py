"""The star convolution against a literal reading of nine points per cell."""

import math
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from torchvision.ops import deform_conv2d

from varifocal.ops.deform_conv import deform_conv2d_backward_op, deform_conv2d_op
from varifocal.ops.kernels import deform_cpu, deform_cpu_backward
from varifocal.ops.kernels.star_operator import (
    has_fused_star,
    points_to_offsets,
    star_conv_backward_op,
    star_conv_op,
    star_offsets,
)
from varifocal.ops.star_conv import SamplingPoints, free_points, star_conv, star_points


def sample(plane: list[list[float]], y: float, x: float) -> float:
    """Bilinear, zero outside the map."""
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < len(plane) and 0 <= column < len(plane[0]):
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * plane[row][column]
    return total


def literal(features: torch.Tensor, points, weight: torch.Tensor) -> torch.Tensor:
    """At each cell nine points (y, x) of ``points(b, y, x)``, row by row of the kernel, weighted and summed."""
    batch, channels, height, width = features.shape
    planes, kernel = features.tolist(), weight.flatten(2).tolist()
    output = torch.zeros(batch, len(kernel), height, width, dtype=torch.float64)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                for tap, place in enumerate(points(b, y, x)):
                    for c in range(channels):
                        value = sample(planes[b][c], *place)
                        for o in range(len(kernel)):
                            output[b, o, y, x] += kernel[o][c][tap] * value
    return output


def literal_star(features: torch.Tensor, distances: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The point, its projections on the sides of its box, and the corners."""

    def points(b, y, x):
        left, top, right, bottom = distances[b, :, y, x].tolist()
        return [(py, px) for py in (y - top, y, y + bottom) for px in (x - left, x, x + right)]

    return literal(features, points, weight)


def star(features: torch.Tensor, distances: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Of one level."""
    return star_conv([features], star_points([distances]), weight)[0]


def inputs(seed: int, shape: tuple[int, int, int, int] = (2, 3, 5, 6), outputs: int = 4, reach: float = 4):
    """Features, distances of a few cells, weight, in float64."""
    rng = torch.Generator().manual_seed(seed)
    batch, channels, height, width = shape
    features = torch.randn(shape, generator=rng, dtype=torch.float64)
    distances = torch.rand(batch, 4, height, width, generator=rng, dtype=torch.float64) * reach
    return features, distances, torch.randn(outputs, channels, 3, 3, generator=rng, dtype=torch.float64)


def between_cells(distances: torch.Tensor) -> torch.Tensor:
    """Away from whole cells, where the slope jumps."""
    return distances.floor() + 0.2 + 0.6 * distances.frac().abs()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(2, 3, 5, 6), (1, 1, 1, 1), (3, 2, 1, 4), (1, 2, 4, 1)])
def test_nine_points_of_the_box_are_read(shape, dtype):
    """float32 multiplies by oneDNN, float64 does not."""
    features, distances, weight = inputs(0, shape)
    found = star(*(part.to(dtype) for part in (features, distances, weight)))
    bound = {} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(found.double(), literal_star(features, distances, weight), **bound)


def test_nine_free_points_are_read():
    features, _, weight = inputs(1)
    points = torch.randn(2, 18, 5, 6, dtype=torch.float64) * 3

    def own(b, y, x):
        return [(y + dy, x + dx) for dy, dx in points[b, :, y, x].view(9, 2).tolist()]

    found = star_conv([features], free_points([points]), weight)[0]
    torch.testing.assert_close(found, literal(features, own, weight))


def test_levels_share_the_weight_and_nothing_else():
    sizes = [(5, 6), (3, 2), (1, 1)]
    parts = [inputs(i, (2, 3, *size)) for i, size in enumerate(sizes)]
    weight = parts[0][2].requires_grad_()
    levels = [part[0] for part in parts]
    found = star_conv(levels, star_points([part[1] for part in parts]), weight)
    alone = [star(level, part[1], weight) for level, part in zip(levels, parts, strict=True)]
    torch.testing.assert_close(found, alone)
    together, apart = (torch.autograd.grad(sum(x.square().sum() for x in way), weight)[0] for way in (found, alone))
    torch.testing.assert_close(together, apart)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_to_deformable_convolution(dtype):
    features, distances, weight = (part.to(dtype) for part in inputs(1, (2, 4, 7, 9)))
    wanted = deform_conv2d(features, star_offsets(distances), weight, padding=1)
    torch.testing.assert_close(star(features, distances, weight), wanted)


def test_a_box_of_one_cell_each_way_is_the_plain_convolution():
    features, distances, weight = inputs(2)
    found = star(features, torch.ones_like(distances), weight)
    torch.testing.assert_close(found, torch.nn.functional.conv2d(features, weight, padding=1))


def test_gradients_against_differences():
    features, distances, weight = inputs(3, (2, 2, 3, 4), 2)
    tensors = [part.clone().requires_grad_() for part in (features, between_cells(distances), weight)]
    assert torch.autograd.gradcheck(star, tensors)


def test_gradients_of_free_points_against_differences():
    features, _, weight = inputs(3, (2, 2, 3, 4), 2)
    points = between_cells(torch.randn(2, 18, 3, 4, dtype=torch.float64) * 2)
    tensors = [part.clone().requires_grad_() for part in (features, points, weight)]
    assert torch.autograd.gradcheck(lambda x, p, w: star_conv([x], free_points([p]), w)[0], tensors)


@pytest.mark.parametrize("needed", [(True, False, False), (False, True, False), (False, False, True)])
def test_each_gradient_alone_is_the_same(needed):
    parts = [part.clone() for part in inputs(4)]
    whole = [part.clone().requires_grad_() for part in parts]
    wanted = torch.autograd.grad(star(*whole).square().sum(), whole)
    alone = [part.clone().requires_grad_(need) for part, need in zip(parts, needed, strict=True)]
    i = needed.index(True)
    (found,) = torch.autograd.grad(star(*alone).square().sum(), alone[i])
    torch.testing.assert_close(found, wanted[i])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_equal_to_deformable_convolution(dtype):
    tensors = [part.to(dtype).requires_grad_() for part in inputs(4, (2, 4, 7, 9))]
    features, distances, weight = tensors
    ours = star(features, distances, weight)
    theirs = deform_conv2d(features, star_offsets(distances), weight, padding=1)
    direction = torch.randn_like(ours)
    bound = {} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    for mine, wanted in zip(
        torch.autograd.grad(ours, tensors, direction),
        torch.autograd.grad(theirs, tensors, direction),
        strict=True,
    ):
        torch.testing.assert_close(mine, wanted, **bound)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [1, 5 * 9 * 3 * 4])
def test_the_length_of_a_run_makes_no_difference(monkeypatch, size, threads):
    """Of cells whose columns are multiplied at once: one, five a thread, or all; float32 multiplies by oneDNN."""
    tensors = [part.float().requires_grad_() for part in inputs(5)]
    whole = star(*tensors)
    wanted = [whole, *torch.autograd.grad(whole.square().sum(), tensors)]
    monkeypatch.setattr(deform_cpu, "FORWARD_BYTES", size)
    monkeypatch.setattr(deform_cpu_backward, "BACKWARD_BYTES", size)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    runs = star(*tensors)
    found = [runs, *torch.autograd.grad(runs.square().sum(), tensors)]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("far", [1e3, 1e9, 1e30, math.inf])
def test_far_outside_reads_zero(far):
    """Only the tap of the point itself is left."""
    features, distances, weight = inputs(6)
    found = star(features, torch.full_like(distances, far), weight)
    center = torch.nn.functional.conv2d(features, weight[:, :, 1:2, 1:2])
    torch.testing.assert_close(found, center)


def test_nan_stays_where_it_is():
    features, distances, weight = inputs(7)
    distances[0, 0, 0, 0] = math.nan
    found = star(features, distances, weight)
    clean = star(features, distances.nan_to_num(), weight)
    assert found.shape == clean.shape
    torch.testing.assert_close(found[1], clean[1])
    torch.testing.assert_close(found[0, :, 1:], clean[0, :, 1:])


@pytest.mark.parametrize("shape", [(0, 3, 5, 6), (2, 3, 0, 6), (2, 3, 5, 0)])
def test_nothing_gives_nothing(shape):
    features, distances, weight = inputs(8, shape)
    tensors = [part.requires_grad_() for part in (features, distances, weight)]
    found = star(*tensors)
    assert found.shape == (shape[0], 4, *shape[2:])
    for part, grad in zip(tensors, torch.autograd.grad(found.sum(), tensors), strict=True):
        assert grad.shape == part.shape
        assert not grad.any()


def test_memory_layout_makes_no_difference():
    features, distances, weight = inputs(8)
    wanted = star(features, distances, weight)
    strided = features.repeat_interleave(2, dim=3)[..., ::2]
    last = features.to(memory_format=torch.channels_last)
    turned = distances.transpose(2, 3).contiguous().transpose(2, 3)
    kernel = weight.to(memory_format=torch.channels_last)
    for layout in (strided, last):
        assert not layout.is_contiguous()
        found = star(layout, turned, kernel)
        torch.testing.assert_close(found, wanted)
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_features_with_float32_distances():
    """Where the coordinates go beyond 128: in bfloat16 they would be half a cell off."""
    features, distances, weight = (part.float() for part in inputs(9, (1, 3, 2, 300), reach=9))
    rounded, kernel = features.bfloat16(), weight.bfloat16()
    tensors = [part.detach().requires_grad_() for part in (rounded, distances, kernel)]
    found = star(*tensors)
    assert found.dtype == torch.bfloat16
    exact = [part.detach().float().requires_grad_() for part in (rounded, distances, kernel)]
    wanted = star(*exact)
    torch.testing.assert_close(found.float(), wanted, rtol=2e-2, atol=0.1)
    direction = torch.randn_like(wanted)
    grads = torch.autograd.grad(found, tensors, direction.bfloat16())
    for part, grad, right in zip(tensors, grads, torch.autograd.grad(wanted, exact, direction), strict=True):
        assert grad.dtype == part.dtype
        assert (grad.float() - right).norm() < 0.02 * right.norm()


def test_under_autocast_with_gradients():
    """The places are computed in float32 inside: bfloat16 would move them by tenths of a cell."""
    tensors = [part.float().requires_grad_() for part in inputs(10, (2, 3, 9, 11))]
    wanted = star(*tensors)
    with torch.autocast("cpu", torch.bfloat16):
        found = star(*tensors)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=2e-2, atol=0.1)
    found.float().sum().backward()
    for part in tensors:
        assert part.grad is not None
        assert part.grad.dtype == torch.float32
        assert part.grad.isfinite().all()


def test_a_backward_pass_inside_autocast():
    """The types are those of the forward pass, which was outside."""
    tensors = [part.float().requires_grad_() for part in inputs(18)]
    wanted = torch.autograd.grad(star(*tensors).sum(), tensors)
    found = star(*tensors)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(torch.autograd.grad(found.sum(), tensors), wanted)


def test_old_gpus_have_no_fused_star(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not has_fused_star(torch.device("cuda", 7))
    assert not has_fused_star(torch.device("cpu"))


@pytest.mark.parametrize("what", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow), "export"])
def test_compiled_and_exported(what, tmp_path):
    """In a process of its own: the tests' type checks stand in the compiler's way."""
    script = Path(__file__).with_name("traced_star.py")
    command = [sys.executable, script, what, tmp_path]
    # the common cache may hold code for instructions that this process, or another processor in the same home, has not
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{what} agrees"


@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.parametrize("tabled", [True, False])
def test_the_operator_keeps_what_it_promises_to_the_compiler(tabled):
    """PyTorch's own check: schema, registration, shapes without data, derivative and tracing, on two levels."""
    parts = [[part.float() for part in inputs(17, (2, 3, *size))] for size in ((5, 6), (3, 4))]
    levels = [part[0].requires_grad_() for part in parts]
    distances, weight = [part[1] for part in parts], parts[0][2].requires_grad_()
    rows = star_points(distances).tables() if tabled else []
    cells, shares = [row.cells for row in rows], [row.weight.requires_grad_() for row in rows]
    args = (levels, weight, distances, cells, shares)
    torch.library.opcheck(torch.ops.varifocal.star_conv.default, args)
    grads = [torch.randn(2, 4, *level.shape[2:]) for level in levels]
    args = (*([x.detach() for x in part] for part in (levels, [weight], distances, cells, shares)), grads)
    args = (args[0], args[1][0], *args[2:])
    for needed in ([True, tabled, True], [False, False, True], [True, False, False]):
        torch.library.opcheck(torch.ops.varifocal.star_conv_backward.default, (*args, needed))


def test_the_operator_has_a_kernel_for_each_device():
    for name in ("star_conv", "star_conv_backward", "deform_conv2d", "deform_conv2d_backward"):
        for key in ("CPU", "CUDA", "Meta"):
            assert torch._C._dispatch_has_kernel_for_dispatch_key(f"varifocal::{name}", key), (name, key)


def test_without_a_table_the_operator_makes_its_own():
    features, distances, weight = inputs(19)
    row = star_points([distances]).tables()[0]
    operator = torch.ops.varifocal.star_conv
    wanted = operator([features], weight, [distances], [row.cells], [row.weight])[0]
    found = operator([features.requires_grad_()], weight.requires_grad_(), [distances], [], [])[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    slopes = torch.autograd.grad(found.square().sum(), (features, weight))
    rights = torch.autograd.grad(star(features, distances, weight).square().sum(), (features, weight))
    torch.testing.assert_close(slopes, rights)
    with pytest.raises(NotImplementedError, match="pass cells and fractions"):
        operator([features], weight, [distances.requires_grad_()], [], [])[0].sum().backward()


@pytest.fixture
def torchvision_kernels(monkeypatch):
    """The kernels that a GPU without Triton runs, on CPU tensors."""
    monkeypatch.setattr(SamplingPoints, "tables", lambda self: [])
    with ExitStack() as stack:
        for operator in (star_conv_op, star_conv_backward_op, deform_conv2d_op, deform_conv2d_backward_op):
            stack.enter_context(operator.set_kernel_enabled("cpu", enabled=False))
        yield


def bits(tensors) -> list[bytes]:
    return [part.detach().contiguous().numpy().tobytes() for part in tensors]


def test_the_kernel_of_other_gpus_is_torchvisions_to_the_last_bit(torchvision_kernels):
    """Results and gradients, of three levels that share a weight, which autograd adds up in its own order."""
    parts = [[part.float() for part in inputs(20 + i, (2, 3, 5 + i, 6))] for i in range(3)]
    levels, distances = ([part[i].requires_grad_() for part in parts] for i in (0, 1))
    weight = parts[0][2].requires_grad_()
    found = star_conv(levels, star_points(distances), weight)
    pairs = zip(levels, distances, strict=True)
    wanted = [deform_conv2d(level, star_offsets(place), weight, padding=1) for level, place in pairs]
    directions = [torch.randn_like(part) for part in wanted]
    mine, theirs = (torch.autograd.grad(way, [*levels, *distances, weight], directions) for way in (found, wanted))
    assert bits([*found, *mine]) == bits([*wanted, *theirs])


def test_offsets_are_the_table_of_the_paper():
    left, top, right, bottom = 2.0, 3.0, 5.0, 7.0
    found = star_offsets(torch.tensor([left, top, right, bottom]).view(1, 4, 1, 1))
    wanted = [1 - top, 1 - left, 1 - top, 0, 1 - top, right - 1]
    wanted += [0, 1 - left, 0, 0, 0, right - 1]
    wanted += [bottom - 1, 1 - left, bottom - 1, 0, bottom - 1, right - 1]
    assert found.flatten().tolist() == wanted


def test_offsets_of_the_regular_grid_are_zero():
    grid = torch.tensor([place for y in (-1.0, 0, 1) for x in (-1.0, 0, 1) for place in (y, x)]).view(1, 18, 1, 1)
    assert not points_to_offsets(grid).any()
