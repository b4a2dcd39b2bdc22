"""A detector's network split into the parts whose times are reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

TOWERS, STARS, PREDICTORS = "towers", "star convolutions", "predictors"


@dataclass(frozen=True)
class Part:
    """Modules, by their dotted names, reported as one; ``within`` is the part that they lie in, "" the network."""

    name: str
    modules: tuple[str, ...]
    within: str = ""


def find_parts(network: nn.Module) -> list[Part]:
    """Backbone, neck and head, and what the head is made of.

    Inside the head the names decide, which all detectors of the package choose alike: ``*_star`` is a star convolution,
    ``*_tower`` and ``*_conv`` are its layers, what is left are predictors. Where the stars look is worked out
    between them.
    """
    parts = []
    for name, child in network.named_children():
        parts.append(Part(name, (name,)))
        if name == "head":
            parts += _head_parts(child)
    return parts


def _head_parts(head: nn.Module) -> list[Part]:
    groups: dict[str, list[str]] = {TOWERS: [], STARS: [], PREDICTORS: []}
    for name, child in head.named_children():
        if not isinstance(child, (nn.ParameterList, nn.ParameterDict)):  # they hold numbers and are never called
            groups[_kind(name)].append(f"head.{name}")
    return [Part(kind, tuple(names), "head") for kind, names in groups.items() if names]


def _kind(name: str) -> str:
    if name.endswith("_star"):
        return STARS
    return TOWERS if name.endswith(("_tower", "_conv")) else PREDICTORS


def flops_of(part: Part, counted: Mapping[str, int]) -> int:
    """Of its modules, from what :func:`varifocal.models.flops.count_flops` says."""
    return sum(counted.get(name, 0) for name in part.modules)
