"""The measured model: a checkpoint or a recipe, and its network as prediction runs it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from varifocal.inference.loading import load_checkpoint
from varifocal.inference.model import Model
from varifocal.recipes.build import build_model
from varifocal.recipes.recipe import load_recipe, recipe_names
from varifocal.structures import Outputs
from varifocal.tools.bench.config import Settings
from varifocal.types import Category
from varifocal.utils.errors import ConfigError

CLASSES = 80  # of a recipe whose number of classes comes from the data


def find_model(name: str) -> tuple[Model, bool]:
    """Return the model of a checkpoint, or of a recipe with random weights, and whether it is a recipe.

    Raises:
        ConfigError: neither a file nor a recipe (lists them), or a recipe that cannot be read.
        CheckpointError: a file that is no checkpoint of this package.
    """
    if name in recipe_names() or name.endswith((".yaml", ".yml")):
        return random_model(name), True
    if Path(name).suffix or os.sep in name or Path(name).exists():
        return load_checkpoint(name).requires_grad_(False), False
    raise ConfigError(
        f"{name}: neither a checkpoint nor a recipe; the recipes are {', '.join(recipe_names())}.", code="unknown-model"
    )


def random_model(recipe: str) -> Model:
    """Return the recipe's model with random weights, the same in every call; nothing is downloaded."""
    values = load_recipe(recipe)
    categories = [Category(i, f"class {i}") for i in range(values.model.num_classes or CLASSES)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(values, categories, weights=False)
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class Network:
    """A network that is ready to be timed.

    ``call`` takes the normalized batch [B, 3, H, W] in float32 on the device, and returns the detector's outputs.
    ``module`` is the module that runs, whose parts can be timed by hooks; None for a runtime without modules.
    """

    call: Callable[[Tensor], Outputs]
    module: nn.Module | None


def torch_network(model: Model, settings: Settings) -> Network:
    """Move the model to the device, and return its network as prediction runs it (``Model.forward_optimized``)."""
    model.to(settings.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    model.precision = settings.precision
    return Network(model.forward_optimized, model.optimized())


# for each --runtime a function from the model and the settings to the network
RUNTIMES: dict[str, Callable[[Model, Settings], Network]] = {"torch": torch_network}
