"""The tables of docs/check.md are those of the code."""

import re
from pathlib import Path

from varifocal.check.findings import KINDS, LEVELS

DOC = (Path(__file__).parents[3] / "docs" / "check.md").read_text(encoding="utf-8")


def test_every_kind_is_listed_as_it_is():
    for level in LEVELS:
        part = re.search(rf"<!-- kinds of {level} -->(.*?)<!-- ", DOC, re.DOTALL).group(1)
        rows = [f"| `{name}` | {kind.title} | {kind.meaning} |" for name, kind in KINDS.items() if kind.level == level]
        assert [line for line in part.splitlines() if line.startswith("| `")] == rows
