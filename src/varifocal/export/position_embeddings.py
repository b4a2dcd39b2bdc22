"""Learned position embeddings, which timm resizes to each image, as numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def fix_positions(network: nn.Module, size: tuple[int, int]) -> None:
    """Make every plain transformer of timm in ``network`` take images of this (height, width) in pixels as its own.

    Its embeddings are resized here, once and by torch; runtimes have cubic resizing of their own, with other numbers.
    """
    for module in network.modules():
        transformer: Any = module
        if getattr(module, "dynamic_img_size", False) and hasattr(module, "set_input_size"):
            with torch.no_grad():
                transformer.set_input_size(img_size=size)
