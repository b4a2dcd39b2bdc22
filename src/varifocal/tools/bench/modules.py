"""The parts of a detector's network whose times are reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

TOWERS, STARS, PREDICTORS = "towers", "star convolutions", "predictors"


@dataclass(frozen=True)
class Part:
    """Modules, by their dotted names, that are reported as one; ``within`` is the part around them, "" the network."""

    name: str
    modules: tuple[str, ...]
    within: str = ""


def find_parts(network: nn.Module) -> list[Part]:
    """Return the backbone, the neck, the head, and the parts of the head.

    The names inside the head follow one convention in all detectors: ``*_star`` is a star convolution, ``*_tower`` and
    ``*_conv`` are layers, and the others are predictors. The points of the stars are computed between them.
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
    """Return the operations of the part's modules, as :func:`varifocal.models.flops.count_flops` counts them."""
    return sum(counted.get(name, 0) for name in part.modules)
