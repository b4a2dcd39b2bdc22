"""Averaged weights against a literal loop."""

import pytest
import torch
from torch import nn

from varifocal.training.optim import WeightAverages, make_ema, make_swa


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99, 0.9998])
def test_ema_is_the_literal_loop(decay):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    ema = make_ema(network, decay)
    kept: dict[str, torch.Tensor] = {}
    for n in range(30):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.randn_like(parameter))
            network[1].running_mean.normal_()
        ema.update_parameters(network)
        now = {name: p.detach().clone() for name, p in network.named_parameters()}
        fraction = 0.0 if n == 0 else min(decay, (1 + n) / (4 + n))  # the first update copies
        kept = {name: fraction * kept.get(name, now[name]) + (1 - fraction) * now[name] for name in now}
        for name, value in ema.module.named_parameters():
            torch.testing.assert_close(value.detach(), kept[name], rtol=1e-12, atol=1e-12)
        assert torch.equal(ema.module[1].running_mean, network[1].running_mean)


def test_the_network_itself_is_left_alone():
    network = nn.Linear(2, 2)
    ema = make_ema(network, 0.9)
    before = network.weight.detach().clone()
    ema.update_parameters(network)
    assert torch.equal(network.weight, before)
    assert ema.module.weight is not network.weight


def test_swa_is_the_mean_of_what_it_was_shown():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    swa, seen = make_swa(network), []
    for _ in range(18):
        for tensor in (*network.parameters(), network[1].running_mean):
            tensor.detach().normal_()
        seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        swa.update_parameters(network)
    for name, value in swa.module.named_parameters():
        expected = torch.stack([one[name] for one in seen]).mean(dim=0)
        torch.testing.assert_close(value.detach(), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(swa.module[1].running_mean, network[1].running_mean)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_which_weights_are_judged(decay):
    network = nn.Linear(2, 2)
    averages = WeightAverages(network, decay, swa=True)
    before = averages.ema.module if decay else network
    averages.update(ends_swa_epoch=False)
    assert averages.best() is before
    averages.update(ends_swa_epoch=True)
    assert averages.best() is averages.swa.module
    assert set(averages.parts()) == {"ema", "swa"}
    plain = WeightAverages(network, decay, swa=False)
    plain.update(ends_swa_epoch=False)
    assert set(plain.parts()) == {"ema"}
    assert plain.best() is (plain.ema.module if decay else network)
