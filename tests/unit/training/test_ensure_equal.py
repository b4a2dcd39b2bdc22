"""Processes that would train something different say what differs, all of them."""

import pytest
from error_codes import raises_code

from varifocal.training import processes
from varifocal.training.processes import ensure_equal
from varifocal.utils.errors import ConfigError


@pytest.fixture
def others(monkeypatch):
    """Return a function that sets what the other processes say."""

    def say(*facts):
        monkeypatch.setattr(processes, "gather_from_processes", lambda own: [own, *(("b", values) for values in facts)])
        monkeypatch.setattr(processes.socket, "gethostname", lambda: "a")

    return say


def test_equal_processes_train(others):
    others({"train.lr": 0.1, "steps": 3}, {"train.lr": 0.1, "steps": 3})
    ensure_equal({"train.lr": 0.1, "steps": 3})


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"train.lr": 0.2, "steps": 3}, "train.lr is 0.2 there and 0.1 here;"),
        ({"train.lr": 0.1}, "steps is None there and 3 here;"),
        ({"train.lr": 0.1, "steps": 3, "new": 1}, "new is 1 there and None here;"),
    ],
)
def test_the_difference_is_named(others, other, said):
    others({"train.lr": 0.1, "steps": 3}, other)
    with raises_code("processes-differ", ConfigError) as raised:
        ensure_equal({"train.lr": 0.1, "steps": 3})
    assert f"process 2 on b would train something else than process 0 on a: {said}" in str(raised.value)
