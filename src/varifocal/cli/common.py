"""What several verbs do with their options: load the model, choose the device, change the recipe."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from varifocal.errors import ConfigError


def load_model(options: argparse.Namespace) -> Any:
    """The checkpoint or exported file on the device, with the windows and the views that are asked for."""
    from dataclasses import replace

    from varifocal.loading import load
    from varifocal.runtime import is_exported
    from varifocal.settings import PAPER_VIEWS
    from varifocal.tiles import chosen

    device = options.device if is_exported(options.checkpoint) else usable_device(options.device)
    model = load(options.checkpoint, device, options.precision)
    model.info = replace(model.info, tiling=chosen(model.info.tiling, options.tile, options.overlap))
    if options.tta:
        model.info = replace(model.info, views=PAPER_VIEWS)
    return model


def usable_device(name: str) -> str:
    """The name, after something was put there.

    Raises:
        ConfigError: torch has no such device here.
    """
    import torch

    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {name}: not usable here ({str(error).splitlines()[0]}).") from error
    return name


def data_words(options: argparse.Namespace) -> list[str]:
    """What --format, --images, --unlabeled and --val mean in a recipe."""
    from varifocal.data.options import images_word

    images = images_word(options.images, Path(options.data)) if options.images else None
    words = {
        "data.format": options.format,
        "data.images": None if images is None else json.dumps(images),  # a name may look like YAML
        "data.unlabeled": options.unlabeled,
        "data.val_share": options.val,
    }
    return [f"{key}={value}" for key, value in words.items() if value]
