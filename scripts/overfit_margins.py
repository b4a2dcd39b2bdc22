"""Measure how far the overfit tests are from their bound with other initial weights.

    python scripts/overfit_margins.py --runs 10

Prints the AP, in steps of 1/30, of several runs for every detector and loss of ``test_overfits_two_images``. The
initial weights of each run are changed by a millionth, which is what another order of summation does to the first step.
The test requires 28.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "support")]
    import torch

    from test_detectors import OVERFITS, overfit

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", type=int, default=10, help="runs of each, in addition to that of the test (%(default)s)"
    )
    parser.add_argument("--only", default="", help="only detectors whose names start with this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, row in OVERFITS:
        if name.startswith(options.only):
            reached = sorted(round(30 * overfit(name, row, seed)) for seed in range(options.runs + 1))
            print(name, *(f"{key}={value}" for key, value in row.items()), "of 30:", *reached, flush=True)


if __name__ == "__main__":
    main()
