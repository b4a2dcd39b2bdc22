"""What a fresh interpreter waits for: the package, its names, its help, a first model.

    python benchmarks/import_time.py

Every number is a whole process from its start to its end, files in the cache, median of several, by turns. The package
imports its parts when they are first used, so the names are asked for as well; what they need is torch, and the peer is
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
    """One process, silent, that must succeed."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def seconds(programs: dict[str, Sequence[str]], rounds: int) -> dict[str, float]:
    """The median of each program's processes."""
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
        Row(EVERY, times[EVERY], "s", Goal(1.25), TORCH, times[TORCH], "torch is needed, torchvision and timm not yet"),
        Row(HELP, times[HELP], "s", Goal(0.5, "value"), EMPTY, times[EMPTY], "answers before anything is imported"),
        Row(FIRST, times[FIRST], "s", None, PARTIES, times[PARTIES], "create() of a VFNet on a ResNet-18"),
    ]
    write("import_time", rows)


if __name__ == "__main__":
    main()
