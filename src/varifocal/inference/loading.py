"""A model from a file of either kind: a checkpoint, which torch runs, or an exported one, which needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from varifocal.utils.errors import ConfigError


def load(path: Path | str, device: str = "cpu", precision: Literal["fp32", "bf16", "fp16"] = "fp32") -> Any:
    """The model of a checkpoint or of an exported file (``.onnx``, ``.xml``), ready to predict.

    A checkpoint gives a :class:`varifocal.inference.model.Model`, an exported file a
    :class:`varifocal.inference.exported.model.ExportedModel`; both have ``predict``, ``categories`` and ``info``.
    ``precision`` is that of a checkpoint's prediction: "bf16" halves the time on processors that compute it, at a cost
    of about a hundredth of each raw output; "fp16" is for GPUs. A file of OpenVINO takes "fp32" or "bf16", one of ONNX
    has its own.

    Raises:
        ConfigError: a precision or device that there is not, or a package that is missing.
        CheckpointError: not a file of this package, damaged, or of a newer version.
    """
    from varifocal.inference.exported.formats import is_exported
    from varifocal.inference.exported.model import load_exported

    if not is_exported(path):
        try:
            from varifocal.inference import model as predict
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{path}: a checkpoint needs the package {error.name}: pip install varifocal; an exported one does not."
            ) from error
        return predict.load(path, device, precision)
    return load_exported(path, device, precision)
