"""The settings of an export, and which models they fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn

from varifocal.inference.model import ModelInfo
from varifocal.utils.errors import ConfigError

MULTIPLE = 32  # stride of a backbone's coarsest feature map


@dataclass(frozen=True)
class ExportSettings:
    """Settings of an exported graph.

    ``size`` is (height, width) of the input in pixels, or None for any size. With ``nms`` "graph", the graph itself
    runs NMS, with "host" its caller does. ``precision`` "fp16" stores weights in half precision and computes
    convolutions in it where the runtime can; coordinates stay float32. "int8" is only for
    :func:`varifocal.export.quantize.export_int8`. ``deform`` is the form of deformable convolutions: "deformconv" is
    ONNX's own operator (ONNX Runtime from 1.25 on, TensorRT from 10.1 on), "gridsample" a slower one that older
    runtimes have, too; "auto" is "deformconv" in float, and the faster of the two in int8.
    """

    size: tuple[int, int] | None = None
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    nms: Literal["graph", "host"] = "host"
    deform: Literal["auto", "deformconv", "gridsample"] = "auto"

    @property
    def form(self) -> Literal["deformconv", "gridsample"]:
        """Return ``deform`` with "auto" resolved for a float graph."""
        return "deformconv" if self.deform == "auto" else self.deform

    @property
    def computed(self) -> Literal["fp32", "fp16"]:
        """Return the precision of convolutions in the float graph."""
        return "fp16" if self.precision == "fp16" else "fp32"


def check_settings(settings: ExportSettings, info: ModelInfo) -> None:
    """Check that the model can be exported with these settings.

    Raises:
        ConfigError: the size does not fit the strides, or the NMS has no form in ONNX.
    """
    if settings.precision == "int8":
        raise ConfigError(
            "precision int8: needs a data set to calibrate on; use varifocal.export.quantize.export_int8.",
            code="int8-without-data",
        )
    if settings.size is not None:
        multiple = multiple_of(info)
        height, width = (max(round(side / multiple), 1) * multiple for side in settings.size)
        if (height, width) != settings.size:
            raise ConfigError(
                f"--size {settings.size[0]}x{settings.size[1]}: both sides must be multiples of {multiple}, such as "
                f"{height}x{width}.",
                code="size-not-a-multiple",
            )
    if settings.nms == "graph" and info.postprocess.nms_type != "nms":
        raise ConfigError("--nms graph: ONNX has no soft NMS; export with --nms host.", code="soft-nms-in-graph")


def drops_tta(settings: ExportSettings, info: ModelInfo) -> bool:
    """Return whether the model has test-time augmentation, which the file cannot do: several sizes or suppressions."""
    return info.tta.count > 1 and (settings.size is not None or settings.nms == "graph")


def check_backbone(settings: ExportSettings, network: nn.Module, name: str) -> None:
    """Check that the backbone ``name`` can be exported for any size if none is given.

    Raises:
        ConfigError: it uses windowed attention, and no size is given.
    """
    if settings.size is None and any(hasattr(module, "window_size") for module in network.modules()):
        raise ConfigError(
            f"{name}: uses windowed attention, which torch cannot export for any size; give one, such as "
            "--size 800x1216.",
            code="windowed-backbone",
        )


def multiple_of(info: ModelInfo) -> int:
    """Return the number that must divide both sides of an input."""
    return math.lcm(MULTIPLE, info.preprocess.size_divisor)
