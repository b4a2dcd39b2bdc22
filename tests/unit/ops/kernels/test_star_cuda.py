"""The star convolution on a GPU, without one: its kernels run in Triton's interpreter, on CPU tensors."""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
from contextlib import ExitStack
from types import ModuleType

import numpy as np
import pytest
import torch
from star_reference import literal_star, sampled_star
from torch import Tensor

triton = pytest.importorskip("triton", reason="Triton is not installed")

import triton_language  # noqa: E402

from varifocal.ops import star_conv  # noqa: E402
from varifocal.ops.kernels import star_cuda as star_triton  # noqa: E402
from varifocal.ops.kernels import star_operator  # noqa: E402
from varifocal.ops.kernels import star_triton as star_kernels  # noqa: E402
from varifocal.ops.kernels import star_triton_backward as backward_kernels  # noqa: E402
from varifocal.ops.kernels.star_cuda import Gpu, Shape, Tile, forward_tile  # noqa: E402

OLD_INTERPRETER = tuple(map(int, triton.__version__.split(".")[:2])) < (
    3,
    6,
)
pytestmark = [
    pytest.mark.skipif(
        OLD_INTERPRETER and np.lib.NumpyVersion(np.__version__) >= "2.4.0",
        reason="the interpreter of Triton before 3.6 needs NumPy before 2.4",
    ),
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0:DeprecationWarning"),
]

# processors, shared memory a block, products by groups of warps
H200 = Gpu(132, 227 * 1024, grouped=True)
A100 = Gpu(108, 163 * 1024, grouped=False)
RTX4090 = Gpu(128, 99 * 1024, grouped=False)
T4 = Gpu(40, 64 * 1024, grouped=False)
LEVELS = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]


def star_conv_triton(features: Tensor, distances: Tensor, weight: Tensor) -> Tensor:
    """The star convolution of one level, as a GPU computes it."""
    return star_conv.star_conv([features], star_conv.star_points([distances]), weight)[0]


def operator(features: Tensor, distances: Tensor, weight: Tensor) -> Tensor:
    """The same without the checks of shapes that only tests have."""
    return torch.ops.varifocal.star_conv([features], weight, [distances], [], [])[0]


@pytest.fixture(scope="module")
def interpreted_kernels() -> list[ModuleType]:
    """Second copies of the kernels: Triton decides when they are decorated whether they are interpreted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        return [interpreted(module, patch) for module in (star_kernels, backward_kernels)]


def interpreted(module: ModuleType, patch: pytest.MonkeyPatch) -> ModuleType:
    """A second copy, which the modules that are copied after it import."""
    spec = importlib.util.spec_from_file_location(module.__name__, module.__file__)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, spec.name, copy)
    spec.loader.exec_module(copy)
    return copy


@pytest.fixture(autouse=True)
def interpreter(interpreted_kernels, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for name, module in zip(("kernels", "backward_kernels"), interpreted_kernels, strict=True):
        monkeypatch.setattr(star_triton, name, module)
    for module in (star_conv, star_operator):
        monkeypatch.setattr(module, "has_fused_star", lambda device: True)
    monkeypatch.setattr(star_conv.SamplingPoints, "tables", lambda self: [])  # which a CPU alone reads
    # the part of Triton's own language that is written in it was decorated when Triton was imported
    from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder

    for name, value in vars(triton.language).items():
        if isinstance(value, triton.JITFunction):
            monkeypatch.setattr(triton.language, name, InterpretedFunction(value.fn))
    multiply = InterpreterBuilder.create_dot

    def create_dot(self, a, b, *rest):
        return multiply(self, widened(a), widened(b), *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)
    with ExitStack() as stack:  # CPU tensors take the kernels of a GPU
        for each in (star_operator.star_conv_op, star_operator.star_conv_backward_op):
            stack.enter_context(each.set_kernel_enabled("cpu", enabled=False))
        yield
    triton_language.restore()


def widened(handle):
    """The interpreter multiplies the bits of bfloat16 where they are not made float32 before."""
    from triton.language import bfloat16, float32
    from triton.runtime.interpreter import TensorHandle

    if handle.dtype.scalar != bfloat16:
        return handle
    return TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), float32)


def inputs(seed: int, shape=(2, 3, 5, 6), outputs: int = 4, dtype=torch.float32, far: float = 4) -> list[Tensor]:
    """Features, distances of a few cells, weight."""
    rng = torch.Generator().manual_seed(seed)
    batch, channels, height, width = shape
    features = torch.randn(shape, generator=rng).to(dtype)
    distances = torch.rand(batch, 4, height, width, generator=rng) * far
    return [features, distances, torch.randn(outputs, channels, 3, 3, generator=rng).to(dtype)]


def gradients(function, tensors: list[Tensor], direction: Tensor) -> tuple[Tensor, list[Tensor]]:
    leaves = [part.detach().clone().requires_grad_() for part in tensors]
    output = function(*leaves)
    return output.detach(), list(torch.autograd.grad(output, leaves, direction.to(output.dtype)))


def compare(tensors: list[Tensor], **tolerance) -> None:
    """Result and gradients with those of torch's sampling in double precision."""
    shape = (tensors[0].shape[0], tensors[2].shape[0], *tensors[0].shape[2:])
    direction = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(tensors[0].dtype)
    found, slopes = gradients(star_conv_triton, tensors, direction)
    wanted, wanted_slopes = gradients(sampled_star, [part.double() for part in tensors], direction)
    assert found.dtype == tensors[0].dtype
    torch.testing.assert_close(found.double(), wanted, **tolerance)
    for given, mine, theirs in zip(tensors, slopes, wanted_slopes, strict=True):
        assert mine.dtype == given.dtype
        torch.testing.assert_close(mine.double(), theirs, **tolerance)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (3, 2, 1, 4), (1, 2, 4, 1)])
