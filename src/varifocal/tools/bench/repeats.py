"""Rounds of timing, with progress bars."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from varifocal.tools.bench.config import Settings
from varifocal.utils.progress import progress_bar

FEWEST, MOST = 3, 1000  # rounds, if their number follows from the time


def rounds(batch: int, settings: Settings, warm: int = 1) -> Iterator[bool]:
    """Yield False ``warm`` times to warm up and to time a round, then True for each round that counts."""
    took = 0.0
    with progress_bar(f"batch {batch}, warm-up", warm) as advance:
        for i in range(warm):
            begun = time.perf_counter()
            yield False
            took = time.perf_counter() - begun
            advance(i + 1)
    number = settings.repeats or min(max(math.ceil(settings.seconds / took), FEWEST), MOST)
    with progress_bar(f"batch {batch}", number) as advance:
        for i in range(number):
            yield True
            advance(i + 1)
