"""Losses against literal formulas, and the limits in which they become one another."""

import inspect
import math

import pytest
import torch
import torch.nn.functional as F

from varifocal.losses import (
    classification_loss,
    distribution_focal_loss,
    focal_loss,
    giou_loss,
    iou_aware_bce_loss,
    matchability_aware_loss,
    quality_focal_loss,
    varifocal_loss,
)

CLASSIFICATION = [varifocal_loss, focal_loss, quality_focal_loss, matchability_aware_loss, iou_aware_bce_loss]

LOGITS = torch.linspace(-6, 6, 41, dtype=torch.float64)
QUALITY = torch.where(torch.arange(41) % 3 == 0, torch.linspace(0.02, 1, 41, dtype=torch.float64), 0.0)
LABELS = (QUALITY > 0).double()


def entropy(p: float, q: float) -> float:
    return -q * math.log(p) - (1 - q) * math.log(1 - p)


def negative_entropy(logits: torch.Tensor, targets: torch.Tensor | float) -> torch.Tensor:
    """The logarithms written out, for gradients by autograd; of logits that are not extreme."""
    p = logits.sigmoid()
    return targets * p.log() + (1 - targets) * (1 - p).log()


def gradient(loss: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss.sum(), logits)[0]


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


# which entries a matching calls positive: those with q > 0 and, as where a box misses its object, some with q = 0
MATCHED = (QUALITY > 0) | (torch.arange(41) % 5 == 0)


def test_a_varifocal_match_without_overlap_has_no_weight():
    """RT-DETR's and D-FINE's variant, as their code has it: weight = alpha p^gamma (1 - label) + q, detached."""
    logits = LOGITS.clone().requires_grad_()
    found = varifocal_loss(logits, QUALITY, positive=MATCHED, detach_weight=True)
    weight = 0.75 * logits.detach().sigmoid() ** 2 * (1 - MATCHED.double()) + QUALITY
    wanted = -weight * negative_entropy(logits, QUALITY)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradient(found, logits), gradient(wanted, logits))
    assert int((MATCHED & (QUALITY == 0)).sum()) > 3
    assert not found[MATCHED & (QUALITY == 0)].any()


def test_the_variant_of_the_varifocal_loss_is_the_loss_where_matches_overlap():
    """Its value everywhere; its gradient at positives alone, since the weight of a negative stands still."""
    logits = LOGITS.clone().requires_grad_()
    plain, variant = (
        varifocal_loss(logits, QUALITY, **more) for more in ({}, {"positive": QUALITY > 0, "detach_weight": True})
    )
    assert torch.equal(variant, plain)
    own, other = gradient(plain, logits), gradient(variant, logits)
    assert torch.equal(own[QUALITY > 0], other[QUALITY > 0])
    p = logits.detach().sigmoid()[QUALITY == 0]
    torch.testing.assert_close(other[QUALITY == 0], 0.75 * p**3)
    torch.testing.assert_close(own[QUALITY == 0], 0.75 * (p**3 - 2 * p**2 * (1 - p) * (1 - p).log()))


@pytest.mark.parametrize("gamma", [1.5, 2.0, 0.5])
def test_matchability_aware_loss(gamma):
    """Positives at full weight with the target q^gamma, negatives with weight p^gamma, which is detached."""
    wanted = literal(lambda p, q: entropy(p, q**gamma) if q > 0 else p**gamma * entropy(p, 0))
    logits = LOGITS.clone().requires_grad_()
    found = matchability_aware_loss(logits, QUALITY, gamma=gamma)
    assert found.tolist() == pytest.approx(wanted, rel=1e-9)
    weight = torch.where(QUALITY > 0, 1.0, logits.detach().sigmoid() ** gamma)
    torch.testing.assert_close(
        gradient(found, logits), gradient(-weight * negative_entropy(logits, QUALITY**gamma), logits)
    )


def test_limits_of_the_matchability_aware_loss():
    """Gamma 0: cross-entropy with the labels. Gamma 1: that with the IoU, negatives weighted by p. A perfect box: the
    positives of cross-entropy, whatever gamma."""
    plain = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(
        matchability_aware_loss(LOGITS, QUALITY, gamma=0.0), plain(LOGITS, LABELS, reduction="none")
    )
    found = matchability_aware_loss(LOGITS, QUALITY, gamma=1.0)
    torch.testing.assert_close(
        found, plain(LOGITS, QUALITY, reduction="none") * torch.where(QUALITY > 0, 1.0, LOGITS.sigmoid())
    )
    ones = torch.ones_like(LOGITS)
    torch.testing.assert_close(matchability_aware_loss(LOGITS, ones), plain(LOGITS, ones, reduction="none"))


