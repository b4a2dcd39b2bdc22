import torch
from error_codes import raises_code

from varifocal.cli.model_options import resolve_device


def test_auto_is_the_gpu_where_there_is_one(monkeypatch):
    for available, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert resolve_device("auto") == device
        assert resolve_device("auto", exported=True) == "cpu"


def test_a_named_device_is_that_one():
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("cuda:7", exported=True) == "cuda:7"  # left to its own runtime to check
    with raises_code("device-unavailable"):
        resolve_device("nonsense")
