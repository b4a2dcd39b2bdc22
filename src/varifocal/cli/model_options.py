"""Options of commands that run a trained model, and how they load it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from varifocal.cli.options import (
    DATA,
    add_output_json,
    add_reading,
    add_val_fraction,
    count,
    fraction_or_pixels,
    levels,
)
from varifocal.utils.errors import ConfigError

CHECKPOINT = "a checkpoint, a run, or the name of published weights (varifocal models)"
MODEL = "a checkpoint, a run, an exported file, or the name of published weights (varifocal models)"
DEVICES = "cpu, cuda, cuda:1, ... (auto: the GPU if torch finds one; the CPU for exported files)"


def add_inference_options(parser: argparse.ArgumentParser, prefix: str = "") -> None:
    """Add test-time augmentation, tiling and the value range; ``prefix`` begins each help text."""
    cost = "" if prefix else "; slower, more accurate"
    parser.add_argument(
        "--tta", action="store_true", help=f"{prefix}test-time augmentation: four sizes, each also mirrored{cost}"
    )
    parser.add_argument(
        "--tile",
        type=int,
        metavar="N",
        help="process large images in tiles of N pixels; 0: whole (from the model's recipe)",
    )
    parser.add_argument(
        "--overlap",
        type=fraction_or_pixels,
        metavar="X",
        help="minimum overlap of the tiles, as a fraction below 1 or in pixels (0.2)",
    )
    parser.add_argument(
        "--range",
        type=levels,
        metavar="LOW,HIGH",
        help=f"{prefix}values that map to black and white in images of more than 8 bits; image or percentile: "
        "computed from each image (from the model's recipe)",
    )


def add_device(parser: argparse.ArgumentParser, prefix: str = "") -> None:
    """Add the device and the precision of the network; ``prefix`` begins the help text of the device."""
    parser.add_argument("--device", default="auto", help=f"{prefix}{DEVICES}")
    add_precision(parser)


def add_batch_size(parser: argparse.ArgumentParser) -> None:
    """Add the number of images that share a batch."""
    parser.add_argument(
        "--batch-size",
        type=count,
        default=0,
        metavar="N",
        help="images of the same size per batch, at most 8 (1 on a CPU, 8 on a GPU)",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add ``--precision`` of a network that runs."""
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="precision of the network (%(default)s)"
    )


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    """Add the data set that a model is measured on, and how the model runs."""
    parser.add_argument("data", type=Path, metavar="DATA", help=DATA)
    parser.add_argument("--split", metavar="S", help="split of the data set (val, else test)")
    add_reading(parser)
    add_val_fraction(parser, "measure on the images that train --val-fraction FRACTION holds out")
    parser.add_argument("--split-seed", type=int, default=0, metavar="N", help="data.split_seed of that run (0)")
    add_output_json(parser)
    add_inference_options(parser)
    add_device(parser)


def load_model(options: argparse.Namespace) -> Any:
    """Load the checkpoint or exported file onto the device, with the tiling, TTA and range of the options."""
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


def resolve_device(name: str, *, exported: bool = False) -> str:
    """Return the device to compute on: ``name``, or for "auto" the GPU if torch finds one, otherwise the CPU.

    Each process of ``torchrun`` gets a GPU of its own for "auto" and "cuda". For an ``exported`` file "auto" is the
    CPU, and any other name is left to its own runtime to check.

    Raises:
        ConfigError: torch has no such device here.
    """
    if exported:
        return "cpu" if name == "auto" else name
    import torch

    if name in ("auto", "cuda") and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"--device {name}: not available here ({str(error).splitlines()[0]}).", code="device-unavailable"
        ) from error
    return name
