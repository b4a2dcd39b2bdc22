"""The command ``bench``: latency, throughput, memory, arithmetic, and the time of each step."""

from __future__ import annotations

from pathlib import Path

from varifocal.inference.loading import is_exported
from varifocal.tools.bench.config import Settings
from varifocal.tools.bench.results import Report

__all__ = ["Report", "Settings", "bench"]


def bench(name: str, settings: Settings, trace: Path | None = None) -> Report:
    """Measure the checkpoint, recipe or exported file ``name``; torch is not needed for exported files.

    With ``trace`` also write torch's profile of one pass to that path.

    Raises:
        ConfigError, CheckpointError, DataError: the model or the images cannot be used, or a batch does not fit into
            memory.
    """
    if is_exported(name):
        from varifocal.tools.bench.exported import bench_exported

        return bench_exported(name, settings, trace)
    from varifocal.tools.bench.run import bench as bench_checkpoint

    return bench_checkpoint(name, settings, trace)
