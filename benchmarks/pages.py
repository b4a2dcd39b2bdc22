"""Time writing the HTML page of a check and of a report, once their contents are computed.

    python benchmarks/pages.py DATA RUN [RUN ...]

The first page of a process also reads and compiles its templates; the median of 21 later pages is printed next to it.
The time includes reading images again for thumbnails, because users wait for that too.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.recipes.recipe import load_recipe
from varifocal.tools.check.run import check_data
from varifocal.tools.report.make import make_report

REPEATS = 21


def main(data: str, runs: list[str]) -> None:
    """Print a line per page."""
    recipe = load_recipe("vfnet_r50_1x", [])
    eye = TrainingGeometry.of("vfnet_r50_1x", recipe.detector, recipe.model, recipe.data.preprocess)
    report = check_data(Path(data), eye)
    start = time.perf_counter()
    from varifocal.tools.check.page import make_page as check_page

    measure("check", lambda: check_page(report), time.perf_counter() - start)
    results: Any = make_report([Path(run) for run in runs])
    start = time.perf_counter()
    from varifocal.tools.report.page import make_page as report_page

    measure("report", lambda: report_page(results), time.perf_counter() - start)


def measure(name: str, make: Callable[[], str], imports: float) -> None:
    """Time a page and print the result; ``imports`` are the seconds spent importing its module."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        text = make()
        times.append(time.perf_counter() - start)
    first, later = times[0] + imports, statistics.median(times[1:])
    print(f"{name}: {len(text) / 1e3:,.0f} kB, first {1000 * first:.0f} ms with imports, later {1000 * later:.1f} ms")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
