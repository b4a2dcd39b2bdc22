"""The group norm of necks, towers and stars, against the formula; and of a single value."""

import pytest
import torch
from error_codes import raises_code

from varifocal.models.layers import GroupNorm, check_star_norm, group_norm


def literal(x, groups, weight, bias):
    """Group by group, in float64."""
    x, result = x.double(), torch.empty_like(x, dtype=torch.float64)
    size = x.shape[1] // groups
    for b in range(x.shape[0]):
        for g in range(groups):
            part = x[b, g * size : (g + 1) * size]
            result[b, g * size : (g + 1) * size] = (part - part.mean()) / (part.var(unbiased=False) + 1e-5).sqrt()
    return result * weight.double()[:, None, None] + bias.double()[:, None, None]


@pytest.mark.parametrize("shape", [(2, 64, 3, 5), (1, 32, 1, 1), (3, 32, 1, 1), (1, 64, 1, 1), (1, 32, 1, 2)])
def test_it_is_the_formula_also_of_a_single_value(shape):
    torch.manual_seed(0)
    norm = group_norm(shape[1])
    assert norm.num_groups == 32
    assert isinstance(norm, torch.nn.GroupNorm)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = (100 * torch.randn(shape)).requires_grad_()
    found, wanted = norm(x), literal(x.detach(), 32, norm.weight.detach(), norm.bias.detach())
    assert (found.double() - wanted).abs().max() < 1e-4
    found.square().sum().backward()
    assert all(part.grad.isfinite().all() for part in (x, norm.weight, norm.bias))
    if shape[2:] == (1, 1) and shape[1] == 32:
        assert torch.equal(found, norm.bias[:, None, None].expand(shape))
        assert not x.grad.any()
        assert torch.allclose(norm.bias.grad, 2 * shape[0] * norm.bias.detach())


def test_in_half_precision_a_single_value_has_the_type_of_others():
    norm = group_norm(32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert norm(torch.randn(1, 32, 1, 1).bfloat16()).dtype == norm(torch.randn(1, 32, 2, 2).bfloat16()).dtype


@pytest.mark.parametrize(("width", "weights"), [(64, torch.bfloat16), (32, torch.float32), (64, torch.float32)])
def test_a_single_cell_in_half_precision_is_computed_in_float32(width, weights):
    torch.manual_seed(0)
    norm = group_norm(width).to(weights)
    x = torch.randn(2, width, 1, 1).bfloat16().requires_grad_()
    exact = (x.detach() - x.detach() if width == 32 else x.detach()).float().requires_grad_()
    slope = torch.randn(2, width, 1, 1).bfloat16()
    found, expected = norm(x), torch.group_norm(exact, 32, norm.weight.detach().float(), norm.bias.detach().float())
    assert torch.equal(found, expected.bfloat16())
    found.backward(slope)
    expected.backward(slope.float())
    assert torch.equal(x.grad, torch.zeros_like(x) if width == 32 else exact.grad.bfloat16())


def test_a_width_that_the_groups_do_not_divide():
    assert [group_norm(width).num_groups for width in (256, 48, 20, 3)] == [32, 16, 4, 1]
    assert type(group_norm(8)) is GroupNorm


def test_an_unknown_norm_of_the_star_is_refused():
    with raises_code("star-norm-unknown"):
        check_star_norm("batch", "none")
