"""The command ``export``: from options to a file and the printed report on it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from varifocal.export import FORMATS
from varifocal.export.config import ExportSettings
from varifocal.export.images import comparison_images
from varifocal.inference.exported.info import sidecar_path
from varifocal.inference.model import Model, load
from varifocal.utils.errors import ConfigError
from varifocal.utils.progress import progress_bar, spinner

if TYPE_CHECKING:
    from varifocal.types import Dataset


def run_export(options: argparse.Namespace, target: Path) -> None:
    """Write the file, show how near it is to torch, and say what to type."""
    from rich.console import Console

    _check(options)
    write, suffixes = FORMATS[options.format]
    settings = ExportSettings(options.size, options.precision, options.nms, options.deform_op)
    model = load(options.checkpoint)
    if options.precision == "int8":
        compared: Any = _write_int8(options, target, settings, model)
    else:
        images = comparison_images(options.images, model.info)
        with spinner("making the graph, and comparing it with torch"):
            compared = write(model, target, settings, images)
    Console().print(compared.table())
    size = "any size" if settings.size is None else f"{settings.size[0]}x{settings.size[1]}"
    files = [target.with_suffix(suffix) for suffix in suffixes]
    names = " and ".join([str(target), *(file.name for file in files[1:])])
    weight = sum(file.stat().st_size for file in files) / 1e6
    print(f"{names}: {weight:.1f} MB, input of {size}; the description: {sidecar_path(target).name}")
    own = f'torch.export.load("{target}").module()(pixels)'
    print(f"In Python: {own}" if options.format == "torch-export" else f"Try: varifocal predict {target} IMAGES")


def _check(options: argparse.Namespace) -> None:
    """Before the checkpoint is read, that the options go together."""
    given = {
        "--calibration-data": options.calibration_data is not None,
        "--validation-data": options.validation_data is not None,
        "--max-ap-drop": options.max_ap_drop is not None,
        "--fp32-modules": bool(options.fp32_modules),
        "--int8-target": options.int8_target is not None,
    }
    if options.precision == "int8":
        if options.images is not None:
            raise ConfigError(
                "--images: int8 is compared on labeled images; name them with --validation-data DATA/SPLIT."
            )
        if options.calibration_data is None:
            raise ConfigError(
                "--precision int8 needs --calibration-data DATA, data with images like those that the file will see."
            )
        return
    for name, there in given.items():
        if there:
            raise ConfigError(f"{name}: is for --precision int8 only.")


def _write_int8(options: argparse.Namespace, target: Path, settings: ExportSettings, model: Model) -> Any:
    from varifocal.export.quantize import Int8, export_int8

    int8 = Int8(
        _data(options.calibration_data, "train", "--calibration-data"),
        _data(options.validation_data or options.calibration_data, "val", "--validation-data"),
        1.0 if options.max_ap_drop is None else options.max_ap_drop,
        tuple(options.fp32_modules),
        target=options.int8_target or "portable",
    )
    return export_int8(model, target, settings, int8, options.format, progress_bar)


def _data(path: Path, role: Literal["train", "val"], option: str) -> Dataset:
    from varifocal.data.load import load_split

    data = load_split(path, role, option)
    for note in data.notes:
        print(note, file=sys.stderr)
    return data
