"""Write and read one small data set in every supported layout and format: python scripts/try_layouts.py

Images, boxes, classes and splits must equal the ground truth in tests/support/layouts.py. ``--keep FOLDER`` keeps the
data sets in a folder, to inspect them or to try a command on each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from layouts import LAYOUTS, try_layout


def main() -> int:
    """Try each layout; return the number of failures."""
    parser = argparse.ArgumentParser(description="Write and read one small data set in every layout.")
    parser.add_argument("--keep", type=Path, help="write the data sets into this new folder and keep them")
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        root = options.keep or Path(folder)
        for name, layout in LAYOUTS.items():
            (root / name).mkdir(parents=True)
            try:
                said = try_layout(layout, root / name)
            except Exception as error:  # an error in one layout must not stop the others
                said = f"{type(error).__name__}: {error}"
            wrong += bool(said)
            print(f"{name:20} {layout.format:14} {said or 'right'}")
    print(f"{len(LAYOUTS) - wrong} of {len(LAYOUTS)} are right")
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(), 1))
