"""What is measured, and which wishes cannot be met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from varifocal.errors import ConfigError
from varifocal.models.fuse import TYPES, Precision, check_precision


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
        check_precision(self.precision, self.device)

    @property
    def dtype(self) -> torch.dtype:
        """That of the network's products."""
        return TYPES[self.precision]
