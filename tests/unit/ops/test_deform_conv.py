"""Deformable convolution against a literal loop, and a plain convolution made deformable."""

import math
from contextlib import ExitStack

import pytest
import torch
import torch.nn.functional as F
from error_codes import raises_code
from timm.layers import Conv2dSame, StdConv2d
from torch import nn
from torchvision.ops import deform_conv2d as torchvision_conv

from varifocal.ops.deform_conv import DeformConv, deform_conv2d_backward_op, deform_conv2d_op, to_deformable
from varifocal.ops.kernels.deform_cpu import offset_table


def pixel(channel: list[list[float]], y: int, x: int) -> float:
    return channel[y][x] if 0 <= y < len(channel) and 0 <= x < len(channel[0]) else 0.0


def bilinear(channel: list[list[float]], y: float, x: float) -> float:
    y0, x0 = math.floor(y), math.floor(x)
    fy, fx = y - y0, x - x0
    upper = (1 - fx) * pixel(channel, y0, x0) + fx * pixel(channel, y0, x0 + 1)
    lower = (1 - fx) * pixel(channel, y0 + 1, x0) + fx * pixel(channel, y0 + 1, x0 + 1)
    return (1 - fy) * upper + fy * lower


def literal(conv: DeformConv, features: torch.Tensor) -> torch.Tensor:
    """Output by output, tap by tap, for the single image."""
    steered = F.conv2d(
        features, conv.offset.weight, conv.offset.bias, conv.stride, conv.padding, conv.dilation
    ).tolist()[0]
    table, weight = features.tolist()[0], conv.weight.tolist()
    outputs, inputs = len(weight), len(weight[0])
    rows, columns = len(steered[0]), len(steered[0][0])
    result = torch.zeros(1, outputs, rows, columns, dtype=features.dtype)
    for o in range(outputs):
        first = o // (outputs // conv.groups) * inputs
        for i in range(rows):
            for j in range(columns):
                total = 0.0 if conv.bias is None else conv.bias[o].item()
                for tap in range(9):
                    y = i * conv.stride - conv.padding + tap // 3 * conv.dilation + steered[2 * tap][i][j]
                    x = j * conv.stride - conv.padding + tap % 3 * conv.dilation + steered[2 * tap + 1][i][j]
                    share = 1 / (1 + math.exp(-steered[18 + tap][i][j]))
                    for c in range(inputs):
                        total += weight[o][c][tap // 3][tap % 3] * share * bilinear(table[first + c], y, x)
                result[0, o, i, j] = total
    return result


def moved(conv: DeformConv, strength: float = 0.3) -> DeformConv:
    """With offsets of cells in every direction, some of them out of the map."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng) * strength)
    return conv


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups", "bias"),
    [(1, 1, 1, 1, False), (2, 1, 1, 2, True), (1, 2, 2, 4, False), (1, 0, 1, 1, True)],
)
def test_equal_to_the_literal_loop(stride, padding, dilation, groups, bias):
    conv = moved(DeformConv(4, 8, 3, stride, padding, dilation, groups, bias).double())
    features = torch.randn(1, 4, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(conv(features), literal(conv, features), rtol=1e-10, atol=1e-12)


PLAIN = [
    nn.Conv2d(4, 6, 3, padding=1, bias=False),
    nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4),
    nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2, bias=False),
]


@pytest.mark.parametrize("plain", PLAIN, ids=str)
def test_it_starts_as_the_plain_convolution_at_half_strength(plain):
    conv = to_deformable(plain)
    features = torch.randn(2, 4, 9, 10)
    bias = 0 if plain.bias is None else plain.bias[:, None, None]
    assert conv.weight is plain.weight
    assert {name for name, _ in conv.named_parameters()} - {"bias"} == {"weight", "offset.weight", "offset.bias"}
    torch.testing.assert_close(conv(features) - bias, (plain(features) - bias) / 2)


@pytest.mark.parametrize("place", ["meta", "double"])
def test_it_stays_where_and_what_it_was(place):
    plain = PLAIN[0].to("meta") if place == "meta" else nn.Conv2d(2, 2, 3).double()
    for parameter in to_deformable(plain).parameters():
        assert (parameter.device, parameter.dtype) == (plain.weight.device, plain.weight.dtype)


@pytest.mark.parametrize(
    "conv",
    [
        Conv2dSame(4, 4, 3, stride=2),
        StdConv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding=(1, 0)),
        nn.Conv2d(4, 4, 3, stride=(2, 1)),
    ],
    ids=str,
)
def test_what_would_compute_something_else_is_refused(conv):
    with raises_code("conv-not-deformable"):
        to_deformable(conv)


def test_gradients_reach_every_part_and_equal_differences():
    conv = moved(DeformConv(2, 2, groups=2, bias=True).double())
    features = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: conv(x), (features, *conv.parameters()))


def test_under_autocast():
    """As of any convolution the result is bfloat16; coordinates are not."""
    conv = moved(DeformConv(2, 2), 0.1)
    features = torch.randn(1, 2, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(features)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), conv(features), rtol=0.05, atol=0.02)


def operands(levels: int = 2, stride: int = 2):
    """Maps, weight in two groups, offsets, masks, and what a CPU reads of them, for the operator; float32."""
    rng = torch.Generator().manual_seed(3)
    maps = [torch.randn(2, 4, 6 + i, 7, generator=rng) for i in range(levels)]
    sizes = [((x.shape[2] + 1) // stride, (x.shape[3] + 1) // stride) for x in maps]
    offsets = [torch.randn(2, 18, *size, generator=rng) for size in sizes]
    masks = [torch.rand(2, 9, *size, generator=rng) for size in sizes]
    tables = [
        offset_table(offset, (x.shape[2], x.shape[3]), stride=stride, scale=mask)
        for x, offset, mask in zip(maps, offsets, masks, strict=True)
    ]
    weight = torch.randn(6, 2, 3, 3, generator=rng)
    cells, shares = [table.cells for table in tables], [table.weight for table in tables]
    return [maps, weight, offsets, masks, cells, shares, stride, 1, 1]


@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.parametrize("tabled", [True, False])
def test_the_operator_keeps_what_it_promises_to_the_compiler(tabled):
    """PyTorch's own check: schema, registration, shapes without data, derivative and tracing, on two levels."""
    given = operands()
    if not tabled:
        given[4], given[5] = [], []
    grads = [torch.randn(2, 6, *part.shape[2:]) for part in given[2]]
    for needed in ([True, tabled, False, True], [False, False, False, True], [True, False, False, False]):
        torch.library.opcheck(torch.ops.varifocal.deform_conv2d_backward.default, (*given, grads, needed))
    for part in (*given[0], given[1], *given[5]):
        part.requires_grad_()
    torch.library.opcheck(torch.ops.varifocal.deform_conv2d.default, given)


def test_without_a_table_the_operator_makes_its_own():
    given = operands()
    operator = torch.ops.varifocal.deform_conv2d
    torch.testing.assert_close(operator(*given[:4], [], [], *given[6:]), operator(*given), rtol=0, atol=0)


@pytest.mark.parametrize("masked", [True, False])
def test_the_kernel_of_gpus_is_torchvisions_to_the_last_bit(masked):
    """On CPU tensors: results and gradients of three levels with one weight, added up in the order of autograd."""
    levels, weight, offsets, masks, *_ = operands(3)
    masks = masks if masked else []
    leaves = [part.requires_grad_() for part in (*levels, weight, *offsets, *masks)]
    with ExitStack() as stack:
        for operator in (deform_conv2d_op, deform_conv2d_backward_op):
            stack.enter_context(operator.set_kernel_enabled("cpu", enabled=False))
        found = deform_conv2d_op(levels, weight, offsets, masks, [], [], 2, 1, 1)
        directions = [torch.randn_like(part) for part in found]
        mine = torch.autograd.grad(found, leaves, directions)
    rows = zip(levels, offsets, masks or [None] * 3, strict=True)
    wanted = [torchvision_conv(x, offset, weight, stride=2, padding=1, mask=mask) for x, offset, mask in rows]
    theirs = torch.autograd.grad(wanted, leaves, directions)
    for one, other in zip([*found, *mine], [*wanted, *theirs], strict=True):
        assert one.detach().numpy().tobytes() == other.detach().numpy().tobytes()
