"""The star convolution on a CUDA device beside torch's bilinear sampling in double precision on the same device."""

from __future__ import annotations

import math

import pytest
import torch
from star_reference import sampled_star
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed")

from varifocal.ops.kernels.star_operator import has_fused_star
from varifocal.ops.star_conv import star_conv, star_points

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
LEVELS = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]
# how far a rounded factor is from its number
UNIT = {torch.float32: 2**-24, torch.bfloat16: 2**-8, torch.float16: 2**-11}


def star_conv_triton(features: Tensor, distances: Tensor, weight: Tensor) -> Tensor:
    """The star convolution of one level."""
    return star_conv([features], star_points([distances]), weight)[0]


def operator(features: Tensor, distances: Tensor, weight: Tensor) -> Tensor:
    """The same without the checks of shapes that only tests have."""
    return torch.ops.varifocal.star_conv([features], weight, [distances], [], [])[0]


def test_the_fused_kernel_is_what_runs():
    assert has_fused_star(torch.device("cuda"))


def inputs(shape: tuple[int, int, int, int], outputs: int, dtype: torch.dtype, far: float = 8) -> list[Tensor]:
    """Features, distances of some cells, weight."""
    rng = torch.Generator().manual_seed(0)
    batch, channels, height, width = shape
    features = torch.randn(shape, generator=rng).to(dtype).to("cuda", memory_format=torch.channels_last)
    distances = torch.rand(batch, 4, height, width, generator=rng) * far
    weight = torch.randn(outputs, channels, 3, 3, generator=rng) * 0.1
    return [features, distances.cuda(), weight.to("cuda", dtype)]


def gradients(function, tensors: list[Tensor], direction: Tensor) -> tuple[Tensor, list[Tensor]]:
    leaves = [part.detach().clone().requires_grad_() for part in tensors]
    output = function(*leaves)
    return output.detach(), list(torch.autograd.grad(output, leaves, direction.to(output.dtype)))


def check(tensors: list[Tensor], unit: float, function=star_conv_triton) -> None:
    """Results and gradients, the error beside the largest of them; the result also place by place, to a bound."""
    outputs = tensors[2].shape[0]
    direction = torch.randn(tensors[0].shape[0], outputs, *tensors[0].shape[2:], device="cuda").to(tensors[0].dtype)
    found = gradients(function, tensors, direction)
    wanted = gradients(sampled_star, [part.double() for part in tensors], direction)
    bound = sampled_star(tensors[0].double().abs(), tensors[1].double(), tensors[2].double().abs())
    terms = 9 * tensors[0].shape[1]
    assert ((found[0] - wanted[0]).abs() <= (4 * unit + terms * 2**-24) * bound + 1e-6).all()
    for mine, theirs in zip([found[0], *found[1]], [wanted[0], *wanted[1]], strict=True):
        error = (mine.double() - theirs).abs().max() / theirs.abs().max().clamp(min=1e-3)
        assert error <= 4 * unit + 2e-5, error


@pytest.mark.parametrize("dtype", UNIT, ids=str)
@pytest.mark.parametrize("size", LEVELS, ids=str)
def test_every_level_in_every_type(size, dtype):
    check(inputs((2, 256, *size), 256, dtype), UNIT[dtype])


@pytest.mark.parametrize("dtype", UNIT, ids=str)
@pytest.mark.parametrize(
    ("shape", "outputs"), [((1, 1, 1, 1), 1), ((3, 5, 9, 17), 40), ((2, 100, 33, 3), 300), ((1, 320, 40, 40), 20)]
)
def test_sizes_that_fill_no_block(shape, outputs, dtype):
    check(inputs(shape, outputs, dtype), UNIT[dtype])