def test_nine_points_of_the_box_are_read(shape):
    tensors = inputs(0, shape)
    found = star_conv_triton(*tensors)
    assert found.dtype == torch.float32
    assert found.permute(0, 2, 3, 1).is_contiguous()
    torch.testing.assert_close(found.double(), literal_star(*tensors), rtol=1e-5, atol=1e-5)


def test_gradients_against_differences():
    """Of a sum over the outputs, in the direction of one random change of all arguments."""
    tensors = inputs(1, (1, 2, 3, 4), 2)
    tensors[1] = tensors[1].floor() + 0.2 + 0.6 * tensors[1].frac()  # away from whole cells, where the slope jumps
    changes = inputs(2, (1, 2, 3, 4), 2)
    direction = torch.randn(1, 2, 3, 4)
    _, slopes = gradients(star_conv_triton, tensors, direction)
    for i in range(3):
        ends = []
        for step in (-1e-6, 1e-6):
            moved = [part.double() for part in tensors]
            moved[i] += step * changes[i]
            ends.append((literal_star(*moved) * direction).sum())
        wanted = (ends[1] - ends[0]) / 2e-6
        torch.testing.assert_close((slopes[i] * changes[i]).sum().double(), wanted, rtol=1e-4, atol=1e-4)


def test_blocks_that_do_not_fit(monkeypatch):
    """More points, outputs and channels than a block has, none of them a multiple; groups of eight rows and a rest."""
    block = Tile(points=16, outputs=16, channels=16, warps=4, stages=2)
    monkeypatch.setattr(star_triton, "FORWARD_IEEE", (block,))
    monkeypatch.setattr(star_triton, "input_tile", lambda *_: block)
    monkeypatch.setattr(star_triton, "weight_tile", lambda *_: block)
    monkeypatch.setattr(star_triton, "_gpu", lambda _: Gpu(processors=36, shared=2**17, grouped=False))
    compare(inputs(3, (1, 17, 9, 2), 18), rtol=1e-4, atol=1e-4)


