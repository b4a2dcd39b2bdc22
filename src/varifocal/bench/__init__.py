"""How fast a model is here: latency, throughput, memory, arithmetic, and where the time goes."""

from varifocal.bench.run import bench
from varifocal.bench.settings import Settings

__all__ = ["Settings", "bench"]
