"""The authors' and mmdetection's VFNet files: their state dicts under our names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# (pattern of the authors' key, our key); the first that matches the whole key counts
RENAMES: tuple[tuple[str, str], ...] = (
    (r"backbone\.(.*)", r"backbone.net.\1"),
    (r"neck\.lateral_convs\.(\d)\.conv\.(.*)", r"neck.lateral.\1.\2"),
    (r"neck\.fpn_convs\.([012])\.conv\.(.*)", r"neck.output.\1.\2"),
    (r"neck\.fpn_convs\.3\.conv\.(.*)", r"neck.extra.0.\1"),
    (r"neck\.fpn_convs\.4\.conv\.(.*)", r"neck.extra.1.\1"),
    (r"bbox_head\.(cls|reg)_convs\.(\d)\.conv\.(.*)", r"head.\1_tower.\2.0.\3"),
    (r"bbox_head\.(cls|reg)_convs\.(\d)\.gn\.(.*)", r"head.\1_tower.\2.1.\3"),
    (r"bbox_head\.vfnet_(cls|reg)_conv\.conv\.(.*)", r"head.\1_conv.0.\2"),
    (r"bbox_head\.vfnet_(cls|reg)_conv\.gn\.(.*)", r"head.\1_conv.1.\2"),
    (r"bbox_head\.vfnet_reg_refine_dconv\.(.*)", r"head.reg_star.\1"),
    (r"bbox_head\.vfnet_cls_dconv\.(.*)", r"head.cls_star.\1"),
    (r"bbox_head\.(scales|scales_refine)\.(\d)\.scale", r"head.\1.\2"),
    (r"bbox_head\.vfnet_(cls|reg|reg_refine)\.(.*)", r"head.\1.\2"),
)


def rename(key: str) -> str | None:
    """Our name of an authors' weight, or None where there is none."""
    for pattern, name in RENAMES:
        match = re.fullmatch(pattern, key)
        if match:
            return match.expand(name)
    return None


def from_authors(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict under our names, and the keys that have no place here."""
    renamed = {key: rename(key) for key in state}
    mapped = {name: state[key] for key, name in renamed.items() if name is not None}
    return mapped, [key for key, name in renamed.items() if name is None]
