"""Reading the stored numbers of data/, and comparing maps with them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Hashable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fill import filled
from torch import Tensor

from varifocal.structures import Outputs

DATA = Path(__file__).parent / "data"


def keep_last(make: Callable[..., Any]) -> Callable[..., Any]:
    """Like :func:`functools.cache`, but what is kept is dropped before something else is made.

    A network in float64 with the graph of a pass and its gradients takes the better part of a gigabyte.
    """
    kept: dict[tuple[Hashable, ...], Any] = {}

    @wraps(make)
    def last(*given: Hashable) -> Any:
        if given not in kept:
            kept.clear()
            kept[given] = make(*given)
        return kept[given]

    return last


def cut(outputs: Outputs) -> Outputs:
    """Return outputs of the same values that collect gradients and have no graph.

    The graph of each loss is then freed by its own backward pass, which takes much less memory than one pass of all.
    """
    return Outputs({key: value.detach().requires_grad_() for key, value in outputs.tensors.items()}, outputs.shapes)


def backward_from(outputs: Outputs, leaves: Outputs) -> None:
    """Continue the backward passes that ended in ``leaves``, which :func:`cut` made from these outputs."""
    reached = {key: leaf.grad for key, leaf in leaves.tensors.items() if leaf.grad is not None}
    torch.autograd.backward([outputs.tensors[key] for key in reached], list(reached.values()))


@cache
def families() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the state dicts that are kept together."""
    return json.loads(gzip.decompress((DATA / "keys" / "vfnet_family.json.gz").read_bytes()))


@cache
def keys(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the authors' state dict."""
    alone = DATA / "keys" / f"{name}.json"
    found = json.loads(alone.read_text()) if alone.exists() else families()[name]
    return {key: tuple(shape) for key, shape in found.items()}


@cache
def stored(name: str) -> dict[str, np.ndarray]:
    """The maps of the forward passes."""
    return dict(np.load(DATA / "forward" / f"{name}.npz"))


def filled_state(name: str) -> dict[str, Tensor]:
    """The authors' state dict with the weights of the fill rule."""
    return {key: torch.from_numpy(filled(key, shape)) for key, shape in keys(name).items()}


def compare_map(name: str, key: str, ours: Tensor) -> None:
    """With the stored map, or its sample, within 1e-5 of its largest magnitude; and its statistics."""
    values = stored(name)
    mean, deviation, largest = values[f"{key}.stats"]
    assert tuple(ours.shape) == tuple(values[f"{key}.shape"])
    flat = ours.numpy().reshape(-1)
    if key in values:
        difference = flat - values[key].reshape(-1)
    else:
        difference = flat[values[f"{key}.idx"]] - values[f"{key}.val"]
    assert np.abs(difference).max() <= 1e-5 * largest, key
    statistics = [flat.mean(dtype=np.float64), flat.std(dtype=np.float64), np.abs(flat).max()]
    assert statistics == pytest.approx([mean, deviation, largest], abs=1e-5 * largest), key
