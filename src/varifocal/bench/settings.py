"""What is measured, and which wishes cannot be met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from varifocal.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Settings:
    """What is measured and how long.

    ``size`` is the (height, width) that pictures are resized to; None is (800, 1216) for a recipe and for a checkpoint
    what its own preprocessing makes of the first picture. ``images`` names pictures, a folder or a glob; None is one
    made picture of 640 x 480. Each of ``batches`` is measured for about ``seconds``, or ``repeats`` times. ``threads``
    None leaves torch's own number.
    """

    size: tuple[int, int] | None = None
    batches: tuple[int, ...] = (1,)
    precision: Precision = "fp32"
    device: str = "cpu"
    runtime: Literal["torch"] = "torch"
    threads: int | None = None
    seconds: float = 10.0
    repeats: int | None = None
    images: str | None = None

    def __post_init__(self) -> None:
        kind = torch.device(self.device).type
        if kind not in ("cpu", "cuda"):
            raise ConfigError(f"--device {self.device}: only cpu and cuda are measured.")
        if self.precision == "fp16" and kind != "cuda":
            raise ConfigError("--precision fp16: is for CUDA devices; take bf16 or fp32 on a CPU.")

    @property
    def dtype(self) -> torch.dtype:
        """That of the network's products."""
        return DTYPES[self.precision]
