"""The state of a run: saved and restored exactly, and refused if it does not fit."""

import pytest
import torch
from error_codes import raises_code
from torch import nn

from varifocal.models.checkpoint import read_checkpoint, write_checkpoint
from varifocal.training.optim import make_ema
from varifocal.training.state import STATE, TrainState, load_state, save_state
from varifocal.utils.errors import CheckpointError


def make_network(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(width * 36, 2))


def make_optimizer(network: nn.Module, kind: str) -> torch.optim.Optimizer:
    if kind == "adamw":
        return torch.optim.AdamW(network.parameters(), lr=1e-3)
    return torch.optim.SGD(network.parameters(), lr=1e-2, momentum=0.9 if kind == "sgd" else 0.0)


def run(network: nn.Module, optimizer: torch.optim.Optimizer, ema: nn.Module, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        network(torch.randn(2, 3, 8, 8)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update_parameters(network)


def make_all(kind: str, width: int = 4):
    network = make_network(width)
    return network, make_optimizer(network, kind), make_ema(network, 0.9)


@pytest.mark.parametrize("kind", ["sgd", "plain sgd", "adamw"])
def test_going_on_from_a_saved_state_is_exact(tmp_path, kind):
    torch.manual_seed(0)
    network, optimizer, ema = make_all(kind)
    run(network, optimizer, ema, range(3))
    state = TrainState(3, 0.25, {"AP": 0.1 + 0.2}, validated=False, unreadable={7: "b.png: gone", 2: "a.png: gone"})
    save_state(tmp_path, {"model": network, "ema": ema}, optimizer, state)
    run(network, optimizer, ema, range(3, 6))

    torch.manual_seed(99)
    other, other_optimizer, other_ema = make_all(kind)
    assert load_state(tmp_path, {"model": other, "ema": other_ema}, other_optimizer) == state
    run(other, other_optimizer, other_ema, range(3, 6))
    for ours, theirs in ((network, other), (ema, other_ema)):
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name


@pytest.mark.parametrize(("saved", "expected"), [("sgd", "adamw"), ("adamw", "sgd")])
def test_another_optimizer_is_refused(tmp_path, saved, expected):
    network, optimizer, ema = make_all(saved)
    run(network, optimizer, ema, range(1))
    save_state(tmp_path, {"model": network, "ema": ema}, optimizer, TrainState(step=1))
    with raises_code("optimizer-state", CheckpointError):
        load_state(tmp_path, {"model": network, "ema": ema}, make_optimizer(network, expected))


def test_a_state_with_more_parameters_than_the_optimizer_is_refused(tmp_path):
    network, optimizer, ema = make_all("sgd")
    run(network, optimizer, ema, range(1))
    save_state(tmp_path, {"model": network}, optimizer, TrainState(step=1))
    fewer = torch.optim.SGD(list(network.parameters())[:2], lr=1.0, momentum=0.9)
    with raises_code("optimizer-state", CheckpointError):
        load_state(tmp_path, {"model": network}, fewer)


def test_another_network_is_refused(tmp_path):
    network, optimizer, ema = make_all("sgd")
    save_state(tmp_path, {"model": network, "ema": ema}, optimizer, TrainState())
    other, other_optimizer, other_ema = make_all("sgd", width=5)
    with pytest.raises(CheckpointError, match=r"0\.bias .*\[4\].*\[5\]"):
        load_state(tmp_path, {"model": other, "ema": other_ema}, other_optimizer)


def test_no_state_and_a_model_in_its_place_are_refused(tmp_path):
    network, optimizer, _ = make_all("sgd")
    with pytest.raises(CheckpointError, match=r"state\.safetensors.*No such file"):
        load_state(tmp_path, {"model": network}, optimizer)
    write_checkpoint(tmp_path / STATE, network.state_dict(), {"kind": "model"})
    with raises_code("not-a-state", CheckpointError):
        load_state(tmp_path, {"model": network}, optimizer)


def test_state_holds_every_tensor_once(tmp_path):
    network, optimizer, ema = make_all("adamw")
    run(network, optimizer, ema, range(1))
    save_state(tmp_path, {"model": network, "ema": ema}, optimizer, TrainState(step=1))
    tensors, info = read_checkpoint(tmp_path / STATE)
    assert info["place"] == TrainState(step=1).to_json()
    parameters, buffers = len(list(network.parameters())), len(list(network.buffers()))
    assert len(tensors) == 2 * (parameters + buffers) + 1 + 3 * parameters  # n_averaged; step and two averages


@pytest.mark.parametrize("key", ["unreadable_images", "bad_pictures"])
def test_a_state_of_an_older_version_is_read(key):
    stored = {"step": 4, "best": 0.5, "metrics": {"AP": 0.5}, key: [[3, "c.png: gone"]]}
    assert TrainState.from_json(stored) == TrainState(4, 0.5, {"AP": 0.5}, unreadable={3: "c.png: gone"})
    assert TrainState.from_json({"step": 4, "best": 0.5, "metrics": {}}) == TrainState(4, 0.5)
