"""The tables of docs/check.md are those of the code."""

import json
import re
from pathlib import Path

from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.tools.check.findings import KINDS, LEVELS

ROOT = Path(__file__).parents[4]
DOC = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")


def test_every_kind_is_listed_as_it_is():
    for level in LEVELS:
        part = re.search(rf"<!-- kinds of {level} -->(.*?)<!-- ", DOC, re.DOTALL).group(1)
        rows = [f"| `{name}` | {kind.title} | {kind.meaning} |" for name, kind in KINDS.items() if kind.level == level]
        assert [line for line in part.splitlines() if line.startswith("| `")] == rows


def test_the_figures_are_the_measured_ones():
    errors = json.loads((ROOT / "benchmarks" / "label_errors.json").read_text(encoding="utf-8"))
    cells = re.findall(r"^\| (?:first|all) .*\| (\d\.\d\d) \| (\d\.\d\d) \|$", DOC, re.MULTILINE)
    names = [name for name in errors["held out"] if "at " in name or "order" in name]
    expected = [(f"{errors['held out'][name]:.2f}", f"{errors['trained on'][name]:.2f}") for name in names]
    assert cells == expected
    speed = [row["value"] for row in json.loads((ROOT / "benchmarks" / "check_speed.json").read_text())["rows"]]
    assert f"take {speed[0]:.0f} seconds and {speed[1]:.0f} MiB" in DOC
    assert f"decoding takes {speed[2]:.1f} ms per image" in DOC


def test_the_python_lines_run():
    code = re.search(r"```python\n(.*?)```", DOC, re.DOTALL).group(1).replace('"my_data"', "folder")
    scope = {"folder": sample_dataset_dir()}
    exec(code, scope)
    assert scope["report"].exit_code == 1
    assert scope["page"].startswith("<!doctype html>")
