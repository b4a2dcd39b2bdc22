"""Losses against literal formulas, and the limits in which they become one another."""

import math

import pytest
import torch
import torch.nn.functional as F

from varifocal.losses import (
    distribution_focal_loss,
    focal_loss,
    giou_loss,
    quality_focal_loss,
    varifocal_loss,
)

LOGITS = torch.linspace(-6, 6, 41, dtype=torch.float64)
QUALITY = torch.where(torch.arange(41) % 3 == 0, torch.linspace(0.02, 1, 41, dtype=torch.float64), 0.0)
LABELS = (QUALITY > 0).double()


def entropy(p: float, q: float) -> float:
    return -q * math.log(p) - (1 - q) * math.log(1 - p)


def literal(formula) -> list[float]:
    """formula(p, q) of each entry, q the quality."""
    p = [1 / (1 + math.exp(-x)) for x in LOGITS.tolist()]
    return [formula(*pair) for pair in zip(p, QUALITY.tolist(), strict=True)]


@pytest.mark.parametrize("iou_weighted", [True, False])
@pytest.mark.parametrize(("alpha", "gamma"), [(0.75, 2.0), (0.5, 1.5), (1.0, 0.0)])
def test_varifocal_loss(alpha, gamma, iou_weighted):
    wanted = literal(
        lambda p, q: (q if iou_weighted else 1) * entropy(p, q) if q > 0 else alpha * p**gamma * entropy(p, 0)
    )
    found = varifocal_loss(LOGITS, QUALITY, alpha=alpha, gamma=gamma, iou_weighted=iou_weighted)
    assert found.tolist() == pytest.approx(wanted, rel=1e-9)


def test_varifocal_loss_without_focus_is_cross_entropy():
    plain = F.binary_cross_entropy_with_logits(LOGITS, QUALITY, reduction="none")
    found = varifocal_loss(LOGITS, QUALITY, alpha=1.0, gamma=0.0, iou_weighted=False)
    torch.testing.assert_close(found, plain)
    weighted = varifocal_loss(LOGITS, QUALITY, alpha=1.0, gamma=0.0)
    torch.testing.assert_close(weighted, plain * torch.where(QUALITY > 0, QUALITY, 1.0))


def test_varifocal_loss_of_a_negative_is_that_of_focal_loss():
    zero = torch.zeros_like(LOGITS)
    torch.testing.assert_close(varifocal_loss(LOGITS, zero, alpha=0.75), focal_loss(LOGITS, zero, alpha=0.25))


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.4, 1.5)])
def test_focal_loss(alpha, gamma):
    wanted = literal(
        lambda p, q: -alpha * (1 - p) ** gamma * math.log(p) if q > 0 else -(1 - alpha) * p**gamma * math.log(1 - p)
    )
    assert focal_loss(LOGITS, LABELS, alpha=alpha, gamma=gamma).tolist() == pytest.approx(wanted, rel=1e-9)


def test_focal_loss_without_focus_is_half_the_cross_entropy():
    plain = F.binary_cross_entropy_with_logits(LOGITS, LABELS, reduction="none")
    torch.testing.assert_close(focal_loss(LOGITS, LABELS, alpha=0.5, gamma=0.0), plain / 2)


@pytest.mark.parametrize("beta", [2.0, 1.0])
def test_quality_focal_loss(beta):
    wanted = literal(lambda p, q: abs(q - p) ** beta * entropy(p, q))
    assert quality_focal_loss(LOGITS, QUALITY, beta=beta).tolist() == pytest.approx(wanted, rel=1e-9)


def test_quality_focal_loss_without_focus_is_cross_entropy():
    plain = F.binary_cross_entropy_with_logits(LOGITS, QUALITY, reduction="none")
    torch.testing.assert_close(quality_focal_loss(LOGITS, QUALITY, beta=0.0), plain)


@pytest.mark.parametrize("target", [0.0, 0.3, 2.0, 3.75, 4.0])
def test_distribution_focal_loss(target):
    """The last bin is reached with all weight on it."""
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.0, 1.0]], dtype=torch.float64)
    weights = [math.exp(x) for x in logits[0].tolist()]
    p = [weight / sum(weights) for weight in weights]
    lower = min(int(target), 3)
    wanted = -(lower + 1 - target) * math.log(p[lower]) - (target - lower) * math.log(p[lower + 1])
    found = distribution_focal_loss(logits, torch.tensor([target], dtype=torch.float64))
    assert found.item() == pytest.approx(wanted, rel=1e-9)


def test_giou_loss_runs_from_nothing_to_two():
    box = torch.tensor([0.0, 0.0, 10.0, 10.0])
    far = torch.tensor([1e6, 1e6, 1e6 + 10, 1e6 + 10])
    assert giou_loss(box, box).item() == 0
    assert giou_loss(box, far).item() == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize("loss", [varifocal_loss, focal_loss, quality_focal_loss])
def test_classification_losses_take_any_shape_and_change_nothing(loss):
    logits, targets = torch.randn(2, 5, 3), torch.zeros(2, 5, 3)
    before = logits.clone()
    assert loss(logits, targets).shape == (2, 5, 3)
    assert torch.equal(logits, before)
    assert not targets.any()
    assert loss(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("loss", [varifocal_loss, focal_loss, quality_focal_loss])
def test_extreme_logits_stay_finite_with_gradient(loss):
    logits = torch.tensor([-100.0, 100.0, -100.0, 100.0], requires_grad=True)
    value = loss(logits, torch.tensor([0.0, 0.0, 1.0, 1.0]))
    value.sum().backward()
    assert value.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", [varifocal_loss, quality_focal_loss])
def test_gradient_against_differences(loss):
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, QUALITY), (logits,))
