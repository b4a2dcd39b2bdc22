"""Models loaded from files of either kind: checkpoints, which torch runs, and exported files, which need no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from varifocal.utils.errors import ConfigError

EXPORTED = (".onnx", ".xml", ".pt2")  # suffixes of exported files; every other file is a checkpoint


def is_exported(path: Path | str) -> bool:
    """Return whether a path is named like an exported model and not like a checkpoint."""
    return Path(path).suffix.lower() in EXPORTED


def load(path: Path | str, device: str = "cpu", precision: Literal["fp32", "bf16", "fp16"] = "fp32") -> Any:
    """Load a checkpoint or an exported file (``.onnx``, ``.xml``), ready to predict.

    A checkpoint becomes a :class:`varifocal.inference.model.Model`, an exported file a
    :class:`varifocal.inference.exported.model.ExportedModel`, which needs no torch. Both have ``predict``,
    ``categories`` and ``info``. ``precision`` is the type in which a checkpoint predicts: "bf16" halves the time on
    processors that support it, at a cost of about one hundredth of each raw output; "fp16" is for GPUs. OpenVINO files
    take "fp32" or "bf16"; the precision of an ONNX file is fixed.

    Raises:
        ConfigError: the precision or the device does not exist, or a package is missing.
        CheckpointError: the file was not written by this package, is damaged, or is of a newer version.
    """
    if is_exported(path):
        from varifocal.inference.exported.model import load_exported

        return load_exported(path, device, precision)
    try:
        from varifocal.inference import model
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{path}: a checkpoint needs the package {error.name}: pip install varifocal; an exported file does not.",
            code="checkpoint-package-missing",
        ) from error
    return model.load(path, device, precision)
