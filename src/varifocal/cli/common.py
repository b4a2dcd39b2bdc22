"""What several verbs do with their options: load the model, choose the device, change the recipe."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from varifocal.utils.errors import ConfigError


def load_model(options: argparse.Namespace) -> Any:
    """The checkpoint or exported file on the device, with the windows and the views that are asked for."""
    from dataclasses import replace

    from varifocal.inference.loading import is_exported, load
    from varifocal.inference.tiling import tiling_from_options
    from varifocal.types import PAPER_TTA

    device = resolve_device(options.device, exported=is_exported(options.checkpoint))
    model = load(options.checkpoint, device, options.precision)
    if options.device == "auto" and device != "cpu":
        print(f"running on {device}", file=sys.stderr)
    model.info = replace(model.info, tiling=tiling_from_options(model.info.tiling, options.tile, options.overlap))
    if options.range is not None:
        model.info = replace(model.info, preprocess=replace(model.info.preprocess, range=options.range))
    if options.tta:
        model.info = replace(model.info, tta=PAPER_TTA)
    return model


@contextmanager
def in_environment(options: argparse.Namespace) -> Iterator[None]:
    """While a verb runs, --max-pixels and --font stand in the environment, where loading processes find them too.

    Raises:
        ConfigError: --font names no font.
    """
    variables = {
        "VARIFOCAL_MAX_PIXELS": getattr(options, "max_pixels", None),
        "VARIFOCAL_FONT": getattr(options, "font", None),
    }
    given = {name: str(value) for name, value in variables.items() if value is not None}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        if "VARIFOCAL_FONT" in given:
            from varifocal.utils.fonts import check_font

            check_font()
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def resolve_device(name: str, *, exported: bool = False) -> str:
    """The device that is computed on: the one that is named, or for "auto" the GPU where torch sees one.

    An ``exported`` file runs on the CPU unless a device is named, and its own runtime judges that name.

    Raises:
        ConfigError: torch has no such device here.
    """
    if exported:
        return "cpu" if name == "auto" else name
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {name}: not usable here ({str(error).splitlines()[0]}).") from error
    return name


def data_overrides(options: argparse.Namespace) -> list[str]:
    """What --format, --images, --unlabeled and --val-fraction mean in a recipe."""
    from varifocal.data.options import images_word

    images = images_word(options.images, Path(options.data)) if options.images else None
    words = {
        "data.format": options.format,
        "data.images": None if images is None else json.dumps(images),  # a name may look like YAML
        "data.unlabeled": options.unlabeled,
        "data.val_fraction": options.val_fraction,
    }
    return [f"{key}={value}" for key, value in words.items() if value]
