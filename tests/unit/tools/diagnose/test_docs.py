"""docs/diagnose.md says what the code does."""

import json
import re
from pathlib import Path

from detection_cases import make_data

from varifocal.analysis.diagnosis import diagnose

ROOT = Path(__file__).parents[4]
DOC = (ROOT / "docs" / "diagnose.md").read_text(encoding="utf-8")


def test_every_key_of_the_json_is_told():
    data, detections = make_data(0)
    told = diagnose(detections, data).to_json()
    part = re.search(r"## The JSON(.*?)## ", DOC, re.DOTALL).group(1)
    keys = set(re.findall(r"`(\w+)`", part))
    assert keys >= {*told, *told["ap"], *told["ranking"], *told["ranking"]["near"], *told["ranking"]["worth"]}
    assert keys >= {*told["calibration"], *told["calibration"]["bins"], *told["errors"], *told["confusion"]}
    assert keys >= {*told["curves"], *told["scatter"], *told["thresholds"], *told["thresholds"]["f1"]}
    assert keys >= {*told["worst"][0], *told["worst"][0]["detections"][0]}
    assert keys >= {key for one in told["classes"] for key in one}


def test_the_seconds_are_the_measured_ones():
    rows = json.loads((ROOT / "benchmarks" / "diagnose_speed.json").read_text(encoding="utf-8"))["rows"]
    seconds = {row["what"]: row["value"] for row in rows}
    assert f"read in {seconds['read the results']:.1f} s and diagnosed in {seconds['diagnose']:.1f} s" in DOC


def test_the_python_lines_run():
    data, detections = make_data(0)
    code = re.search(r"```python\n(.*?)```", DOC, re.DOTALL).group(1)
    code = re.sub(r"^data = .*$|^detections = .*$", "", code, flags=re.MULTILINE)
    scope = {"data": data, "detections": detections}
    exec(code, scope)
    assert scope["precision"].shape == (10, 101, 3)
    assert scope["svg"].startswith("<svg")
