"""Settings of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from varifocal.utils.errors import ConfigError

Runtime = Literal["torch", "onnxruntime", "openvino"]


@dataclass(frozen=True)
class Settings:
    """What is measured, and for how long.

    ``size`` is the (height, width) that images are resized to; None is (800, 1216) for a recipe, and for a checkpoint
    the size that its own preprocessing gives the first image. ``images`` names images, a folder or a glob; None is one
    synthetic image of 640 x 480. Each of ``batches`` is measured for about ``seconds``, or ``repeats`` times.
    ``threads`` None is the runtime's default.

    Raises:
        ConfigError: the device or the precision is not supported.
    """

    size: tuple[int, int] | None = None
    batches: tuple[int, ...] = (1,)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: str = "cpu"
    runtime: Runtime = "torch"
    threads: int | None = None
    seconds: float = 10.0
    repeats: int | None = None
    images: str | None = None

    def __post_init__(self) -> None:
        if self.device.partition(":")[0] not in ("cpu", "cuda"):
            raise ConfigError(f"--device {self.device}: only cpu and cuda can be measured.", code="bench-device")
        if self.runtime == "torch":  # the other runtimes check the precision themselves
            from varifocal.models.optimize import check_precision

            check_precision(self.precision, self.device)

    @property
    def dtype(self) -> Any:
        """The torch type of the network's matrix products."""
        from varifocal.models.optimize import TYPES

        return TYPES[self.precision]