def test_wide_offsets(monkeypatch):
    monkeypatch.setattr(Shape, "wide", True)
    compare(inputs(3, (2, 2, 2, 2), 3), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("dtype", "unit"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_half_precision(dtype, unit):
    """Columns and results are rounded once each, the places not at all."""
    tensors = inputs(4, (1, 3, 3, 4), 3, dtype)
    compare(tensors, rtol=4 * unit, atol=8 * unit)
    found = star_conv_triton(*tensors).double()
    wanted = sampled_star(*(part.double() for part in tensors))
    bound = sampled_star(tensors[0].double().abs(), tensors[1].double(), tensors[2].double().abs())
    assert ((found - wanted).abs() <= 2.1 * unit * bound + 1e-6).all()


def test_far_places_and_no_numbers():
    """They read zero and pass no gradient; other points notice nothing."""
    tensors = inputs(5, (1, 2, 3, 6), 2)
    for column, far in enumerate((1e3, 1e30, math.inf, math.nan)):
        tensors[1][0, :, 1, column] = far
    compare_with = [part.clone() for part in tensors]
    compare_with[1] = compare_with[1].nan_to_num(nan=1e3, posinf=1e3).clamp(max=1e3)
    direction = torch.randn(1, 2, 3, 6)
    found, slopes = gradients(star_conv_triton, tensors, direction)
    torch.testing.assert_close(found.double(), literal_star(*tensors), rtol=1e-5, atol=1e-5)
    _, wanted = gradients(sampled_star, [part.double() for part in compare_with], direction)
    assert (slopes[1][0, :, 1, :4] == 0).all()
    for mine, theirs in zip(slopes, wanted, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-5)


def test_features_outside_the_places_do_not_matter():
    """An infinite feature is not multiplied by zero where it is not read."""
    features, distances, weight = inputs(6, (1, 1, 2, 3), 16)
    features[0, 0, 0, 0] = math.inf
    found = star_conv_triton(features, torch.full_like(distances, 50.0), weight)
    assert found[0, 5].isfinite().flatten().tolist() == [False, True, True, True, True, True]


def test_memory_layout_makes_no_difference():
    tensors = inputs(7, (2, 3, 2, 3), 2)
    wanted = star_conv_triton(*tensors)
    strided = [part.repeat_interleave(2, dim=3)[..., ::2] for part in tensors]
    last = [part.to(memory_format=torch.channels_last) for part in tensors]
    for layout in (strided, last):
        assert not any(part.is_contiguous() for part in layout)
        torch.testing.assert_close(star_conv_triton(*layout), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_only_the_gradients_that_are_needed(which):
    tensors = inputs(8, (1, 1, 1, 2), 1)
    _, wanted = gradients(sampled_star, [part.double() for part in tensors], torch.ones(1, 1, 1, 2))
    tensors[which].requires_grad_()
    star_conv_triton(*tensors).sum().backward()
    for i, (part, slope) in enumerate(zip(tensors, wanted, strict=True)):
        if i == which:
            assert part.grad is not None
            torch.testing.assert_close(part.grad.double(), slope, rtol=1e-5, atol=1e-5)
        else:
            assert part.grad is None


def test_the_result_may_be_changed_in_place():
    """As the heads do, which rectify it."""
    tensors = inputs(16, (1, 1, 1, 2), 2)
    direction = torch.ones(1, 2, 1, 2)
    found, slopes = gradients(lambda *parts: star_conv_triton(*parts).relu_(), tensors, direction)
    wide = [part.double() for part in tensors]
    wanted, wanted_slopes = gradients(lambda *parts: sampled_star(*parts).relu(), wide, direction)
    for mine, theirs in zip([found, *slopes], [wanted, *wanted_slopes], strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_nothing_starts_no_kernel(monkeypatch, shape):
    monkeypatch.setattr(star_triton, "kernels", None)
    monkeypatch.setattr(star_triton, "backward_kernels", None)
    tensors = [part.requires_grad_() for part in inputs(9, shape)]
    found = star_conv_triton(*tensors)
    assert found.shape == (shape[0], 4, *shape[2:])
    found.sum().backward()
    for part in tensors:
        assert part.grad is not None
        assert part.grad.shape == part.shape
        assert (part.grad == 0).all()


def test_under_autocast_with_gradients():
    """Features and weight are rounded, the places are not: at cell 300 bfloat16 has steps of two cells."""
    features, distances, weight = inputs(10, (1, 1, 1, 3), 1, far=1)
    distances[:, 2] += 300
    distances[:, 0] -= 300
    tensors = [part.requires_grad_() for part in (features, distances, weight)]
    with torch.autocast("cpu", torch.bfloat16):
        found = star_conv_triton(*tensors)
    assert found.dtype == torch.bfloat16
    rounded = features.detach().bfloat16().double(), distances.detach().double(), weight.detach().bfloat16().double()
    torch.testing.assert_close(found.double(), sampled_star(*rounded), rtol=2e-2, atol=2e-2)
    found.sum().backward()
    for part in tensors:
        assert part.grad is not None
        assert part.grad.dtype == torch.float32


def test_compiled(monkeypatch):
    """As one operator, without looking into it; on no images, where the kernels have nothing to do."""
    monkeypatch.setattr(star_triton, "kernels", None)
    monkeypatch.setattr(star_triton, "backward_kernels", None)
    tensors = [part.requires_grad_() for part in inputs(11, (0, 3, 4, 5))]
    compiled = torch.compile(operator, fullgraph=True, backend="aot_eager")
    found = compiled(*tensors)
    assert found.shape == (0, 4, 4, 5)
    found.sum().backward()
    assert all(part.grad is not None for part in tensors)


def test_exported():
    class Network(torch.nn.Module):
        def forward(self, *parts):
            return operator(*parts)

    tensors = inputs(11, (1, 2, 2, 2), 3)
    program = torch.export.export(Network(), tuple(tensors))
    assert "varifocal.star_conv" in program.graph_module.code
    torch.testing.assert_close(program.module()(*tensors).double(), literal_star(*tensors), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # opcheck's own
def test_the_operators_keep_torchs_rules(monkeypatch):
    monkeypatch.setattr(star_triton, "kernels", None)
    monkeypatch.setattr(star_triton, "backward_kernels", None)
    tensors = [part.requires_grad_() for part in inputs(12, (0, 3, 4, 5))]
    features, distances, weight = tensors
    torch.library.opcheck(star_operator.star_conv_op, ([features], weight, [distances], [], []))
    features, distances, weight = (part.detach() for part in tensors)
    arguments = [features], weight, [distances], [], [], [torch.zeros(0, 4, 4, 5)]
    for needed in ([True, True, True], [False, True, False]):
        torch.library.opcheck(star_operator.star_conv_backward_op, (*arguments, needed))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({0: torch.zeros(2, 3, 5, 6, dtype=torch.float64)}, TypeError, "not torch.float64"),
        ({1: torch.zeros(2, 4, 5, 5)}, ValueError, r"not \(2, 3, 5, 6\), \(2, 4, 5, 5\), \(4, 3, 3, 3\)"),
        ({2: torch.zeros(4, 2, 3, 3)}, ValueError, r"not .* \(4, 2, 3, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, message):
    tensors = inputs(14)
    for i, part in change.items():
        tensors[i] = part
    with pytest.raises(error, match=message):
        inspect.unwrap(star_triton.convolve)(*tensors)


def test_deterministic_algorithms_are_refused():
    tensors = inputs(15, (1, 1, 1, 1), 1)
    needed = [True, False, False]
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="no deterministic implementation"):
            star_triton.gradients(torch.zeros(1, 1, 1, 1), *tensors, needed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        with pytest.warns(UserWarning, match="no deterministic implementation"):
            star_triton.gradients(torch.zeros(1, 1, 1, 1), *tensors, needed)
    finally:
        torch.use_deterministic_algorithms(False)


def test_many_points_have_wide_offsets():
    assert not Shape(16800, 100, 168, 256, 256).wide
    assert not Shape(8_000_000, 100, 168, 256, 256).wide
    assert Shape(2**23, 100, 168, 256, 256).wide
    assert Shape(2**23, 100, 168, 3, 256).wide
    assert Shape(2**27, 100, 168, 1, 1).wide  # the lists of places
    assert Shape(4, 2, 2, 2**14, 2**14).wide  # the weight
    with pytest.raises(ValueError, match="at most"):
        Shape.of(torch.empty(2**12, 1, 2**10, 2**10, device="meta"), torch.empty(1, 1, 3, 3, device="meta"))


@pytest.mark.parametrize("gpu", [H200, A100, RTX4090, T4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tf32", [False, True])
def test_blocks_fit_into_shared_memory(monkeypatch, gpu, dtype, tf32):
    monkeypatch.setattr(star_triton, "_precision", lambda _: "tf32" if tf32 else "ieee")
    for height, width in LEVELS:
        for channels, outputs in ((256, 256), (3, 1000), (1000, 3)):
            tile = forward_tile(Shape(height * width, height, width, channels, outputs), dtype, gpu)
            assert star_triton._forward_bytes(tile, dtype.itemsize) <= gpu.shared
            assert tile.channels >= 16 // dtype.itemsize
            assert tile.outputs >= 16


def test_large_maps_fill_the_gpu_once_and_small_ones_use_most_of_it():
    programs = []
    for height, width in LEVELS[:4]:
        shape = Shape(height * width, height, width, 256, 256)
        programs.append(star_triton._programs(forward_tile(shape, torch.bfloat16, H200), shape))
    assert programs[0] == 132
    assert all(99 <= number <= 144 for number in programs)