def test_a_match_without_overlap_is_no_negative_of_the_matchability_aware_loss():
    found = matchability_aware_loss(LOGITS, QUALITY, positive=MATCHED)
    missed = MATCHED & (QUALITY == 0)
    torch.testing.assert_close(found[missed], F.softplus(LOGITS[missed]))  # -ln (1 - p) at full weight
    assert torch.equal(found[~missed], matchability_aware_loss(LOGITS, QUALITY)[~missed])


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 1.0)])
def test_iou_aware_bce_loss(alpha, gamma):
    """As LW-DETR writes it: -t ln p - (1 - t) ln (1 - p), t detached; p^gamma of a negative is not."""
    logits = LOGITS.clone().requires_grad_()
    found = iou_aware_bce_loss(logits, QUALITY, alpha=alpha, gamma=gamma)
    p = logits.sigmoid()
    target = (p.detach() ** alpha * QUALITY ** (1 - alpha)).clamp(min=0.01)
    positive, negative = torch.where(QUALITY > 0, target, 0.0), torch.where(QUALITY > 0, 1 - target, p**gamma)
    wanted = -positive * p.log() - negative * (1 - p).log()
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradient(found, logits), gradient(wanted, logits))


def test_iou_aware_bce_loss_by_hand():
    """p = 0.5 and q = 0.0625: t = 2^-0.25 / 8, any entropy of which is ln 2; without overlap t is 0.01."""
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    found = iou_aware_bce_loss(logits, torch.tensor([0.0625, 0.0, 0.0]), positive=torch.tensor([True, True, False]))
    assert found.tolist() == pytest.approx([math.log(2), math.log(2), math.log(2) / 4])
    # p - t at a positive; p^3 - 2 p^2 (1 - p) ln (1 - p) at a negative
    wanted = [0.5 - 2**-0.25 / 8, 0.5 - 0.01, 0.125 + 0.25 * math.log(2)]
    assert gradient(found, logits).tolist() == pytest.approx(wanted)


def test_limits_of_the_iou_aware_bce_loss():
    """Alpha 0: cross-entropy with the IoU, at least 0.01. Alpha 1: the target is the score itself, so that positives
    learn nothing."""
    positive = QUALITY > 0
    plain = F.binary_cross_entropy_with_logits(LOGITS, QUALITY.clamp(min=0.01), reduction="none")
    torch.testing.assert_close(iou_aware_bce_loss(LOGITS, QUALITY, alpha=0.0)[positive], plain[positive])
    logits = LOGITS.clone().requires_grad_()
    slope = gradient(iou_aware_bce_loss(logits, QUALITY, alpha=1.0), logits)[positive]
    sure = logits.detach()[positive].sigmoid() >= 0.01
    torch.testing.assert_close(slope[sure], torch.zeros_like(slope[sure]))
    assert int(sure.sum()) > 8


def test_a_target_carries_no_gradient_of_the_iou_aware_bce_loss():
    logits, targets = LOGITS.clone().requires_grad_(), QUALITY.clone().requires_grad_()
    iou_aware_bce_loss(logits, targets).sum().backward()
    assert targets.grad is None


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("varifocal", varifocal_loss),
        ("quality-focal", quality_focal_loss),
        ("mal", matchability_aware_loss),
        ("ia-bce", iou_aware_bce_loss),
        ("focal", focal_loss),
    ],
)
def test_losses_by_name_run_at_their_papers_settings(name, loss):
    targets = LABELS if name == "focal" else QUALITY
    assert torch.equal(classification_loss(name, LOGITS, targets), loss(LOGITS, targets))


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


@pytest.mark.parametrize("loss", CLASSIFICATION)
def test_classification_losses_take_any_shape_and_change_nothing(loss):
    logits, targets = torch.randn(2, 5, 3), torch.zeros(2, 5, 3)
    before = logits.clone()
    assert loss(logits, targets).shape == (2, 5, 3)
    assert torch.equal(logits, before)
    assert not targets.any()
    assert loss(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("loss", CLASSIFICATION)
def test_no_positives_leave_the_loss_of_the_background(loss):
    """It falls with the scores, and its gradient pushes every score down."""
    logits = torch.linspace(-3, 3, 7, requires_grad=True)
    value = loss(logits, torch.zeros(7))
    assert (value > 0).all()
    assert (value.diff() > 0).all()
    assert (gradient(value, logits) > 0).all()


@pytest.mark.parametrize("size", [100.0, 1000.0])  # of 1000 the sigmoid is 0 or 1 in float32
@pytest.mark.parametrize("loss", CLASSIFICATION)
def test_extreme_logits_stay_finite_with_gradient(loss, size):
    logits = torch.tensor([-size, size, -size, size], requires_grad=True)
    value = loss(logits, torch.tensor([0.0, 0.0, 1.0, 1.0]))
    value.sum().backward()
    assert value.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", [varifocal_loss, quality_focal_loss])
def test_gradient_against_differences(loss):
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, QUALITY), (logits,))


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match=r"'qfl': there is no such loss; choose from varifocal, focal, "):
        inspect.unwrap(classification_loss)("qfl", LOGITS, QUALITY)  # as it is where no types are checked
