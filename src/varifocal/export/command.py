"""The command ``export``: writes the file and prints how close it is to torch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from varifocal.export.config import ExportSettings, drops_tta
from varifocal.export.images import comparison_images
from varifocal.export.onnx import export_onnx
from varifocal.export.openvino import export_openvino
from varifocal.export.torch_export import export_torch
from varifocal.inference.exported.info import sidecar_path
from varifocal.inference.loading import load_checkpoint
from varifocal.inference.model import Model
from varifocal.utils.errors import ConfigError
from varifocal.utils.progress import progress_bar, spinner

if TYPE_CHECKING:
    from varifocal.types import Dataset


# name -> (the function that writes the format, the suffixes of its files; the first one is that of the graph)
FORMATS = {
    "onnx": (export_onnx, (".onnx",)),
    "openvino": (export_openvino, (".xml", ".bin")),
    "torch-export": (export_torch, (".pt2",)),
}


def run_export(options: argparse.Namespace, target: Path) -> None:
    """Export, print the comparison with torch, and print how to use the file."""
    from rich.console import Console

    _check_options(options)
    write, suffixes = FORMATS[options.format]
    settings = ExportSettings(options.size, options.precision, options.nms, options.deform_op)
    model = load_checkpoint(options.checkpoint)
    if drops_tta(settings, model.info):
        print(
            "The model's test-time augmentation is left out: a file of a fixed size, or with suppression in the graph, "
            "makes one pass.",
            file=sys.stderr,
        )
    if options.precision == "int8":
        compared: Any = _write_int8(options, target, settings, model)
    else:
        images = comparison_images(options.images, model.info)
        with spinner("building the graph and comparing it with torch"):
            compared = write(model, target, settings, images)
    Console(markup=False, emoji=False).print(compared.table())
    size = "any size" if settings.size is None else f"{settings.size[0]}x{settings.size[1]}"
    files = [target.with_suffix(suffix) for suffix in suffixes]
    names = " and ".join([str(target), *(file.name for file in files[1:])])
    weight = sum(file.stat().st_size for file in files) / 1e6
    print(f"{names}: {weight:.1f} MB, input of {size}; the description: {sidecar_path(target).name}")
    own = f'torch.export.load("{target}").module()(pixels)'
    print(f"In Python: {own}" if options.format == "torch-export" else f"Try: varifocal predict {target} IMAGES")


def _check_options(options: argparse.Namespace) -> None:
    """Raise ConfigError for options that contradict each other, before the checkpoint is read."""
    int8_options = {
        "--calibration-data": options.calibration_data is not None,
        "--validation-data": options.validation_data is not None,
        "--max-ap-drop": options.max_ap_drop is not None,
        "--fp32-modules": bool(options.fp32_modules),
        "--int8-target": options.int8_target is not None,
    }
    if options.precision == "int8":
        if options.images is not None:
            raise ConfigError(
                "--images: int8 is compared on labeled images; name them with --validation-data DATA/SPLIT.",
                code="images-of-int8",
            )
        if options.calibration_data is None:
            raise ConfigError(
                "--precision int8 needs --calibration-data DATA with images like those that the file will process.",
                code="no-calibration-data",
            )
        return
    for name, given in int8_options.items():
        if given:
            raise ConfigError(f"{name}: only applies to --precision int8.", code="option-of-int8")


def _write_int8(options: argparse.Namespace, target: Path, settings: ExportSettings, model: Model) -> Any:
    from varifocal.export.quantize import Int8, export_int8

    int8 = Int8(
        _load_data(options.calibration_data, "train", "--calibration-data"),
        _load_data(options.validation_data or options.calibration_data, "val", "--validation-data"),
        1.0 if options.max_ap_drop is None else options.max_ap_drop,
        tuple(options.fp32_modules),
        target=options.int8_target or "portable",
    )
    return export_int8(model, target, settings, int8, options.format, progress_bar)


def _load_data(path: Path, role: Literal["train", "val"], option: str) -> Dataset:
    from varifocal.data.load import load_split

    data = load_split(path, role, option)
    for note in data.notes:
        print(note, file=sys.stderr)
    return data
