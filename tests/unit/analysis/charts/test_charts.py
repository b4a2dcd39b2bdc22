"""Charts are sound XML with words for those who listen, and marks where the numbers say."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from varifocal.analysis.charts.bars import Row, Segment, bars
from varifocal.analysis.charts.heat_map import heat_map
from varifocal.analysis.charts.plot import Area, Axis, Dots, Line, Steps, plot
from varifocal.analysis.charts.svg import ellipsize, length
from varifocal.analysis.charts.ticks import format_tick, ticks

SVG = "{http://www.w3.org/2000/svg}"


def make_plot(*marks, x=None, y=None):
    return plot("A title", "What there is to see", x or Axis("score"), y or Axis("fraction"), marks)


CHARTS = {
    "plot": make_plot(
        Line([0, 1], [0, 1], "line"),
        Line([0, 1], [1, 0], faint=True),
        Steps([0, 0.5, 1], [0.2, 0.4], "steps", 1),
        Area([0, 0.5, 1], [0.2, 0.4], "columns", 2, ["first & best", "second"]),
        Dots([0.1, 0.9], [0.1, 0.9], "dots", 3),
    ),
    "bars": bars("A title", "What there is to see", "points", [Row("<b>", (Segment(3, 0, "3 & no more"),), "3")]),
    "heat": heat_map("A title", "What there is to see", ["a"], ["<x>"], np.array([[0.5]]), [["a & x"]]),
    "nothing to plot": make_plot(),
    "no bars": bars("A title", "What there is to see", "points", []),
    "bars of nothing": bars("A title", "What there is to see", "points", [Row("a", (Segment(0),)), Row("b", ())]),
    "no cells": heat_map("A title", "What there is to see", [], [], np.zeros((0, 0)), []),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_stands_by_itself(name):
    text = CHARTS[name]
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    title, described = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert (title.text, described.text) == ("A title", "What there is to see")
    assert root.get("aria-labelledby") == f"{title.get('id')} {described.get('id')}"
    assert "prefers-color-scheme: dark" in root.find(f"{SVG}style").text
    assert not re.search(r"nan|inf|url\(|href|<script", text.lower())
    width, height = map(float, root.get("viewBox").split()[2:])
    for element in root.iter(f"{SVG}text"):
        assert 0 <= float(element.get("x")) <= width
        assert 0 <= float(element.get("y")) <= height


def test_two_charts_of_one_page_have_other_names():
    ids = [re.findall(r'id="(\w+)"', text) for text in (CHARTS["plot"], CHARTS["nothing to plot"])]
    assert not set(ids[0]) & set(ids[1])


def test_dots_lie_where_the_axes_say():
    text = make_plot(Dots([0, 5, 10], [0, 5, 10]), x=Axis("x", 0, 10), y=Axis("y", 0, 10))
    path = ElementTree.fromstring(text).find(f"{SVG}path").get("d")
    points = [tuple(map(float, pair)) for pair in re.findall(r"M([\d.]+) ([\d.]+)", path)]
    marks = {word: place for word, place in placed(text)}
    assert points[0][0] == pytest.approx(marks["0"][0], abs=0.1)
    assert points[2][0] == pytest.approx(marks["10"][0], abs=0.1)
    assert points[1] == pytest.approx(np.mean([points[0], points[2]], axis=0), abs=0.1)
    assert points[0][1] > points[2][1]  # up is more


def placed(text):
    """Words and where they stand; the marks of the horizontal axis come last."""
    for element in ElementTree.fromstring(text).iter(f"{SVG}text"):
        yield element.text, (float(element.get("x")), float(element.get("y")))


def test_what_lies_outside_is_drawn_at_the_ends():
    text = make_plot(Dots([-4, 9], [-4, 9]))
    points = re.findall(r"M([\d.]+) ([\d.]+)h0", text)
    inside = re.findall(r"M([\d.]+) ([\d.]+)h0", make_plot(Dots([0, 1], [0, 1])))
    assert [abs(float(a[0]) - float(b[0])) < 6 for a, b in zip(points, inside, strict=True)] == [True, True]


def test_a_bar_is_as_long_as_its_value():
    rows = [Row("a", (Segment(2, 0), Segment(1, 1)), "3"), Row("b", (Segment(6, 0),), "6, with many words behind it")]
    rects = ElementTree.fromstring(bars("t", "d", "unit", rows, parts=("first", "second"))).findall(f"{SVG}rect")
    wide = [float(rect.get("width")) for rect in rects[1:] if rect.get("height") == "17.00"]
    assert wide == pytest.approx([wide[2] / 3, wide[2] / 6, wide[2]], abs=0.02)
    assert wide[2] > 100


def test_a_full_cell_is_darker_and_says_its_share():
    text = heat_map("t", "d", ["a", "b"], ["a", "b"], np.array([[1, 0], [0.25, 0.75]]), [["w", "x"], ["y", "z"]])
    rects = ElementTree.fromstring(text).findall(f"{SVG}rect")
    cells = [rect for rect in rects if rect.find(f"{SVG}title") is not None]
    assert [rect.find(f"{SVG}title").text for rect in cells] == ["w", "y", "z"]
    dark = [float(rect.get("fill-opacity")) for rect in cells]
    assert dark[0] > dark[2] > dark[1]
    assert {"100", "25", "75"} <= {word for word, _ in placed(text)}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (0, 58.3, [0, 10, 20, 30, 40, 50]),
        (-5, 5, [-4, -2, 0, 2, 4]),
        (0.97, 1.01, [0.97, 0.98, 0.99, 1, 1.01]),
        (3, 3, [3]),
        (0, float("nan"), [0]),
        (float("-inf"), 0, []),
    ],
)
def test_marks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_marks_are_few_for_any_range():
    rng = np.random.default_rng(0)
    for low, size in zip(rng.normal(0, 50, 500), 10 ** rng.uniform(-6, 6, 500), strict=True):
        marks = ticks(low, low + size)
        assert 2 <= len(marks) <= 6
        assert low - 1e-6 * size <= marks[0] <= marks[-1] <= low + size * (1 + 1e-6)


def test_words():
    assert [format_tick(value) for value in (0, 0.25, 20, 1500)] == ["0", "0.25", "20", "1,500"]
    assert ellipsize("short", 100) == "short"
    cut = ellipsize("a very long name indeed", 60)
    assert cut.endswith("…")
    assert length(cut) <= 60
    assert ellipsize("anything", 0) == ""
