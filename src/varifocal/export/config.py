"""What can be chosen of an export."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn

from varifocal.inference.model import ModelInfo
from varifocal.utils.errors import ConfigError

MULTIPLE = 32  # the coarsest map of a backbone has this stride


@dataclass(frozen=True)
class ExportSettings:
    """``size`` is (height, width) of the input in pixels, None for any; ``nms`` "in" has the graph suppress.

    ``precision`` "fp16" stores weights, and computes convolutions where the runtime can, in half precision; coordinates
    stay float32. "int8" is only for :func:`varifocal.export.quantize.export_int8`. ``deform`` is the form of deformable
    convolutions: "deformconv" is ONNX's own operator (ONNX Runtime from 1.25 on, TensorRT from 10.1 on), "gridsample"
    look-ups that older runtimes have too and that are slower; "auto" is "deformconv", and what int8 gains by with it.
    """

    size: tuple[int, int] | None = None
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    nms: Literal["graph", "host"] = "host"
    deform: Literal["auto", "deformconv", "gridsample"] = "auto"

    @property
    def form(self) -> Literal["deformconv", "gridsample"]:
        """``deform`` with "auto" decided."""
        return "deformconv" if self.deform == "auto" else self.deform

    @property
    def computed(self) -> Literal["fp32", "fp16"]:
        """What convolutions of the float graph compute in."""
        return "fp16" if self.precision == "fp16" else "fp32"


def check_settings(settings: ExportSettings, info: ModelInfo) -> None:
    """That the model can be exported so.

    Raises:
        ConfigError: a size that is no multiple of 32, or suppression of a kind that ONNX does not have.
    """
    if settings.precision == "int8":
        raise ConfigError(
            "precision int8: needs a data set to calibrate on; use varifocal.export.quantize.export_int8."
        )
    multiple = multiple_of(info)
    if settings.size is not None and any(side <= 0 or side % multiple for side in settings.size):
        height, width = (max(round(side / multiple), 1) * multiple for side in settings.size)
        raise ConfigError(
            f"--size {settings.size[0]}x{settings.size[1]}: both sides must be multiples of {multiple}, as "
            f"{height}x{width}."
        )
    if settings.nms == "graph" and info.postprocess.nms_type != "nms":
        raise ConfigError("--nms graph: ONNX has no soft suppression; export with --nms host.")
    if settings.nms == "graph" and info.tta.count > 1:
        raise ConfigError("--nms graph: the model looks at an image several times; export with --nms host.")


def check_backbone(settings: ExportSettings, network: nn.Module, name: str) -> None:
    """That a graph of any size can be made of it.

    Raises:
        ConfigError: it cuts its maps into windows, and a size is missing.
    """
    if settings.size is None and any(hasattr(module, "window_size") for module in network.modules()):
        raise ConfigError(
            f"{name}: cuts its maps into windows, which torch's exporter cannot finish for any size; give a size, as "
            "--size 800x1216."
        )


def multiple_of(info: ModelInfo) -> int:
    """Of what the sides of an input are multiples."""
    return math.lcm(MULTIPLE, info.preprocess.size_divisor)
