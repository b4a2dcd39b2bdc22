"""Fuzz the readers with randomly damaged annotation files for 600 seconds: python scripts/fuzz_readers.py 600

The time is divided equally among the readers. The result must be a one-line DataError, or what the slow literal reader
in tests/support returns for the same bytes. Stops at the first failure and prints how to reproduce it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from folders import fill
from fuzzing import Target, attempt, damage, random_edits
from fuzzing_formats import ALL_TARGETS


def run(target: Target, seconds: float, seed: int) -> Counter[str]:
    """Try random inputs for some seconds; return how often each outcome occurred."""
    ends: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = fill(Path(folder), target.files)
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            rng = random.Random(f"{target.format} {seed} {ends.total()}")
            name = rng.choice(target.damaged)
            content = target.files[name]
            whole = content.encode() if isinstance(content, str) else content
            edits = random_edits(rng, target)
            try:
                ends[attempt(target, root, name, damage(whole, edits))] += 1
            except Exception:
                print(f"{target.format}: {name} damaged by {edits!r}, seed {seed}, input {ends.total()}")
                raise
            fill(root, {name: whole})
    return ends


def main() -> None:
    """Fuzz the selected readers and print the outcomes."""
    parser = argparse.ArgumentParser(description="Damage annotation files at random and read them.")
    parser.add_argument("seconds", type=float, help="total time for all formats")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random inputs (%(default)s)")
    parser.add_argument(
        "--format", choices=list(ALL_TARGETS), action="append", help="only this format; may be repeated (all)"
    )
    options = parser.parse_args()
    names = options.format or list(ALL_TARGETS)
    total = 0
    for name in names:
        ends = run(ALL_TARGETS[name], options.seconds / len(names), options.seed)
        total += ends.total()
        print(f"{name:16} {ends.total():8} inputs: " + ", ".join(f"{count} {end}" for end, count in ends.most_common()))
    print(f"{total} inputs")


if __name__ == "__main__":
    main()
