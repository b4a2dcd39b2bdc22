"""Time what a fresh interpreter has to import: the package, its public names, its help, a first model.

    python benchmarks/import_time.py

Every number is the median of several whole processes from start to end, in alternation, with the files in the cache.
The package imports its parts on first use, so the public names are measured as well; they need torch, and their peer is
``import torch`` alone. A first model needs timm and torchvision, which import torch's compiler.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from harness import Goal, Row, medians, write

NAMES = "import varifocal; [getattr(varifocal, name) for name in varifocal.__all__]"
MODEL = "import varifocal; varifocal.create_model('vfnet', backbone='resnet18', num_classes=1)"
PACKAGE, EVERY, HELP, FIRST = "import varifocal", "every public name of varifocal", "varifocal --help", "a first model"
EMPTY, TORCH, PARTIES = "an empty program", "import torch", "import torch, torchvision, timm"


def run(arguments: Sequence[str]) -> None:
    """Run one silent process, which must succeed."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def seconds(programs: dict[str, Sequence[str]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each program, over several processes."""
    calls = {name: lambda arguments=arguments: run(arguments) for name, arguments in programs.items()}
    return {name: time / 1e3 for name, time in medians(calls, rounds, warmup=1).items()}


def main() -> None:
    """Measure and write the rows."""
    quick = {EMPTY: ("-c", "pass"), PACKAGE: ("-c", PACKAGE), HELP: ("-m", "varifocal", "--help")}
    times = seconds(quick, 9)
    times |= seconds({TORCH: ("-c", TORCH), EVERY: ("-c", NAMES)}, 5)
    times |= seconds({PARTIES: ("-c", PARTIES), FIRST: ("-c", MODEL)}, 3)
    rows = [
        Row(PACKAGE, times[PACKAGE], "s", Goal(1.5, "value"), EMPTY, times[EMPTY], "imports nothing but itself"),
        Row(EVERY, times[EVERY], "s", Goal(1.25), TORCH, times[TORCH], "needs torch, but not torchvision and timm"),
        Row(HELP, times[HELP], "s", Goal(0.5, "value"), EMPTY, times[EMPTY], "answers before importing anything else"),
        Row(FIRST, times[FIRST], "s", None, PARTIES, times[PARTIES], "create_model() of a VFNet with a ResNet-18"),
    ]
    write("import_time", rows)


if __name__ == "__main__":
    main()
