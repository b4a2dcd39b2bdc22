"""docs/report.md says what the code does."""

import json
import re
from pathlib import Path

import pytest
from run_folders import reread

from varifocal.tools.report import examples, make, sweeps
from varifocal.tools.report.curves import POINTS

DOC = (Path(__file__).parents[4] / "docs" / "report.md").read_text(encoding="utf-8")


def test_every_key_of_the_json_is_told(report, tmp_path):
    keys = set(re.findall(r"`(\w+)`", DOC))
    told = report.to_json()
    assert keys >= {*told, *told["runs"][0], *told["runs"][0]["refinement"], *told["examples"][0]}
    runs = [{"row": row, "seed": seed, "metrics": {"AP": 0.1 * seed}} for row in ("a", "b") for seed in (1, 2)]
    (tmp_path / "results.json").write_text(json.dumps({"sweep": "s", "runs": runs}))
    sweep = sweeps.read_sweep(tmp_path).to_json()
    assert keys >= {*sweep, *sweep["rows"][0], *sweep["rows"][0]["AP"]}
    assert keys >= {*sweep["statements"][0], *sweep["statements"][0]["difference"]}


def test_the_results_of_a_sweep_have_the_form_that_is_told(tmp_path):
    (text,) = re.findall(r"```json\n(.*?)```", DOC, re.DOTALL)
    (tmp_path / "results.json").write_text(text)
    sweep = sweeps.read_sweep(tmp_path)
    assert [(row.name, row.against, row.paper, row.mean("AP")) for row in sweep.rows] == [
        ("focal", None, 39.0, 0.381),
        ("varifocal", "focal", None, 0.392),
    ]
    assert (sweep.name, sweep.of("AP")[0].difference.mean) == ("mine", pytest.approx(0.011))


def test_the_limits_are_those_of_the_code():
    said = " ".join(DOC.split())
    assert f"At most {examples.MOST_BOXES} boxes of a run" in said
    assert f"images take at most {examples.MOST_BYTES // 10**6})" in said
    assert f"Long runs are reduced to {POINTS} points" in said
    assert make.MOST_RUNS == 6
    assert "At most six runs" in said
    assert f"`--examples` (8, at most {make.MOST_EXAMPLES})" in said
    assert f"at most {examples.MOST_ON_PAGE:,} on the page" in said


def test_the_python_lines_run(folders):
    data, (first, second) = folders
    model, split = reread(first, data)
    code = re.search(r"```python\n(.*?)```", DOC, re.DOTALL).group(1)
    for old, new in (("runs/focal", first), ("runs/varifocal", second), ("street.jpg", split.samples[0].file)):
        code = code.replace(f'"{old}"', repr(str(new)))
    scope = {"model": model}
    exec(code, scope)
    assert scope["page"].startswith("<!doctype html>")
    assert scope["stars"].points.shape == (len(scope["found"]), 9, 2)