def test_tf32():
    """Factors keep eleven bits; with the switch off float32 keeps all of its own, which the other tests ask for."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        check(inputs((1, 256, 50, 84), 256, torch.float32), 2**-11)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("far", [1e3, 1e30, math.inf, math.nan])
def test_far_places_and_no_numbers(far):
    tensors = inputs((1, 32, 20, 20), 32, torch.float32)
    tensors[1][0, :, 3:5] = far
    compare = [part.double() for part in tensors]
    compare[1] = compare[1].nan_to_num(nan=1e3, posinf=1e3).clamp(max=1e3)
    direction = torch.randn(1, 32, 20, 20, device="cuda")
    found, slopes = gradients(star_conv_triton, tensors, direction)
    wanted, wanted_slopes = gradients(sampled_star, compare, direction)
    for mine, theirs in zip([found, *slopes], [wanted, *wanted_slopes], strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-4)


def test_the_torch_path_of_the_package():
    """On a CPU, where it gathers rows."""
    tensors = inputs((2, 64, 25, 42), 64, torch.float32)
    features, distances, weight = (part.cpu() for part in tensors)
    wanted = star_conv([features], star_points([distances]), weight)[0]
    torch.testing.assert_close(star_conv_triton(*tensors).cpu(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_compiled_with_its_gradients(dtype):
    compiled = torch.compile(lambda *parts: operator(*parts).relu() * 2, fullgraph=True)
    tensors = inputs((2, 64, 25, 42), 64, dtype)
    direction = torch.randn(2, 64, 25, 42, device="cuda", dtype=dtype)
    found, slopes = gradients(compiled, tensors, direction)
    wanted, wanted_slopes = gradients(lambda *parts: operator(*parts).relu() * 2, tensors, direction)
    for mine, theirs in zip([found, *slopes], [wanted, *wanted_slopes], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3 if dtype == torch.float32 else 0.1)


def test_from_a_cuda_graph():
    """Once it has been called: the first call compiles."""
    tensors = inputs((1, 64, 25, 42), 64, torch.bfloat16)
    wanted = star_conv_triton(*tensors)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = star_conv_triton(*tensors)
    tensors[0].neg_()
    graph.replay()
    torch.testing.assert_close(found, -wanted, rtol=0, atol=0)


def test_under_autocast():
    tensors = inputs((1, 32, 25, 42), 32, torch.float32)
    leaves = [part.requires_grad_() for part in tensors]
    with torch.autocast("cuda", torch.bfloat16):
        found = star_conv_triton(*leaves)
    assert found.dtype == torch.bfloat16
    rounded = [part.detach().bfloat16() if i != 1 else part.detach() for i, part in enumerate(leaves)]
    torch.testing.assert_close(found, star_conv_triton(*rounded), rtol=0, atol=0)
    found.float().sum().backward()
    assert all(part.grad is not None and part.grad.dtype == torch.float32 for part in leaves)


def test_more_than_two_billion_features():
    """Offsets beyond 32 bits: the last image of a batch as if it were alone."""
    if torch.cuda.mem_get_info()[0] < 40 * 2**30:
        pytest.skip("less than 40 GiB of memory are free")
    _, distances, weight = inputs((1, 256, 256, 256), 256, torch.bfloat16)
    one = inputs((1, 256, 256, 256), 256, torch.bfloat16)[0]
    features = torch.zeros(130, 256, 256, 256, dtype=torch.bfloat16, device="cuda", memory_format=torch.channels_last)
    features[-1] = one[0]
    assert features.numel() > 2**31
    leaf = features[-1:].clone().requires_grad_()
    (wanted,) = torch.autograd.grad(star_conv_triton(leaf, distances, weight).sum(), leaf)
    with torch.no_grad():
        alone = star_conv_triton(leaf, distances, weight)
    features.requires_grad_()
    found = star_conv_triton(features, distances.expand(130, -1, -1, -1), weight)
    torch.testing.assert_close(found[-1:], alone, rtol=0, atol=0)
    (slope,) = torch.autograd.grad(found[-1:].sum(), features)
    torch.testing.assert_close(slope[-1:], wanted, rtol=2e-2, atol=2e-2)
