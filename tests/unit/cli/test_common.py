import pytest
import torch

from varifocal.cli.common import resolve_device
from varifocal.utils.errors import ConfigError


def test_auto_is_the_gpu_where_there_is_one(monkeypatch):
    for available, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert resolve_device("auto") == device
        assert resolve_device("auto", exported=True) == "cpu"


def test_a_named_device_is_that_one():
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("cuda:7", exported=True) == "cuda:7"  # its runtime judges it
    with pytest.raises(ConfigError, match="--device nonsense: not usable here"):
        resolve_device("nonsense")
