"""Write one small data set in every layout and format that is read, and read it: python scripts/try_layouts.py

Images, boxes, classes and splits must be those of the one truth in tests/support/layouts.py. With ``--keep FOLDER`` the
data sets stay there, for a look at them or to try a command on each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from layouts import LAYOUTS, try_layout


def main() -> int:
    """Try each layout; the number of those that are not right."""
    parser = argparse.ArgumentParser(description="Write and read one small data set in every layout.")
    parser.add_argument("--keep", type=Path, help="write the data sets into this new folder and leave them there")
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        root = options.keep or Path(folder)
        for name, layout in LAYOUTS.items():
            (root / name).mkdir(parents=True)
            try:
                said = try_layout(layout, root / name)
            except Exception as error:  # whatever goes wrong with one, the others are tried as well
                said = f"{type(error).__name__}: {error}"
            wrong += bool(said)
            print(f"{name:20} {layout.format:14} {said or 'right'}")
    print(f"{len(LAYOUTS) - wrong} of {len(LAYOUTS)} are right")
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(), 1))
