"""The table, the chart and the JSON of a study."""

import io
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import fields, replace

import pytest
from rich.console import Console

from varifocal.evaluation.coco_ap import CocoMetrics
from varifocal.tools.oracle.chart import chart
from varifocal.tools.oracle.console import show
from varifocal.tools.oracle.result import OracleRow, OracleStudy


def metrics(ap):
    return CocoMetrics(
        **{field.name: ap for field in fields(CocoMetrics) if field.name != "per_class"}, per_class={"<a>": ap}
    )


def study(*rows, absent=None):
    made = [OracleRow(name, "what <b>", centerness, metrics(ap), gain) for name, centerness, ap, gain in rows]
    return OracleStudy("fcos", "a&b.json", 2, 3, "detector", 4, tuple(made), absent or {})


TWO = study(
    ("nothing", False, 0.3, 0.0),
    ("nothing", True, 0.4, 0.0),
    ("gt_bbox", False, 0.5, 0.2),
    ("gt_bbox", True, 0.25, -0.15),
)
ONE = study(
    ("nothing", None, -1.0, 0.0), ("gt_bbox", None, 1.0, 0.5), absent={"gt_ctr": "no [c]", "gt_ctr_iou": "no [c]"}
)
SVG = "{http://www.w3.org/2000/svg}"


def printed(one):
    console = Console(width=160, file=io.StringIO())
    console.print(show(one))
    return console.file.getvalue()


def test_the_table_has_numbers_in_percent_and_what_is_absent():
    lines = printed(TWO).splitlines()
    (row,) = [line for line in lines if line.startswith("gt_bbox") and "centerness" in line]
    assert row.split()[-6:-2] == ["25.0", "25.0", "25.0", "-15.0"]
    text = printed(ONE)
    assert "No gt_ctr, gt_ctr_iou: no [c]." in text
    assert "fcos on a&b.json: 2 images, 3 objects" in text
    assert "Positives: 4, assigned by detector." in text


def test_names_are_no_markup():
    """A folder or a row of one's own may be called like a style."""
    one = replace(study(("half[b]", None, 0.3, 0.0)), data="my[b]data[/c]", detector="x[red]")
    text = printed(one)
    assert "x[red] on my[b]data[/c]: 2 images" in text
    assert "half[b]" in text


def bars_of(one):
    root = ElementTree.fromstring(chart(one))
    return root, [rect for rect in root.iter(f"{SVG}rect") if "AP " in (rect.findtext(f"{SVG}title") or "")]


def test_the_chart_has_a_bar_a_row():
    root, bars = bars_of(TWO)
    lengths = [float(bar.get("width")) for bar in bars]
    expected = [1.0, 0.4 / 0.3, 0.5 / 0.3, 0.25 / 0.3]
    assert [length / lengths[0] for length in lengths] == pytest.approx(expected, abs=1e-2)
    assert len({bar.get("class") for bar in bars}) == 2
    words = " ".join(root.itertext())
    assert "50.0 (+20.0)" in words
    assert "gt_bbox x ctr" in words
    assert "by class times centerness" in words
    root, bars = bars_of(ONE)
    assert "nothing to find" in " ".join(root.itertext())
    assert [float(bar.get("width")) > 0 for bar in bars][-1]


def test_json_holds_everything():
    held = json.loads(json.dumps(TWO.to_json()))
    assert held["kind"] == "oracle"
    assert [row["name"] for row in held["rows"]] == ["nothing", "nothing", "gt_bbox", "gt_bbox"]
    assert held["rows"][3]["metrics"]["AP"] == 0.25
    assert held["rows"][3]["metrics"]["per_class"] == {"<a>": 0.25}
    assert (held["rows"][3]["gain"], held["rows"][3]["centerness"]) == (-0.15, True)


def test_a_row_is_the_detectors_own_unless_asked():
    assert TWO.row("gt_bbox").metrics.AP == 0.25
    assert TWO.row("gt_bbox", centerness=False).metrics.AP == 0.5
    assert ONE.row("gt_bbox").metrics.AP == 1.0
