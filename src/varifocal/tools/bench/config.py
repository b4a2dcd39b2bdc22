"""What is measured, and which wishes cannot be met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from varifocal.utils.errors import ConfigError

Runtime = Literal["torch", "onnxruntime", "openvino"]


@dataclass(frozen=True)
class Settings:
    """What is measured and how long.

    ``size`` is the (height, width) that images are resized to; None is (800, 1216) for a recipe and for a checkpoint
    what its own preprocessing makes of the first image. ``images`` names images, a folder or a glob; None is one
    made image of 640 x 480. Each of ``batches`` is measured for about ``seconds``, or ``repeats`` times. ``threads``
    None leaves the runtime's own number.
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
            raise ConfigError(f"--device {self.device}: only cpu and cuda are measured.")
        if self.runtime == "torch":  # the others say themselves what they cannot
            from varifocal.models.optimize import check_precision

            check_precision(self.precision, self.device)

    @property
    def dtype(self) -> Any:
        """The type of torch that the network's products have."""
        from varifocal.models.optimize import TYPES

        return TYPES[self.precision]
